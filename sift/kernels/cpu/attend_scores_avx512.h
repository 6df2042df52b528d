#pragma once

// What decode attention does with scores, for AVX-512. Like exp2_avx512.h for translation units
// that are compiled for AVX-512 only; no inline function of other headers is called.

#include <immintrin.h>

#include "sift/kernels/cpu/attend_decode_kernels.h"
#include "sift/kernels/cpu/exp2_avx512.h"

// NOLINTBEGIN(misc-definitions-in-headers): each unit needs a copy of its own
namespace sift::cpu {
namespace {

constexpr float kInfinity = __builtin_inff();
constexpr int kLanes = 16;

template <class T>
inline T lesser(T a, T b) {
  return a < b ? a : b;
}

float maximum(const float* values, int count) {
  __m512 greatest = _mm512_set1_ps(-kInfinity);
  for (int i = 0; i < count; i += kLanes) {
    greatest = _mm512_max_ps(greatest, _mm512_loadu_ps(values + i));
  }
  return _mm512_reduce_max_ps(greatest);
}

float sum_exp2(const float* values, int count, float reference) {
  const __m512 shift = _mm512_set1_ps(reference);
  __m512 sum = _mm512_setzero_ps();
  for (int i = 0; i < count; i += kLanes) {
    sum = _mm512_add_ps(sum, exp2_ps(_mm512_sub_ps(_mm512_loadu_ps(values + i), shift)));
  }
  return _mm512_reduce_add_ps(sum);
}

float replace_exp2(float* values, int count, float reference) {
  const __m512 shift = _mm512_set1_ps(reference);
  __m512 sum = _mm512_setzero_ps();
  for (int i = 0; i < count; i += kLanes) {
    const __m512 power = exp2_ps(_mm512_sub_ps(_mm512_loadu_ps(values + i), shift));
    _mm512_storeu_ps(values + i, power);
    sum = _mm512_add_ps(sum, power);
  }
  return _mm512_reduce_add_ps(sum);
}

inline int popcount(unsigned bits) { return __builtin_popcount(bits); }

// The lowest `count` lanes: none for less than 0, all for more than 16.
inline unsigned lanes_below(int count) {
  if (count <= 0) return 0;
  return (1U << lesser(count, kLanes)) - 1U;
}

// Lanes of the block at `first` whose key index lies in [begin, end).
inline __mmask16 lanes_between(int first, int begin, int end) {
  return static_cast<__mmask16>(lanes_below(end - first) & ~lanes_below(begin - first));
}

// The keys of one block that one head keeps; counts them.
inline __mmask16 keep(const SelectTask& task, int head, int first, __mmask16 forced,
                      KeptCounts& counts) {
  const __m512 score = _mm512_loadu_ps(task.scores + head * kScoreStride + first);
  const __mmask16 passed =
      _mm512_cmp_ps_mask(score, _mm512_set1_ps(task.thresholds[head]), _CMP_GT_OQ);
  const unsigned only = static_cast<unsigned>(task.only_keys[head] - first);
  const unsigned kept = passed | forced | (only < unsigned{kLanes} ? 1U << only : 0U);
  counts.kept += popcount(kept);
  counts.kept_eligible += popcount(static_cast<unsigned>(passed & ~forced));
  return static_cast<__mmask16>(kept);
}

// Writes what survives of the block at `first` behind what is there already.
inline void append_survivors(const SelectTask& task, int first, __mmask16 all, Selected& selected) {
  const __m512 nothing = _mm512_set1_ps(-kInfinity);
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i keys = _mm512_add_epi32(lanes, _mm512_set1_epi32(first));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(selected.indices + selected.rows),
                      _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(all, keys)));
  for (int head = 0; head < task.group; ++head) {
    const __m512 score = _mm512_mask_loadu_ps(nothing, selected.masks[head],
                                              task.scores + head * kScoreStride + first);
    _mm512_storeu_ps(selected.scores + head * kScoreStride + selected.rows,
                     _mm512_mask_compress_ps(nothing, all, score));
  }
}

void select(const SelectTask& task, Selected& selected) {
  selected.rows = 0;
  selected.rows_eligible = 0;
  for (int head = 0; head < task.group; ++head) {
    selected.counts[head].kept = 0;
    selected.counts[head].kept_eligible = 0;
  }
  for (int first = 0; first < task.keys; first += kLanes) {
    const __mmask16 valid = lanes_between(first, 0, task.keys);
    const auto forced =
        static_cast<__mmask16>(valid & (lanes_between(first, 0, task.forced_before) |
                                        lanes_between(first, task.forced_from, kChunkKeys)));
    unsigned all = 0;
    for (int head = 0; head < task.group; ++head) {
      selected.masks[head] = keep(task, head, first, forced, selected.counts[head]);
      all |= selected.masks[head];
    }
    if (all == 0) continue;
    append_survivors(task, first, static_cast<__mmask16>(all), selected);
    selected.rows += popcount(all);
    selected.rows_eligible += popcount(all & ~unsigned{forced});
  }
  // Whole blocks follow: what lies behind the last survivor weighs nothing.
  for (int head = 0; head < task.group; ++head) {
    _mm512_storeu_ps(selected.scores + head * kScoreStride + selected.rows,
                     _mm512_set1_ps(-kInfinity));
  }
}

void add_scaled(float* sums, const float* addend, float scale, int count) {
  const __m512 factor = _mm512_set1_ps(scale);
  for (int i = 0; i < count; i += kLanes) {
    const __m512 sum =
        _mm512_fmadd_ps(factor, _mm512_loadu_ps(addend + i), _mm512_loadu_ps(sums + i));
    _mm512_storeu_ps(sums + i, sum);
  }
}

Collected collect(const float* values, std::int64_t count, float low, float high, float* inside) {
  const __m512 least = _mm512_set1_ps(low);
  const __m512 greatest = _mm512_set1_ps(high);
  Collected found;
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const auto lanes = static_cast<__mmask16>(
        lanes_below(static_cast<int>(lesser<std::int64_t>(count - i, kLanes))));
    const __m512 value = _mm512_maskz_loadu_ps(lanes, values + i);
    const __mmask16 below = _mm512_mask_cmp_ps_mask(lanes, value, least, _CMP_LT_OQ);
    const __mmask16 above = _mm512_mask_cmp_ps_mask(lanes, value, greatest, _CMP_GT_OQ);
    const auto within = static_cast<__mmask16>(lanes & ~(below | above));
    _mm512_storeu_ps(inside + found.inside, _mm512_maskz_compress_ps(within, value));
    found.below += popcount(unsigned{below});
    found.inside += popcount(unsigned{within});
  }
  return found;
}

}  // namespace
}  // namespace sift::cpu
// NOLINTEND(misc-definitions-in-headers)
