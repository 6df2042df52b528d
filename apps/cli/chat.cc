#include <fmt/format.h>

#include <memory>
#include <optional>

#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/generation.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/line_editor.h"
#include "apps/cli/log.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"
#include "sift/engine/conversation.h"

namespace sift::cli {
namespace {

constexpr std::string_view kHelp =
    "/stats          how the last answer ran\n"
    "/clear          forget the conversation\n"
    "/policy POLICY  attention policy from here on (see `sift policies`); alone: shows it\n"
    "/help           these lines\n"
    "/quit           end; so does Ctrl-D. Ctrl-C ends an answer\n";

/// Says what was asked for, whatever the log level, beside the answers on standard output.
template <class... Arguments>
void tell(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  write_log(LogLevel::error, fmt::format(format, std::forward<Arguments>(arguments)...));
}

struct ChatCommand {
  ModelOptions model;
  OutputOptions output;
  GenerationOptions generation;
  std::string attention = "sift";
  std::string system;

  void run() const;
};

/// One conversation in the terminal. What is typed in and what is answered goes to standard output,
/// everything else to standard error; where standard output is kept for a JSON object, lines are
/// read as from a pipe and answers are in the object alone.
class Chat {
 public:
  Chat(Engine& engine, const ChatCommand& command, bool prints)
      : conversation_(engine, parse_policy(command.attention), command.system),
        request_(command.generation.settings()),
        engine_(engine),
        prints_(prints),
        lines_(sift_home() + "/chat_history", prints) {}

  void run() {
    if (lines_.interactive()) log_info("Type a message, or /help.");
    catch_interrupts();
    while (const std::optional<std::string> line = lines_.read("> ")) {
      clear_interrupt();
      if (line->empty()) continue;
      if (*line == "/quit") return;
      try {
        handle(*line);
      } catch (const Error& error) {
        // A message that cannot be taken ends nothing where a person can send another.
        if (error.kind() != ErrorKind::invalid_argument || !lines_.interactive()) throw;
        tell("error: {}", error.what());
      }
    }
    if (lines_.interactive()) print_text("\n");
  }

  /// Messages and answers of the whole conversation.
  nlohmann::ordered_json to_json() const { return {{"turns", turns_}}; }

 private:
  void handle(const std::string& line) {
    if (line[0] != '/') return say(line);
    const std::size_t space = std::min(line.find(' '), line.size());
    const std::string word = line.substr(0, space);
    const std::string rest = space < line.size() ? line.substr(space + 1) : "";
    if (word == "/stats") return show_statistics();
    if (word == "/clear") return clear();
    if (word == "/policy") return change_policy(rest);
    if (word == "/help") return tell("{}", kHelp);
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("unknown command {}, expected /stats, /clear, /policy, /help or /quit", word));
  }

  void say(const std::string& text) {
    const auto on_token = [this](const GeneratedToken& token) {
      if (prints_) print_text(token.text);
      return !interrupted();
    };
    last_ = conversation_.say(text, request_, on_token, prompt_progress());
    if (prints_) print_text("\n");
    nlohmann::ordered_json turn = {{"message", text}};
    turn.update(generation_json(engine_, conversation_.policy(), *last_));
    turns_.push_back(std::move(turn));
    if (!last_->notice.empty() && last_->notice != notice_) log_warning("{}", last_->notice);
    notice_ = last_->notice;
    if (last_->finish_reason == FinishReason::interrupted) log_info("(interrupted)");
    if (last_->finish_reason == FinishReason::length) {
      log_info("(cut off: {} of {} tokens of the context used)", conversation_.tokens(),
               engine_.context());
    }
  }

  void show_statistics() const {
    if (!last_) return tell("Nothing has been answered yet.");
    const AttentionStatistics s = last_->attention.summary();
    tell("last answer: {} tokens after a prompt of {}, {:.1f} tokens/s, first after {:.2f} s",
         last_->generated_tokens, last_->prompt_tokens, generated_tokens_per_second(*last_),
         last_->prefill_seconds);
    tell("context: {} of {} tokens", conversation_.tokens(), engine_.context());
    tell(
        "{} since the cache was started: realised sparsity {}, union density {}, kept mass {}, "
        "K bytes read {} of {}, V bytes read {} of {}, {} sparse and {} dense steps",
        conversation_.policy().name, percent(s.realised_sparsity), percent(s.union_density),
        percent(s.kept_mass), mebibytes(s.k_bytes_read), mebibytes(s.k_bytes_dense),
        mebibytes(s.v_bytes_read), mebibytes(s.v_bytes_dense), s.sparse_steps, s.dense_steps);
  }

  void clear() {
    conversation_.clear();
    last_.reset();
    tell("Forgotten.");
  }

  void change_policy(const std::string& text) {
    if (!text.empty()) conversation_.set_policy(parse_policy(text));
    tell("attention policy: {}", conversation_.policy().name);
  }

  Conversation conversation_;
  GenerationRequest request_;
  const Engine& engine_;
  bool prints_;
  LineEditor lines_;
  nlohmann::ordered_json turns_ = nlohmann::ordered_json::array();
  std::optional<GenerationResult> last_;
  std::string notice_;  // of the last answer: said once, not with every answer
};

void ChatCommand::run() const {
  parse_policy(attention);  // refused before the model is loaded
  JsonOutput json(output);
  const auto engine = load_engine(model);
  Chat chat(*engine, *this, !json.to_stdout());
  chat.run();
  if (json.wanted()) json.write(chat.to_json());
}

}  // namespace

void add_chat(CLI::App& root) {
  auto command = std::make_shared<ChatCommand>();
  command->generation.max_tokens = 1024;
  CLI::App* app = root.add_subcommand("chat", "Talk with a model in the terminal");
  app->footer("Example:\n  sift chat --system \"Answer briefly.\" --temperature 0.7");
  app->add_option("--system", command->system, "message that stands before the conversation")
      ->type_name("TEXT");
  command->generation.add_sampling_to(*app);
  add_attention(*app, command->attention);
  command->model.add_to(*app);
  command->model.add_context_to(*app);
  command->output.add_to(*app);
  add_log_level(*app);
  app->callback([command] { command->run(); });
}

}  // namespace sift::cli
