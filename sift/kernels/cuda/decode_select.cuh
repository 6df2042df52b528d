#pragma once

#include "sift/kernels/cuda/decode_shared.cuh"

namespace sift::cuda {

/// The selector warp of a block.
template <class T, int kDim, int kMostHeads>
class Selector {
 public:
  using Shared = SharedLayout<kDim, kMostHeads>;
  using Slot = typename Shared::Slot;

  __device__ Selector(const DecodeArguments& a, const DecodeWorkspace& w, const ItemTable& table,
                      Shared& shared)
      : a_(a),
        w_(w),
        table_(table),
        shared_(shared),
        lane_(threadIdx.x % kWarpThreads),
        group_(a.heads / a.kv_heads) {}

  __device__ void run() {
    pending_ = blockIdx.x;  // the first claims are dealt without asking
    Prepared now = next();
    while (!is_ready(now)) {
    }
    fetch(now);
    while (now.note.work != Work::none) {
      const Prepared following = next();
      const bool fetched = is_ready(following);
      if (fetched) {
        fetch(following);
        wait_copies<1>();
      } else {
        wait_copies<0>();
      }
      __syncwarp();
      hand_over(now);
      if (!fetched) {
        while (!is_ready(following)) {
        }
        fetch(following);
      }
      now = following;
    }
    hand_over(now);
    leave();
  }

 private:
  __device__ unsigned claim() {
    return lane_ == 0 ? gridDim.x + atomicAdd(&w_.launch->claimed, 1U) : 0;
  }
  __device__ int receive(unsigned number) {
    return static_cast<int>(__shfl_sync(kAllLanes, number, 0));
  }

  // The last block to find no more work leaves the counters as the next launch wants them.
  __device__ void leave() {
    if (lane_ != 0) return;
    __threadfence();
    if (atomicAdd(&w_.launch->left, 1U) + 1 == gridDim.x) {
      w_.launch->claimed = 0;
      w_.launch->left = 0;
    }
  }

  /// A chunk and the slot that it will have.
  struct Prepared {
    SlotNote note;
    int slot = 0;
    int parity = 0;
  };

  // The next chunk of the claimed item, or the first of the next item.
  __device__ Prepared next() {
    if (chunks_left_ == 0) open(table_.claim(receive(pending_)));
    Prepared prepared;
    prepared.slot = at_.place;
    prepared.parity = at_.parity;
    at_.advance();
    SlotNote& note = prepared.note;
    note = note_;
    if (note.work == Work::none) return prepared;
    const int length = table_.lengths[note.place.request];
    note.keys = min(length - note.chunk * kChunkKeys, kChunkKeys);
    note.rows = note.keys;
    note.closes = chunks_left_ == 1;
    chunks_left_ -= 1;
    note_.chunk += 1;
    note_.opens = false;
    return prepared;
  }

  __device__ void open(const Claim& claimed) {
    pending_ = claim();  // its latency passes while this item is prepared
    note_ = {};
    note_.work = claimed.work;
    if (claimed.work == Work::none) return;
    note_.item = claimed.item;
    note_.place = table_.place(claimed.item);
    const int chunks = ItemTable::chunks_of(table_.lengths[note_.place.request]);
    const int run = chunks_per_item(chunks);
    note_.chunk = (claimed.item - note_.place.first_item) * run;
    chunks_left_ = min(run, chunks - note_.chunk);
    note_.opens = true;
    note_.records = claimed.work == Work::dense && a_.modes != nullptr &&
                    a_.modes[note_.place.request] == RequestMode::record;
  }

  /// Whether what the item waits for has happened.
  __device__ bool is_ready(const Prepared& item) const {
    if (item.note.work != Work::values || !item.note.opens) return true;
    const int unit = item.note.place.request * a_.kv_heads + item.note.place.kv_head;
    return __all_sync(kAllLanes, load_acquire(&w_.units[unit].planned) != 0) != 0;
  }

