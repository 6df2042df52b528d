#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sift/attention/retention.h"
#include "sift/cache/kv_cache.h"

namespace sift {

/// The cached rows of one layer and KV head under a policy that evicts: which they are, what
/// attention they gathered, and which leave (docs/method.md, "Eviction"). All of it lies in the
/// sidecars of the cache.
///
/// The rows of a batch come behind the cached ones, in consecutive slots. Row by row a backend
/// calls evict() if the row is generated, admit(), lets the row attend over all slots up to its own
/// but evicted_slots(), then calls add_mass(), and evict() again if the row is generated. settle()
/// ends the batch.
class RetainedRows {
 public:
  /// `position`: of the batch's first row. `cache.rows` slots are filled before it.
  /// REQUIRES: the policy evicts, and the cache has its sidecars.
  RetainedRows(const Policy& policy, const CacheView& cache, int kv_head, std::int64_t position);

  /// Takes in the batch's next row, in the next slot: without mass.
  void admit();

  /// Evicts rows until as many stay as the newest one leaves to the next. Before a row that is not
  /// the first after a prompt there is nothing to do.
  void evict();

  /// Slots up to the newest row's.
  std::int64_t slots() const { return slots_; }
  /// Of them, those that hold a row.
  std::int64_t rows() const { return slots_ - static_cast<std::int64_t>(evicted_.size()); }
  /// The others, in the order in which they were evicted.
  const std::vector<std::int64_t>& evicted_slots() const { return evicted_; }
  /// The slots that hold a row, by position.
  std::vector<std::int64_t> slots_by_position() const;
  std::int64_t position(std::int64_t slot) const { return *position_at(slot); }
  double mass(std::int64_t slot) const { return *mass_at(slot); }

  /// mass += scale · weights[i] for slots first_slot + i; without effect where the policy needs no
  /// mass. REQUIRES: first_slot is the first of a page.
  void add_mass(std::int64_t first_slot, const float* weights, std::int64_t count, double scale);
  void add_mass(std::int64_t slot, double mass);

  /// Moves the last rows into the slots of evicted ones, so that the rows fill slots 0 … rows()
  /// − 1. REQUIRES: the batch has no further rows.
  void settle();

 private:
  struct Row {
    double mass = 0;
    std::int64_t position = 0;
    std::int64_t slot = 0;
    bool weaker_than(const Row& other) const {
      return mass != other.mass ? mass < other.mass : position > other.position;
    }
  };

  std::int64_t* position_at(std::int64_t slot) const;
  double* mass_at(std::int64_t slot) const;
  bool has_mass() const { return policy_.retain == Retain::heavy_hitters; }
  void evict_slot(std::int64_t slot);
  void move_row(std::int64_t from, std::int64_t to);
  std::vector<Row> eligible_rows() const;
  Row weakest_row() const;
  template <class Visit>
  void for_eligible(const Visit& visit) const;

  const Policy& policy_;
  CacheView cache_;
  int kv_head_;
  std::int64_t next_position_;  // and the number of rows that the newest one would see
  std::int64_t slots_;
  std::vector<std::int64_t> evicted_;
};

}  // namespace sift
