#include "sift/cache/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include "sift/core/error.h"

namespace sift {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0};

std::vector<std::int32_t> take(KvCache& cache, std::int64_t count) {
  std::vector<std::int32_t> pages;
  cache.allocate_pages(count, pages);
  return pages;
}

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

template <class Function>
std::string error_message(Function function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    return error.what();
  }
  return "no error";
}

TEST(KvCache, RoundsCapacityUpToPages) {
  const CacheLayout layout{2, 3, 64, DType::f16};
  EXPECT_EQ(KvCache(layout, 0).page_count(), 0);
  EXPECT_EQ(KvCache(layout, 1).page_count(), 1);
  EXPECT_EQ(KvCache(layout, 64).page_count(), 1);
  EXPECT_EQ(KvCache(layout, 65).page_count(), 2);
}

TEST(KvCache, UsesLowPagesFirst) {
  KvCache cache({1, 1, 32, DType::f32}, 64 * 8);
  EXPECT_THAT(take(cache, 4), ElementsAre(0, 1, 2, 3));
  cache.free_page(1);
  cache.free_page(3);
  cache.free_page(0);
  EXPECT_EQ(cache.free_pages(), 7);
  EXPECT_THAT(take(cache, 5), ElementsAre(0, 1, 3, 4, 5));
}

TEST(KvCache, GrowsAPageList) {
  KvCache cache({1, 1, 32, DType::f32}, 64 * 4);
  std::vector<std::int32_t> pages = take(cache, 1);
  cache.allocate_pages(3, pages);
  EXPECT_THAT(pages, ElementsAre(0, 1, 2));
  cache.allocate_pages(2, pages);
  EXPECT_THAT(pages, ElementsAre(0, 1, 2));
}

TEST(KvCache, ShortensAPageList) {
  KvCache cache({1, 1, 32, DType::f32}, 64 * 4);
  std::vector<std::int32_t> pages = take(cache, 4);
  cache.free_pages_behind(4, pages);
  EXPECT_EQ(cache.free_pages(), 0);
  cache.free_pages_behind(1, pages);
  EXPECT_THAT(pages, ElementsAre(0));
  EXPECT_EQ(cache.free_pages(), 3);
  cache.free_pages_behind(0, pages);
  EXPECT_EQ(cache.free_pages(), 4);
}

TEST(KvCache, NamesPagesNeededAndAvailable) {
  KvCache cache({1, 1, 32, DType::f32}, 64 * 4);
  std::vector<std::int32_t> pages = take(cache, 2);
  const std::string message = error_message([&] { cache.allocate_pages(7, pages); });
  EXPECT_THAT(message, HasSubstr("5 more pages"));
  EXPECT_THAT(message, HasSubstr("2 of 4 are available"));
  EXPECT_EQ(cache.free_pages(), 2);
  EXPECT_EQ(pages.size(), 2U);
}

TEST(KvCache, CountsBytesInUse) {
  KvCache cache({5, 3, 64, DType::q8_0}, 64 * 4);
  EXPECT_EQ(cache.bytes_in_use(), 0U);
  take(cache, 3);
  EXPECT_EQ(cache.bytes_in_use(), 3U * 5 * 2 * 3 * 64 * 68);
}

TEST(KvCache, CountsSidecars) {
  CacheLayout layout{5, 3, 64, DType::f16};
  layout.sidecars = sidecar_bytes(parse_policy("sift:estimate=quantised"), 64);
  KvCache cache(layout, 64 * 4);
  take(cache, 3);
  EXPECT_EQ(cache.bytes_in_use(), 3U * 5 * 3 * 64 * (2 * 128 + 40));
}

TEST(KvCache, RefusesPoliciesWhoseSidecarsItLacks) {
  const Policy four = parse_policy("sift:estimate=quantised");
  const Policy fp8 = parse_policy("sift:estimate=quantised,bits=fp8");
  CacheLayout layout{1, 1, 64, DType::f16};
  KvCache plain(layout, 64);
  EXPECT_THAT(error_message([&] { Sequence(plain, four, 2); }), HasSubstr("keeps 40 bytes"));
  layout.sidecars = sidecar_bytes(four, 64);
  KvCache with_shadow(layout, 64);
  EXPECT_THAT(error_message([&] { Sequence(with_shadow, fp8, 2); }), HasSubstr("made for 40"));
  EXPECT_NO_THROW(Sequence(with_shadow, four, 2));
  EXPECT_NO_THROW(Sequence(with_shadow, parse_policy("full"), 2));
}

TEST(KvCache, RefusesOtherTypesAndSizes) {
  EXPECT_THAT(error_message([] { KvCache({1, 1, 32, DType::q4_1}, 64); }), HasSubstr("q4_1"));
  EXPECT_THAT(error_message([] { KvCache({1, 1, 48, DType::q8_0}, 64); }), HasSubstr("48"));
  EXPECT_THAT(error_message([] { KvCache({0, 1, 32, DType::f16}, 64); }), HasSubstr("0 layers"));
  EXPECT_THAT(error_message([] { KvCache({1, 1, -32, DType::f16}, 64); }), HasSubstr("-32"));
  EXPECT_THAT(error_message([] { KvCache({1, 1, 32, DType::f16}, -1); }), HasSubstr("-1 rows"));
}

