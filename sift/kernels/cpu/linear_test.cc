#include "sift/kernels/cpu/linear.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <tuple>
#include <vector>

#include "sift/core/block_formats.h"
#include "sift/core/dequantise.h"
#include "sift/core/error.h"
#include "sift/core/half.h"

namespace sift::cpu {
namespace {

using Random = std::mt19937;

float uniform(Random& random, float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(random);
}

/// Random stored values of any type; scales and mins are such that values are about 1.
struct Matrix {
  MatrixView view;
  std::vector<std::byte> bytes;
  std::vector<float> values;  ///< [rows, columns]

  Matrix(DType type, std::int64_t rows, std::int64_t columns, unsigned seed = 1) {
    Random random(seed);
    bytes.resize(static_cast<std::size_t>(rows) * row_bytes(type, columns));
    fill(type, random);
    view = {type, rows, columns, bytes.data()};
    values.resize(static_cast<std::size_t>(rows * columns));
    dequantise(type, bytes.data(), rows * columns, values.data());
  }

 private:
  template <class Block, class Scales>
  void fill_blocks(Random& random, Scales set_scales) {
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(Block)) {
      Block block;
      auto* raw = reinterpret_cast<std::uint8_t*>(&block);
      for (std::size_t i = 0; i < sizeof(Block); ++i) raw[i] = static_cast<std::uint8_t>(random());
      set_scales(block);
      std::memcpy(bytes.data() + at, &block, sizeof(Block));
    }
  }
  template <class Element>
  void fill_plain(Random& random) {
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(Element)) {
      const Element value(static_cast<Element>(uniform(random, -1, 1)));
      std::memcpy(bytes.data() + at, &value, sizeof(Element));
    }
  }
  void fill(DType type, Random& random) {
    const auto d = [&random](auto& block, float size) {
      block.d = static_cast<Half>(uniform(random, -size, size));
    };
    const auto d_and_m = [&random](auto& block, float size, float min) {
      block.d = static_cast<Half>(uniform(random, 0, size));
      block.m = static_cast<Half>(uniform(random, -min, 0));
    };
    const auto k_scales = [&random](auto& block, float size) {
      block.d = static_cast<Half>(uniform(random, 0, size));
      block.dmin = static_cast<Half>(uniform(random, 0, 0.03F));
    };
    switch (type) {
      case DType::f32:
        return fill_plain<float>(random);
      case DType::f16:
        return fill_plain<Half>(random);
      case DType::bf16:
        return fill_plain<BFloat16>(random);
      case DType::q8_0:
        return fill_blocks<BlockQ8_0>(random, [&](auto& block) { d(block, 0.01F); });
      case DType::q4_0:
        return fill_blocks<BlockQ4_0>(random, [&](auto& block) { d(block, 0.1F); });
      case DType::q4_1:
        return fill_blocks<BlockQ4_1>(random, [&](auto& block) { d_and_m(block, 0.1F, 1); });
      case DType::q5_0:
        return fill_blocks<BlockQ5_0>(random, [&](auto& block) { d(block, 0.05F); });
      case DType::q5_1:
        return fill_blocks<BlockQ5_1>(random, [&](auto& block) { d_and_m(block, 0.05F, 1); });
      case DType::q4_k:
        return fill_blocks<BlockQ4_K>(random, [&](auto& block) { k_scales(block, 0.003F); });
      case DType::q5_k:
        return fill_blocks<BlockQ5_K>(random, [&](auto& block) { k_scales(block, 0.002F); });
      case DType::q6_k:
        return fill_blocks<BlockQ6_K>(random, [&](auto& block) { d(block, 0.0005F); });
    }
  }
};

std::vector<float> random_rows(std::int64_t rows, std::int64_t columns) {
  Random random(7);
  std::vector<float> x(static_cast<std::size_t>(rows * columns));
  for (float& value : x) value = uniform(random, -1, 1) * std::exp(uniform(random, -3, 3));
  return x;
}

bool is_plain(DType type) { return traits(type).block_values == 1; }

/// What a mode makes of activations; plain weights are not met by quantised ones.
std::vector<float> rounded_rows(std::vector<float> x, std::int64_t columns, Compute compute) {
  if (compute == Compute::bf16) {
    for (float& value : x) value = static_cast<float>(BFloat16(value));
  }
  if (compute != Compute::q8) return x;
  for (std::size_t row = 0; row < x.size(); row += static_cast<std::size_t>(columns)) {
    for (std::int64_t block = 0; block < columns; block += 32) {
      float* at = x.data() + row + block;
      const auto count = std::min<std::int64_t>(32, columns - block);
      float largest = 0;
      for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(at[i]));
      const float scale = largest / 127;
      for (std::int64_t i = 0; i < count; ++i) at[i] = scale * std::nearbyint(at[i] * (1 / scale));
    }
  }
  return x;
}

struct Expected {
  double sum = 0;
  double magnitude = 0;  ///< Σ |w| |x|
};

