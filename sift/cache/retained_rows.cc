#include "sift/cache/retained_rows.h"

#include <algorithm>
#include <cstring>

namespace sift {
namespace {

constexpr std::int64_t kEvicted = -1;

}  // namespace

RetainedRows::RetainedRows(const Policy& policy, const CacheView& cache, int kv_head,
                           std::int64_t position)
    : policy_(policy),
      cache_(cache),
      kv_head_(kv_head),
      next_position_(position),
      slots_(cache.rows) {}

std::int64_t* RetainedRows::position_at(std::int64_t slot) const {
  return reinterpret_cast<std::int64_t*>(cache_.sidecar_row(Sidecar::position, kv_head_, slot));
}

double* RetainedRows::mass_at(std::int64_t slot) const {
  return reinterpret_cast<double*>(cache_.sidecar_row(Sidecar::mass, kv_head_, slot));
}

void RetainedRows::admit() {
  *position_at(slots_) = next_position_;
  if (has_mass()) *mass_at(slots_) = 0;
  next_position_ += 1;
  slots_ += 1;
}

std::vector<std::int64_t> RetainedRows::slots_by_position() const {
  std::vector<std::int64_t> slots;
  for (std::int64_t slot = 0; slot < slots_; ++slot) {
    if (position(slot) != kEvicted) slots.push_back(slot);
  }
  std::ranges::sort(slots, {}, [&](std::int64_t slot) { return position(slot); });
  return slots;
}

void RetainedRows::add_mass(std::int64_t first_slot, const float* weights, std::int64_t count,
                            double scale) {
  if (!has_mass()) return;
  for (std::int64_t begin = 0; begin < count; begin += kPageRows) {
    double* mass = mass_at(first_slot + begin);
    const std::int64_t rows = std::min(kPageRows, count - begin);
    for (std::int64_t i = 0; i < rows; ++i) {
      mass[i] += scale * static_cast<double>(weights[begin + i]);
    }
  }
}

void RetainedRows::add_mass(std::int64_t slot, double mass) {
  if (has_mass()) *mass_at(slot) += mass;
}

// Page by page: rows' positions, and their masses, are neighbours there.
template <class Visit>
void RetainedRows::for_eligible(const Visit& visit) const {
  const std::int64_t newest = next_position_ - newest_rows(policy_, next_position_);
  for (std::int64_t begin = 0; begin < slots_; begin += kPageRows) {
    const std::int64_t* positions = position_at(begin);
    const double* masses = has_mass() ? mass_at(begin) : nullptr;
    const std::int64_t rows = std::min(kPageRows, slots_ - begin);
    for (std::int64_t i = 0; i < rows; ++i) {
      // An evicted row's position, −1, is that of no eligible one.
      if (positions[i] < policy_.sink || positions[i] >= newest) continue;
      visit(Row{masses != nullptr ? masses[i] : 0, positions[i], begin + i});
    }
  }
}

std::vector<RetainedRows::Row> RetainedRows::eligible_rows() const {
  std::vector<Row> rows;
  for_eligible([&](const Row& row) { rows.push_back(row); });
  return rows;
}

RetainedRows::Row RetainedRows::weakest_row() const {
  Row weakest{0, kEvicted, 0};
  for_eligible([&](const Row& row) {
    if (weakest.position == kEvicted || row.weaker_than(weakest)) weakest = row;
  });
  return weakest;
}

void RetainedRows::evict() {
  const std::int64_t surplus = rows() - retained_rows(policy_, next_position_);
  if (surplus <= 0) return;
  if (surplus == 1) {  // every step but the first: without a list of the rows
    evict_slot(weakest_row().slot);
    return;
  }
  std::vector<Row> rows = eligible_rows();
  std::ranges::nth_element(rows, rows.begin() + (surplus - 1),
                           [](const Row& a, const Row& b) { return a.weaker_than(b); });
  for (std::int64_t i = 0; i < surplus; ++i) evict_slot(rows[static_cast<std::size_t>(i)].slot);
}

void RetainedRows::evict_slot(std::int64_t slot) {
  *position_at(slot) = kEvicted;
  evicted_.push_back(slot);
}

void RetainedRows::settle() {
  const std::int64_t kept = rows();
  std::int64_t last = slots_ - 1;
  for (const std::int64_t slot : evicted_) {
    if (slot >= kept) continue;
    while (position(last) == kEvicted) --last;
    move_row(last--, slot);
  }
  slots_ = kept;
  evicted_.clear();
}

void RetainedRows::move_row(std::int64_t from, std::int64_t to) {
  const std::size_t bytes = cache_.layout.row_bytes();
  std::memcpy(cache_.key_row(kv_head_, to), cache_.key_row(kv_head_, from), bytes);
  std::memcpy(cache_.value_row(kv_head_, to), cache_.value_row(kv_head_, from), bytes);
  *position_at(to) = position(from);
  if (has_mass()) *mass_at(to) = mass(from);
}

}  // namespace sift
