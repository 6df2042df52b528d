#include <fmt/format.h>

#include "apps/cli/commands.h"
#include "apps/cli/report.h"

namespace sift::cli {

void add_policies(CLI::App& root) {
  CLI::App* app = root.add_subcommand("policies", "List the attention policies and their options");
  app->footer("Example:\n  sift policies");
  app->callback([] {
    print_text("Policies (--attention NAME[:OPTION,...]):\n");
    for (const PolicyHelp& help : policy_help()) {
      print_text(fmt::format("  {:<14} {}\n", help.name, help.description));
    }
    print_text("Options:\n");
    for (const PolicyHelp& help : policy_option_help()) {
      print_text(fmt::format("  {:<14} {:<28} {}\n", help.name, help.values, help.description));
    }
    flush_stdout();
  });
}

}  // namespace sift::cli
