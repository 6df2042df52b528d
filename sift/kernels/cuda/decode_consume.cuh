#pragma once

#include "sift/kernels/cuda/decode_load.cuh"
#include "sift/kernels/cuda/decode_merge.cuh"

namespace sift::cuda {

/// One of the consumer warps of a block. Of each tile it takes 16 rows: of K it scores them against
/// all heads of the group, of V it adds them to sums of its own, which are put together at the end
/// of an item.
template <class T, int kDim, int kMostHeads>
class Consumer {
 public:
  using Shared = SharedLayout<kDim, kMostHeads>;
  using Slot = typename Shared::Slot;
  using Numbers = Format<T>;

  __device__ Consumer(const DecodeArguments& a, const DecodeWorkspace& w, Shared& shared)
      : a_(a),
        w_(w),
        shared_(shared),
        warp_(threadIdx.x / kWarpThreads),
        lane_(threadIdx.x % kWarpThreads),
        group_(a.heads / a.kv_heads),
        scale_(a.scale * 1.44269504088896340736F) {}

  __device__ void run() {
    RingPosition<Shared::kTiles> at;
    while (true) {
      barrier_wait(&shared_.tile_full[at.place], at.parity);
      const TileNote note = shared_.notes[at.place];
      if (note.end) break;
      Slot& slot = shared_.slots[note.slot];
      const std::uint32_t tile = shared_address(shared_.tiles[at.place]);
      if (note.values) {
        value_tile(note, slot, tile);
      } else {
        score_tile(note, slot, tile);
      }
      __syncwarp();
      if (lane_ == 0) barrier_arrive(&shared_.tile_empty[at.place]);
      if (note.last) {
        tally(slot);
        if (slot.note.closes) finish_item(slot);
        __syncwarp();
        if (lane_ == 0) barrier_arrive(&shared_.slot_empty[note.slot]);
      }
      at.advance();
    }
  }

 private:
  static constexpr int kHeadTiles = Shared::kHeadTiles;
  static constexpr int kStrips = kDim / 16;

  // Lane 4 g + t holds what matrix fragments of row or column g have.
  __device__ int g() const { return lane_ / 4; }
  __device__ int t() const { return lane_ % 4; }

  __device__ void load_query(const Slot& slot) {
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const std::uint16_t* row = slot.query + (h * 8 + g()) * Shared::kQueryStride + 2 * t();
#pragma unroll
      for (int k = 0; k < kDim / 16; ++k) {
        query_[k][h][0] = *reinterpret_cast<const std::uint32_t*>(row + k * 16);
        query_[k][h][1] = *reinterpret_cast<const std::uint32_t*>(row + k * 16 + 8);
      }
      for (int i = 0; i < 2; ++i) {
        maximum_[h][i] = -__builtin_huge_valf();
        sum_[h][i] = 0;
      }
    }
  }

