#pragma once

#include "sift/kernels/cuda/decode_items.cuh"

namespace sift::cuda {

/// What one thread claims for its block.
///
/// There are two queues. Items that read all their keys never wait. Items of values wait for all
/// scores of their unit; so a block claims one of them early, and begins it when these are complete
/// or when nothing is left to be read. Hence a block waits only for scores that blocks which run
/// have claimed, however many blocks the device runs at a time. Values are added up as soon as they
/// can be, and while their selection waits, the scores that other blocks read keep the memory busy.
class ItemClaims {
 public:
  /// Not a thread of the warp that ends items.
  static __device__ bool is_claimant() { return threadIdx.x == kWarpThreads; }

  /// Claims the first items.
  __device__ void begin(const DecodeWorkspace& w) {
    reading_ = atomicAdd(&w.step->reading, 1U);
    value_ = atomicAdd(&w.step->values, 1U);
  }

  /// Finds out the block's next item. `pending` holds the claimed item of values.
  __device__ void next(const DecodeArguments& a, const DecodeWorkspace& w, const ItemTable& table,
                       Item& pending, Item& item) {
    next_unasked(a, w, table, pending, item);
    if (item.work != Work::values) look_at_pending(a, w, table, pending);
  }

  /// The same without asking whether the scores of the pending item are complete, which takes time.
  __device__ void next_unasked(const DecodeArguments& a, const DecodeWorkspace& w,
                               const ItemTable& table, Item& pending, Item& item) {
    const bool all_read = reading_ >= static_cast<unsigned>(table.all.reading());
    if (all_read || planned_ != 0) {
      if (!known_) pending = table.value_item(a, value_);
      item = pending;
      item.ready = planned_ != 0;
      value_ = atomicAdd(&w.step->values, 1U);
      known_ = false;
      planned_ = 0;
    } else {
      item = table.reading_item(a, reading_);
      reading_ = atomicAdd(&w.step->reading, 1U);
    }
  }

 private:
  // Asks whether the scores of the pending item are complete; the answer is for the next turn.
  __device__ void look_at_pending(const DecodeArguments& a, const DecodeWorkspace& w,
                                  const ItemTable& table, Item& pending) {
    if (!known_) pending = table.value_item(a, value_);
    known_ = true;
    if (pending.work == Work::none) return;
    planned_ = load_acquire(&w.units[pending.request * a.kv_heads + pending.kv_head].planned);
  }

  unsigned reading_ = 0;  // the next item that reads its keys
  unsigned value_ = 0;    // the pending item of values
  bool known_ = false;    // it was looked up
  unsigned planned_ = 0;  // its scores are complete
};

}  // namespace sift::cuda
