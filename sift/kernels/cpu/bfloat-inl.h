// Rounding to bfloat16, once per instruction set (Highway's per-target include).

#if defined(SIFT_KERNELS_CPU_BFLOAT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIFT_KERNELS_CPU_BFLOAT_INL_H_
#undef SIFT_KERNELS_CPU_BFLOAT_INL_H_
#else
#define SIFT_KERNELS_CPU_BFLOAT_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sift::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The nearest bfloat16, ties to even, as a float; NaN stays NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V round_to_bfloat(D d, V v) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto carried = hn::Add(hn::Add(bits, hn::Set(du, 0x7fff)), odd);
  const auto rounded = hn::BitCast(d, hn::And(carried, hn::Set(du, 0xffff0000U)));
  return hn::IfThenElse(hn::IsNaN(v), v, rounded);
}

}  // namespace sift::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard
