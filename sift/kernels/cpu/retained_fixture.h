#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "sift/attention/policy.h"
#include "sift/cache/retained_rows.h"
#include "sift/kernels/cpu/append.h"
#include "sift/kernels/cpu/attend_decode.h"
#include "sift/kernels/cpu/attend_rows.h"
#include "sift/kernels/reference/reference_attention.h"

namespace sift::cpu {

struct RetainedShape {
  int heads = 6;
  int kv_heads = 2;
  int dim = 32;
  DType type = DType::f32;

  int group() const { return heads / kv_heads; }
};

/// Queries [rows, heads, dim], keys and values [rows, kv_heads, dim].
struct RetainedData {
  std::vector<float> query;
  std::vector<float> key;
  std::vector<float> value;
};

inline RetainedData random_data(const RetainedShape& shape, std::int64_t rows, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  const auto fill = [&](int heads, float scale) {
    std::vector<float> values(static_cast<std::size_t>(rows * heads * shape.dim));
    for (float& value : values) value = scale * normal(generator);
    return values;
  };
  return {fill(shape.heads, 2), fill(shape.kv_heads, 1), fill(shape.kv_heads, 1)};
}

/// A policy in whole numbers, so that its definition needs no rounding.
struct RetainedRule {
  std::string text;
  std::int64_t share = 0;  ///< of heavy hitters: share / of of the rows, or 0
  std::int64_t of = 1;
  std::int64_t budget = 0;  ///< in place of the share
  std::int64_t sink = 0;
  std::int64_t recent = 0;
  std::int64_t dense_rows = 0;
};

/// docs/method.md, "Eviction", in the plainest form: rows by position, in double, one after the
/// other. Shares no code with what it tests.
class PlainRetention {
 public:
  PlainRetention(const RetainedShape& shape, const RetainedRule& rule, const RetainedData& data,
                 std::int64_t prompt)
      : shape_(shape), rule_(rule), data_(data), prompt_(prompt) {
    rows_ = static_cast<std::int64_t>(data.query.size()) / (shape.heads * shape.dim);
    output.resize(data.query.size());
    for (int kv_head = 0; kv_head < shape.kv_heads; ++kv_head) run(kv_head);
  }

  std::vector<double> output;                                 // [rows, heads, dim]
  std::vector<std::vector<std::set<std::int64_t>>> retained;  // [kv_heads][rows] after the row
  double left_out = 0;               // Σ 1 − attended / visible over generated rows and KV heads
  std::int64_t attended_by_all = 0;  // Σ rows attended over, of generated rows and KV heads

 private:
  using Masses = std::map<std::int64_t, double>;  // by position

  static std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

  void run(int kv_head) {
    retained.emplace_back();
    Masses masses;
    for (std::int64_t row = 0; row < rows_; ++row) {
      const bool generated = row >= prompt_;
      if (generated) evict(row, masses);
      masses[row] = 0;
      const Masses before = masses;
      for (int i = 0; i < shape_.group(); ++i) {
        attend(row, kv_head, kv_head * shape_.group() + i, before, masses);
      }
      if (generated) {
        const auto attended = static_cast<std::int64_t>(before.size());
        left_out += 1 - static_cast<double>(attended) / static_cast<double>(row + 1);
        attended_by_all += attended;
        evict(row + 1, masses);
      }
      std::set<std::int64_t> positions;
      for (const auto& [position, mass] : masses) positions.insert(position);
      retained.back().push_back(positions);
    }
  }

  void attend(std::int64_t row, int kv_head, int head, const Masses& over, Masses& masses) {
    std::map<std::int64_t, double> weights;
    double highest = -INFINITY;
    for (const auto& [position, mass] : over) {
      double score = 0;
      for (int d = 0; d < shape_.dim; ++d) {
        score += static_cast<double>(data_.query[(row * shape_.heads + head) * shape_.dim + d]) *
                 data_.key[(position * shape_.kv_heads + kv_head) * shape_.dim + d];
      }
      weights[position] = score / std::sqrt(shape_.dim);
      highest = std::max(highest, weights[position]);
    }
    double sum = 0;
    for (auto& [position, weight] : weights) sum += weight = std::exp(weight - highest);
    for (const auto& [position, weight] : weights) {
      masses[position] += weight / sum;
      for (int d = 0; d < shape_.dim; ++d) {
        output[(row * shape_.heads + head) * shape_.dim + d] +=
            weight / sum * data_.value[(position * shape_.kv_heads + kv_head) * shape_.dim + d];
      }
    }
  }

