#include "apps/cli/parse_errors.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace sift::cli {
namespace {

/// The innermost command that was named.
const CLI::App& named_command(const CLI::App& root) {
  const CLI::App* app = &root;
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  return *app;
}

std::string full_name(const CLI::App& app) {
  if (app.get_parent() == nullptr) return app.get_name();
  return full_name(*app.get_parent()) + " " + app.get_name();
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options(nullptr)) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
  return names;
}

/// Insertions, deletions and replacements that turn `a` into `b`.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

/// ", did you mean …?" when something known is near.
std::string suggestion(const std::string& word, const std::vector<std::string>& known) {
  constexpr std::size_t kLongestWord = 64;
  if (word.size() > kLongestWord) return "";
  const auto nearest = std::ranges::min_element(
      known, {}, [&](const std::string& name) { return edit_distance(word, name); });
  if (nearest == known.end() || edit_distance(word, *nearest) > 1 + word.size() / 4) return "";
  return fmt::format(", did you mean {}?", *nearest);
}

std::string describe_extra(const CLI::App& app, const std::string& word) {
  if (word.size() > 1 && word[0] == '-') {
    const std::string name = word.substr(0, word.find('='));
    return fmt::format("unknown option {}{}", name, suggestion(name, option_names(app)));
  }
  const std::vector<std::string> commands = command_names(app);
  if (commands.empty()) return fmt::format("unexpected argument '{}'", word);
  return fmt::format("unknown command '{}'{}", word, suggestion(word, commands));
}

/// The option that was given more often than it may be, if that is what is wrong.
const CLI::Option* repeated_option(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options(nullptr)) {
    const auto most = static_cast<std::size_t>(std::max(option->get_items_expected_max(), 1));
    if (option->count() > most) return option;
  }
  return nullptr;
}

std::string problem(const CLI::App& app, const CLI::ParseError& error) {
  const std::string kind = error.get_name();
  if (kind == "ArgumentMismatch") {
    const CLI::Option* repeated = repeated_option(app);
    if (repeated == nullptr) {
      const std::string text = error.what();
      return fmt::format("{} needs a value", text.substr(0, text.find(':')));
    }
    return fmt::format("{} is given {} times, expected once", repeated->get_name(),
                       repeated->count());
  }
  const std::vector<std::string> extras = app.remaining();
  if (!extras.empty()) return describe_extra(app, extras.front());
  if (kind == "RequiredError" && !command_names(app).empty()) {
    return fmt::format("expected a command: {}", fmt::join(command_names(app), ", "));
  }
  return error.what();
}

}  // namespace

std::string describe(const CLI::App& root, const CLI::ParseError& error) {
  const CLI::App& app = named_command(root);
  return fmt::format("{} (try {} --help)", problem(app, error), full_name(app));
}

}  // namespace sift::cli
