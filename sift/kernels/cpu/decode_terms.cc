#include "sift/kernels/cpu/decode_terms.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <random>

#include "sift/kernels/cpu/order_statistics.h"
#include "sift/sifting/power_law.h"
#include "sift/sifting/quantile.h"

namespace sift::cpu {
namespace {

using RowList = std::array<const std::byte*, kScoreStride + kRowsAhead>;

/// Base-2 scores of unit normal queries and keys.
constexpr float kDeviation = static_cast<float>(std::numbers::log2e);

std::size_t as_size(std::int64_t value) { return static_cast<std::size_t>(value); }

}  // namespace

DecodeTerms::DecodeTerms(const CacheLayout& layout, int heads, std::int64_t batch,
                         std::int64_t keys, double tau)
    : cache_layout_(layout),
      layout_{heads / layout.kv_heads, layout.head_dim, layout.row_bytes()},
      groups_(batch * layout.kv_heads),
      keys_(keys),
      chunks_((keys + kChunkKeys - 1) / kChunkKeys),
      tau_(tau),
      survivors_(as_size(groups_ * chunks_)) {
  scores_.ensure(as_size(groups_ * chunks_ * layout_.group * kScoreStride));
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, kDeviation);
  std::fill_n(scores_.data(), scores_.size(), -std::numeric_limits<float>::infinity());
  for (std::int64_t chunk = 0; chunk < groups_ * chunks_; ++chunk) {
    for (int head = 0; head < layout_.group; ++head) {
      float* first = scores_.data() + (chunk * layout_.group + head) * kScoreStride;
      std::generate_n(first, chunk_keys(chunk % chunks_), [&] { return normal(random); });
    }
  }
  for (Survivors& survivors : survivors_) {
    survivors.indices.resize(kScoreStride);
    survivors.scores.ensure(as_size(layout_.group) * kScoreStride);
    survivors.counts.resize(as_size(layout_.group));
    survivors.masks.resize(as_size(layout_.group));
  }
  thresholds_.resize(as_size(groups_ * layout_.group));
  ln_thetas_.resize(thresholds_.size());
  sums_.ensure(thresholds_.size() * as_size(layout_.head_dim));
  uniform_.ensure(as_size(layout_.group) * kScoreStride);
  std::fill_n(uniform_.data(), uniform_.size(), 1 / static_cast<float>(keys));
  quantile();
  const double to_base_2 = std::numbers::log2e;
  std::ranges::transform(ln_thetas_, thresholds_.begin(),
                         [&](double ln_theta) { return static_cast<float>(ln_theta * to_base_2); });
  threshold();
}

int DecodeTerms::chunk_keys(std::int64_t chunk) const {
  return static_cast<int>(std::min<std::int64_t>(kChunkKeys, keys_ - chunk * kChunkKeys));
}

template <class Work>
void DecodeTerms::for_each_group(const Work& work) {
#pragma omp parallel for schedule(static)
  for (std::int64_t group = 0; group < groups_; ++group) work(group);
}

void DecodeTerms::select(std::int64_t group, std::span<const float> thresholds) {
  const std::vector<int> only_keys(as_size(layout_.group), -1);
  for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
    Survivors& survivors = survivors_[as_size(group * chunks_ + chunk)];
    const SelectTask task{.scores = chunk_scores(group, chunk),
                          .group = layout_.group,
                          .keys = chunk_keys(chunk),
                          .thresholds = thresholds.data(),
                          .only_keys = only_keys.data()};
    Selected selected{.indices = survivors.indices.data(),
                      .scores = survivors.scores.data(),
                      .counts = survivors.counts.data(),
                      .masks = survivors.masks.data()};
    decode_kernels().select(task, selected);
    survivors.rows = selected.rows;
  }
}

void DecodeTerms::threshold() {
  for_each_group([&](std::int64_t group) {
    select(group,
           std::span(thresholds_).subspan(as_size(group * layout_.group), as_size(layout_.group)));
  });
}

void DecodeTerms::copy_head(std::int64_t group, int head, std::span<float> copy) const {
  for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
    const float* first = chunk_scores(group, chunk) + head * kScoreStride;
    std::copy_n(first, chunk_keys(chunk), copy.begin() + chunk * kChunkKeys);
  }
}

