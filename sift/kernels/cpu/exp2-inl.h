// Base-2 exponential for Highway kernels; compiled once per instruction set (no #pragma once).

#if defined(SIFT_KERNELS_CPU_EXP2_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIFT_KERNELS_CPU_EXP2_INL_H_
#undef SIFT_KERNELS_CPU_EXP2_INL_H_
#else
#define SIFT_KERNELS_CPU_EXP2_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sift::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// 2^x, relative error under 2e-7. What is under 2^−126.5 gives 0, −Inf too; what exceeds float's
/// range gives +Inf; NaN stays NaN; 2^0 is exactly 1.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2(D d, V x) {
  const hn::RebindToSigned<D> di;
  // With a NaN among its operands, max and min give the second one: x passes through.
  x = hn::Max(hn::Set(d, -127.0F), x);
  x = hn::Min(hn::Set(d, 128.0F), x);
  const auto whole = hn::NearestInt(x);
  const V rest = hn::Sub(x, hn::ConvertTo(d, whole));  // exact, in [−½, ½]
  // 2^rest ≈ 1 + rest · p(rest), p interpolating (2^r − 1) / r at six Chebyshev nodes: 5.1e-9.
  V p = hn::Set(d, 1.5453162941e-4F);
  p = hn::MulAdd(p, rest, hn::Set(d, 1.3390863664e-3F));
  p = hn::MulAdd(p, rest, hn::Set(d, 9.6180825573e-3F));
  p = hn::MulAdd(p, rest, hn::Set(d, 5.5503571142e-2F));
  p = hn::MulAdd(p, rest, hn::Set(d, 2.4022650761e-1F));
  p = hn::MulAdd(p, rest, hn::Set(d, 6.9314718803e-1F));
  p = hn::MulAdd(p, rest, hn::Set(d, 1.0F));
  // Exponent bits 0 (of 2^−127) stand for zero and 255 (of 2^128) for infinity.
  const auto exponent = hn::ShiftLeft<23>(hn::Add(whole, hn::Set(di, 127)));
  return hn::Mul(p, hn::BitCast(d, exponent));
}

}  // namespace sift::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
