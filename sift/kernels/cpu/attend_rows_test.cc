#include "sift/kernels/cpu/attend_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "sift/attention/custom_policy_fixture.h"
#include "sift/core/error.h"
#include "sift/kernels/cpu/append.h"
#include "sift/kernels/cpu/attend_decode.h"
#include "sift/kernels/reference/reference_attention.h"

namespace sift::cpu {
namespace {

using ::testing::HasSubstr;

struct Shape {
  int heads = 3;
  int kv_heads = 1;
  int dim = 64;
  DType type = DType::f32;
};

struct Rows {
  std::vector<float> query;  // [rows, heads, dim]
  std::vector<float> key;    // [rows, kv_heads, dim]
  std::vector<float> value;
};

Rows random_rows(const Shape& shape, std::int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  const auto fill = [&](int heads, float scale) {
    std::vector<float> values(static_cast<std::size_t>(count * heads * shape.dim));
    for (float& value : values) value = scale * normal(generator);
    return values;
  };
  Rows rows;
  rows.query = fill(shape.heads, 2);
  rows.key = fill(shape.kv_heads, 1);
  rows.value = fill(shape.kv_heads, 1);
  return rows;
}

// One layer of one sequence that takes its rows chunk by chunk. It is the second of two layers, so
// that a wrong layer shows.
constexpr int kLayer = 1;

class Fixture {
 public:
  Fixture(const Shape& shape, const std::string& policy, Rows rows, std::int64_t prompt)
      : shape_(shape),
        rows_(std::move(rows)),
        prompt_(prompt),
        total_(static_cast<std::int64_t>(rows_.query.size()) / (shape.heads * shape.dim)),
        cache_({2, shape.kv_heads, shape.dim, shape.type,
                sidecar_bytes(parse_policy(policy), shape.dim), ShadowOrder::pairs_parted},
               total_),
        sequence_(cache_, parse_policy(policy), shape.heads),
        output(rows_.query.size()) {
    sequence_.attention().begin_prompt(prompt);
  }

  void append(std::int64_t count) {
    const std::int64_t begin = sequence_.length();
    sequence_.reserve(count);
    const std::int64_t offset = begin * shape_.kv_heads * shape_.dim;
    append_rows(sequence_.view(kLayer), state(), kLayer, begin, count, rows_.key.data() + offset,
                rows_.value.data() + offset);
  }

  // Prompt rows whose outputs nobody asks for.
  void append_only(std::int64_t count) {
    append(count);
    sequence_.commit(count, 0);
  }

  Segment segment(std::int64_t count) {
    return {&sequence_, 0, count, std::clamp(prompt_ - sequence_.length(), std::int64_t{0}, count)};
  }

  void attend(std::int64_t count, RowsWorkspace& workspace) {
    append(count);
    const Segment rows = segment(count);
    const std::int64_t offset = sequence_.length() * width();
    attend_rows(state(), kLayer, sequence_.view(kLayer), rows, rows_.query.data() + offset,
                output.data() + offset, workspace);
    sequence_.commit(count, count - rows.prompt_rows);
  }

  void attend_in_chunks(std::int64_t chunk, int threads) {
    RowsWorkspace workspace;
    omp_set_num_threads(threads);
    while (sequence_.length() < total_) {
      attend(std::min(chunk, total_ - sequence_.length()), workspace);
    }
  }

  // As far as one pass can go.
  void attend_to_settled() {
    RowsWorkspace workspace;
    attend(prompt_ + state().last_settled_row() - sequence_.length(), workspace);
  }

  void attend_all(int threads = 1) { attend_in_chunks(total_, threads); }

  void attend_by_reference() {
    while (sequence_.length() < total_) {
      append(1);
      const Segment row = segment(1);
      const auto offset = static_cast<std::size_t>(sequence_.length() * width());
      const auto size = static_cast<std::size_t>(width());
      reference::attend_row(state(), kLayer, sequence_.view(kLayer), row.identity(0),
                            {rows_.query.data() + offset, size}, {output.data() + offset, size});
      sequence_.commit(1, 1 - row.prompt_rows);
    }
  }

