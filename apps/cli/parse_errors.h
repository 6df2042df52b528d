#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace sift::cli {

/// One sentence about arguments that could not be read: which one, and what was expected.
std::string describe(const CLI::App& root, const CLI::ParseError& error);

}  // namespace sift::cli
