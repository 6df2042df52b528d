#include "sift/core/threads.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "sift/core/error.h"

namespace sift {
namespace {

class FakeRoot {
 public:
  // Tests run beside each other, so each has a folder of its own.
  FakeRoot()
      : path_(testing::TempDir() + "/sift_threads_" +
              testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(path_);
  }
  ~FakeRoot() { std::filesystem::remove_all(path_); }
  void write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path_ + file).parent_path());
    std::ofstream(path_ + file) << text << "\n";
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(DefaultThreadCount, IsAtLeastOneHere) { EXPECT_GE(default_thread_count(), 1); }

TEST(DefaultThreadCount, CountsSiblingsOnce) {
  const FakeRoot root;
  for (int cpu = 0; cpu < 1024; ++cpu) {
    root.write(
        "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
        "0-1023");
  }
  EXPECT_EQ(default_thread_count(root.path()), 1);
}

TEST(DefaultThreadCount, ObeysTheQuotaOfAnEnclosingGroup) {
  const FakeRoot root;
  root.write("/proc/self/cgroup", "0::/outer/inner");
  root.write("/sys/fs/cgroup/outer/inner/cpu.max", "max 100000");
  root.write("/sys/fs/cgroup/outer/cpu.max", "50000 100000");
  EXPECT_EQ(default_thread_count(root.path()), 1);
}

TEST(ProcessorList, ReadsNumbersAndRanges) {
  EXPECT_EQ(parse_processor_list("0,2-4"), (std::vector<int>{0, 2, 3, 4}));
  for (const char* bad : {"", "a", "1-", "-1", "3-2", "1,,2", "99999999999", "1 "}) {
    EXPECT_THROW(parse_processor_list(bad), Error) << bad;
  }
}

TEST(PinThreads, RefusesAProcessorThatIsNotThere) { EXPECT_THROW(pin_threads({1000}, 1), Error); }

}  // namespace
}  // namespace sift
