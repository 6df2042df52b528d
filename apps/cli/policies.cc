#include <fmt/format.h>

#include <memory>

#include "apps/cli/commands.h"
#include "apps/cli/report.h"

namespace sift::cli {

namespace {

nlohmann::ordered_json to_json(const std::vector<PolicyHelp>& entries) {
  nlohmann::ordered_json array = nlohmann::ordered_json::array();
  for (const PolicyHelp& help : entries) {
    array.push_back(
        {{"name", help.name}, {"values", help.values}, {"description", help.description}});
  }
  return array;
}

void print() {
  print_text("Policies (--attention NAME[:OPTION,...]):\n");
  for (const PolicyHelp& help : policy_help()) {
    print_text(fmt::format("  {:<14} {}\n", help.name, help.description));
  }
  print_text("Options:\n");
  for (const PolicyHelp& help : policy_option_help()) {
    print_text(fmt::format("  {:<14} {:<28} {}\n", help.name, help.values, help.description));
  }
}

}  // namespace

void add_policies(CLI::App& root) {
  auto output = std::make_shared<OutputOptions>();
  CLI::App* app = root.add_subcommand("policies", "List the attention policies and their options");
  app->footer("Example:\n  sift policies");
  output->add_to(*app);
  add_log_level(*app);
  app->callback([output] {
    JsonOutput json(*output);
    if (json.wanted()) {
      json.write(
          {{"policies", to_json(policy_help())}, {"options", to_json(policy_option_help())}});
    }
    if (!json.to_stdout()) print();
  });
}

}  // namespace sift::cli
