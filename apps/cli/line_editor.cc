#include "apps/cli/line_editor.h"

#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <filesystem>
#include <iostream>
#include <utility>

#include "apps/cli/interrupt.h"

namespace sift::cli {
namespace {

constexpr int kHistoryLines = 1000;

/// The next character that is typed; bytes that are none are left out. Ctrl-C ends the line.
int read_character(EditLine*, wchar_t* character) {
  std::mbstate_t state = {};
  while (!interrupted()) {
    char byte = 0;
    const ssize_t count = read(STDIN_FILENO, &byte, 1);
    if (count == 0) return 0;
    if (count < 0 && errno != EINTR) return -1;
    if (count < 0) continue;
    std::size_t used = std::mbrtowc(character, &byte, 1, &state);
    if (used == static_cast<std::size_t>(-1)) {  // not what the bytes before asked for: a new start
      state = {};
      used = std::mbrtowc(character, &byte, 1, &state);
      if (used == static_cast<std::size_t>(-1)) state = {};
    }
    if (used <= 1) return 1;
  }
  return -1;
}

}  // namespace

class LineEditor::Terminal {
 public:
  explicit Terminal(std::string history_path) : history_path_(std::move(history_path)) {
    std::setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
    editor_ = el_init("sift", stdin, stdout, stderr);
    history_ = history_init();
    HistEvent event;
    history(history_, &event, H_SETSIZE, kHistoryLines);
    history(history_, &event, H_SETUNIQUE, 1);
    history(history_, &event, H_LOAD, history_path_.c_str());
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_PROMPT, &Terminal::prompt);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_HIST, history, history_);
    el_set(editor_, EL_GETCFN, read_character);
    el_set(editor_, EL_SIGNAL, 0);
  }

  ~Terminal() {
    std::error_code error;  // a history that cannot be kept is not worth a word
    std::filesystem::create_directories(std::filesystem::path(history_path_).parent_path(), error);
    HistEvent event;
    history(history_, &event, H_SAVE, history_path_.c_str());
    history_end(history_);
    el_end(editor_);
  }

  std::optional<std::string> read(const std::string& prompt) {
    prompt_ = prompt;
    clear_interrupt();
    int count = 0;
    el_set(editor_, EL_PREP_TERM, 1);  // before the prompt, so that no key comes too early
    const char* line = el_gets(editor_, &count);
    el_set(editor_, EL_PREP_TERM, 0);
    if (interrupted()) {
      std::puts("");
      return "";
    }
    if (line == nullptr || count <= 0) return std::nullopt;
    std::string text(line, static_cast<std::size_t>(count));
    while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
    HistEvent event;
    if (!text.empty()) history(history_, &event, H_ENTER, text.c_str());
    return text;
  }

 private:
  static char* prompt(EditLine* editor) {
    Terminal* terminal = nullptr;
    el_get(editor, EL_CLIENTDATA, &terminal);
    return terminal->prompt_.data();
  }

  std::string history_path_;
  std::string prompt_;
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
};

LineEditor::LineEditor(std::string history_path, bool editing) {
  if (!editing || isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) return;
  terminal_ = std::make_unique<Terminal>(std::move(history_path));
}

LineEditor::~LineEditor() = default;

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  if (terminal_ != nullptr) return terminal_->read(prompt);
  std::string line;
  if (!std::getline(std::cin, line)) return std::nullopt;
  return line;
}

}  // namespace sift::cli
