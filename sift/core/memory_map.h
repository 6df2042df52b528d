#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace sift {

/// A regular file mapped for reading. If the file shrinks, or a page of it cannot be read, while it
/// is mapped, then reads give zeros instead of ending the process, and check_intact() throws: call
/// it after reading what must be right. Safe to read from several threads.
///
/// For this the first mapping of a process installs a SIGBUS handler, which passes every fault
/// outside these mappings on to the handler that was there before.
class MemoryMap {
 public:
  /// Throws Error{bad_file} when `path` is missing, unreadable, empty or no regular file.
  explicit MemoryMap(const std::string& path);
  ~MemoryMap();
  MemoryMap(MemoryMap&& other) noexcept;
  MemoryMap& operator=(MemoryMap&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  /// Gives back the resident pages that lie wholly inside [offset, offset + bytes). Reading them
  /// later fetches them again. REQUIRES: the range lies inside the file.
  void release(std::size_t offset, std::size_t bytes) const;

  /// Throws Error{bad_file} when the file shrank, or could not be read, since it was mapped.
  void check_intact() const;

 private:
  struct Region;
  friend struct FaultHandler;

  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int descriptor_ = -1;
  Region* region_ = nullptr;
};

}  // namespace sift
