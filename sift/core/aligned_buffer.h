#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <span>

namespace sift {

/// An array of trivially copyable T, aligned to cache lines (64 bytes). Contents are not
/// initialised.
template <class T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size) { resize(size); }

  /// Throws away what was there. Throws std::bad_alloc.
  void resize(std::size_t size) {
    data_.reset(size == 0 ? nullptr
                          : static_cast<T*>(::operator new(size * sizeof(T), kAlignment)));
    size_ = size;
  }
  /// Grows to at least `size`, throwing away what was there when it must grow.
  void ensure(std::size_t size) {
    if (size > size_) resize(size);
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return data_.get()[i]; }
  const T& operator[](std::size_t i) const { return data_.get()[i]; }
  std::span<T> span() { return {data_.get(), size_}; }
  std::span<const T> span() const { return {data_.get(), size_}; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Deleter {
    void operator()(T* pointer) const { ::operator delete(pointer, kAlignment); }
  };
  std::unique_ptr<T, Deleter> data_;
  std::size_t size_ = 0;
};

}  // namespace sift