  void attend_by_decode() {
    DecodeWorkspace workspace;
    while (sequence_.length() < total_) {
      append(1);
      const Segment row = segment(1);
      const std::int64_t offset = sequence_.length() * width();
      attend_decode(state(), kLayer, sequence_.view(kLayer), row.identity(0),
                    rows_.query.data() + offset, output.data() + offset, workspace);
      sequence_.commit(1, 1 - row.prompt_rows);
    }
  }

  AttentionState& state() { return sequence_.attention(); }
  AttentionStatistics statistics() { return state().totals(1).summary(); }
  std::int64_t width() const { return shape_.heads * shape_.dim; }

 private:
  Shape shape_;
  Rows rows_;
  std::int64_t prompt_;
  std::int64_t total_;
  KvCache cache_;
  Sequence sequence_;

 public:
  std::vector<float> output;  // [rows, heads, dim]
};

void expect_close(const std::vector<float>& actual, const std::vector<float>& expected,
                  float tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], tolerance) << "value " << i;
  }
}

void expect_same_statistics(Fixture& actual, Fixture& expected) {
  const AttentionStatistics a = actual.statistics();
  const AttentionStatistics e = expected.statistics();
  EXPECT_EQ(a.sparse_steps, e.sparse_steps);
  EXPECT_EQ(a.dense_steps, e.dense_steps);
  EXPECT_EQ(a.v_bytes_read, e.v_bytes_read);
  EXPECT_EQ(a.v_bytes_dense, e.v_bytes_dense);
  EXPECT_EQ(a.empty_steps, e.empty_steps);
  EXPECT_NEAR(a.realised_sparsity.value_or(-1), e.realised_sparsity.value_or(-1), 1e-12);
  EXPECT_NEAR(a.union_density.value_or(-1), e.union_density.value_or(-1), 1e-12);
  EXPECT_NEAR(a.kept_mass.value_or(-1), e.kept_mass.value_or(-1), 1e-5);
  EXPECT_EQ(a.k_bytes_read, e.k_bytes_read);
  EXPECT_EQ(a.k_bytes_dense, e.k_bytes_dense);
  EXPECT_NEAR(a.candidate_density.value_or(-1), e.candidate_density.value_or(-1), 1e-12);
  EXPECT_NEAR(a.missed_keys.value_or(-1), e.missed_keys.value_or(-1), 1e-12);
  EXPECT_NEAR(a.output_error.value_or(-1), e.output_error.value_or(-1), 1e-5);
}

void expect_agrees(const Shape& shape, const std::string& policy, std::int64_t rows,
                   std::int64_t prompt) {
  SCOPED_TRACE(policy + ", " + std::to_string(rows) + " rows, heads " +
               std::to_string(shape.heads) + "/" + std::to_string(shape.kv_heads) + ", dim " +
               std::to_string(shape.dim) + ", " + std::string(traits(shape.type).name));
  const Rows data = random_rows(shape, rows, static_cast<unsigned>(rows + shape.dim));
  Fixture actual(shape, policy, data, prompt);
  Fixture expected(shape, policy, data, prompt);
  actual.attend_all(2);
  expected.attend_by_reference();
  expect_close(actual.output, expected.output, 2e-5F);
  expect_same_statistics(actual, expected);
}

TEST(AttendRows, DenseAtEveryEdge) {
  for (const std::int64_t rows : {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 129, 200}) {
    expect_agrees({}, "full", rows, 0);
  }
}

