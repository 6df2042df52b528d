#pragma once

#include <CLI/CLI.hpp>

namespace sift::cli {

// Each declares one command: its options, and what it does once they are read. A command that
// fails throws Error; one that ends otherwise than well returns its exit code through `exit_code`.

void add_generate(CLI::App& root, int& exit_code);
void add_compare(CLI::App& root, int& exit_code);
void add_perplexity(CLI::App& root, int& exit_code);
void add_tokenize(CLI::App& root);
void add_detokenize(CLI::App& root);
void add_bench(CLI::App& root, int& exit_code);
void add_policies(CLI::App& root);

}  // namespace sift::cli
