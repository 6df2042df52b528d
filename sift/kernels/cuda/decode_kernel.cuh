#pragma once

#include "sift/kernels/cuda/decode_dense.cuh"
#include "sift/kernels/cuda/decode_rescore.cuh"
#include "sift/kernels/cuda/decode_scores.cuh"
#include "sift/kernels/cuda/decode_values.cuh"

// One step of decode attention for all requests of a batch is a row of launches, each of which goes
// on where the one before it ends: exact attention of the requests that do not sift; of those that
// do scores, exact scores of candidates (where scores are estimates), and values; and the merging
// of what items left (decode_merge.cuh).

namespace sift::cuda {

/// Blocks of exact attention that have to fit a multiprocessor: as many as the registers and the
/// tiles of their warps allow.
template <int kDim, int kMostHeads>
constexpr int dense_blocks() {
  if (kDim > 128) return kMostHeads > 8 ? 1 : 2;
  if (kMostHeads > 4) return kDim > 64 ? 2 : 3;
  return kDim > 64 ? 3 : 4;
}

/// The same of candidates and values.
template <int kDim, int kMostHeads>
constexpr int gathering_blocks() {
  return kDim > 128 || kMostHeads > 8 ? 2 : 4;
}

/// The same of scores.
template <int kDim, int kMostHeads>
constexpr int score_blocks() {
  return kDim > 128 ? (kMostHeads > 8 ? 2 : 3) : 4;
}

template <class T, int kDim, int kMostHeads>
__global__ void __launch_bounds__(kBlockThreads, (dense_blocks<kDim, kMostHeads>()))
    dense_kernel(const __grid_constant__ DecodeArguments a,
                 const __grid_constant__ DecodeWorkspace w) {
  extern __shared__ __align__(128) unsigned char memory[];
  auto& shared = *reinterpret_cast<BlockShared<kDim, kMostHeads>*>(memory);
  using Context = BlockContext<kDim, kMostHeads>;
  Context c(a, w, shared);
  wait_for_previous_kernel();
  let_next_kernel_begin();
  ItemTable& table = shared.table;
  if (c.warp == 0) table.fill<kDense, kShortDense, kScoreRows>(a, c.at.lane);
  __syncthreads();
  table.check(a, w);
  if (table.all.dense() == 0) return;
  if (c.claims.is_claimant()) {
    c.claims.begin(w);
    for (int i = 0; i < 2; ++i) c.claims.next(a, w, table, shared.items[i]);
  }
  __syncthreads();
  if (c.item(0).work == Work::dense) DenseWorker<T, kDim, Context>(c, 0).run(0);
}

template <class Source, int kDim, int kMostHeads>
__global__ void __launch_bounds__(kBlockThreads, (score_blocks<kDim, kMostHeads>()))
    scores_kernel(const __grid_constant__ DecodeArguments a,
                  const __grid_constant__ DecodeWorkspace w) {
  extern __shared__ __align__(128) unsigned char memory[];
  using Worker = ScoreWorker<Source, kMostHeads>;
  work_on_items<Worker>(a, w, *reinterpret_cast<typename Worker::Shared*>(memory), &w.step->scores);
}

template <class T, int kDim, int kMostHeads>
__global__ void __launch_bounds__(kBlockThreads, (gathering_blocks<kDim, kMostHeads>()))
    candidates_kernel(const __grid_constant__ DecodeArguments a,
                      const __grid_constant__ DecodeWorkspace w) {
  extern __shared__ __align__(128) unsigned char memory[];
  using Worker = CandidateWorker<T, kDim, kMostHeads>;
  work_on_items<Worker>(a, w, *reinterpret_cast<typename Worker::Shared*>(memory),
                        &w.step->candidates);
}

template <class T, int kDim, int kMostHeads, bool kEstimates>
__global__ void __launch_bounds__(kBlockThreads, (gathering_blocks<kDim, kMostHeads>()))
    values_kernel(const __grid_constant__ DecodeArguments a,
                  const __grid_constant__ DecodeWorkspace w) {
  extern __shared__ __align__(128) unsigned char memory[];
  using Worker = ValueWorker<T, kDim, kMostHeads, kEstimates>;
  work_on_items<Worker>(a, w, *reinterpret_cast<typename Worker::Shared*>(memory), &w.step->values);
}

}  // namespace sift::cuda
