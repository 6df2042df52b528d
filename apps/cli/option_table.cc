#include "apps/cli/option_table.h"

#include <algorithm>

#include "apps/cli/known_models.h"
#include "sift/attention/policy.h"

namespace sift::cli {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::vector<std::string> choices(const std::string& value) {
  std::vector<std::string> words;
  if (value.find('|') != std::string::npos) return split(value, '|');
  if (value == "POLICY") {
    for (const PolicyHelp& help : policy_help()) words.emplace_back(help.name);
  }
  if (value == "MODEL" || value == "NAME") {
    for (const KnownModel& model : known_models()) words.push_back(model.name);
  }
  return words;
}

OptionEntry make_option(const CLI::Option& option) {
  OptionEntry entry;
  for (const std::string& name : option.get_lnames()) entry.names.push_back("--" + name);
  for (const std::string& name : option.get_snames()) entry.names.push_back("-" + name);
  entry.positional = entry.names.empty();
  if (entry.positional) entry.names.push_back(option.get_name(true));
  if (option.get_items_expected_max() > 0) entry.value = option.get_type_name();
  entry.choices = choices(entry.value);
  entry.default_value = option.get_default_str();
  entry.description = option.get_description();
  return entry;
}

CommandEntry make_command(const CLI::App& app, const std::string& path) {
  CommandEntry entry{path, app.get_name(), app.get_description(), app.get_footer(), {}, {}};
  for (const CLI::Option* option : app.get_options(nullptr)) {
    entry.options.push_back(make_option(*option));
  }
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    const std::string& name = command->get_name();
    entry.commands.push_back(make_command(*command, path.empty() ? name : path + " " + name));
  }
  return entry;
}

}  // namespace

CommandEntry option_table(const CLI::App& root) { return make_command(root, ""); }

std::vector<const CommandEntry*> all_commands(const CommandEntry& root) {
  std::vector<const CommandEntry*> commands = {&root};
  for (const CommandEntry& command : root.commands) {
    const auto below = all_commands(command);
    commands.insert(commands.end(), below.begin(), below.end());
  }
  return commands;
}

}  // namespace sift::cli