  /// Starts copying into the slot what the item needs.
  __device__ void fetch(const Prepared& item) {
    barrier_wait(&shared_.slot_empty[item.slot], item.parity ^ 1);
    Slot& slot = shared_.slots[item.slot];
    if (item.note.work != Work::none) {
      fetch_pages(item.note, slot);
      if (item.note.work == Work::values) {
        fetch_scores(item.note, slot);
      } else if (item.note.opens) {
        fetch_query(item.note, slot);
      }
    }
    commit_copies();
  }

  __device__ void hand_over(Prepared& item) {
    Slot& slot = shared_.slots[item.slot];
    if (item.note.work == Work::values) item.note.rows = select(item.note, slot);
    if (lane_ == 0) slot.note = item.note;
    __syncwarp();
    if (lane_ == 0) barrier_arrive(&shared_.slot_full[item.slot]);
  }

  __device__ void fetch_pages(const SlotNote& note, Slot& slot) {
    const CacheAddress& cache = a_.cache;
    if (cache.table == nullptr) {
      if (lane_ == 0) slot.pages[0] = note.place.request;
      return;
    }
    const int first = note.chunk * (kChunkKeys >> cache.page_shift);
    const int pages = ((note.keys - 1) >> cache.page_shift) + 1;
    const std::int64_t begin = cache.table_begin != nullptr
                                   ? cache.table_begin[note.place.request]
                                   : note.place.request * cache.table_stride;
    for (int i = lane_; i < pages; i += kWarpThreads) {
      copy_async_4(shared_address(&slot.pages[i]), cache.table + begin + first + i);
    }
  }

  // Queries of the group [heads, kDim], zero for heads that are not there.
  __device__ void fetch_query(const SlotNote& note, Slot& slot) {
    const auto* query =
        static_cast<const T*>(a_.query) +
        (static_cast<std::int64_t>(note.place.request) * a_.heads + note.place.kv_head * group_) *
            kDim;
    constexpr int kPieces = kDim / 8;
#pragma unroll 4
    for (int i = lane_; i < 8 * Shared::kHeadTiles * kPieces; i += kWarpThreads) {
      const int head = i / kPieces;
      const int piece = i % kPieces;
      std::uint16_t* to = slot.query + head * Shared::kQueryStride + piece * 8;
      if (head < group_) {
        copy_async_16(shared_address(to), query + head * kDim + piece * 8);
      } else {
        *reinterpret_cast<uint4*>(to) = {0, 0, 0, 0};
      }
    }
  }

  // Plans of the group's heads and scores of the item, as they are.
  __device__ void fetch_scores(const SlotNote& note, Slot& slot) {
    static_assert(sizeof(HeadPlan) == 32);
    const int first_head = note.place.request * a_.heads + note.place.kv_head * group_;
    const auto* plans = reinterpret_cast<const char*>(w_.plans + first_head);
    for (int i = lane_; i < 2 * group_; i += kWarpThreads) {
      copy_async_16(shared_address(slot.plans) + 16 * i, plans + 16 * i);
    }
    const float* scores = w_.scores + note.score_chunk() * kChunkKeys * group_;
    const int pieces = (note.keys * group_ + 3) / 4;
#pragma unroll 4
    for (int i = lane_; i < pieces; i += kWarpThreads) {
      copy_async_16(shared_address(slot.scores) + 16 * i, scores + 4 * i);
    }
  }

