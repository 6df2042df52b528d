#pragma once

// What tests of shadows on a device share: keys that are hard to code, and a batch of them with the
// bytes that their shadows are to have.

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <memory>
#include <random>

#include "sift/kernels/cuda/decode_problem.cuh"
#include "sift/kernels/cuda/key_shadow.h"
#include "sift/kernels/cuda/key_shadow_fixture.h"

namespace sift::cuda {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr int kPoison = 0xa5;
inline constexpr int kKvHeads = 3;

using Random = std::mt19937;

template <class T>
struct HostType;
template <>
struct HostType<__half> {
  static constexpr DType kType = DType::f16;
  static std::uint16_t bits(float x) { return __half_as_ushort(__float2half_rn(x)); }
  static float to_float(std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
  static constexpr std::uint16_t kExponent = 0x7c00;
};
template <>
struct HostType<__nv_bfloat16> {
  static constexpr DType kType = DType::bf16;
  static std::uint16_t bits(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
  static float to_float(std::uint16_t bits) { return __bfloat162float(__ushort_as_bfloat16(bits)); }
  static constexpr std::uint16_t kExponent = 0x7f80;
};

// ---- Keys ----

/// Makes the values of a key.
using Pattern = std::function<std::vector<float>(int head_dim, Random& random)>;

inline Pattern each(const std::function<float(int, Random&)>& value) {
  return [value](int head_dim, Random& random) {
    std::vector<float> key(static_cast<std::size_t>(head_dim));
    for (int i = 0; i < head_dim; ++i) key[i] = value(i, random);
    return key;
  };
}

inline Pattern normal(float mean, float deviation) {
  return each(
      [=](int, Random& random) { return std::normal_distribution(mean, deviation)(random); });
}

inline Pattern one_of(const std::vector<float>& values) {
  return each([values](int, Random& random) { return values[random() % values.size()]; });
}

/// `pattern`, but for one value at a random place.
inline Pattern with_one(float value, const Pattern& pattern) {
  return [=](int head_dim, Random& random) {
    std::vector<float> key = pattern(head_dim, random);
    key[random() % key.size()] = value;
    return key;
  };
}

/// Any value of the type whose bits are not outside `mask`.
template <class T>
Pattern any_bits(std::uint16_t mask) {
  return each([mask](int, Random& random) {
    return HostType<T>::to_float(static_cast<std::uint16_t>(random()) & mask);
  });
}

template <class T>
std::vector<Pattern> patterns() {
  constexpr std::uint16_t kLowExponentBit = HostType<T>::kExponent & -HostType<T>::kExponent;
  return {
      normal(0, 1),
      normal(0.5F, 0.01F),
      normal(-3, 300),
      one_of({0}),
      one_of({0, -0.0F}),
      one_of({-0.0F}),
      one_of({1.5F}),
      one_of({-224}),
      one_of({65504, -65504}),
      one_of({65504}),
      one_of({-65504}),
      one_of({3e38F, -3e38F, 1}),  // infinities for f16
      one_of({3e38F}),
      one_of({-1e38F, -2e38F}),
      with_one(kNaN, normal(0, 1)),
      with_one(kInfinity, normal(0, 1)),
      with_one(-kInfinity, normal(0, 1)),
      with_one(1e4F, normal(0, 1)),
      one_of({kNaN, kInfinity, -kInfinity}),
      // Half steps of four bits, and of e4m3, between the extremes that make the scale 1.
      with_one(0, with_one(15, one_of({0.5F, 1.5F, 2.5F, 7.5F, 13.5F, 14.5F}))),
      with_one(448, one_of({-432, 17, 19, 1.0625F, -1.1875F, 0x1p-10F, 0x3p-10F, -0x1.cp-7F})),
      // A tiny number's half is a zero with its sign.
      one_of({-1e-30F, -2e-30F}),
      one_of({6e-8F, -6e-8F, 1.2e-7F}),
      any_bits<T>(0xffffU & ~HostType<T>::kExponent),  // subnormal numbers and zeros
      any_bits<T>(0xffffU & ~kLowExponentBit),         // finite numbers
      any_bits<T>(0xffffU),
  };
}

// ---- A batch ----

struct ShadowCase {
  int head_dim = 128;
  KeyShadowFormat format;
  Layout layout = Layout::hnd;
  int page = 16;
  bool indptr = false;
  TileOrder order = TileOrder::pages;
};

using Range = std::pair<int, int>;  // first key, one behind the last

/// A cache and its shadows on the device, and the bytes that shadows are to have.
template <class T>
class ShadowBatch {
 public:
  ShadowBatch(const ShadowCase& of, const std::vector<int>& lengths)
      : of_(of),
        lengths_(lengths),
        cache_(lay_out({kKvHeads, kKvHeads, of.head_dim, lengths, of.layout, of.page, of.indptr})),
        plan_(lay_out_shadows(of.format, of.head_dim, kKvHeads, cache_.pages, cache_.rows_per_page,
                              of.order)),
        keys_(cache_.pages * cache_.rows_per_page * kKvHeads * of.head_dim, 0xffff),
        table_(cache_.table),
        table_begin_(cache_.table_begin),
        begin_(lengths.size()),
        end_(lengths.size()),
        shadows_(plan_.bytes),
        expected_(plan_.bytes, std::byte{kPoison}) {
    fill_keys();
    device_keys_ = std::make_unique<DeviceArray<std::uint16_t>>(keys_);
    shadows_.fill_bytes(kPoison);
    KeyShadowArguments& a = arguments;
    a.batch = static_cast<int>(lengths.size());
    a.kv_heads = kKvHeads;
    a.head_dim = of.head_dim;
    a.type = HostType<T>::kType;
    a.cache = cache_.address;
    a.cache.keys = device_keys_->data();
    if (!cache_.table.empty()) a.cache.table = table_.data();
    if (of.indptr) a.cache.table_begin = table_begin_.data();
    a.shadows = plan_.address;
    a.shadows.tiles = shadows_.data();
    a.begin = begin_.data();
    a.end = end_.data();
  }