  void evict(std::int64_t visible, Masses& masses) const {
    if (visible <= rule_.dense_rows) return;
    std::int64_t newest = rule_.recent;
    std::int64_t budget = 0;
    if (rule_.budget > 0) {
      newest = std::max(newest, divide_up(rule_.budget, 2));
      budget = rule_.budget;
    } else if (rule_.share > 0) {
      newest = std::max(newest, divide_up(rule_.share * visible, 2 * rule_.of));
      budget = divide_up(rule_.share * visible, rule_.of);
    }
    while (true) {
      auto weakest = masses.end();
      std::int64_t forced = 0;
      for (auto at = masses.begin(); at != masses.end(); ++at) {
        if (at->first < rule_.sink || at->first >= visible - newest) {
          ++forced;
        } else if (weakest == masses.end() || at->second <= weakest->second) {
          weakest = at;  // of equals the one with the highest position
        }
      }
      const auto count = static_cast<std::int64_t>(masses.size());
      if (weakest == masses.end() || count <= std::max(budget, forced)) return;
      masses.erase(weakest);
    }
  }

  RetainedShape shape_;
  RetainedRule rule_;
  const RetainedData& data_;
  std::int64_t prompt_;
  std::int64_t rows_ = 0;
};

/// One layer of one sequence under a policy that evicts, the second of two, so that a wrong layer
/// shows; it runs on any backend.
class RetainedSequence {
 public:
  RetainedSequence(const RetainedShape& shape, const std::string& policy, const RetainedData& data,
                   std::int64_t prompt)
      : shape_(shape),
        data_(data),
        prompt_(prompt),
        total_(static_cast<std::int64_t>(data.query.size()) / (shape.heads * shape.dim)),
        cache({2, shape.kv_heads, shape.dim, shape.type,
               sidecar_bytes(parse_policy(policy), shape.dim)},
              total_ + kPageRows),
        sequence(cache, parse_policy(policy), shape.heads),
        output(data.query.size()) {
    sequence.attention().begin_prompt(prompt);
  }

  /// Rows before `rows` that come from now on belong to a later prompt.
  void set_prompt(std::int64_t rows) { prompt_ = rows; }

  bool done() const { return sequence.length() == total_; }
  std::int64_t length() const { return sequence.length(); }

  void attend(std::int64_t count) {
    const Segment rows = append(count);
    attend_rows(state(), kLayer, view(), rows, query(), result(), rows_workspace_);
    sequence.commit(rows.row_count, rows.row_count - rows.prompt_rows);
  }
  void attend_by_reference(std::int64_t count) {
    const Segment rows = append(count);
    const auto size = static_cast<std::size_t>(rows.row_count * width());
    reference::attend_retained_rows(state(), kLayer, view(), rows, {query(), size},
                                    {result(), size});
    sequence.commit(rows.row_count, rows.row_count - rows.prompt_rows);
  }
  void decode() {
    const Segment row = append(1);
    attend_decode(state(), kLayer, view(), row.identity(0), query(), result(), decode_workspace_);
    sequence.commit(1, 1 - row.prompt_rows);
  }

  /// Positions of the rows that a KV head's cache holds, which must fill the first slots with
  /// their keys and values.
  std::set<std::int64_t> positions(int kv_head) {
    std::set<std::int64_t> found;
    const RetainedRows rows(state().policy(), view(), kv_head, length());
    for (std::int64_t slot = 0; slot < sequence.rows(); ++slot) {
      const std::int64_t position = rows.position(slot);
      found.insert(position);
      if (position < 0 || !holds(kv_head, slot, position)) return {-1};
    }
    return found;
  }

  AttentionState& state() { return sequence.attention(); }
  AttentionStatistics statistics() { return state().totals(1).summary(); }

 private:
  static constexpr int kLayer = 1;

  std::int64_t width() const { return shape_.heads * shape_.dim; }
  CacheView view() const { return sequence.view(kLayer); }
  const float* query() const { return data_.query.data() + length() * width(); }
  float* result() { return output.data() + length() * width(); }

  Segment append(std::int64_t wanted) {
    const std::int64_t count = std::min(wanted, total_ - length());
    sequence.reserve(count);
    const std::int64_t offset = length() * shape_.kv_heads * shape_.dim;
    append_rows(view(), state(), kLayer, sequence.rows(), count, data_.key.data() + offset,
                data_.value.data() + offset);
    return {&sequence, 0, count, std::clamp(prompt_ - length(), std::int64_t{0}, count)};
  }

  bool holds(int kv_head, std::int64_t slot, std::int64_t position) const {
    if (shape_.type != DType::f32) return true;
    const std::int64_t offset = (position * shape_.kv_heads + kv_head) * shape_.dim;
    const auto* key = reinterpret_cast<const float*>(view().key_row(kv_head, slot));
    const auto* value = reinterpret_cast<const float*>(view().value_row(kv_head, slot));
    return std::equal(key, key + shape_.dim, data_.key.data() + offset) &&
           std::equal(value, value + shape_.dim, data_.value.data() + offset);
  }

  RetainedShape shape_;
  const RetainedData& data_;
  std::int64_t prompt_;
  std::int64_t total_;
  RowsWorkspace rows_workspace_;
  DecodeWorkspace decode_workspace_;

 public:
  KvCache cache;
  Sequence sequence;
  std::vector<float> output;  // [rows, heads, dim]
};

}  // namespace sift::cpu
