#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "sift/core/error.h"
#include "sift/kernels/cuda/key_shadow_problem.cuh"

namespace sift::cuda {
namespace {

std::vector<KeyShadowFormat> formats_of(int head_dim) {
  std::vector<KeyShadowFormat> formats;
  for (const ShadowOrder order : {ShadowOrder::as_stored, ShadowOrder::pairs_parted}) {
    formats.push_back({ShadowCode::fp8, 32, order});
    formats.push_back({ShadowCode::bits4, 32, order});
    if (head_dim % 64 == 0) formats.push_back({ShadowCode::bits4, 64, order});
  }
  return formats;
}

template <class T>
void check_every_format(const ShadowCase& layout) {
  for (const int head_dim : {64, 96, 128, 256}) {
    for (const KeyShadowFormat& format : formats_of(head_dim)) {
      ShadowCase of = layout;
      of.head_dim = head_dim;
      of.format = format;
      ShadowBatch<T> batch(of, {1, 15, 16, 17, 33, 150, 331});
      batch.write_all();
      batch.compare();
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(KeyShadows, EqualTheHostInEveryLayout) {
  std::vector<ShadowCase> layouts(5);
  layouts[0].layout = Layout::contiguous;
  layouts[1].order = TileOrder::heads;
  layouts[2].page = 64;
  layouts[3].layout = Layout::nhd;
  layouts[4].layout = Layout::nhd;
  layouts[4].page = 64;
  layouts[4].indptr = true;
  layouts[4].order = TileOrder::heads;
  for (const ShadowCase& layout : layouts) {
    SCOPED_TRACE(&layout - layouts.data());
    check_every_format<__half>(layout);
    check_every_format<__nv_bfloat16>(layout);
    if (HasFatalFailure()) return;
  }
}

const std::vector<int> kLengths = {40, 70, 16, 100};

std::vector<ShadowCase> some_cases() {
  std::vector<ShadowCase> cases;
  for (const int head_dim : {64, 96, 128, 256}) {
    for (const KeyShadowFormat& format : formats_of(head_dim)) cases.push_back({head_dim, format});
  }
  return cases;
}

TEST(KeyShadows, LeaveNeighboursAlone) {
  for (const ShadowCase& of : some_cases()) {
    ShadowBatch<__half> batch(of, kLengths);
    batch.write({{5, 11}, {17, 18}, {0, 0}, {30, 97}});
    batch.compare();
    // Empty and reversed ranges make nothing.
    batch.write({{7, 7}, {9, 3}, {16, 0}, {0, 1}});
    batch.compare();
    if (HasFatalFailure()) return;
  }
}

TEST(KeyShadows, StepByStepEqualAllAtOnce) {
  for (const ShadowCase& of : some_cases()) {
    ShadowBatch<__nv_bfloat16> batch(of, kLengths);
    batch.write({{0, 33}, {0, 64}, {0, 9}, {0, 93}});
    for (int step = 0; step < 7; ++step) {
      batch.write({{33 + step, 34 + step},
                   {63 + step, 64 + step},
                   {9 + step, 10 + step},
                   {93 + step, 94 + step}});
    }
    batch.compare();
    if (HasFatalFailure()) return;
  }
}

TEST(KeyShadows, TakeMoreKeysThanTheHostExpected) {
  for (const ShadowCase& of : some_cases()) {
    ShadowBatch<__half> batch(of, kLengths);
    batch.choose({{0, 40}, {3, 70}, {0, 16}, {1, 100}});
    batch.arguments.most = 1;
    write_key_shadows(batch.arguments, nullptr);
    must(cudaDeviceSynchronize());
    batch.compare();
    if (HasFatalFailure()) return;
  }
}

TEST(KeyShadows, AreMadeInAGraphWhoseRangesChange) {
  ShadowBatch<__half> batch({}, kLengths);
  batch.arguments.most = 1;
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  write_key_shadows(batch.arguments, stream);
  must(cudaStreamEndCapture(stream, &graph));
  must(cudaGraphInstantiate(&executable, graph, 0));
  for (int key = 0; key < 16; ++key) {
    batch.choose({{key, key + 1}, {50 + key, 51 + key}, {key, key + 1}, {84 + key, 85 + key}});
    must(cudaDeviceSynchronize());
    must(cudaGraphLaunch(executable, stream));
    must(cudaStreamSynchronize(stream));
  }
  batch.compare();
  must(cudaGraphExecDestroy(executable));
  must(cudaGraphDestroy(graph));
  must(cudaStreamDestroy(stream));
}

TEST(KeyShadows, ReadBackWhatTheyStandFor) {
  const KeyShadowFormat format{ShadowCode::bits4, 32};
  const int head_dim = 64;
  std::vector<std::byte> tile(shadow_tile_bytes(format, head_dim));
  std::vector<std::byte> row(key_shadow_row_bytes(format, head_dim));
  std::vector<std::vector<float>> keys;
  for (int key = 0; key < kShadowTileKeys; ++key) {
    keys.emplace_back(head_dim);
    for (int i = 0; i < head_dim; ++i) keys[key][i] = static_cast<float>((i * 7 + key) % 16);
    for (const int block : {0, 32}) keys[key][block] = 0, keys[key][block + 1] = 15;
    write_key_shadow(format, keys[key].data(), head_dim, row.data());
    put_shadow(format, head_dim, row.data(), tile.data(), key);
  }
  for (int key = 0; key < kShadowTileKeys; ++key) {
    EXPECT_EQ(get_shadowed_key(format, head_dim, tile.data(), key), keys[key]);
  }
}

TEST(KeyShadows, HaveTheirCodesWhereLanesLookForThem) {
  for (const ShadowCase& of : some_cases()) {
    EXPECT_EQ(shadow_tile_bytes(of.format, of.head_dim) % 16, 0);
    for (int place = 0; place < 16 * of.head_dim / 8; ++place) {
      const int key = place / (of.head_dim / 8);
      const int unit = place % (of.head_dim / 8);
      EXPECT_EQ(shadow_unit_offset(of.format, of.head_dim, key, unit),
                codes_of_lane(of.format, of.head_dim, key / 8, key % 8, unit % 4, unit / 4));
    }
  }
}

void expect_refused(const std::function<void(KeyShadowArguments&)>& spoil,
                    const std::string& part) {
  ShadowBatch<__half> batch({}, {20});
  batch.choose({{0, 20}});
  spoil(batch.arguments);
  try {
    write_key_shadows(batch.arguments, nullptr);
    ADD_FAILURE() << "expected a refusal that names " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(KeyShadows, RefuseWhatTheyCannotServe) {
  using Arguments = KeyShadowArguments;
  expect_refused([](Arguments& a) { a.batch = 0; }, "the batch is 0");
  expect_refused([](Arguments& a) { a.batch = 513; }, "the batch is 513");
  expect_refused([](Arguments& a) { a.kv_heads = 0; }, "KV heads is 0");
  expect_refused([](Arguments& a) { a.head_dim = 32; }, "the head dimension is 32");
  expect_refused([](Arguments& a) { a.type = DType::f32; }, "expected f16 or bf16");
  expect_refused([](Arguments& a) { a.shadows.format.code = ShadowCode::bits2; }, "2 bits");
  expect_refused([](Arguments& a) { a.shadows.format.block = 16; }, "the block is 16");
  expect_refused([](Arguments& a) { a.head_dim = 96, a.shadows.format.block = 64; },
                 "a multiple of the block");
  expect_refused([](Arguments& a) { a.cache.keys = nullptr; }, "the key cache is null");
  expect_refused([](Arguments& a) { a.cache.page_shift = 3; }, "a page is 3");
  expect_refused([](Arguments& a) { a.cache.slot_stride += 2; }, "a stride of the cache");
  expect_refused([](Arguments& a) { a.shadows.tiles = nullptr; }, "the memory of shadows is null");
  expect_refused([](Arguments& a) { a.shadows.tiles = static_cast<char*>(a.shadows.tiles) + 8; },
                 "the address of the shadows");
  expect_refused([](Arguments& a) { a.shadows.head_stride += 4; }, "a stride of the shadows");
  expect_refused([](Arguments& a) { a.begin = nullptr; }, "first keys is null");
  expect_refused([](Arguments& a) { a.end = nullptr; }, "ends is null");
  expect_refused([](Arguments& a) { a.most = 0; }, "the number of keys is 0");
}

}  // namespace
}  // namespace sift::cuda
