#pragma once

// What tests and benchmarks on a device share.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <vector>

namespace sift::cuda {

inline void must(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

/// An array in device memory.
template <class V>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size) : size_(size) {
    must(cudaMalloc(&data_, std::max<std::size_t>(size, 1) * sizeof(V)));
  }
  explicit DeviceArray(const std::vector<V>& values) : DeviceArray(values.size()) { set(values); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  V* data() const { return data_; }
  std::size_t size() const { return size_; }
  void fill_bytes(int byte) { must(cudaMemset(data_, byte, size_ * sizeof(V))); }
  /// REQUIRES: values.size() ≤ size().
  void set(const std::vector<V>& values) {
    must(cudaMemcpy(data_, values.data(), values.size() * sizeof(V), cudaMemcpyHostToDevice));
  }
  std::vector<V> host() const {
    std::vector<V> values(size_);
    must(cudaMemcpy(values.data(), data_, size_ * sizeof(V), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  V* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace sift::cuda
