#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace sift::cli {

// What completion and the manual are made from: the options that the parser itself has.

struct OptionEntry {
  std::vector<std::string> names;    ///< "--json", "-h"; of an argument without dashes its one name
  std::string value;                 ///< what follows it: "FILE", "cpu|reference"; empty for a flag
  std::vector<std::string> choices;  ///< words that the value may be, where they are few
  std::string default_value;         ///< empty: none
  std::string description;
  bool positional = false;

  bool takes_file() const { return value == "FILE" || value == "MODEL"; }
};

struct CommandEntry {
  std::string path;  ///< "bench decode"; empty for the program itself
  std::string name;  ///< "decode"
  std::string description;
  std::string footer;  ///< the example
  std::vector<OptionEntry> options;
  std::vector<CommandEntry> commands;
};

/// The program with all its commands.
CommandEntry option_table(const CLI::App& root);

/// `root` and all commands below it, each before those below it.
std::vector<const CommandEntry*> all_commands(const CommandEntry& root);

}  // namespace sift::cli
