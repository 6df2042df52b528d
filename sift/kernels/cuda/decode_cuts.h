#pragma once

#include "sift/core/host_device.h"

namespace sift::cuda {

/// How a request's keys are cut into items of one kind: runs of 2^`log_keys`, and shorter ones of
/// 2^`log_short_keys` from key `tail` on, which are worked on last, so that all blocks end at about
/// the same time. Depends on the request's length alone, not on how work is dealt, so that sums do
/// too.
struct KeyCut {
  int log_keys;
  int log_short_keys;
  int tail;  ///< a multiple of both

  SIFT_HOST_DEVICE int long_items() const { return tail >> log_keys; }
  SIFT_HOST_DEVICE int short_items(int length) const {
    return (length - tail + (1 << log_short_keys) - 1) >> log_short_keys;
  }
  SIFT_HOST_DEVICE int items(int length) const { return long_items() + short_items(length); }
  SIFT_HOST_DEVICE int begin(int item) const {
    return item <= long_items() ? item << log_keys
                                : tail + ((item - long_items()) << log_short_keys);
  }
};

/// log2 of the keys of an item of a request that sees `length` keys: more for longer contexts, so
/// that few results have to be put together at the end.
SIFT_HOST_DEVICE inline int log_item_keys(int length) {
  return length <= 16384    ? 8
         : length <= 32768  ? 9
         : length <= 65536  ? 10
         : length <= 131072 ? 11
                            : 12;
}

/// Items of scores of a sifted request. Those of estimates read fewer bytes, and a query costs more
/// to prepare. Each of them lies within one item of candidates, which relies on it
/// (CandidateWorker).
SIFT_HOST_DEVICE inline KeyCut score_cut(int length, bool estimates) {
  const int log_keys = length <= 4096     ? (estimates ? 9 : 8)
                       : length <= 8192   ? 9
                       : length <= 16384  ? 10
                       : length <= 131072 ? 11
                                          : 12;
  return {log_keys, log_keys, 0};
}

/// Items of values of a sifted request, and of its candidates.
SIFT_HOST_DEVICE inline KeyCut value_cut(int length, bool estimates) {
  int log_keys = length <= 8192 ? 9 : length <= 65536 ? 10 : length <= 131072 ? 11 : 12;
  if (estimates && (length > 16384 ? length <= 65536 : length > 4096 && length <= 8192)) ++log_keys;
  return {log_keys, log_keys, 0};
}

/// Items of a request that attends exactly: a quarter of the keys in short items, or, where that
/// would be few long ones, all items equal.
SIFT_HOST_DEVICE inline KeyCut dense_cut(int length) {
  const int log_keys = log_item_keys(length);
  if (length < 4 << log_keys) return {log_keys, log_keys, 0};
  return {log_keys, log_keys - 2, (length / 4 * 3) >> log_keys << log_keys};
}

}  // namespace sift::cuda
