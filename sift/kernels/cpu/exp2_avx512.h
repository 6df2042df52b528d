#pragma once

// For translation units that are compiled for AVX-512 only (*_avx512.cc): everything here has
// internal linkage, so that no copy of it can be picked for a program path that lacks AVX-512.

#include <immintrin.h>

namespace sift::cpu {
namespace {

/// 2^x of 16 floats, relative error under 1.5e-7. −Inf and all that underflows give 0, whatever
/// exceeds float's range gives +Inf, NaN stays NaN, and 2^0 is exactly 1.
[[maybe_unused]] inline __m512 exp2_ps(__m512 x) {
  // With a NaN among its operands, max and min give the second one: x passes through.
  x = _mm512_max_ps(_mm512_set1_ps(-200.0F), x);
  x = _mm512_min_ps(_mm512_set1_ps(200.0F), x);
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 rest = _mm512_sub_ps(x, whole);  // exact, in [−½, ½]
  // 2^rest ≈ 1 + rest · p(rest), p interpolating (2^r − 1) / r at six Chebyshev nodes: 5.1e-9.
  __m512 p = _mm512_set1_ps(1.5453162941e-4F);
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.3390863664e-3F));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(9.6180825573e-3F));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(5.5503571142e-2F));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(2.4022650761e-1F));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(6.9314718803e-1F));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.0F));
  return _mm512_scalef_ps(p, whole);
}

}  // namespace
}  // namespace sift::cpu
