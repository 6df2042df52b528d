#include <fmt/format.h>

#include <memory>
#include <string>

#include "apps/cli/arguments.h"
#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/option_table.h"
#include "apps/cli/report.h"

namespace sift::cli {
namespace {

enum class Shell { bash, zsh, fish };

/// `text` inside single quotes, as all three shells take it; fish reads \' there, the others do
/// not, so apostrophes become typographic ones.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("’") : std::string(1, c);
  return out + "'";
}

std::vector<std::string> option_words(const CommandEntry& command) {
  std::vector<std::string> words;
  for (const OptionEntry& option : command.options) {
    if (!option.positional) words.insert(words.end(), option.names.begin(), option.names.end());
  }
  return words;
}

/// Words that may stand where the command's options do: its options, the commands below it, and
/// what its arguments may be.
std::vector<std::string> words_of(const CommandEntry& command) {
  std::vector<std::string> words;
  words.reserve(command.commands.size());
  for (const CommandEntry& below : command.commands) words.push_back(below.name);
  for (const OptionEntry& option : command.options) {
    if (option.positional) words.insert(words.end(), option.choices.begin(), option.choices.end());
  }
  const auto options = option_words(command);
  words.insert(words.end(), options.begin(), options.end());
  return words;
}

/// Shell patterns for "COMMAND OPTION", one alternative for each of the option's names.
std::string option_pattern(const CommandEntry& command, const OptionEntry& option) {
  std::vector<std::string> patterns;
  patterns.reserve(option.names.size());
  for (const std::string& name : option.names) {
    patterns.push_back(quoted(command.path + " " + name));
  }
  return fmt::format("{}", fmt::join(patterns, "|"));
}

/// A case statement that follows the words typed so far down to the command that they name.
std::string command_finder(const CommandEntry& root) {
  std::string text = "    case \"$command $word\" in\n";
  for (const CommandEntry* command : all_commands(root)) {
    for (const CommandEntry& below : command->commands) {
      text += fmt::format("      {}) command={} ;;\n", quoted(command->path + " " + below.name),
                          quoted(below.path));
    }
  }
  return text + "    esac\n";
}

std::string bash_script(const CommandEntry& root) {
  std::string script =
      "# bash completion for sift; made by `sift completion bash`\n"
      "_sift() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  local command= word\n"
      "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n" +
      command_finder(root) + "  done\n  case \"$command $previous\" in\n";
  for (const CommandEntry* command : all_commands(root)) {
    for (const OptionEntry& option : command->options) {
      if (option.positional || option.value.empty()) continue;
      const std::string files = option.takes_file() ? "-f " : "";
      script += fmt::format("    {}) COMPREPLY=($(compgen {}-W {} -- \"$current\")); return ;;\n",
                            option_pattern(*command, option), files,
                            quoted(fmt::format("{}", fmt::join(option.choices, " "))));
    }
  }
  script += "  esac\n  case \"$command\" in\n";
  for (const CommandEntry* command : all_commands(root)) {
    script += fmt::format("    {}) COMPREPLY=($(compgen -W {} -- \"$current\")) ;;\n",
                          quoted(command->path),
                          quoted(fmt::format("{}", fmt::join(words_of(*command), " "))));
  }
  return script + "  esac\n}\ncomplete -o default -F _sift sift\n";
}

/// One entry of zsh's _describe: the word, a colon, what it is.
std::string zsh_entry(const std::string& word, const std::string& description) {
  return " " + quoted(word + ":" + description);
}

std::string zsh_entries(const CommandEntry& command) {
  std::string entries;
  for (const CommandEntry& below : command.commands) {
    entries += zsh_entry(below.name, below.description);
  }
  for (const OptionEntry& option : command.options) {
    const auto& words = option.positional ? option.choices : option.names;
    for (const std::string& word : words) entries += zsh_entry(word, option.description);
  }
  return entries;
}

std::string zsh_script(const CommandEntry& root) {
  std::string script =
      "#compdef sift\n"
      "# zsh completion for sift; made by `sift completion zsh`\n"
      "_sift() {\n"
      "  local command= word\n"
      "  local -a entries\n"
      "  for word in \"${(@)words[2,CURRENT-1]}\"; do\n" +
      command_finder(root) + "  done\n  case \"$command ${words[CURRENT-1]}\" in\n";
  for (const CommandEntry* command : all_commands(root)) {
    for (const OptionEntry& option : command->options) {
      if (option.positional || option.value.empty()) continue;
      script += fmt::format("    {})", option_pattern(*command, option));
      if (!option.choices.empty())
        script += fmt::format(" compadd -- {};", fmt::join(option.choices, " "));
      script += option.takes_file() ? " _files; return ;;\n" : " return ;;\n";
    }
  }
  script += "  esac\n  case \"$command\" in\n";
  for (const CommandEntry* command : all_commands(root)) {
    script +=
        fmt::format("    {}) entries=({}) ;;\n", quoted(command->path), zsh_entries(*command));
  }
  return script + "  esac\n  _describe 'argument' entries || _files\n}\n_sift \"$@\"\n";
}

/// fish's condition that the words typed so far name `command`.
std::string fish_condition(const CommandEntry& command) {
  if (command.path.empty()) return "__fish_use_subcommand";
  std::string condition;
  std::size_t begin = 0;
  while (begin <= command.path.size()) {
    const std::size_t end = std::min(command.path.find(' ', begin), command.path.size());
    condition += fmt::format("{}__fish_seen_subcommand_from {}", condition.empty() ? "" : "; and ",
                             command.path.substr(begin, end - begin));
    begin = end + 1;
  }
  return condition;
}

std::string fish_line(const CommandEntry& command, const OptionEntry& option) {
  std::string line = fmt::format("complete -c sift -n {}", quoted(fish_condition(command)));
  for (const std::string& name : option.names) {
    if (option.positional) continue;
    const bool is_long = name.starts_with("--");
    line += is_long ? fmt::format(" -l {}", name.substr(2)) : fmt::format(" -s {}", name.substr(1));
  }
  if (!option.choices.empty()) {
    line += fmt::format(" -a {}", quoted(fmt::format("{}", fmt::join(option.choices, " "))));
  }
  if (!option.positional && !option.value.empty()) line += option.takes_file() ? " -r -F" : " -x";
  return line + fmt::format(" -d {}\n", quoted(option.description));
}

std::string fish_script(const CommandEntry& root) {
  std::string script = "# fish completion for sift; made by `sift completion fish`\n";
  for (const CommandEntry* command : all_commands(root)) {
    for (const CommandEntry& below : command->commands) {
      script +=
          fmt::format("complete -c sift -n {} -a {} -d {}\n", quoted(fish_condition(*command)),
                      below.name, quoted(below.description));
    }
    for (const OptionEntry& option : command->options) script += fish_line(*command, option);
  }
  return script;
}

std::string script(Shell shell, const CommandEntry& root) {
  switch (shell) {
    case Shell::bash:
      return bash_script(root);
    case Shell::zsh:
      return zsh_script(root);
    case Shell::fish:
      return fish_script(root);
  }
  return {};
}

}  // namespace

void add_completion(CLI::App& root) {
  auto output = std::make_shared<OutputOptions>();
  CLI::App* app = root.add_subcommand("completion", "Print a shell's completion script");
  app->footer("Example:\n  sift completion bash > ~/.local/share/bash-completion/completions/sift");
  auto shell = std::make_shared<Shell>(Shell::bash);
  add_choice<Shell>(*app, "shell", *shell,
                    {{"bash", Shell::bash}, {"zsh", Shell::zsh}, {"fish", Shell::fish}},
                    "the shell")
      ->required();
  add_unused(*app, {"--model", "--threads", "--affinity", "--attention"});
  output->add_to(*app);
  add_log_level(*app);
  app->callback([shell, output, &root] {
    JsonOutput json(*output);
    const std::string text = script(*shell, option_table(root));
    if (json.wanted()) json.write({{"script", text}});
    if (!json.to_stdout()) print_text(text);
  });
}

}  // namespace sift::cli
