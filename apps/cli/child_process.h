#pragma once

#include <string>
#include <vector>

namespace sift::cli {

struct ChildResult {
  int exit_code = 0;   ///< 128 + signal when a signal ended it
  std::string output;  ///< its standard output
};

/// Runs a program to its end; its standard input and error are this program's. Throws Error
/// (input_output) when it cannot be started.
ChildResult run_child(const std::vector<std::string>& command);

}  // namespace sift::cli