Expected expected_product(const Matrix& matrix, std::int64_t output, const float* x, bool rounded) {
  Expected result;
  const std::int64_t columns = matrix.view.columns;
  const float* w = matrix.values.data() + output * columns;
  for (std::int64_t c = 0; c < columns; ++c) {
    const double weight = rounded ? static_cast<float>(BFloat16(w[c])) : w[c];
    result.sum += weight * x[c];
    result.magnitude += std::fabs(weight * x[c]);
  }
  return result;
}

enum class Path { decode, prompt };

void multiply(Path path, std::span<const Product> products, const std::vector<float>& x,
              std::int64_t n, bool add, Workspace& workspace) {
  if (path == Path::decode) {
    multiply_decode(products, x.data(), n, add, workspace);
  } else {
    multiply_prompt(products, x.data(), n, add, workspace);
  }
}

std::vector<DType> all_types() {
  return {DType::f32,  DType::f16,  DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1,
          DType::q5_0, DType::q5_1, DType::q4_k, DType::q5_k, DType::q6_k};
}

std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> sets = {InstructionSet::portable};
  if (best_instruction_set() == InstructionSet::avx512) sets.push_back(InstructionSet::avx512);
  return sets;
}

using Case = std::tuple<DType, Compute, InstructionSet>;

/// What a path computes with: 8-bit prompts run as bf16 or f32, plain weights never in 8 bits.
Compute effective(const Case& tested, Path path) {
  const auto [type, compute, set] = tested;
  if (compute != Compute::q8) return compute;
  if (path == Path::prompt) return set == InstructionSet::avx512 ? Compute::bf16 : Compute::f32;
  return is_plain(type) ? Compute::f32 : Compute::q8;
}

std::vector<std::int64_t> columns_of(DType type) {
  if (is_plain(type)) return {1, 31, 32, 33, 576};
  if (traits(type).block_values == 256) return {256, 768};
  return {32, 64, 576, 1536};
}

void check_product(const Case& tested, std::int64_t outputs, std::int64_t inputs, Path path) {
  const auto [type, compute, set] = tested;
  const std::int64_t n = 3;
  const Matrix matrix(type, outputs, inputs);
  Workspace workspace(1, set);
  const auto packed = pack(matrix.view, compute, workspace);
  const std::vector<float> x = random_rows(n, inputs);
  const Compute mode = effective(tested, path);
  const std::vector<float> rounded = rounded_rows(x, inputs, mode);
  // Weights are rounded after a fused or unfused multiply-add: a few differ in their last bit.
  const double tolerance = mode == Compute::bf16 ? 2e-4 : 1e-5;
  for (const bool add : {false, true}) {
    std::vector<float> out(static_cast<std::size_t>(n * outputs), 100.0F);
    const Product product = {packed.get(), out.data()};
    multiply(path, {&product, 1}, x, n, add, workspace);
    for (std::int64_t i = 0; i < n * outputs; ++i) {
      const float* row = rounded.data() + i / outputs * inputs;
      const Expected want = expected_product(matrix, i % outputs, row, mode == Compute::bf16);
      const double base = add ? 100 : 0;
      ASSERT_NEAR(out[i], want.sum + base, tolerance * want.magnitude + 1e-6 * base)
          << outputs << " x " << inputs << ", row " << i / outputs << ", output " << i % outputs;
    }
  }
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  const auto [type, compute, set] = info.param;
  const char* modes[] = {"f32", "bf16", "q8"};
  return std::string(traits(type).name) + "_" + modes[static_cast<int>(compute)] +
         (set == InstructionSet::avx512 ? "_avx512" : "_portable");
}

class LinearTest : public testing::TestWithParam<Case> {
 protected:
  DType type() const { return std::get<0>(GetParam()); }
  Compute compute() const { return std::get<1>(GetParam()); }
  InstructionSet set() const { return std::get<2>(GetParam()); }

  std::vector<std::int64_t> columns() const { return columns_of(type()); }
  void check_product(std::int64_t outputs, std::int64_t inputs, Path path) const {
    cpu::check_product(GetParam(), outputs, inputs, path);
  }
};

TEST_P(LinearTest, DecodeMatchesDoublePrecision) {
  for (const std::int64_t outputs : {1, 15, 16, 17, 31, 33}) {
    for (const std::int64_t inputs : columns()) check_product(outputs, inputs, Path::decode);
  }
}

TEST_P(LinearTest, PromptMatchesDoublePrecision) {
  for (const std::int64_t outputs : {1, 16, 33, 64, 150}) {
    for (const std::int64_t inputs : columns()) check_product(outputs, inputs, Path::prompt);
  }
  if (type() != DType::q4_1 && type() != DType::f32) return;
  check_product(4500, 64, Path::prompt);  // more than one panel
  check_product(1500, 1536, Path::prompt);
}

