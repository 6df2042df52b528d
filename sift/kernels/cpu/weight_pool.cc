#include "sift/kernels/cpu/weight_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace sift::cpu {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kChunk = std::size_t{32} << 20;
constexpr std::size_t kAlignment = 64;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

std::shared_ptr<std::uint8_t> allocate_chunk(std::size_t size) {
  constexpr std::align_val_t kAligned{kHugePage};
  auto* memory = static_cast<std::uint8_t*>(::operator new(size, kAligned));
  // A wish: where it is not granted, only speed differs. Pages are taken when they are first
  // written.
  madvise(memory, size, MADV_HUGEPAGE);
  return {memory, [](std::uint8_t* p) { ::operator delete(p, std::align_val_t{kHugePage}); }};
}

}  // namespace

std::shared_ptr<std::uint8_t> WeightPool::allocate(std::size_t bytes) {
  bytes = round_up(bytes, kAlignment);
  if (bytes > size_ - used_) {
    size_ = round_up(std::max(bytes, kChunk), kHugePage);
    chunk_ = allocate_chunk(size_);
    used_ = 0;
  }
  std::uint8_t* begin = chunk_.get() + used_;
  used_ += bytes;
  return {chunk_, begin};
}

}  // namespace sift::cpu
