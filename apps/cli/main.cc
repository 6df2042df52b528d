#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>

#include "apps/cli/commands.h"
#include "sift/core/error.h"
#include "sift/core/version.h"

namespace {

int fail(sift::ErrorKind kind, const std::string& message) {
  std::fflush(stdout);
  fmt::print(stderr, "sift: {}\n", message);
  return static_cast<int>(kind);
}

int run(int argc, char** argv) {
  const sift::BuildInformation build = sift::build_information();
  CLI::App app{"Run language models with dynamic sparse attention.", "sift"};
  app.set_version_flag("--version", fmt::format("sift {} ({}, {}, {})", build.version, build.commit,
                                                build.compiler, build.build_type));
  app.require_subcommand(1);
  int exit_code = 0;
  sift::cli::add_generate(app, exit_code);
  sift::cli::add_compare(app, exit_code);
  sift::cli::add_perplexity(app, exit_code);
  sift::cli::add_bench(app, exit_code);
  sift::cli::add_tokenize(app);
  sift::cli::add_detokenize(app);
  sift::cli::add_policies(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);  // --help and --version
  } catch (const CLI::ParseError& error) {
    return fail(sift::ErrorKind::invalid_argument,
                fmt::format("{} (try sift --help)", error.what()));
  }
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const sift::Error& error) {
    return fail(error.kind(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(sift::ErrorKind::input_output, "out of memory");
  } catch (const std::exception& error) {
    return fail(sift::ErrorKind::input_output, error.what());
  }
}
