#include "sift/kernels/cpu/candidate_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sift/kernels/cpu/candidate_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sift::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::CappedTag<float, 16>;
using IntTag = hn::RebindToSigned<FloatTag>;

std::int64_t part_candidates(const CandidateTask& task) {
  const FloatTag d;
  const IntTag di;
  const auto lanes = static_cast<std::int32_t>(hn::Lanes(d));
  const auto nothing = hn::Neg(hn::Inf(d));
  const auto before = hn::Set(di, task.forced_before);
  const auto from = hn::Set(di, task.forced_from - 1);
  const auto only = hn::Set(di, task.only);
  const auto exact_only = hn::Set(di, task.exact_only);
  std::int64_t missed = 0;
  for (std::int32_t i = 0; i < task.visible; i += lanes) {
    const auto index = hn::Iota(di, i);
    const auto estimate = hn::LoadU(d, task.estimates + i);
    const auto exact = hn::LoadU(d, task.exact + i);
    const auto forced = hn::Or(hn::Lt(index, before), hn::Gt(index, from));
    const auto passes = hn::RebindMask(di, hn::Gt(estimate, hn::Set(d, task.limit)));
    const auto candidate = hn::Or(hn::Or(forced, passes), hn::Eq(index, only));
    const auto keeps = hn::RebindMask(di, hn::Gt(exact, hn::Set(d, task.exact_limit)));
    const auto kept = hn::Or(keeps, hn::Eq(index, exact_only));
    const auto in_row = hn::Lt(index, hn::Set(di, task.visible));
    missed +=
        static_cast<std::int64_t>(hn::CountTrue(di, hn::And(in_row, hn::AndNot(candidate, kept))));
    const auto chosen = hn::RebindMask(d, candidate);
    hn::StoreU(hn::IfThenElse(chosen, exact, nothing), d, task.candidates + i);
    hn::StoreU(hn::IfThenElse(chosen, nothing, estimate), d, task.estimates + i);
  }
  return missed;
}

std::int64_t count_any(const float* const* rows, int group, std::int32_t visible) {
  const FloatTag d;
  const IntTag di;
  const auto lanes = static_cast<std::int32_t>(hn::Lanes(d));
  const auto nothing = hn::Neg(hn::Inf(d));
  std::int64_t count = 0;
  for (std::int32_t i = 0; i < visible; i += lanes) {
    auto any = hn::Gt(nothing, nothing);  // none yet
    for (int g = 0; g < group; ++g) {
      any = hn::Or(any, hn::Gt(hn::LoadU(d, rows[g] + i), nothing));
    }
    const auto in_row = hn::RebindMask(d, hn::Lt(hn::Iota(di, i), hn::Set(di, visible)));
    count += static_cast<std::int64_t>(hn::CountTrue(d, hn::And(any, in_row)));
  }
  return count;
}

}  // namespace
}  // namespace sift::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sift::cpu {

HWY_EXPORT(part_candidates);
HWY_EXPORT(count_any);

std::int64_t part_candidates(const CandidateTask& task) {
  return HWY_DYNAMIC_DISPATCH(part_candidates)(task);
}

std::int64_t count_any(const float* const* rows, int group, std::int32_t visible) {
  return HWY_DYNAMIC_DISPATCH(count_any)(rows, group, visible);
}

}  // namespace sift::cpu
#endif  // HWY_ONCE
