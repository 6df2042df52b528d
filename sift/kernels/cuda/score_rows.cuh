#pragma once

#include <cuda_runtime_api.h>

namespace sift::cuda {

/// Threads of a block that selects order statistics.
inline constexpr int kSelectThreads = 512;

/// The scores that one block reads, pass after pass: `rows` rows of `group` floats, one per head,
/// rows next to each other and the first one aligned to 16 bytes. Every thread reads each stride-th
/// vector of four values. The stride is a multiple of the group, so that the four places of a
/// thread's vectors always belong to the same four heads. Its first vectors stay in registers.
class ScoreRows {
 public:
  __device__ ScoreRows(const float* scores, int rows, int group)
      : scores_(scores), values_(rows * group), group_(group) {
    stride_ = kSelectThreads / group * group;
    first_ = static_cast<int>(threadIdx.x) < stride_ ? static_cast<int>(threadIdx.x) : values_;
    load(first_, held_);
  }

  /// The head of place 0 to 3 of this thread's vectors.
  __device__ int head(int place) const {
    return (4 * static_cast<int>(threadIdx.x) + place) % group_;
  }

  /// Calls visit(place, score) for all scores of this thread.
  template <class Visit>
  __device__ void for_each(Visit&& visit) const {
    visit_batch(first_, held_, visit);
    for (int vector = first_ + kHeld * stride_; 4 * vector < values_;
         vector += kStreamed * stride_) {
      Batch<kStreamed> batch;
      load(vector, batch);
      visit_batch(vector, batch, visit);
    }
  }

 private:
  static constexpr int kHeld = 4;      // vectors that stay in registers
  static constexpr int kStreamed = 2;  // vectors behind them whose loads are under way together
  template <int kVectors>
  struct Batch {
    float values[kVectors][4];
  };

  // Nothing behind the last row is read: it may never have been written.
  template <int kVectors>
  __device__ void load(int vector, Batch<kVectors>& batch) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int begin = 4 * (vector + i * stride_);
      float(&to)[4] = batch.values[i];
      if (begin + 4 <= values_) {
        const float4 four = __ldcg(reinterpret_cast<const float4*>(scores_ + begin));
        to[0] = four.x;
        to[1] = four.y;
        to[2] = four.z;
        to[3] = four.w;
      } else {
#pragma unroll
        for (int place = 0; place < 4; ++place) {
          to[place] = begin + place < values_ ? scores_[begin + place] : 0.0F;
        }
      }
    }
  }

  template <int kVectors, class Visit>
  __device__ void visit_batch(int vector, const Batch<kVectors>& batch, Visit& visit) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int begin = 4 * (vector + i * stride_);
#pragma unroll
      for (int place = 0; place < 4; ++place) {
        if (begin + place < values_) visit(place, batch.values[i][place]);
      }
    }
  }

  const float* scores_;
  int values_;
  int group_;
  int stride_;
  int first_;
  Batch<kHeld> held_;
};

}  // namespace sift::cuda
