#include "sift/core/memory_map.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "sift/core/error.h"

namespace sift {
namespace {

using testing::HasSubstr;

constexpr std::size_t kPages = 8;

class MemoryMapTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "memory_map_XXXXXX";
    folder_ = ::mkdtemp(name.data());
    page_ = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    path_ = folder_ / "file";
    const int file = ::open(path_.c_str(), O_CREAT | O_WRONLY, 0600);
    const std::vector<char> content(kPages * page_, 'x');
    ASSERT_EQ(::write(file, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    ::close(file);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void expect_refused(const std::string& path, const std::string& message) {
    try {
      MemoryMap map(path);
      FAIL() << "opened " << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_file);
      EXPECT_THAT(error.what(), HasSubstr(path));
      EXPECT_THAT(error.what(), HasSubstr(message));
    }
  }

  std::filesystem::path folder_;
  std::filesystem::path path_;
  std::size_t page_ = 0;
};

TEST_F(MemoryMapTest, ReadsTheFile) {
  const MemoryMap map(path_);
  EXPECT_EQ(map.bytes().size(), kPages * page_);
  EXPECT_EQ(map.bytes()[3 * page_], std::byte{'x'});
  EXPECT_NO_THROW(map.check_intact());
}

TEST_F(MemoryMapTest, RefusesWhatIsNoFile) {
  expect_refused(folder_, "is a directory");
  expect_refused(folder_ / "absent", "cannot be opened (No such file or directory)");
  ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  expect_refused(folder_ / "fifo", "is not a regular file");
  std::filesystem::resize_file(path_, 0);
  expect_refused(path_, "is empty");
}

TEST_F(MemoryMapTest, FileThatShrinksIsAnError) {
  const MemoryMap map(path_);
  std::filesystem::resize_file(path_, page_);
  EXPECT_EQ(map.bytes()[0], std::byte{'x'});
  EXPECT_EQ(map.bytes()[5 * page_], std::byte{0});
  EXPECT_EQ(map.bytes()[2 * page_], std::byte{0});
  EXPECT_THROW(map.check_intact(), Error);
}

TEST_F(MemoryMapTest, FaultIsRememberedWhenTheFileGrowsBack) {
  const MemoryMap map(path_);
  std::filesystem::resize_file(path_, page_);
  EXPECT_EQ(map.bytes()[7 * page_], std::byte{0});
  std::filesystem::resize_file(path_, kPages * page_);
  try {
    map.check_intact();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_file);
    EXPECT_THAT(error.what(), HasSubstr("shrank or could not be read while mapped"));
  }
}

TEST_F(MemoryMapTest, ShrinkingIsSeenBeforeAnyRead) {
  const MemoryMap map(path_);
  std::filesystem::resize_file(path_, kPages * page_ - 1);
  try {
    map.check_intact();
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("shrank while mapped, from 32768 to 32767 bytes"));
  }
}

TEST_F(MemoryMapTest, FaultsInSeveralThreads) {
  const MemoryMap map(path_);
  const MemoryMap intact(folder_ / "file");
  std::filesystem::resize_file(path_, 1);
  std::vector<std::thread> threads;
  std::vector<std::byte> last(8, std::byte{1});
  for (std::size_t i = 0; i < last.size(); ++i) {
    threads.emplace_back([&, i] {
      for (std::size_t p = kPages - 1; p > 0; --p) last[i] = map.bytes()[p * page_];
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::byte value : last) EXPECT_EQ(value, std::byte{0});
  EXPECT_THROW(map.check_intact(), Error);
}

/// Bytes of file pages that this process holds.
std::size_t resident_file_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  std::size_t shared = 0;
  file >> total >> resident >> shared;
  return shared * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

TEST_F(MemoryMapTest, ReleaseGivesPagesBack) {
  constexpr std::size_t kBytes = std::size_t{32} << 20;
  std::filesystem::resize_file(path_, kBytes);
  const MemoryMap map(path_);
  const std::size_t before = resident_file_bytes();
  std::size_t zeros = 0;
  for (std::size_t i = kPages * page_; i < kBytes; i += page_)
    zeros += map.bytes()[i] == std::byte{0};
  EXPECT_EQ(zeros, kBytes / page_ - kPages);
  EXPECT_GT(resident_file_bytes(), before + kBytes / 2);
  map.release(1, kBytes - 1);
  EXPECT_LT(resident_file_bytes(), before + kBytes / 4);
  EXPECT_EQ(map.bytes()[page_], std::byte{'x'});
}

TEST_F(MemoryMapTest, CanBeMoved) {
  MemoryMap map(path_);
  MemoryMap moved(std::move(map));
  std::filesystem::resize_file(path_, page_);
  EXPECT_EQ(moved.bytes()[5 * page_], std::byte{0});
  EXPECT_THROW(moved.check_intact(), Error);
}

using MemoryMapDeathTest = MemoryMapTest;

TEST_F(MemoryMapDeathTest, OtherFaultsStillEndTheProcess) {
  const auto fault_elsewhere = [this] {
    const MemoryMap map(path_);
    const int file = ::open(path_.c_str(), O_RDONLY);
    auto* other = static_cast<volatile char*>(
        ::mmap(nullptr, kPages * page_, PROT_READ, MAP_PRIVATE, file, 0));
    std::filesystem::resize_file(path_, page_);
    std::exit(other[5 * page_]);
  };
  EXPECT_DEATH(fault_elsewhere(), "");
}

TEST_F(MemoryMapDeathTest, EarlierHandlerGetsOtherSignals) {
  const auto raise_bus_error = [this] {
    std::signal(SIGBUS, [](int) { ::_exit(42); });
    const MemoryMap map(path_);
    std::raise(SIGBUS);
  };
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(raise_bus_error(), testing::ExitedWithCode(42), "");
}

}  // namespace
}  // namespace sift
