#include <fmt/format.h>

#include <memory>
#include <string>

#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/option_table.h"
#include "apps/cli/report.h"
#include "sift/attention/policy.h"
#include "sift/core/version.h"

namespace sift::cli {
namespace {

/// Text as roff takes it: backslashes and dashes as themselves, and no line that looks like a
/// request.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const bool line_begins = out.empty() || out.back() == '\n';
    if (line_begins && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

/// A paragraph with a hanging term.
std::string term(const std::string& head, const std::string& text) {
  return fmt::format(".TP\n{}\n{}\n", head, escaped(text));
}

std::string option_head(const OptionEntry& option) {
  std::string head;
  for (const std::string& name : option.names) {
    head += fmt::format("{}\\fB{}\\fR", head.empty() ? "" : ", ", escaped(name));
  }
  if (!option.value.empty()) head += fmt::format(" \\fI{}\\fR", escaped(option.value));
  return head;
}

std::string option_text(const OptionEntry& option) {
  const std::string& value = option.default_value;
  return option.description + (value.empty() ? "" : fmt::format(" (default: {})", value));
}

/// "Example:" and the indented lines after it, as they stand.
std::string example(const std::string& footer) {
  return footer.empty() ? "" : fmt::format(".PP\n.nf\n{}\n.fi\n", escaped(footer));
}

std::string command_section(const CommandEntry& command) {
  std::string text =
      fmt::format(".SS sift {}\n{}.\n", escaped(command.path), escaped(command.description));
  for (const OptionEntry& option : command.options) {
    text += term(option_head(option), option_text(option));
  }
  return text + example(command.footer);
}

std::string policy_section() {
  std::string text =
      ".SH ATTENTION POLICIES\nA policy is a name and options: "
      "\\fINAME\\fR[:\\fIOPTION\\fR=\\fIVALUE\\fR,...].\n";
  for (const PolicyHelp& help : policy_help()) {
    text += term(fmt::format("\\fB{}\\fR", escaped(std::string(help.name))),
                 std::string(help.description));
  }
  for (const PolicyHelp& help : policy_option_help()) {
    text += term(fmt::format("\\fB{}\\fR ({})", escaped(std::string(help.name)),
                             escaped(std::string(help.values))),
                 std::string(help.description));
  }
  return text;
}

constexpr std::string_view kLastSections =
    ".SH EXIT STATUS\n"
    ".TP\n0\nsuccess\n"
    ".TP\n2\nbad arguments or a prompt that cannot be taken\n"
    ".TP\n3\na bad model or data file\n"
    ".TP\n4\nreading, writing or printing failed\n"
    ".TP\n5\nvalues that are not finite where finite ones are needed\n"
    ".TP\n130\ninterrupted; what there was has been printed\n"
    ".SH ENVIRONMENT\n"
    ".TP\n\\fBSIFT_HOME\\fR\nfolder of models and of the chat's history (default: ~/.cache/sift)\n";

std::string manual(const CommandEntry& root) {
  std::string text = fmt::format(
      ".TH SIFT 1 \"\" \"sift {}\" \"User Commands\"\n.SH NAME\nsift \\- {}\n.SH SYNOPSIS\n"
      "\\fBsift\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n.SH OPTIONS\n",
      build_information().version, escaped(root.description));
  for (const OptionEntry& option : root.options) {
    text += term(option_head(option), option_text(option));
  }
  text += example(root.footer) + ".SH COMMANDS\n";
  for (const CommandEntry* command : all_commands(root)) {
    if (!command->path.empty()) text += command_section(*command);
  }
  return text + policy_section() + std::string(kLastSections);
}

}  // namespace

void add_manual(CLI::App& root) {
  auto output = std::make_shared<OutputOptions>();
  CLI::App* app = root.add_subcommand("manual", "Print the manual page");
  app->footer("Example:\n  sift manual | man -l -");
  add_unused(*app, {"--model", "--threads", "--affinity", "--attention"});
  output->add_to(*app);
  add_log_level(*app);
  app->callback([output, &root] {
    JsonOutput json(*output);
    const std::string text = manual(option_table(root));
    if (json.wanted()) json.write({{"manual", text}});
    if (!json.to_stdout()) print_text(text);
  });
}

}  // namespace sift::cli
