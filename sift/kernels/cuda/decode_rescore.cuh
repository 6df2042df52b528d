#pragma once

#include "sift/kernels/cuda/decode_scores.cuh"
#include "sift/kernels/cuda/decode_selection.cuh"

namespace sift::cuda {

/// Items of candidates: exact scores of the keys that estimates select take the places of these,
/// and their sums and those of the other estimates follow.
template <class T, int kDim, class Context>
class RescoreWorker {
 public:
  static constexpr int kHeadTiles = Context::kHeadTiles;

  __device__ RescoreWorker(Context& c, int turn) : c_(c), selector_(c, turn) {}

  /// Works on item `turn` and those of the same kind that follow; returns the first other one.
  __device__ int run(int turn) {
    for (; c_.item(turn).work == Work::candidates; ++turn) {
      c_.look_ahead(turn);
      const Item& item = c_.item(turn);
      query_.load(static_cast<const T*>(c_.a.query) + std::int64_t{c_.first_head(item)} * kDim,
                  c_.group, c_.at);
      for (ItemSum& sum : sums_) sum = {-__builtin_huge_valf(), 0};
      for (bool last = false; !last;) {
        selector_.fill(turn + 1);
        const Note note = selector_.oldest_note();
        last = note.last;
        const char* tile = c_.ring.wait(c_.groups);
        if (note.rows > 0) take(item, tile, note);
        c_.ring.release();
      }
      end(turn);
    }
    return turn;
  }

 private:
  using Selector = RowSelector<T, Context, true>;
  using Note = typename Selector::Note;

  __device__ void take(const Item& item, const char* tile, const Note& note) {
    const auto& rows = c_.shared.selections[c_.warp];
    ScoreTile scores = multiply<T>(query_, tile, c_.at);
    float* unit = c_.scores(item);
    const std::int64_t stride = score_stride(item.length);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = 8 * half + 2 * c_.at.t + i % 2;
        const int head = c_.at.g + 8 * (i / 2);
        const int place = note.place + row;
        const bool candidate =
            row < note.rows && head < c_.group && (rows.heads[place] >> head & 1) != 0;
        const float score = mark_exact(scores.of[half][i] * c_.scale);
        scores.of[half][i] = candidate ? score : -__builtin_huge_valf();
        if (candidate) unit[head * stride + rows.keys[place]] = score;
      }
    }
    add_scores(sums_, scores);
  }

  __device__ void end(int turn) {
    auto& results = c_.shared.results;
    share_sums(results.sums[turn % 2][c_.warp], sums_, c_.at);
    __syncthreads();
    if (c_.warp != 0) return;
    const Item& item = c_.item(turn);
    if (c_.at.lane < c_.group) {
      RescoredSum all = {results.sums[turn % 2][0][c_.at.lane],
                         results.others[turn % 4][0][c_.at.lane]};
      for (int warp = 1; warp < kBlockWarps; ++warp) {
        all.candidates = join(all.candidates, results.sums[turn % 2][warp][c_.at.lane]);
        all.others = join(all.others, results.others[turn % 4][warp][c_.at.lane]);
      }
      c_.w.rescored_sums[std::int64_t{item.number} * c_.group + c_.at.lane] = all;
    }
    if (completes(c_, &c_.w.units[c_.unit(item)].rescored,
                  value_cut(item.length).items(item.length))) {
      replan_unit(c_, item);
    }
  }

  Context& c_;
  Selector selector_;
  QueryTile<kDim, kHeadTiles> query_;
  ItemSum sums_[kHeadTiles];
};

}  // namespace sift::cuda