  __device__ void score_tile(const TileNote& note, Slot& slot, std::uint32_t tile) {
    if (note.first && slot.note.opens) load_query(slot);
    const int first = warp_ * 16;
    if (first >= note.rows) return;
    float scores[kHeadTiles][4] = {};
    float odd[kHeadTiles][4] = {};  // a second chain of sums: one waits while the other adds
    const int row = first + lane_ % 8 + (lane_ / 8 % 2) * 8;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      std::uint32_t keys[4];
      load_matrices(keys, tile + piece_place<kDim>(row, 2 * k + lane_ / 16) * 16);
#pragma unroll
      for (int h = 0; h < kHeadTiles; ++h) {
        Numbers::multiply_add(k % 2 == 0 ? scores[h] : odd[h], keys, query_[k][h][0],
                              query_[k][h][1]);
      }
    }
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[h][i] += odd[h][i];
    }
    take_scores(note, slot, scores);
  }

  // Scales the scores that this lane holds, of keys g and g + 8 under heads 2t and 2t + 1, writes
  // them and adds them to the maxima and sums.
  __device__ void take_scores(const TileNote& note, Slot& slot, float (&scores)[kHeadTiles][4]) {
    const Work work = slot.note.work;
    const bool keeps = work == Work::scores || slot.note.records;
    const int row = warp_ * 16 + g();
    const int key = note.first_row + row;
    float* far = w_.scores + (slot.note.score_chunk() * kChunkKeys + key) * group_;
    float* near = slot.scores + key * group_;
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int head = h * 8 + 2 * t() + i % 2;
        const int below = i / 2 * 8;
        const bool valid = head < group_ && row + below < note.rows;
        scores[h][i] = valid ? scores[h][i] * scale_ : -__builtin_huge_valf();
        if (valid && keeps) far[below * group_ + head] = scores[h][i];
        if (valid && work == Work::dense) near[below * group_ + head] = scores[h][i];
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float before = maximum_[h][i];
        const float now = fmaxf(before, fmaxf(scores[h][i], scores[h][i + 2]));
        maximum_[h][i] = now;
        if (work != Work::scores) continue;
        const float reference = finite_reference(now);
        sum_[h][i] =
            sum_[h][i] * exp2_fast(before - reference) +
            (exp2_fast(scores[h][i] - reference) + exp2_fast(scores[h][i + 2] - reference));
      }
    }
  }

  // Combines the maxima and sums of lanes that hold the same heads; every lane gets the result.
  __device__ void reduce_lanes() {
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        for (int distance = 4; distance < kWarpThreads; distance *= 2) {
          const float other = __shfl_xor_sync(kAllLanes, maximum_[h][i], distance);
          const float other_sum = __shfl_xor_sync(kAllLanes, sum_[h][i], distance);
          const float now = fmaxf(maximum_[h][i], other);
          const float reference = finite_reference(now);
          sum_[h][i] = sum_[h][i] * exp2_fast(maximum_[h][i] - reference) +
                       other_sum * exp2_fast(other - reference);
          maximum_[h][i] = now;
        }
      }
    }
  }

  // Each warp's maxima and sums to all others. The places change from one time to the next, so
  // that no warp overwrites what another still reads.
  __device__ void share() {
    reduce_lanes();
    turn_ ^= 1;
    if (g() == 0) {
#pragma unroll
      for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int head = h * 8 + 2 * t() + i;
          shared_.reduced_maximum[turn_][warp_][head] = maximum_[h][i];
          shared_.reduced_sum[turn_][warp_][head] = sum_[h][i];
        }
      }
    }
    named_barrier(kConsumerBarrier, kConsumerThreads);
  }

  __device__ float shared_maximum(int head) const {
    float maximum = -__builtin_huge_valf();
#pragma unroll
    for (int warp = 0; warp < kConsumerWarps; ++warp) {
      maximum = fmaxf(maximum, shared_.reduced_maximum[turn_][warp][head]);
    }
    return maximum;
  }

  __device__ float shared_sum(int head, float maximum) const {
    const float reference = finite_reference(maximum);
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < kConsumerWarps; ++warp) {
      sum += shared_.reduced_sum[turn_][warp][head] *
             exp2_fast(shared_.reduced_maximum[turn_][warp][head] - reference);
    }
    return sum;
  }

  // Weights are relative to the head's maximum where that is known, else to that of this warp's
  // rows of the item so far.
  __device__ void begin_values(const Slot& slot) {
    const bool dense = slot.note.work == Work::dense;
    if (dense) reduce_lanes();
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = h * 8 + g();
      const float before = reference_[h];
      // Lane t of any g has the maxima of heads 2t and 2t + 1.
      const float even = __shfl_sync(kAllLanes, maximum_[h][0], g() / 2);
      const float odd = __shfl_sync(kAllLanes, maximum_[h][1], g() / 2);
      reference_[h] =
          dense ? (g() % 2 == 0 ? even : odd) : slot.plans[min(head, group_ - 1)].maximum;
      if (slot.note.opens) {
        mass_[h] = 0;
#pragma unroll
        for (int strip = 0; strip < kStrips; ++strip) {
#pragma unroll
          for (float& sum : sums_[strip][h]) sum = 0;
        }
      } else if (dense) {
        rescale(h, exp2_fast(before - finite_reference(reference_[h])));
      }
    }
    if (slot.note.opens) kept_ = {};
    __syncwarp();  // this warp's scores are in the slot
  }

  // Multiplies what was summed so far with a factor for head g.
  __device__ void rescale(int h, float factor) {
    mass_[h] *= factor;
    const float even = __shfl_sync(kAllLanes, factor, 8 * t());
    const float odd = __shfl_sync(kAllLanes, factor, 8 * t() + 4);
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums_[strip][h][i] *= i % 2 == 0 ? even : odd;
    }
  }

  // What one lane a head of the first warp adds up over the chunks of an item.
  struct KeptRows {
    int kept = 0;
    int eligible = 0;
    int rows = 0;
    int rows_eligible = 0;
  };

  __device__ void tally(const Slot& slot) {
    if (warp_ != 0 || slot.note.work != Work::values || lane_ >= group_) return;
    kept_.kept += slot.kept[lane_].kept;
    kept_.eligible += slot.kept[lane_].eligible;
    kept_.rows += slot.note.rows;
    kept_.rows_eligible += slot.rows_eligible;
  }

  __device__ void value_tile(const TileNote& note, Slot& slot, std::uint32_t tile) {
    if (note.first_row == 0) begin_values(slot);
    const int first = warp_ * 16;
    if (first >= note.rows) return;
    std::uint32_t weights[kHeadTiles][2];
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const int head = h * 8 + g();
      const float reference = finite_reference(reference_[h]);
      float weight[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = first + 2 * t() + i % 2 + i / 2 * 8;
        const int place =
            (note.first_row + min(row, note.rows - 1)) * group_ + min(head, group_ - 1);
        const bool counts = head < group_ && row < note.rows;
        weight[i] = counts ? exp2_fast(slot.scores[place] - reference) : 0.0F;
        mass_[h] += weight[i];
      }
      weights[h][0] = Numbers::pack(weight[0], weight[1]);
      weights[h][1] = Numbers::pack(weight[2], weight[3]);
    }
    const int row = first + lane_ % 8 + lane_ / 16 * 8;
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
      std::uint32_t values[4];
      load_matrices_transposed(values,
                               tile + piece_place<kDim>(row, 2 * strip + lane_ / 8 % 2) * 16);
