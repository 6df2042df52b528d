#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <new>

#include "apps/cli/commands.h"
#include "apps/cli/log.h"
#include "apps/cli/parse_errors.h"
#include "apps/cli/report.h"
#include "apps/cli/waiting.h"
#include "sift/core/error.h"

namespace sift::cli {
namespace {

int fail(ErrorKind kind, const std::string& message) {
  print_error_text(fmt::format("error: {}\n", message));
  return static_cast<int>(kind);
}

/// Occupies standard streams that were closed, so that no file that is opened later gets their
/// numbers, and with it what is printed. Writing to them fails as before.
void occupy_closed_streams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) {
    if (fcntl(stream, F_GETFD) < 0) open("/dev/null", O_RDONLY);  // takes the lowest free number
  }
}

void add_commands(CLI::App& app, int& exit_code) {
  app.footer(
      "Examples:\n"
      "  sift pull smollm2-135m-instruct\n"
      "  sift chat\n"
      "  sift generate --prompt \"The capital of France is\" --attention sift\n"
      "  sift COMMAND --help");
  app.set_version_flag("--version", version_text,
                       "Show version, commit, compiler, instruction set and devices");
  app.require_subcommand(1);
  add_generate(app, exit_code);
  add_chat(app);
  add_compare(app, exit_code);
  add_perplexity(app, exit_code);
  add_analyze(app, exit_code);
  add_eval(app, exit_code);
  add_bench(app, exit_code);
  add_study(app, exit_code);
  add_tokenize(app);
  add_detokenize(app);
  add_inspect(app);
  add_pull(app, exit_code);
  add_policies(app);
  add_completion(app);
  add_manual(app);
}

int run(int argc, char** argv) {
  CLI::App app{"Run language models with dynamic sparse attention", "sift"};
  int exit_code = 0;
  add_commands(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print_text(app.help());
  } catch (const CLI::CallForVersion& version) {
    print_text(std::string(version.what()) + "\n");
  } catch (const CLI::ParseError& error) {
    return fail(ErrorKind::invalid_argument, describe(app, error));
  }
  return exit_code;
}

}  // namespace
}  // namespace sift::cli

int main(int argc, char** argv) {
  sift::cli::occupy_closed_streams();
  sift::cli::bound_waiting(argv);
  using sift::cli::fail;
  try {
    return sift::cli::run(argc, argv);
  } catch (const sift::Error& error) {
    return fail(error.kind(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(sift::ErrorKind::input_output, "out of memory");
  } catch (const std::exception& error) {
    return fail(sift::ErrorKind::input_output, error.what());
  }
}