TEST(AttendRows, ShapesAndTypes) {
  for (const int dim : {16, 32, 80, 96, 128, 256}) expect_agrees({2, 1, dim}, "full", 70, 0);
  for (const int group : {1, 2, 4, 5, 7, 8}) {
    expect_agrees({2 * group, 2, 32}, "sift:paper,warmup=16,tau=0.5", 70, 0);
  }
  for (const DType type : {DType::f16, DType::bf16, DType::q8_0}) {
    expect_agrees({6, 2, 64, type}, "sift:paper,warmup=16,tau=0.75,compensate=mean", 140, 0);
    expect_agrees({6, 2, 64, type}, "full", 140, 0);
  }
}

TEST(AttendRows, EveryOption) {
  const Shape shape{6, 2, 32, DType::f16};
  for (const char* options :
       {"", ",tau=0.5", ",compensate=renormalise", ",compensate=mean", ",sink=4", ",recent=8",
        ",sink=3,recent=5,compensate=mean", ",dense_rows=100", ",adapt=0.05",
        ",adapt=0.05,compensate=mean,sink=4,recent=16", ",adapt=0.1,adapt_target=group",
        ",adapt=0.1,adapt_target=group,recent=7,compensate=renormalise"}) {
    expect_agrees(shape, "sift:paper,warmup=32" + std::string(options), 260, 0);
  }
}

TEST(AttendRows, LargestKeys) {
  const Shape shape{6, 2, 32, DType::f16};
  for (const char* policy : {"topk", "topk:keep=0.5", "topk:keep=0.01", "topk:keep=1",
                             "topk:compensate=none", "topk:compensate=mean,sink=3,recent=5",
                             "topk:keep=0.3,dense_rows=100", "topk:keep=0.05,recent=40"}) {
    expect_agrees(shape, policy, 260, 0);
    expect_agrees(shape, policy, 150, 70);
  }
}

TEST(AttendRows, EveryFitAndThreshold) {
  const Shape shape{6, 2, 32, DType::f16};
  for (const char* options :
       {"fit=robust", "fit=offset", "threshold=raw", "threshold=raw,fit=robust",
        "threshold=raw,fit=offset,compensate=mean", "threshold=raw,fit=ridge,sink=3,recent=5",
        "threshold=raw,adapt=0.05", "threshold=raw,empty=highest,tau=0.95",
        "threshold=raw,estimate=quantised,margin=0.2", "fit=robust,estimate=quantised"}) {
    expect_agrees(shape, "sift:paper,warmup=32," + std::string(options), 260, 0);
  }
}

TEST(AttendRows, CustomPolicies) {
  const Shape shape{6, 2, 32, DType::f16};
  for (const char* policy : {"stripes", "stripes:compensate=none", "stripes:compensate=mean,sink=3",
                             "stripes:above=0.02,recent=40", "stripes:dense_rows=100"}) {
    expect_agrees(shape, policy, 260, 0);
    expect_agrees(shape, policy, 150, 70);
  }
}

TEST(AttendRows, EstimatesByEveryShadow) {
  const Shape shape{6, 2, 64, DType::f16};
  for (const char* shadow : {"bits=4,block=16", "bits=4,block=32", "bits=4,block=64", "bits=fp8",
                             "bits=3,block=16", "bits=2,block=16", "bits=2,block=64"}) {
    for (const char* margin : {"0", "0.5", "20"}) {
      expect_agrees(
          shape,
          std::string("sift:paper,warmup=16,tau=0.75,compensate=mean,estimate=quantised,") +
              shadow + ",margin=" + margin,
          150, 0);
    }
  }
}

TEST(AttendRows, EstimatesWithEveryOptionAndType) {
  for (const char* options :
       {",compensate=renormalise", ",sink=4", ",recent=8", ",sink=3,recent=5,compensate=mean",
        ",dense_rows=100", ",adapt=0.05", ",adapt=0.1,adapt_target=group,compensate=mean",
        ",tau=0.95,empty=highest"}) {
    expect_agrees({6, 2, 32, DType::f16},
                  "sift:paper,warmup=32,estimate=quantised,block=16" + std::string(options), 260,
                  0);
  }
  for (const DType type : {DType::f32, DType::bf16, DType::q8_0}) {
    expect_agrees({5, 1, 96, type}, "sift:paper,warmup=16,tau=0.75,estimate=quantised", 140, 0);
  }
}