#pragma unroll
      for (int h = 0; h < kHeadTiles; ++h) {
        Numbers::multiply_add(sums_[strip][h], values, weights[h][0], weights[h][1]);
      }
    }
  }

  __device__ void finish_item(const Slot& slot) {
    if (slot.note.work == Work::scores) {
      finish_scores(slot);
    } else {
      finish_values(slot);
    }
  }

  // The warps take turns in what only one of them does, so that none falls behind.
  __device__ void finish_scores(const Slot& slot) {
    share();
    duty_ = (duty_ + 1) % kConsumerWarps;
    if (warp_ != duty_) return;
    const SlotNote& note = slot.note;
    if (lane_ < group_) {
      ItemSum sum;
      sum.maximum = shared_maximum(lane_);
      sum.sum = shared_sum(lane_, sum.maximum);
      w_.item_sums[note.item * group_ + lane_] = sum;
    }
    __syncwarp();
    const int unit = note.place.request * a_.kv_heads + note.place.kv_head;
    unsigned before = 0;
    if (lane_ == 0) {
      __threadfence();
      before = atomicAdd(&w_.units[unit].scored, 1U);
    }
    before = __shfl_sync(kAllLanes, before, 0);
    if (before + 1 != static_cast<unsigned>(note.place.items)) return;
    __threadfence();
    plan_unit(a_, w_, note.place, lane_);
    __syncwarp();
    if (lane_ == 0) {
      w_.units[unit].scored = 0;
      __threadfence();
      store_release(&w_.units[unit].planned, 1U);
    }
  }

  __device__ void finish_values(const Slot& slot) {
    const SlotNote& note = slot.note;
    share_weights();
    write_facts(slot);
    add_warps(slot);
    const int unit = note.place.request * a_.kv_heads + note.place.kv_head;
    named_barrier(kConsumerBarrier, kConsumerThreads);
    if (threadIdx.x == 0) {
      __threadfence();
      const unsigned before = atomicAdd(&w_.units[unit].valued, 1U);
      shared_.last_of_unit = before + 1 == static_cast<unsigned>(note.place.items);
    }
    named_barrier(kConsumerBarrier, kConsumerThreads);
    if (shared_.last_of_unit == 0) return;
    __threadfence();
    merge_unit<T, kDim>(a_, w_, note.place, note.work == Work::values, shared_.head_factors);
    named_barrier(kConsumerBarrier, kConsumerThreads);
    if (threadIdx.x == 0) {
      w_.units[unit].valued = 0;
      w_.units[unit].planned = 0;
    }
  }

  // Each warp's references and sums of weights to all others.
  __device__ void share_weights() {
    turn_ ^= 1;
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      float mass = mass_[h];
      mass += __shfl_xor_sync(kAllLanes, mass, 1);
      mass += __shfl_xor_sync(kAllLanes, mass, 2);
      if (t() == 0) {
        shared_.reduced_maximum[turn_][warp_][h * 8 + g()] = reference_[h];
        shared_.reduced_sum[turn_][warp_][h * 8 + g()] = mass;
      }
    }
    named_barrier(kConsumerBarrier, kConsumerThreads);
  }

  // What of the item is kept, or, dense, the sum of its weights.
  __device__ void write_facts(const Slot& slot) {
    if (warp_ != 0) return;
    const SlotNote& note = slot.note;
    if (lane_ < group_) {
      const int place = note.item * group_ + lane_;
      const float maximum = shared_maximum(lane_);
      const float sum = shared_sum(lane_, maximum);
      if (note.work == Work::dense) {
        w_.item_sums[place] = {maximum, sum};
      } else {
        w_.item_kept[place] = {kept_.kept, kept_.eligible, sum};
      }
    }
    if (lane_ == 0 && note.work == Work::values) {
      w_.item_rows[note.item] = {kept_.rows, kept_.rows_eligible};
    }
  }

  // Adds the warps' sums, a few heads at a time, and writes them relative to the item's maximum.
  __device__ void add_warps(const Slot& slot) {
    constexpr int kAtATime = Shared::kHeadsAdded;
    float* partial = w_.partials + static_cast<std::int64_t>(slot.note.item) * group_ * kDim;
    for (int begin = 0; begin < group_; begin += kAtATime) {
      if (begin > 0) named_barrier(kConsumerBarrier, kConsumerThreads);
      const int end = min(begin + kAtATime, group_);
#pragma unroll
      for (int h = 0; h < kHeadTiles; ++h) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int head = h * 8 + 2 * t() + i;
          if (head < begin || head >= end) continue;
          const float mine = shared_.reduced_maximum[turn_][warp_][head];
          const float factor = exp2_fast(mine - finite_reference(shared_maximum(head)));
          float* to = shared_.warp_sums[warp_][head - begin] + g();
#pragma unroll
          for (int strip = 0; strip < kStrips; ++strip) {
            to[strip * 16] = sums_[strip][h][i] * factor;
            to[strip * 16 + 8] = sums_[strip][h][i + 2] * factor;
          }
        }
      }
      named_barrier(kConsumerBarrier, kConsumerThreads);
      for (int i = threadIdx.x; i < (end - begin) * kDim; i += kConsumerThreads) {
        float sum = 0;
#pragma unroll
        for (int warp = 0; warp < kConsumerWarps; ++warp) {
          sum += shared_.warp_sums[warp][i / kDim][i % kDim];
        }
        partial[begin * kDim + i] = sum;
      }
    }
  }

  const DecodeArguments& a_;
  const DecodeWorkspace& w_;
  Shared& shared_;
  int warp_;
  int lane_;
  int group_;
  float scale_;  // to base-2 logarithms
  int turn_ = 0;
  int duty_ = 0;

  std::uint32_t query_[kDim / 16][kHeadTiles][2];
  float maximum_[kHeadTiles][2];  // of heads 2t and 2t + 1
  float sum_[kHeadTiles][2];
  float reference_[kHeadTiles];  // of head g
  float mass_[kHeadTiles];
  float sums_[kStrips][kHeadTiles][4];
  KeptRows kept_;
};

}  // namespace sift::cuda
