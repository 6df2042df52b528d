#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace sift::cli {

// Each declares one command: its options, and what it does once they are read. A command that
// fails throws Error; one that ends otherwise than well returns its exit code through `exit_code`.

void add_generate(CLI::App& root, int& exit_code);
void add_chat(CLI::App& root);
void add_compare(CLI::App& root, int& exit_code);
void add_perplexity(CLI::App& root, int& exit_code);
void add_analyze(CLI::App& root, int& exit_code);
void add_eval(CLI::App& root, int& exit_code);
void add_bench(CLI::App& root, int& exit_code);
void add_bench_attention(CLI::App& bench, int& exit_code);
void add_study(CLI::App& root, int& exit_code);
void add_tokenize(CLI::App& root);
void add_detokenize(CLI::App& root);
void add_inspect(CLI::App& root);
void add_pull(CLI::App& root, int& exit_code);
void add_policies(CLI::App& root);
void add_completion(CLI::App& root);
void add_manual(CLI::App& root);

/// What the kernel calls the processor, as in "AMD EPYC 9B45".
std::string processor_name();

/// What --version prints.
std::string version_text();

}  // namespace sift::cli
