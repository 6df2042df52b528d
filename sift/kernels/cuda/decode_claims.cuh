#pragma once

#include "sift/kernels/cuda/decode_items.cuh"

namespace sift::cuda {

/// An item that a block has claimed and that waits for others to be complete.
struct PendingItem {
  unsigned number = 0;
  bool known = false;  ///< it was looked up
  bool ready = false;  ///< what it waits for is complete
};

/// What one thread claims for its block.
///
/// There are two queues, or three where scores are estimated. Items that read all their keys (or
/// shadows) never wait. Those of candidates wait for all estimates of their unit, those of values
/// for all its scores; so a block claims one of each early, and begins it when these are complete
/// or when nothing is left to be read, candidates first. Hence a block waits only for items that
/// blocks which run have claimed and will work on before they wait themselves, however many blocks
/// the device runs at a time. Values are added up as soon as they can be, and while their selection
/// waits, the scores that other blocks read keep the memory busy.
template <bool kEstimates>
class ItemClaims {
 public:
  /// The claimed items that wait, in shared memory.
  struct Waiting {
    Item candidates;
    Item values;
  };

  /// Not a thread of the warp that ends items.
  static __device__ bool is_claimant() { return threadIdx.x == kWarpThreads; }

  /// Claims the first items.
  __device__ void begin(const DecodeWorkspace& w) {
    reading_ = atomicAdd(&w.step->reading, 1U);
    values_.number = atomicAdd(&w.step->values, 1U);
    if (kEstimates) candidates_.number = atomicAdd(&w.step->candidates, 1U);
  }

  /// Finds out the block's next item.
  __device__ void next(const DecodeArguments& a, const DecodeWorkspace& w, const ItemTable& table,
                       Waiting& waiting, Item& item) {
    next_unasked(a, w, table, waiting, item);
    if (item.work == Work::values) return;
    const auto* units = w.units;
    if (kEstimates) {
      look_up(a, table, Work::candidates, candidates_, waiting.candidates);
      const Item& next = waiting.candidates;
      ask(next, &units[next.request * a.kv_heads + next.kv_head].planned, candidates_);
    }
    look_up(a, table, Work::values, values_, waiting.values);
    const Item& next = waiting.values;
    const UnitProgress& unit = units[next.request * a.kv_heads + next.kv_head];
    ask(next, kEstimates ? &unit.replanned : &unit.planned, values_);
  }

  /// The same without asking whether what pending items wait for is complete, which takes time.
  __device__ void next_unasked(const DecodeArguments& a, const DecodeWorkspace& w,
                               const ItemTable& table, Waiting& waiting, Item& item) {
    const bool all_read = reading_ >= static_cast<unsigned>(table.all.reading());
    if (values_.ready) {
      take(a, table, Work::values, &w.step->values, values_, waiting.values, item);
    } else if (kEstimates && candidates_.ready) {
      take(a, table, Work::candidates, &w.step->candidates, candidates_, waiting.candidates, item);
    } else if (!all_read) {
      item = table.reading_item(a, reading_);
      reading_ = atomicAdd(&w.step->reading, 1U);
    } else if (kEstimates && candidates_.number < static_cast<unsigned>(table.all.values())) {
      take(a, table, Work::candidates, &w.step->candidates, candidates_, waiting.candidates, item);
    } else {
      take(a, table, Work::values, &w.step->values, values_, waiting.values, item);
    }
  }

 private:
  __device__ void look_up(const DecodeArguments& a, const ItemTable& table, Work work,
                          PendingItem& pending, Item& waiting) const {
    if (!pending.known) waiting = table.value_item(a, work, pending.number);
    pending.known = true;
  }

  __device__ void take(const DecodeArguments& a, const ItemTable& table, Work work,
                       unsigned* claimed, PendingItem& pending, Item& waiting, Item& item) const {
    look_up(a, table, work, pending, waiting);
    item = waiting;
    item.ready = pending.ready;
    pending = {atomicAdd(claimed, 1U), false, false};
  }

  // Asks whether what an item waits for is complete.
  __device__ void ask(const Item& waiting, const unsigned* flag, PendingItem& pending) const {
    if (waiting.work != Work::none) pending.ready = load_acquire(flag) != 0;
  }

  unsigned reading_ = 0;  // the next item that reads its keys
  PendingItem candidates_;
  PendingItem values_;
};

}  // namespace sift::cuda
