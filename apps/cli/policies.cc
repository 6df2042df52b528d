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

nlohmann::ordered_json to_json(const Policy& policy) {
  nlohmann::ordered_json options = nlohmann::ordered_json::object();
  for (const PolicySetting& setting : policy_settings(policy)) {
    options[std::string(setting.name)] = setting.value;
  }
  return {{"policy", policy.name}, {"options", options}};
}

void print(const Policy& policy) {
  print_text(policy.name + "\n");
  for (const PolicySetting& setting : policy_settings(policy)) {
    print_text(fmt::format("  {:<14} {}\n", setting.name, setting.value));
  }
}

void print_all() {
  print_text("Policies (--attention NAME[:OPTION,...]):\n");
  for (const PolicyHelp& help : policy_help()) {
    print_text(fmt::format("  {:<14} {}\n", help.name, help.description));
  }
  print_text("Options:\n");
  for (const PolicyHelp& help : policy_option_help()) {
    print_text(fmt::format("  {:<14} {:<28} {}\n", help.name, help.values, help.description));
  }
}

struct PoliciesCommand {
  OutputOptions output;
  std::string attention;  ///< empty: all policies are listed

  void run() const {
    JsonOutput json(output);
    if (attention.empty()) {
      if (json.wanted()) {
        json.write(
            {{"policies", to_json(policy_help())}, {"options", to_json(policy_option_help())}});
      }
      if (!json.to_stdout()) print_all();
      return;
    }
    const Policy policy = parse_policy(attention);
    if (json.wanted()) json.write(to_json(policy));
    if (!json.to_stdout()) print(policy);
  }
};

}  // namespace

void add_policies(CLI::App& root) {
  auto command = std::make_shared<PoliciesCommand>();
  CLI::App* app = root.add_subcommand(
      "policies", "List the attention policies and their options, or those of one policy");
  app->footer("Examples:\n  sift policies\n  sift policies --attention sift:paper,tau=0.9");
  app->add_option("--attention", command->attention, "show what this policy's options are set to")
      ->type_name("POLICY");
  add_unused(*app, {"--model", "--threads", "--affinity"});
  command->output.add_to(*app);
  add_log_level(*app);
  app->callback([command] { command->run(); });
}

}  // namespace sift::cli
