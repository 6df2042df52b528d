#pragma once

#include "sift/kernels/cuda/decode_partials.cuh"
#include "sift/kernels/cuda/decode_selection.cuh"

namespace sift::cuda {

/// Items of values of sifted requests: adds up the values of the keys that their scores select.
template <class T, int kDim, class Context>
class ValueWorker {
 public:
  static constexpr int kHeadTiles = Context::kHeadTiles;

  __device__ ValueWorker(Context& c, int turn) : c_(c), selector_(c, turn) {}

  /// Works on item `turn` and those of the same kind that follow; returns the first other one.
  __device__ int run(int turn) {
    for (; c_.item(turn).work == Work::values; ++turn) {
      c_.look_ahead(turn);
      values_.clear();
      for (float& mass : mass_) mass = 0;
      for (bool last = false; !last;) {
        selector_.fill(turn + 1);
        const Note note = selector_.oldest_note();
        last = note.last;
        const char* tile = c_.ring.wait(c_.groups);
        if (note.rows > 0) take(tile, note);
        c_.ring.release();
      }
      end(turn);
    }
    return turn;
  }

 private:
  using Selector = RowSelector<T, Context, false>;
  using Note = typename Selector::Note;

  __device__ void take(const char* tile, const Note& note) {
    const auto& rows = c_.shared.selections[c_.warp];
    std::uint32_t weights[kHeadTiles][2];
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = 8 * h + c_.at.g;
      const std::uint16_t* row = rows.weights[min(head, c_.group - 1)] + note.place;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int first = 8 * half + 2 * c_.at.t;
        std::uint32_t pair = *reinterpret_cast<const std::uint32_t*>(row + first);
        if (head >= c_.group || first >= note.rows) pair = 0;
        if (first + 1 >= note.rows) pair &= 0xffffU;
        weights[h][half] = pair;
        const float2 both = Format<T>::unpack(pair);
        mass_[h] += both.x + both.y;
      }
    }
    values_.template add<T>(tile, weights, c_.at);
  }

  __device__ void end(int turn) {
    auto& results = c_.shared.results;
    __syncthreads();  // what was shared before has been read
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      float mass = mass_[h];
      mass += __shfl_xor_sync(kAllLanes, mass, 1);
      mass += __shfl_xor_sync(kAllLanes, mass, 2);
      if (c_.at.t == 0) results.masses[c_.warp][8 * h + c_.at.g] = mass;
    }
    const Item& item = c_.item(turn);
    write_partial<false>(c_, item, turn, values_);
    if (threadIdx.x < c_.group) {
      float mass = 0;
      for (const auto& masses : results.masses) mass += masses[threadIdx.x];
      c_.w.item_masses[std::int64_t{item.number} * c_.group + threadIdx.x] = mass;
    }
  }

  Context& c_;
  Selector selector_;
  float mass_[kHeadTiles];
  ValueSums<kDim, kHeadTiles> values_;
};

}  // namespace sift::cuda
