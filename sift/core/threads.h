#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sift {

/// Threads that this process can keep busy: physical cores among the processors that it may run
/// on (one per core where cores have several), not more than its control group's quota. At least 1.
/// `root` stands for "/" (tests give a folder of their own).
int default_thread_count(const std::string& root = "");

/// More threads than this are not taken.
inline constexpr int kMaximumThreads = 1024;

/// Reads a processor list, "0,2-5". Throws Error (invalid_argument) when it is none.
std::vector<int> parse_processor_list(std::string_view text);

/// Ties worker thread i of `threads` to processor processors[i % size]. Throws Error
/// (invalid_argument) naming a processor that this process may not run on.
void pin_threads(const std::vector<int>& processors, int threads);

}  // namespace sift
