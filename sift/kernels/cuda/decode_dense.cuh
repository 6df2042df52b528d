#pragma once

#include "sift/kernels/cuda/decode_partials.cuh"
#include "sift/kernels/cuda/decode_tile_scores.cuh"

namespace sift::cuda {

/// Items of exact attention: scores, then values relative to the highest score so far. Tiles are on
/// their way before they are used, keys and values in turns, across the ends of items.
template <class T, int kDim, class Context>
class DenseWorker {
 public:
  static constexpr int kHeadTiles = Context::kHeadTiles;

  __device__ DenseWorker(Context& c, int turn)
      : c_(c), cursor_(c, c.item(turn)), cursor_turn_(turn) {}

  /// Works on item `turn` and those of the same kind that follow; returns the first other one.
  __device__ int run(int turn) {
    for (; c_.item(turn).work == Work::dense; ++turn) {
      begin(turn);
      for (int key = begin_; key < end_; key += KeyCursor<kDim>::kStep) {
        fill(turn + 1);
        std::uint32_t weights[kHeadTiles][2];
        take_keys(c_.ring.wait(), key, weights);
        c_.ring.release();
        fill(turn + 1);
        values_.template add<T>(c_.ring.wait(), weights, c_.at);
        c_.ring.release();
      }
      end(turn);
    }
    return turn;
  }

 private:
  __device__ void begin(int turn) {
    c_.look_ahead(turn);
    const Item& item = c_.item(turn);
    if (cursor_turn_ < turn) follow();
    cursor_.look_up(c_, c_.item(turn + 1));
    query_.load(static_cast<const T*>(c_.a.query) + std::int64_t{c_.first_head(item)} * kDim,
                c_.group, c_.at);
    for (ItemSum& sum : sums_) sum = {-__builtin_huge_valf(), 0};
    values_.clear();
    scores_ = item.records ? c_.scores(item) : nullptr;
    begin_ = item.begin + c_.warp * kTileKeys;
    end_ = item.end;
  }

  __device__ void follow() {
    ++cursor_turn_;
    cursor_.open(c_, c_.item(cursor_turn_));
  }

  // Starts copies as long as there is room for them, up to the end of item `last`.
  __device__ void fill(int last) {
    while (c_.ring.has_room()) {
      if (cursor_.more()) {
        const void* side = values_next_ ? c_.a.cache.values : c_.a.cache.keys;
        c_.ring.issue(cursor_.rows(), cursor_.row(side), c_.a.cache.slot_stride);
        if (values_next_) cursor_.advance();
        values_next_ = !values_next_;
      } else {
        if (cursor_turn_ == last || c_.item(cursor_turn_ + 1).work != Work::dense) return;
        follow();
      }
    }
  }

  __device__ void take_keys(const char* keys, int key, std::uint32_t (&weights)[kHeadTiles][2]) {
    ScoreTile scores = multiply<T>(query_, keys, c_.at);
    finish_scores(scores, c_.scale, key, end_, c_.at);
    if (scores_ != nullptr) {
      store_records<kHeadTiles>(scores, scores_, c_.group, key, end_, c_.at);
    }
    weigh(scores, weights);
  }

  // Scores to weights relative to the head's highest score so far, to which the sums are moved.
  __device__ void weigh(const ScoreTile& scores, std::uint32_t (&weights)[kHeadTiles][2]) {
    const float(&of)[2][4] = scores.of;
#pragma unroll
    for (int h = 0; h < kHeadTiles; ++h) {
      const float before = sums_[h].maximum;
      float most =
          fmaxf(fmaxf(of[0][2 * h], of[0][2 * h + 1]), fmaxf(of[1][2 * h], of[1][2 * h + 1]));
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 2));
      const float maximum = fmaxf(before, most);
      const float reference = finite_reference(maximum);
      if (__any_sync(kAllLanes, maximum != before)) {
        const float factor = exp2_fast(finite_reference(before) - reference);
        values_.scale(h, factor, c_.at);
        sums_[h].sum *= factor;
        sums_[h].maximum = maximum;
      }
      float weight[2][2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int i = 0; i < 2; ++i) weight[half][i] = exp2_fast(of[half][2 * h + i] - reference);
        weights[h][half] = Format<T>::pack(weight[half][0], weight[half][1]);
      }
      sums_[h].sum += (weight[0][0] + weight[0][1]) + (weight[1][0] + weight[1][1]);
    }
  }

  __device__ void end(int turn) {
    __syncthreads();  // what was shared before has been read
    share_sums(c_.shared.results.sums[turn % 2][c_.warp], sums_, c_.at);
    const Item& item = c_.item(turn);
    write_partial(c_, item, turn, values_);
    if (c_.warp == 0) write_item_sums(c_, item, turn);
  }

  Context& c_;
  KeyCursor<kDim> cursor_;
  int cursor_turn_;
  bool values_next_ = false;  // whether the tile's keys are on their way
  QueryTile<kDim, kHeadTiles> query_;
  ItemSum sums_[kHeadTiles];  // of head 8 h + g; the sum is of this lane's keys only
  ValueSums<kDim, kHeadTiles> values_;
  float* scores_;  // null: they are not kept
  int begin_;
  int end_;
};

}  // namespace sift::cuda
