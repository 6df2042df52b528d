#include "sift/core/threads.h"

#include <fmt/format.h>
#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <fstream>
#include <optional>
#include <set>

#include "sift/core/error.h"

namespace sift {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<int> allowed_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> processors;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (CPU_ISSET(processor, &set)) processors.push_back(processor);
  }
  return processors;
}

/// Cores among `processors`: siblings of one core share one list of siblings.
int count_cores(const std::vector<int>& processors, const std::string& root) {
  std::set<std::string> cores;
  for (const int processor : processors) {
    const std::string siblings = first_line(fmt::format(
        "{}/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", root, processor));
    cores.insert(siblings.empty() ? fmt::format("{}", processor) : siblings);
  }
  return static_cast<int>(cores.size());
}

std::optional<double> number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Processors' worth of time that a control group grants, if it limits it ("max 100000" does not).
std::optional<double> quota(const std::string& folder) {
  const std::string line = first_line(folder + "/cpu.max");
  const std::size_t space = line.find(' ');
  if (space == std::string::npos) return std::nullopt;
  const auto time = number(line.substr(0, space));
  const auto period = number(line.substr(space + 1));
  if (!time || !period || *period <= 0) return std::nullopt;
  return *time / *period;
}

/// The smallest quota from this process's control group (version 2) up to the root.
std::optional<double> smallest_quota(const std::string& root) {
  const std::string line = first_line(root + "/proc/self/cgroup");  // "0::/path"
  std::string path = line.rfind("0::", 0) == 0 ? line.substr(3) : "/";
  std::optional<double> smallest;
  while (true) {
    const auto here = quota(root + "/sys/fs/cgroup" + path);
    if (here && (!smallest || *here < *smallest)) smallest = here;
    if (path.empty() || path == "/") return smallest;
    path.erase(path.rfind('/'));
  }
}

int parse_processor(std::string_view text, std::string_view whole) {
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0 ||
      value >= CPU_SETSIZE) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("processor list '{}', expected numbers from 0 to {} and ranges, as in "
                            "0,2-5",
                            whole, CPU_SETSIZE - 1));
  }
  return value;
}

}  // namespace

int default_thread_count(const std::string& root) {
  int threads = count_cores(allowed_processors(), root);
  if (const auto limit = smallest_quota(root)) {
    threads = std::min(threads, static_cast<int>(std::ceil(*limit)));
  }
  return std::max(threads, 1);
}

std::vector<int> parse_processor_list(std::string_view text) {
  std::vector<int> processors;
  for (std::string_view rest = text;;) {
    const std::size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    const std::size_t dash = item.find('-');
    const int first = parse_processor(item.substr(0, dash), text);
    const int last =
        dash == std::string_view::npos ? first : parse_processor(item.substr(dash + 1), text);
    for (int processor = first; processor <= last; ++processor) processors.push_back(processor);
    if (first > last) parse_processor("", text);
    if (comma == std::string_view::npos) return processors;
    rest = rest.substr(comma + 1);
  }
}

void pin_threads(const std::vector<int>& processors, int threads) {
  const std::vector<int> allowed = allowed_processors();
  for (const int processor : processors) {
    if (std::find(allowed.begin(), allowed.end(), processor) == allowed.end()) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("processor {} is not one that this process may run on", processor));
    }
  }
  std::atomic<int> failures = 0;
#pragma omp parallel num_threads(threads)
  {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processors[static_cast<std::size_t>(omp_get_thread_num()) % processors.size()], &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0) ++failures;
  }
  if (failures != 0) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("{} of {} threads could not be tied to processors", failures.load(), threads));
  }
}

}  // namespace sift