// A margin that makes every key a candidate leaves nothing to the estimates.
TEST(AttendRows, EstimatesThatExcludeNothingChangeNothing) {
  const Shape shape{6, 2, 32, DType::f16};
  const Rows data = random_rows(shape, 200, 8);
  Fixture exact(shape, "sift:paper,warmup=16,compensate=mean", data, 0);
  Fixture estimated(shape, "sift:paper,warmup=16,compensate=mean,estimate=quantised,margin=20",
                    data, 0);
  exact.attend_all();
  estimated.attend_all();
  expect_close(estimated.output, exact.output, 2e-6F);
  EXPECT_EQ(estimated.statistics().v_bytes_read, exact.statistics().v_bytes_read);
  EXPECT_EQ(estimated.statistics().candidate_density, 1.0);
  EXPECT_EQ(estimated.statistics().missed_keys, 0.0);
  EXPECT_LT(*estimated.statistics().output_error, 1e-6);
}

TEST(AttendRows, CalibratesOnThePrompt) {
  const Shape shape{6, 2, 32, DType::f16};
  const std::string policy = "sift:paper,calibrate=prefill,warmup=24,compensate=mean,tau=0.75";
  const Rows data = random_rows(shape, 300, 5);
  Fixture actual(shape, policy, data, 200);
  Fixture expected(shape, policy, data, 200);
  actual.attend_all(2);
  expected.attend_by_reference();
  expect_close(actual.output, expected.output, 2e-5F);
  EXPECT_EQ(actual.statistics().sparse_steps, 100);
  EXPECT_EQ(actual.statistics().dense_steps, 0);
  for (int head = 0; head < shape.heads; ++head) {
    const HeadState& a = actual.state().head_state(kLayer, head);
    const HeadState& e = expected.state().head_state(kLayer, head);
    EXPECT_EQ(a.fit.count, e.fit.count);
    EXPECT_NEAR(a.law.ln_alpha, e.law.ln_alpha, 1e-4);
    EXPECT_NEAR(a.law.beta, e.law.beta, 1e-5);
  }
}

TEST(AttendRows, RowsThatKeepNothing) {
  // Rows without a query spread their mass evenly, below what the others' quantiles predict.
  const Shape shape{3, 1, 32};
  Rows data = random_rows(shape, 120, 9);
  for (std::size_t i = 0; i < data.query.size(); ++i) {
    const std::size_t row = i / 96;
    data.query[i] *= row >= 60 && row % 3 == 0 ? 0 : 0.25F;
  }
  for (const char* empty : {"zero", "highest", "zero,estimate=quantised,margin=0",
                            "highest,estimate=quantised,margin=0"}) {
    const std::string policy = std::string("sift:paper,warmup=8,tau=0.9,empty=") + empty;
    Fixture actual(shape, policy, data, 0);
    Fixture expected(shape, policy, data, 0);
    actual.attend_all(1);
    expected.attend_by_reference();
    EXPECT_GT(actual.statistics().empty_steps, 0);
    expect_close(actual.output, expected.output, 2e-5F);
    expect_same_statistics(actual, expected);
  }
}