  /// Says which keys the next call makes, and what it is to leave.
  void choose(const std::vector<Range>& ranges) {
    std::vector<std::int32_t> begin;
    std::vector<std::int32_t> end;
    arguments.most = 1;
    for (std::size_t request = 0; request < ranges.size(); ++request) {
      begin.push_back(ranges[request].first);
      end.push_back(ranges[request].second);
      arguments.most = std::max(arguments.most, end.back() - begin.back());
      for (int key = begin.back(); key < end.back(); ++key) expect(request, key);
    }
    begin_.set(begin);
    end_.set(end);
  }

  void write(const std::vector<Range>& ranges) {
    choose(ranges);
    write_key_shadows(arguments, nullptr);
    must(cudaDeviceSynchronize());
  }

  void write_all() {
    std::vector<Range> ranges;
    for (const int length : lengths_) ranges.emplace_back(0, length);
    write(ranges);
  }

  void compare() const {
    const std::vector<std::byte> actual = shadows_.host();
    for (std::size_t i = 0; i < actual.size(); ++i) {
      ASSERT_EQ(actual[i], expected_[i])
          << "byte " << i << " of " << actual.size() << ", in a tile of "
          << shadow_tile_bytes(of_.format, of_.head_dim) << ", head dimension " << of_.head_dim
          << ", code of " << code_bits(of_.format.code) << " bits, block " << of_.format.block;
    }
  }

  KeyShadowArguments arguments;

 private:
  // Page and slot of a key, by the definition of CacheAddress.
  std::pair<std::int64_t, std::int64_t> place(std::size_t request, int key) const {
    if (cache_.table.empty()) return {static_cast<std::int64_t>(request), key};
    return {cache_.table[cache_.table_begin[request] + key / of_.page], key % of_.page};
  }

  std::size_t row_of(std::size_t request, int kv_head, int key) const {
    const auto [page, slot] = place(request, key);
    const CacheAddress& address = cache_.address;
    return static_cast<std::size_t>(page * address.page_stride + slot * address.slot_stride +
                                    kv_head * address.head_stride) /
           sizeof(T);
  }

  void fill_keys() {
    Random random(5);
    const std::vector<Pattern> all = patterns<T>();
    std::size_t next = 0;
    for (std::size_t request = 0; request < lengths_.size(); ++request) {
      for (int kv_head = 0; kv_head < kKvHeads; ++kv_head) {
        for (int key = 0; key < lengths_[request]; ++key) {
          const std::vector<float> values = all[next++ % all.size()](of_.head_dim, random);
          std::uint16_t* row = keys_.data() + row_of(request, kv_head, key);
          for (std::size_t i = 0; i < values.size(); ++i) row[i] = HostType<T>::bits(values[i]);
        }
      }
    }
  }

  // Puts what the host makes of a key into its places.
  void expect(std::size_t request, int key) {
    std::vector<float> values(static_cast<std::size_t>(of_.head_dim));
    std::vector<std::byte> row(key_shadow_row_bytes(of_.format, of_.head_dim));
    const auto [page, slot] = place(request, key);
    for (int kv_head = 0; kv_head < kKvHeads; ++kv_head) {
      const std::uint16_t* bits = keys_.data() + row_of(request, kv_head, key);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = HostType<T>::to_float(bits[i]);
      write_key_shadow(of_.format, values.data(), of_.head_dim, row.data());
      std::byte* tile =
          expected_.data() + tile_offset(plan_.address, of_.head_dim, page, kv_head, slot);
      put_shadow(of_.format, of_.head_dim, row.data(), tile,
                 static_cast<int>(slot % kShadowTileKeys));
    }
  }

  ShadowCase of_;
  std::vector<int> lengths_;
  PagedCache cache_;
  ShadowPlan plan_;
  std::vector<std::uint16_t> keys_;
  std::unique_ptr<DeviceArray<std::uint16_t>> device_keys_;
  DeviceArray<std::int32_t> table_;
  DeviceArray<std::int32_t> table_begin_;
  DeviceArray<std::int32_t> begin_;
  DeviceArray<std::int32_t> end_;
  DeviceArray<std::byte> shadows_;
  std::vector<std::byte> expected_;
};

}  // namespace sift::cuda