  // Lists the rows that any head keeps, and moves their scores together. Returns how many.
  __device__ int select(const SlotNote& note, Slot& slot) {
    const int first_key = note.chunk * kChunkKeys;
    const int last_forced = table_.lengths[note.place.request] - a_.recent;
    const bool forces = first_key < a_.sink || first_key + note.keys > last_forced;
    float thresholds[Shared::kHeads];
    bool keeps_one = false;  // a head keeps a single key of the item though nothing passes
#pragma unroll
    for (int head = 0; head < Shared::kHeads; ++head) {
      thresholds[head] = __builtin_huge_valf();
      if (head >= group_) continue;
      thresholds[head] = slot.plans[head].threshold;
      const unsigned only = static_cast<unsigned>(slot.plans[head].only_key - first_key);
      keeps_one = keeps_one || only < kChunkKeys;
    }
    Tally tally;
    for (int begin = 0; begin < note.keys; begin += kWarpThreads) {
      const int key = begin + lane_;
      const bool valid = key < note.keys;
      alignas(16) float scores[Shared::kHeads];
      read_scores(slot, min(key, note.keys - 1), scores);
      __syncwarp();  // what is moved below goes where scores were read already
      const int index = first_key + key;
      const bool forced = forces && valid && (index < a_.sink || index >= last_forced);
      const unsigned forced_lanes = forces ? __ballot_sync(kAllLanes, forced) : 0;
      unsigned any = 0;
#pragma unroll
      for (int head = 0; head < Shared::kHeads; ++head) {
        const bool passes = valid && scores[head] > thresholds[head];
        bool kept = passes;
        if (forces || keeps_one) {
          kept =
              kept || (head < group_ && (forced || (valid && slot.plans[head].only_key == index)));
          tally.eligible[head] += __popc(__ballot_sync(kAllLanes, passes) & ~forced_lanes);
        }
        const unsigned lanes = __ballot_sync(kAllLanes, kept);
        tally.kept[head] += __popc(lanes);
        any |= lanes;
        if (!kept) scores[head] = -__builtin_huge_valf();
      }
      const int row = tally.rows + __popc(any & ((1U << lane_) - 1));
      tally.rows += __popc(any);
      tally.rows_eligible += __popc(any & ~forced_lanes);
      if ((any >> lane_ & 1) != 0) {
        slot.rows[row] = static_cast<std::uint16_t>(key);
        write_scores(slot, row, scores);
      }
    }
    __syncwarp();
    if (lane_ == 0) {
#pragma unroll
      for (int head = 0; head < Shared::kHeads; ++head) {
        const int eligible = forces || keeps_one ? tally.eligible[head] : tally.kept[head];
        slot.kept[head] = {tally.kept[head], eligible};
      }
      slot.rows_eligible = tally.rows_eligible;
    }
    return tally.rows;
  }

  struct Tally {
    int kept[Shared::kHeads] = {};
    int eligible[Shared::kHeads] = {};
    int rows = 0;
    int rows_eligible = 0;
  };

  // Scores of one key under the heads of the group.
  __device__ void read_scores(const Slot& slot, int key, float (&scores)[Shared::kHeads]) const {
    if (group_ == Shared::kHeads) {
#pragma unroll
      for (int head = 0; head < Shared::kHeads; head += 4) {
        *reinterpret_cast<float4*>(scores + head) =
            *reinterpret_cast<const float4*>(slot.scores + key * Shared::kHeads + head);
      }
      return;
    }
#pragma unroll
    for (int head = 0; head < Shared::kHeads; ++head) {
      scores[head] = slot.scores[key * group_ + min(head, group_ - 1)];
    }
  }

  __device__ void write_scores(Slot& slot, int row, const float (&scores)[Shared::kHeads]) const {
    if (group_ == Shared::kHeads) {
#pragma unroll
      for (int head = 0; head < Shared::kHeads; head += 4) {
        *reinterpret_cast<float4*>(slot.scores + row * Shared::kHeads + head) = {
            scores[head], scores[head + 1], scores[head + 2], scores[head + 3]};
      }
      return;
    }
#pragma unroll
    for (int head = 0; head < Shared::kHeads; ++head) {
      if (head < group_) slot.scores[row * group_ + head] = scores[head];
    }
  }

  const DecodeArguments& a_;
  const DecodeWorkspace& w_;
  const ItemTable& table_;
  Shared& shared_;
  int lane_;
  int group_;
  RingPosition<Shared::kSlots> at_;
  unsigned pending_ = 0;  // the next claim
  SlotNote note_;         // of the next chunk
  int chunks_left_ = 0;   // of the claimed item
};

}  // namespace sift::cuda
