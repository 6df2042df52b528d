#include <fmt/format.h>

#include <hwy/targets.h>
#include <fstream>
#include <string>

#include "apps/cli/commands.h"
#include "sift/core/version.h"
#include "sift/kernels/cpu/instruction_set.h"

namespace sift::cli {
namespace {

std::string instruction_set_name() {
  if (cpu::best_instruction_set() == cpu::InstructionSet::avx512) {
    return "AVX-512 with VNNI, BF16 and VBMI";
  }
  // Highway numbers its targets so that the best one is the lowest bit.
  const auto targets = static_cast<std::uint64_t>(hwy::SupportedTargets());
  return fmt::format("Highway {}", hwy::TargetName(static_cast<std::int64_t>(targets & -targets)));
}

}  // namespace

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "a processor without a name";
}

std::string version_text() {
  const BuildInformation build = build_information();
  return fmt::format(
      "sift {}\ncommit: {}\ncompiler: {} ({})\ninstruction set: {}\ndevices: {}; no CUDA in this "
      "build",
      build.version, build.commit, build.compiler, build.build_type, instruction_set_name(),
      processor_name());
}

}  // namespace sift::cli