void expect_bitwise_equal(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

TEST(AttendRows, ChunksAndThreadsChangeNothing) {
  const Shape shape{6, 2, 64, DType::f16};
  for (const char* policy :
       {"full", "sift:paper,warmup=64,compensate=mean", "sift:paper,warmup=64,adapt=0.05",
        "sift:paper,calibrate=prefill,warmup=32,compensate=mean",
        "sift:paper,warmup=64,adapt=0.05,adapt_target=group,compensate=mean", "stripes",
        "sift:paper,warmup=64,fit=robust,threshold=raw",
        "sift:paper,warmup=64,compensate=mean,estimate=quantised",
        "sift:paper,warmup=64,adapt=0.05,estimate=quantised,bits=3,block=16"}) {
    SCOPED_TRACE(policy);
    const Rows data = random_rows(shape, 700, 3);
    Fixture whole(shape, policy, data, 150);
    whole.attend_all(1);
    for (const std::int64_t chunk : {1, 7, 64, 100, 512}) {
      Fixture parts(shape, policy, data, 150);
      parts.attend_in_chunks(chunk, 1);
      expect_bitwise_equal(parts.output, whole.output);
      EXPECT_EQ(parts.statistics().v_bytes_read, whole.statistics().v_bytes_read);
      EXPECT_EQ(parts.statistics().kept_mass, whole.statistics().kept_mass);
      EXPECT_EQ(parts.statistics().output_error, whole.statistics().output_error);
    }
    for (const int threads : {2, 3}) {
      Fixture parallel(shape, policy, data, 150);
      parallel.attend_all(threads);
      expect_bitwise_equal(parallel.output, whole.output);
      EXPECT_EQ(parallel.statistics().kept_mass, whole.statistics().kept_mass);
    }
  }
}

TEST(AttendRows, TakesTheMemoryThatIsTold) {
  for (const Shape& shape : {Shape{6, 2, 64, DType::f16}, Shape{71, 1, 48, DType::f32}}) {
    for (const char* policy : {"full", "sift", "sift:paper"}) {
      for (const int threads : {1, 3}) {
        SCOPED_TRACE(policy);
        Fixture fixture(shape, policy, random_rows(shape, 700, 3), 700);
        RowsWorkspace workspace;
        omp_set_num_threads(threads);
        fixture.attend(700, workspace);
        EXPECT_EQ(workspace.bytes(), rows_workspace_bytes(fixture.state().shape(),
                                                          parse_policy(policy), 700, 700, threads));
      }
    }
  }
}

std::string failure_of(const Rows& data, const std::string& policy, int threads) {
  Fixture fixture({6, 2, 32}, policy, data, 0);
  try {
    fixture.attend_all(threads);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numerical);
    return error.what();
  }
  return "no error";
}

TEST(AttendRows, NamesLayerAndHeadOfScoresThatCannotBe) {
  const Rows good = random_rows({6, 2, 32}, 150, 1);
  for (const char* policy : {"full", "sift:paper,warmup=32", "sift:paper,warmup=32,adapt=0.05",
                             "sift:paper,warmup=32,estimate=quantised"}) {
    for (const int threads : {1, 2}) {
      Rows data = good;
      EXPECT_EQ(failure_of(data, policy, threads), "no error");
      data.query[(100 * 6 + 4) * 32] = std::numeric_limits<float>::quiet_NaN();
      data.query[(120 * 6 + 1) * 32] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_THAT(failure_of(data, policy, threads), HasSubstr("layer 1, head 4"));
      data = good;
      data.key[(60 * 2 + 1) * 32 + 3] = -std::numeric_limits<float>::infinity();
      EXPECT_THAT(failure_of(data, policy, threads), HasSubstr("layer 1, head"));
      data = good;
      for (int d = 0; d < 32; ++d) {
        data.query[2 * 32 + d] = d == 0 ? -1.0F : 0.0F;
        data.key[d] = d == 0 ? 3e38F : 0.0F;
      }
      data.query[2 * 32] = -3e38F;
      EXPECT_THAT(failure_of(data, policy, threads),
                  HasSubstr("no finite attention score in layer 1, head 2 of"));
    }
  }
}