TEST(KvCache, AddressSpaceThatCannotBeHadIsBadAlloc) {
  const CacheLayout layout{1 << 20, 1 << 20, 1 << 20, DType::f32};
  EXPECT_THROW(KvCache(layout, std::int64_t{1} << 36), std::bad_alloc);
  EXPECT_THROW(KvCache({1, 1, 32, DType::f32}, std::int64_t{1} << 62), std::bad_alloc);
  EXPECT_THROW(KvCache({1 << 10, 1 << 10, 1 << 10, DType::f32}, std::int64_t{1} << 30),
               std::bad_alloc);
}

TEST(KvCache, ResidentMemoryFollowsUse) {
  constexpr std::size_t kMegabyte = std::size_t{1} << 20;
  const std::size_t before = resident_bytes();
  KvCache cache({30, 3, 64, DType::f16}, 1 << 20);  // 22 GiB of address space
  EXPECT_LT(resident_bytes(), before + kMegabyte);
  const std::vector<std::int32_t> pages = take(cache, 8);
  for (int layer = 0; layer < 30; ++layer) {
    const CacheView view = cache.view(layer, pages);
    for (int block = 0; block < 8; ++block) {
      std::memset(view.key_page(0, block), 1, 3 * kPageRows * 128);
      std::memset(view.value_page(0, block), 1, 3 * kPageRows * 128);
    }
  }
  const std::size_t after = resident_bytes();
  EXPECT_GE(after, before + cache.bytes_in_use());
  EXPECT_LT(after, before + cache.bytes_in_use() + 3 * kMegabyte);
}

class KvCacheTypes : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(All, KvCacheTypes, ::testing::ValuesIn(kTypes));

CacheLayout layout_with_shadow(int kv_heads, DType type) {
  CacheLayout layout{2, kv_heads, 64, type};
  layout.sidecars[Sidecar::key_shadow] = 36;
  return layout;
}

TEST_P(KvCacheTypes, RowsAreDistinctAndInsideTheirPages) {
  const CacheLayout layout = layout_with_shadow(3, GetParam());
  KvCache cache(layout, 64 * 5);
  take(cache, 2);
  cache.free_page(0);
  const std::vector<std::int32_t> pages = take(cache, 3);  // 0, 2, 3
  std::set<const std::byte*> rows;
  std::set<const std::byte*> shadows;
  for (int layer = 0; layer < layout.layers; ++layer) {
    const CacheView view = cache.view(layer, pages);
    for (int head = 0; head < layout.kv_heads; ++head) {
      for (std::int64_t slot = 0; slot < 3 * kPageRows; ++slot) {
        rows.insert(view.key_row(head, slot));
        rows.insert(view.value_row(head, slot));
        const std::size_t within = static_cast<std::size_t>(slot % kPageRows) * layout.row_bytes();
        EXPECT_EQ(view.key_row(head, slot), view.key_page(head, slot / kPageRows) + within);
        EXPECT_EQ(view.value_row(head, slot), view.value_page(head, slot / kPageRows) + within);
        const std::byte* shadow = view.sidecar_row(Sidecar::key_shadow, head, slot);
        shadows.insert(shadow);
        EXPECT_EQ(shadow, view.sidecar_page(Sidecar::key_shadow, head, slot / kPageRows) +
                              slot % kPageRows * 36);
      }
    }
  }
  ASSERT_EQ(rows.size(), 2U * 2 * 3 * 3 * kPageRows);
  ASSERT_EQ(shadows.size(), 2U * 3 * 3 * kPageRows);
  std::map<const std::byte*, std::size_t> extents;
  for (const std::byte* row : rows) extents[row] = layout.row_bytes();
  for (const std::byte* shadow : shadows) extents[shadow] = 36;
  const std::byte* free_from = nullptr;
  for (const auto& [begin, bytes] : extents) {
    EXPECT_GE(begin, free_from);
    free_from = begin + bytes;
  }
}

TEST_P(KvCacheTypes, WrittenRowsStay) {
  const CacheLayout layout = layout_with_shadow(2, GetParam());
  KvCache cache(layout, 64 * 3);
  const std::vector<std::int32_t> pages = take(cache, 3);
  unsigned char mark = 0;
  const auto each_row = [&](auto visit) {
    mark = 0;
    for (int layer = 0; layer < layout.layers; ++layer) {
      const CacheView view = cache.view(layer, pages);
      for (int head = 0; head < layout.kv_heads; ++head) {
        for (std::int64_t slot = 0; slot < 3 * kPageRows; ++slot) {
          visit(view.key_row(head, slot), layout.row_bytes(), ++mark);
          visit(view.value_row(head, slot), layout.row_bytes(), ++mark);
          visit(view.sidecar_row(Sidecar::key_shadow, head, slot), std::size_t{36}, ++mark);
        }
      }
    }
  };
  each_row([](std::byte* row, std::size_t bytes, unsigned char value) {
    std::memset(row, value, bytes);
  });
  each_row([](const std::byte* row, std::size_t bytes, unsigned char value) {
    EXPECT_EQ(std::to_integer<unsigned char>(row[0]), value);
    EXPECT_EQ(std::to_integer<unsigned char>(row[bytes - 1]), value);
  });
}

}  // namespace
}  // namespace sift
