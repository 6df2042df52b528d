// How fast N threads read memory: the ceiling that speeds of decoding are related to. Each thread
// sums its own part of a buffer far larger than the caches; prints one JSON object.

#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "sift/core/aligned_buffer.h"

namespace {

struct Options {
  int threads = 2;
  int mebibytes = 1024;
  int repeat = 31;
};

struct Pass {
  double gigabytes_per_second;
  std::uint64_t checksum;
};

#if defined(__x86_64__)
#define SIFT_WIDEST_VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define SIFT_WIDEST_VECTORS
#endif

/// Sum of `count` words, in the widest vectors of this processor.
SIFT_WIDEST_VECTORS std::uint64_t sum_words(const std::uint64_t* words, std::size_t count) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += words[i];
  return sum;
}

/// The part of `words` that the calling thread of an OpenMP team works on.
template <class T>
std::span<T> part_of_thread(std::span<T> words) {
  const auto threads = static_cast<std::size_t>(omp_get_num_threads());
  const auto thread = static_cast<std::size_t>(omp_get_thread_num());
  const std::size_t begin = words.size() * thread / threads;
  return words.subspan(begin, words.size() * (thread + 1) / threads - begin);
}

/// Writes each page from the thread that reads it later, so that it lies in that thread's memory.
void fill(std::span<std::uint64_t> words, int threads) {
#pragma omp parallel num_threads(threads)
  std::ranges::fill(part_of_thread(words), std::uint64_t{1});
}

/// Reads all words once.
Pass read_once(std::span<const std::uint64_t> words, int threads) {
  const auto start = std::chrono::steady_clock::now();
  std::uint64_t checksum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : checksum)
  {
    const auto part = part_of_thread(words);
    checksum += sum_words(part.data(), part.size());
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {static_cast<double>(words.size_bytes()) / seconds.count() / 1e9, checksum};
}

nlohmann::json measure(const Options& options) {
  const std::size_t bytes = static_cast<std::size_t>(options.mebibytes) << 20;
  sift::AlignedBuffer<std::uint64_t> buffer(bytes / sizeof(std::uint64_t));
  fill(buffer.span(), options.threads);
  std::vector<double> rates;
  std::uint64_t checksum = read_once(buffer.span(), options.threads).checksum;  // warms up
  for (int i = 0; i < options.repeat; ++i) {
    const Pass pass = read_once(buffer.span(), options.threads);
    rates.push_back(pass.gigabytes_per_second);
    checksum += pass.checksum;
  }
  std::ranges::sort(rates);
  return {{"threads", options.threads}, {"buffer_bytes", bytes},
          {"repeat", options.repeat},   {"median_gigabytes_per_second", rates[rates.size() / 2]},
          {"minimum", rates.front()},   {"maximum", rates.back()},
          {"checksum", checksum}};
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Measures how fast threads read memory"};
  app.add_option("--threads", options.threads)->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--mebibytes", options.mebibytes, "size of the buffer, far above the caches")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--repeat", options.repeat)->check(CLI::Range(1, 10000))->capture_default_str();
  try {
    app.parse(argc, argv);
    std::cout << measure(options).dump() << '\n';
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::bad_alloc&) {
    std::cerr << "There is no memory for " << options.mebibytes << " MiB\n";
    return 2;
  }
  return std::cout.good() ? 0 : 4;
}