// Scores that are summed in another order may fall on the other side of a threshold: a few in
// hundreds of thousands.
void expect_nearly_same_sets(Fixture& actual, Fixture& expected) {
  constexpr int kHeadsThatDiffer = 8;
  int differing = 0;
  for (std::size_t i = 0; i < actual.output.size(); ++i) {
    differing += std::fabs(actual.output[i] - expected.output[i]) > 2e-5F ? 1 : 0;
  }
  EXPECT_LE(differing, kHeadsThatDiffer * 64);
  const AttentionStatistics a = actual.statistics();
  const AttentionStatistics e = expected.statistics();
  EXPECT_EQ(a.sparse_steps, e.sparse_steps);
  EXPECT_EQ(a.dense_steps, e.dense_steps);
  EXPECT_NEAR(static_cast<double>(a.v_bytes_read), static_cast<double>(e.v_bytes_read),
              kHeadsThatDiffer);
  EXPECT_NEAR(a.kept_mass.value_or(-1), e.kept_mass.value_or(-1), 1e-5);
  EXPECT_NEAR(a.candidate_density.value_or(-1), e.candidate_density.value_or(-1), 1e-5);
}

TEST(AttendRows, AllRowsAtOnceEqualStepByStepDecoding) {
  const Shape shape{9, 3, 64, DType::f16};
  const Rows data = random_rows(shape, 900, 12);
  for (const char* policy :
       {"full", "sift:paper,tau=0.75,compensate=mean",
        "sift:paper,calibrate=prefill,warmup=64,sink=4,recent=16,compensate=renormalise",
        "sift:paper,adapt=0.05,adapt_target=group,compensate=mean", "topk", "stripes:sink=2",
        "sift:paper,fit=robust,threshold=raw", "sift:paper,fit=offset,compensate=mean",
        "topk:keep=0.05,compensate=mean,sink=4,recent=16",
        "sift:paper,tau=0.75,compensate=mean,estimate=quantised",
        "sift:paper,calibrate=prefill,warmup=64,sink=4,recent=16,estimate=quantised,bits=fp8",
        "sift:paper,adapt=0.05,compensate=mean,estimate=quantised,block=64,margin=0"}) {
    SCOPED_TRACE(policy);
    Fixture actual(shape, policy, data, 200);
    Fixture expected(shape, policy, data, 200);
    actual.attend_in_chunks(512, 2);
    expected.attend_by_decode();
    expect_nearly_same_sets(actual, expected);
  }
}

// A warm-up that ends on its own does so after the same row on every path.
TEST(AttendRows, AutomaticWarmup) {
  const Shape shape{6, 2, 32, DType::f16};
  for (const char* policy :
       {"sift:paper,warmup=auto", "sift:paper,warmup=auto,fit=robust,compensate=mean",
        "sift:paper,warmup=auto,threshold=raw"}) {
    SCOPED_TRACE(policy);
    const Rows data = random_rows(shape, 700, 6);
    Fixture actual(shape, policy, data, 20);
    Fixture expected(shape, policy, data, 20);
    while (actual.state().last_settled_row() < 680) actual.attend_to_settled();
    EXPECT_THROW(Fixture(shape, policy, data, 20).attend_all(), Error);
    actual.attend_all(2);
    expected.attend_by_reference();
    expect_nearly_same_sets(actual, expected);
    EXPECT_EQ(actual.state().totals(1).warmups, expected.state().totals(1).warmups);
    EXPECT_LT(actual.state().totals(1).warmups[0], 680);
    EXPECT_GT(actual.statistics().sparse_steps, 0);
  }
}

TEST(AttendRows, KeysBeyondThePanelAreExpandedAsTheyCome) {
  // One page of keys of these heads takes 4 MiB, so 8 of them fill the panel.
  const Shape shape{64, 64, 256, DType::f16};
  const Rows data = random_rows(shape, 9 * 64 + 5, 4);
  Fixture actual(shape, "full", data, 9 * 64);
  Fixture expected(shape, "full", data, 9 * 64);
  for (Fixture* fixture : {&actual, &expected}) fixture->append_only(9 * 64);
  actual.attend_all(2);
  expected.attend_by_reference();
  expect_close(actual.output, expected.output, 2e-5F);
}

}  // namespace
}  // namespace sift::cpu