TEST_P(LinearTest, RowsAndThreadsDoNotChangeBits) {
  const std::int64_t inputs = columns().back();
  const std::int64_t n = 19;
  const Matrix large(type(), 100, inputs, 1);
  const Matrix small(type(), 17, inputs, 2);
  const std::vector<float> x = random_rows(n, inputs);
  for (const Path path : {Path::decode, Path::prompt}) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3}) {
      Workspace workspace(threads, set());
      const auto a = pack(large.view, compute(), workspace);
      const auto b = pack(small.view, compute(), workspace);
      std::vector<float> out(static_cast<std::size_t>(n * 117));
      const Product together[] = {{a.get(), out.data()}, {b.get(), out.data() + n * 100}};
      multiply(path, together, x, n, false, workspace);
      if (first.empty()) first = out;
      ASSERT_EQ(std::memcmp(first.data(), out.data(), out.size() * sizeof(float)), 0) << threads;
      // Without AVX-512, oneDNN multiplies single rows in another order.
      if (path == Path::prompt && set() == InstructionSet::portable) continue;
      for (std::int64_t row = 0; row < n; ++row) {
        const std::vector<float> one(x.begin() + row * inputs, x.begin() + (row + 1) * inputs);
        std::vector<float> alone(100);
        const Product product = {a.get(), alone.data()};
        multiply(path, {&product, 1}, one, 1, false, workspace);
        const std::size_t bytes = alone.size() * sizeof(float);
        ASSERT_EQ(std::memcmp(alone.data(), out.data() + row * 100, bytes), 0) << "row " << row;
      }
    }
  }
}

TEST_P(LinearTest, NonFiniteInputsReachEveryOutput) {
  const std::int64_t inputs = columns().back();
  const Matrix matrix(type(), 20, inputs);
  Workspace workspace(1, set());
  const auto packed = pack(matrix.view, compute(), workspace);
  for (const Path path : {Path::decode, Path::prompt}) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()}) {
      std::vector<float> x = random_rows(1, inputs);
      x[static_cast<std::size_t>(inputs / 2)] = bad;
      std::vector<float> out(20);
      const Product product = {packed.get(), out.data()};
      multiply(path, {&product, 1}, x, 1, false, workspace);
      for (const float value : out) ASSERT_FALSE(std::isfinite(value)) << bad;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, LinearTest,
                         testing::Combine(testing::ValuesIn(all_types()),
                                          testing::Values(Compute::f32, Compute::bf16, Compute::q8),
                                          testing::ValuesIn(instruction_sets())),
                         case_name);

/// Runs portable kernels as processors with fewer instructions would.
TEST(Linear, EveryPortableTargetMatchesDoublePrecision) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    for (const DType type : all_types()) {
      for (const Compute compute : {Compute::f32, Compute::bf16, Compute::q8}) {
        SCOPED_TRACE(std::string(hwy::TargetName(target)) + " " + std::string(traits(type).name));
        const Case tested = {type, compute, InstructionSet::portable};
        check_product(tested, 33, columns_of(type).back(), Path::decode);
        check_product(tested, 33, columns_of(type).back(), Path::prompt);
      }
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST(PackedMatrix, GivesRowsBack) {
  Workspace workspace(1);
  for (const DType type : all_types()) {
    const Matrix matrix(type, 33, 768);
    const auto packed = pack(matrix.view, Compute::f32, workspace);
    std::vector<float> row(768);
    for (std::int64_t i = 0; i < 33; ++i) {
      read_row(*packed, i, row.data());
      for (std::int64_t c = 0; c < 768; ++c) {
        ASSERT_EQ(row[c], matrix.values[i * 768 + c])
            << traits(type).name << ", row " << i << ", column " << c;
      }
    }
  }
}

TEST(PackedMatrix, IsAsLargeAsItsSource) {
  Workspace workspace(1);
  for (const DType type : all_types()) {
    const Matrix matrix(type, 64, 768);
    const auto packed = pack(matrix.view, Compute::f32, workspace);
    EXPECT_LE(packed->bytes(), matrix.view.bytes() * 103 / 100) << traits(type).name;
  }
}

TEST(PackedMatrix, RefusesBrokenBlocks) {
  Workspace workspace(1);
  const MatrixView view = {DType::q4_1, 2, 48, nullptr};
  try {
    pack(view, Compute::f32, workspace);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_file);
  }
}

TEST(Linear, QuantisesZerosAndTinyValues) {
  const Matrix matrix(DType::q4_1, 16, 64);
  for (const InstructionSet set : instruction_sets()) {
    Workspace workspace(1, set);
    const auto packed = pack(matrix.view, Compute::q8, workspace);
    std::vector<float> x(64, 0.0F);
    x[40] = std::numeric_limits<float>::denorm_min();
    std::vector<float> out(16, 1.0F);
    const Product product = {packed.get(), out.data()};
    multiply_decode({&product, 1}, x.data(), 1, false, workspace);
    for (const float value : out) EXPECT_EQ(value, 0.0F);
  }
}

TEST(Linear, DescribesWhatRuns) {
  EXPECT_EQ(describe(Compute::f32, InstructionSet::portable), "f32");
  EXPECT_EQ(describe(Compute::q8, InstructionSet::avx512), "q8 (prompt bf16)");
  EXPECT_EQ(describe(Compute::q8, InstructionSet::portable), "q8 (prompt f32)");
}

}  // namespace
}  // namespace sift::cpu
