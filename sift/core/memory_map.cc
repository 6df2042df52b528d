#include "sift/core/memory_map.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <utility>

#include "sift/core/error.h"

namespace sift {

/// What the signal handler knows of one mapping. Regions are linked into a list that only grows and
/// are never freed or used twice, so that the handler can walk it in any thread at any time without
/// a lock. A region costs some forty bytes for each file ever mapped.
struct MemoryMap::Region {
  std::uintptr_t begin;
  std::uintptr_t end;
  Region* next = nullptr;
  std::atomic<bool> active{true};
  std::atomic<bool> faulted{false};
};

static_assert(std::atomic<bool>::is_always_lock_free, "used in a signal handler");

struct FaultHandler {
  static inline std::atomic<MemoryMap::Region*> regions{nullptr};
  static inline struct sigaction previous {};
  static inline std::uintptr_t page_size = 0;

  static void install() {
    static std::once_flag once;
    std::call_once(once, [] {
      page_size = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
      struct sigaction action {};
      action.sa_sigaction = &FaultHandler::handle;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK;
      ::sigemptyset(&action.sa_mask);
      ::sigaction(SIGBUS, &action, &previous);
    });
  }

  static MemoryMap::Region* add(const std::byte* data, std::size_t size) {
    const auto begin = reinterpret_cast<std::uintptr_t>(data);
    auto* region = new MemoryMap::Region{.begin = begin, .end = begin + size};
    region->next = regions.load();
    while (!regions.compare_exchange_weak(region->next, region)) {
    }
    return region;
  }

  /// A page behind the end of a file that shrank: puts zeros over it and all that follows it in the
  /// mapping (which is behind the end too), and lets the reader go on.
  static bool repair(std::uintptr_t address) {
    for (MemoryMap::Region* region = regions.load(); region != nullptr; region = region->next) {
      const std::uintptr_t page = address & ~(page_size - 1);
      if (!region->active.load() || page < region->begin || address >= region->end) continue;
      region->faulted.store(true);
      // NOLINTNEXTLINE(performance-no-int-to-ptr): the page is told by its address
      return ::mmap(reinterpret_cast<void*>(page), region->end - page, PROT_READ,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
    }
    return false;
  }

  static void handle(int signal, siginfo_t* info, void* context) {
    const int saved_errno = errno;
    const bool repaired =
        info->si_code == BUS_ADRERR && repair(reinterpret_cast<std::uintptr_t>(info->si_addr));
    errno = saved_errno;
    if (!repaired) pass_on(signal, info, context);
  }

  static void pass_on(int signal, siginfo_t* info, void* context) {
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
      previous.sa_sigaction(signal, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
      previous.sa_handler(signal);
    } else {
      // The default ends the process. A fault comes again by itself when this handler returns, a
      // signal that somebody sent does not.
      ::signal(SIGBUS, SIG_DFL);
      ::raise(SIGBUS);
    }
  }
};

namespace {

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", path, what));
}

/// Size of the open file in bytes.
std::size_t checked_size(int descriptor, const std::string& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    fail(path, fmt::format("cannot be examined ({})", std::strerror(errno)));
  }
  if (S_ISDIR(status.st_mode)) fail(path, "is a directory, expected a regular file");
  if (!S_ISREG(status.st_mode)) fail(path, "is not a regular file");
  if (status.st_size == 0) fail(path, "is empty (0 bytes)");
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

MemoryMap::MemoryMap(const std::string& path) : path_(path) {
  // Without O_NONBLOCK opening a FIFO would wait for a writer.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) fail(path, fmt::format("cannot be opened ({})", std::strerror(errno)));
  try {
    size_ = checked_size(descriptor_, path);
    FaultHandler::install();
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor_, 0);
    if (address == MAP_FAILED) {
      fail(path, fmt::format("cannot be mapped ({} bytes, {})", size_, std::strerror(errno)));
    }
    data_ = static_cast<const std::byte*>(address);
    region_ = FaultHandler::add(data_, size_);
  } catch (...) {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
    ::close(descriptor_);
    throw;
  }
}

MemoryMap::~MemoryMap() {
  if (data_ == nullptr) return;
  region_->active.store(false);
  ::munmap(const_cast<std::byte*>(data_), size_);
  ::close(descriptor_);
}

MemoryMap::MemoryMap(MemoryMap&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      region_(std::exchange(other.region_, nullptr)) {}

MemoryMap& MemoryMap::operator=(MemoryMap&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(region_, other.region_);
  return *this;
}

void MemoryMap::release(std::size_t offset, std::size_t bytes) const {
  const std::size_t page = FaultHandler::page_size;
  const std::size_t begin = (offset + page - 1) / page * page;
  // The last page of the file is whole although the file ends inside it.
  const std::size_t end = offset + bytes == size_ ? size_ : (offset + bytes) / page * page;
  if (begin >= end) return;
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

void MemoryMap::check_intact() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    fail(path_, fmt::format("cannot be examined ({})", std::strerror(errno)));
  }
  const auto size_now = static_cast<std::size_t>(status.st_size);
  if (size_now < size_) {
    fail(path_, fmt::format("shrank while mapped, from {} to {} bytes", size_, size_now));
  }
  if (region_->faulted.load()) {
    fail(path_, "shrank or could not be read while mapped");
  }
}

}  // namespace sift