void DecodeTerms::top_k() {
  const std::int64_t kept =
      static_cast<std::int64_t>(std::ceil((1 - tau_) * static_cast<double>(keys_) - 1e-9));
  for_each_group([&](std::int64_t group) {
    std::vector<float> copy(as_size(keys_) + kBlockKeys);
    std::vector<float> scratch(copy.size());
    std::vector<float> limits;
    for (int head = 0; head < layout_.group; ++head) {
      copy_head(group, head, copy);
      const OrderStatistics found =
          order_statistics(decode_kernels(), copy, keys_, keys_ - kept, scratch);
      limits.push_back(std::nextafter(found.lower, -std::numeric_limits<float>::infinity()));
    }
    select(group, limits);
  });
}

void DecodeTerms::quantile() {
  const QuantilePosition at = quantile_position(keys_, tau_);
  for_each_group([&](std::int64_t group) {
    std::vector<float> copy(as_size(keys_) + kBlockKeys);
    std::vector<float> scratch(copy.size());
    for (int head = 0; head < layout_.group; ++head) {
      copy_head(group, head, copy);
      const OrderStatistics found =
          order_statistics(decode_kernels(), copy, keys_, at.lower, scratch);
      const double ln2 = std::numbers::ln2;
      ln_thetas_[as_size(group * layout_.group + head)] = ln_interpolated_quantile(
          found.lower * ln2, found.upper * ln2, at.fraction, /*log_sum_exp=*/0);
    }
  });
}

void DecodeTerms::fit(std::int64_t records) {
  for_each_group([&](std::int64_t group) {
    for (int head = 0; head < layout_.group; ++head) {
      double& ln_theta = ln_thetas_[as_size(group * layout_.group + head)];
      LogLogFit fit;
      for (std::int64_t record = 1; record <= records; ++record) {
        fit.add(keys_ + record, ln_theta - std::log(static_cast<double>(record)));
      }
      ln_theta += 1e-30 * fit.solve(FitKind::ols).beta;  // so that it is computed
    }
  });
}

void DecodeTerms::project_all(std::span<const CacheView> views) { project(views, true); }

void DecodeTerms::project_surviving(std::span<const CacheView> views) { project(views, false); }

void DecodeTerms::project(std::span<const CacheView> views, bool all) {
  const auto accumulate = decode_kernels().accumulate[cache_type_index(cache_layout_.type)];
  std::fill_n(sums_.data(), sums_.size(), 0.0F);
  for_each_group([&](std::int64_t group) {
    const CacheView& view = views[as_size(group / cache_layout_.kv_heads)];
    const int kv_head = static_cast<int>(group % cache_layout_.kv_heads);
    RowList rows;
    AlignedBuffer<float> weights;
    weights.ensure(uniform_.size());
    for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
      const Survivors& survivors = survivors_[as_size(group * chunks_ + chunk)];
      const int count = all ? chunk_keys(chunk) : survivors.rows;
      const float* used = uniform_.data();
      if (!all) {
        std::copy_n(survivors.scores.data(), weights.size(), weights.data());
        for (int head = 0; head < layout_.group; ++head) {
          decode_kernels().replace_exp2(weights.data() + head * kScoreStride, padded_keys(count),
                                        0.0F);
        }
        used = weights.data();
      }
      for (int i = 0; i < count; ++i) {
        const std::int64_t key = all ? i : survivors.indices[as_size(i)];
        rows[as_size(i)] = view.value_row(kv_head, chunk * kChunkKeys + key);
      }
      std::fill_n(rows.begin() + count, kRowsAhead, view.value_row(kv_head, chunk * kChunkKeys));
      accumulate(layout_, used, rows.data(), count,
                 sums_.data() + group * layout_.group * layout_.head_dim);
    }
  });
}

float DecodeTerms::score(std::int64_t sequence, int head, std::int64_t key) const {
  const std::int64_t group = sequence * cache_layout_.kv_heads + head / layout_.group;
  return chunk_scores(group,
                      key / kChunkKeys)[head % layout_.group * kScoreStride + key % kChunkKeys];
}

bool DecodeTerms::survives(std::int64_t sequence, int head, std::int64_t key) const {
  const std::int64_t group = sequence * cache_layout_.kv_heads + head / layout_.group;
  const Survivors& survivors = survivors_[as_size(group * chunks_ + key / kChunkKeys)];
  const auto end = survivors.indices.begin() + survivors.rows;
  const auto found = std::find(survivors.indices.begin(), end, key % kChunkKeys);
  if (found == end) return false;
  const auto at = found - survivors.indices.begin();
  return std::isfinite(survivors.scores.data()[head % layout_.group * kScoreStride + at]);
}

double DecodeTerms::ln_theta(std::int64_t sequence, int head) const {
  const std::int64_t group = sequence * cache_layout_.kv_heads + head / layout_.group;
  return ln_thetas_[as_size(group * layout_.group + head % layout_.group)];
}

}  // namespace sift::cpu
