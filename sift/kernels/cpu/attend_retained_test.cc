// Policies that evict: the reference, all rows at once and step by step, against the definition.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <cstring>
#include <functional>
#include <limits>

#include "sift/core/error.h"
#include "sift/kernels/cpu/retained_fixture.h"

namespace sift::cpu {
namespace {

using ::testing::HasSubstr;

// A way to run a sequence, so many rows at a time.
struct Path {
  const char* name;
  std::int64_t rows;
  std::function<void(RetainedSequence&)> run;
};

const std::vector<Path>& paths() {
  static const std::vector<Path> kPaths = {
      {"reference, row by row", 1, [](RetainedSequence& s) { s.attend_by_reference(1); }},
      {"reference, in chunks", 50, [](RetainedSequence& s) { s.attend_by_reference(50); }},
      {"cpu, decoding", 1, [](RetainedSequence& s) { s.decode(); }},
      {"cpu, row by row", 1, [](RetainedSequence& s) { s.attend(1); }},
      {"cpu, in small chunks", 37, [](RetainedSequence& s) { s.attend(37); }},
      {"cpu, at once", 2000, [](RetainedSequence& s) { s.attend(2000); }},
  };
  return kPaths;
}

void expect_retained(RetainedSequence& run, const PlainRetention& plain) {
  for (int kv_head = 0; kv_head < static_cast<int>(plain.retained.size()); ++kv_head) {
    const auto& expected = plain.retained[kv_head][static_cast<std::size_t>(run.length() - 1)];
    ASSERT_EQ(run.positions(kv_head), expected) << "KV head " << kv_head << ", " << run.length();
  }
}

void expect_statistics(RetainedSequence& run, const PlainRetention& plain, std::int64_t dense,
                       std::int64_t generated) {
  const AttentionStatistics s = run.statistics();
  const auto kv_heads = static_cast<std::int64_t>(plain.retained.size());
  EXPECT_EQ(s.k_bytes_read, plain.attended_by_all);
  EXPECT_EQ(s.v_bytes_read, plain.attended_by_all);
  EXPECT_EQ(s.dense_steps, dense);
  EXPECT_EQ(s.sparse_steps, generated - dense);
  EXPECT_FALSE(s.kept_mass.has_value());
  if (generated == 0) return;
  EXPECT_NEAR(*s.realised_sparsity, plain.left_out / static_cast<double>(generated * kv_heads),
              1e-9);
}

void check(const RetainedShape& shape, const RetainedRule& rule, const RetainedData& data,
           std::int64_t prompt, float tolerance = 2e-5F) {
  const PlainRetention plain(shape, rule, data, prompt);
  const auto rows = static_cast<std::int64_t>(plain.retained[0].size());
  const std::int64_t generated = std::max<std::int64_t>(rows - prompt, 0);
  const std::int64_t dense = std::clamp<std::int64_t>(rule.dense_rows - prompt, 0, generated);
  for (const Path& path : paths()) {
    SCOPED_TRACE(rule.text + ", " + std::to_string(rows) + " rows, prompt " +
                 std::to_string(prompt) + ", " + path.name);
    RetainedSequence run(shape, rule.text, data, prompt);
    while (!run.done()) {
      path.run(run);
      expect_retained(run, plain);
      if (testing::Test::HasFatalFailure()) return;
    }
    for (std::size_t i = 0; i < run.output.size(); ++i) {
      ASSERT_NEAR(run.output[i], plain.output[i], tolerance) << "value " << i;
    }
    expect_statistics(run, plain, dense, generated);
  }
}

const std::vector<RetainedRule>& rules() {
  static const std::vector<RetainedRule> kRules = {
      {.text = "h2o", .share = 1, .of = 4},
      {.text = "h2o:keep=0.5", .share = 1, .of = 2},
      {.text = "h2o:keep=0.3,sink=3,recent=20", .share = 3, .of = 10, .sink = 3, .recent = 20},
      {.text = "h2o:keep=0.05,dense_rows=40", .share = 1, .of = 20, .dense_rows = 40},
      {.text = "h2o:keep=1", .share = 1, .of = 1},
      {.text = "h2o:budget=1", .budget = 1},
      {.text = "h2o:budget=33", .budget = 33},
      {.text = "h2o:budget=63,sink=2", .budget = 63, .sink = 2},
      {.text = "h2o:budget=4,sink=5,recent=9", .budget = 4, .sink = 5, .recent = 9},
      {.text = "h2o:budget=5000", .budget = 5000},
      {.text = "window:sink=4,recent=28", .sink = 4, .recent = 28},
      {.text = "window:sink=0,recent=64", .sink = 0, .recent = 64},
      {.text = "window:sink=0,recent=0", .sink = 0, .recent = 0},
      {.text = "window:sink=3,recent=0,dense_rows=70", .sink = 3, .dense_rows = 70},
      {.text = "window", .sink = 4, .recent = 1020},
  };
  return kRules;
}

TEST(AttendRetained, EveryRuleWithAndWithoutAPrompt) {
  const RetainedShape shape;
  const RetainedData data = random_data(shape, 200, 1);
  for (const RetainedRule& rule : rules()) {
    for (const std::int64_t prompt : {0, 1, 90, 199, 200}) check(shape, rule, data, prompt);
  }
}

TEST(AttendRetained, EveryLengthAroundPagesAndBlocks) {
  const RetainedShape shape{2, 1, 16};
  for (const std::int64_t rows : {1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 513, 600}) {
    const RetainedData data = random_data(shape, rows, static_cast<unsigned>(rows));
    check(shape, {.text = "h2o", .share = 1, .of = 4}, data, 0);
    check(shape, {.text = "h2o:budget=64", .budget = 64}, data, rows / 2);
    check(shape, {.text = "window:sink=1,recent=63", .sink = 1, .recent = 63}, data, 0);
  }
}

// More rows stay than decode attention takes at a time.
TEST(AttendRetained, MoreRowsThanAChunk) {
  const RetainedShape shape{2, 1, 16};
  const RetainedData data = random_data(shape, 1300, 8);
  check(shape, {.text = "h2o:budget=520", .budget = 520}, data, 1100);
  check(shape, {.text = "h2o:keep=0.5", .share = 1, .of = 2}, data, 1200);
}

TEST(AttendRetained, ShapesAndTypes) {
  const RetainedRule rule{.text = "h2o:keep=0.3", .share = 3, .of = 10};
  for (const int group : {1, 2, 4, 5, 8}) {
    const RetainedShape shape{3 * group, 3, 16};
    check(shape, rule, random_data(shape, 100, static_cast<unsigned>(group)), 0);
  }
  for (const int dim : {64, 80, 128}) {
    const RetainedShape shape{4, 2, dim};
    check(shape, rule, random_data(shape, 100, static_cast<unsigned>(dim)), 30);
  }
  // Values that f16 and bf16 hold as they are.
  for (const DType type : {DType::f16, DType::bf16}) {
    const RetainedShape shape{6, 2, 64, type};
    RetainedData data = random_data(shape, 150, 6);
    for (float& value : data.key) value = std::nearbyint(16 * value) / 16;
    for (float& value : data.value) value = std::nearbyint(16 * value) / 16;
    check(shape, rule, data, 20);
  }
}

// Rows that nobody attends to gather nothing: of them the later ones leave first.
TEST(AttendRetained, OfEqualMassesTheFirstStay) {
  const RetainedShape shape{4, 2, 16};
  RetainedData data = random_data(shape, 150, 3);
  std::fill(data.query.begin(), data.query.end(), 0.0F);
  std::fill(data.key.begin(), data.key.end(), 0.0F);
  for (std::size_t i = 0; i < data.query.size(); i += 16) data.query[i] = 4e4F;
  for (std::size_t row = 0; row < 150; ++row) {
    for (std::size_t kv_head = 0; kv_head < 2; ++kv_head) {
      data.key[(row * 2 + kv_head) * 16] = row % 7 == 0 ? 0 : -1.0F;
    }
  }
  for (const RetainedRule& rule : rules()) check(shape, rule, data, 60);
}

// Scores so low that floats have only −Inf for them.
TEST(AttendRetained, ScoresOfMinusInfinity) {
  const RetainedShape shape{4, 2, 16};
  RetainedData data = random_data(shape, 150, 3);
  std::fill(data.query.begin(), data.query.end(), 0.0F);
  std::fill(data.key.begin(), data.key.end(), 0.0F);
  for (std::size_t i = 0; i < data.query.size(); i += 16) data.query[i] = 3e38F;
  for (std::size_t row = 0; row < 150; ++row) {
    for (std::size_t i = row * 32; i < row * 32 + 32; i += 16) {
      data.key[i] = row % 7 == 0 ? 0 : -3e38F;
    }
  }
  check(shape, {.text = "h2o:sink=1", .share = 1, .of = 4, .sink = 1}, data, 0);
  check(shape, {.text = "h2o:budget=12,sink=1", .budget = 12, .sink = 1}, data, 60);
  check(shape, {.text = "window:sink=1,recent=9", .sink = 1, .recent = 9}, data, 0);
}

TEST(AttendRetained, EqualScoresEverywhere) {
  const RetainedShape shape{4, 2, 16};
  RetainedData data = random_data(shape, 140, 3);
  std::fill(data.key.begin(), data.key.end(), 0.25F);
  for (const RetainedRule& rule : rules()) check(shape, rule, data, 30);
}

TEST(AttendRetained, ThreadsChangeNothing) {
  const RetainedShape shape{9, 3, 64, DType::f16};
  const RetainedData data = random_data(shape, 700, 12);
  const auto run = [&](int threads, bool decode) {
    omp_set_num_threads(threads);
    RetainedSequence sequence(shape, "h2o:keep=0.5", data, 500);
    while (!sequence.done()) {
      if (decode && sequence.length() >= 500) {
        sequence.decode();
      } else {
        sequence.attend(250);
      }
    }
    omp_set_num_threads(1);
    return sequence.output;
  };
  for (const bool decode : {false, true}) {
    const std::vector<float> one = run(1, decode);
    for (const int threads : {2, 3}) {
      const std::vector<float> many = run(threads, decode);
      EXPECT_EQ(std::memcmp(one.data(), many.data(), one.size() * sizeof(float)), 0);
    }
  }
}

// Every row stays: on the reference the same sums in the same order as full attention.
TEST(AttendRetained, AWholeShareIsFullAttentionBitForBit) {
  const RetainedShape shape;
  const RetainedData data = random_data(shape, 150, 5);
  for (const char* policy : {"h2o:keep=1", "h2o:budget=150", "window:sink=0,recent=150",
                             "h2o:keep=0.1,dense_rows=150"}) {
    RetainedSequence retained(shape, policy, data, 20);
    while (!retained.done()) retained.attend_by_reference(40);
    KvCache cache({1, shape.kv_heads, shape.dim, shape.type}, 150);
    Sequence full(cache, parse_policy("full"), shape.heads);
    full.reserve(150);
    append_rows(full.view(0), full.attention(), 0, 0, 150, data.key.data(), data.value.data());
    std::vector<float> expected(data.query.size());
    const auto width = static_cast<std::size_t>(shape.heads) * static_cast<std::size_t>(shape.dim);
    for (std::size_t row = 0; row < 150; ++row) {
      reference::attend_row(
          full.attention(), 0, full.view(0), {static_cast<std::int64_t>(row) + 1, 1},
          {data.query.data() + row * width, width}, {expected.data() + row * width, width});
    }
    EXPECT_EQ(retained.output, expected) << policy;
  }
}

// Slots are used again: a fixed budget takes the pages of the budget and the row at hand.
TEST(AttendRetained, TheCacheDoesNotGrowBeyondTheBudget) {
  const RetainedShape shape;
  const RetainedData data = random_data(shape, 900, 4);
  const auto pages = [](const RetainedSequence& run) {
    return run.cache.page_count() - run.cache.free_pages();
  };
  for (const auto& [policy, budget] :
       {std::pair{"h2o:budget=64", 64}, {"h2o:budget=100", 100}, {"window:sink=4,recent=59", 63}}) {
    for (const std::int64_t prompt : {0, 300}) {
      RetainedSequence run(shape, policy, data, prompt);
      if (prompt > 0) run.attend(prompt);
      EXPECT_EQ(pages(run), (prompt + kPageRows - 1) / kPageRows);
      while (!run.done()) {
        run.decode();
        ASSERT_EQ(run.sequence.rows(), std::min<std::int64_t>(run.length(), budget));
        ASSERT_LE(pages(run), (budget + kPageRows - 1) / kPageRows);
      }
    }
    // In chunks: those of the budget and the chunk.
    RetainedSequence run(shape, policy, data, 0);
    while (!run.done()) {
      run.attend(128);
      ASSERT_LE(pages(run), (budget + kPageRows - 1) / kPageRows);
    }
  }
}

// A second prompt runs dense over what stayed, and what it adds stays until its end.
TEST(AttendRetained, ASecondPromptRunsOverWhatStayed) {
  const RetainedShape shape;
  const RetainedData data = random_data(shape, 100, 4);
  std::vector<std::vector<float>> outputs;
  for (const bool by_reference : {true, false}) {
    RetainedSequence run(shape, "h2o:budget=16", data, 40);
    const auto attend = [&](std::int64_t rows) {
      if (by_reference) {
        run.attend_by_reference(rows);
      } else {
        run.attend(rows);
      }
    };
    attend(40);
    EXPECT_EQ(run.sequence.rows(), 40);
    attend(20);
    EXPECT_EQ(run.sequence.rows(), 16);
    run.set_prompt(90);
    attend(30);
    EXPECT_EQ(run.sequence.rows(), 46);
    EXPECT_EQ(*run.positions(0).rbegin(), 89);
    attend(10);
    EXPECT_EQ(run.sequence.rows(), 16);
    outputs.push_back(run.output);
  }
  for (std::size_t i = 0; i < outputs[0].size(); ++i) {
    ASSERT_NEAR(outputs[0][i], outputs[1][i], 2e-5F);
  }
}

TEST(AttendRetained, NamesLayerAndHeadOfScoresThatCannotBe) {
  const RetainedShape shape;
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const char* policy : {"h2o", "h2o:budget=8", "window:sink=1,recent=8"}) {
    for (const float bad : {kNan, kInfinity}) {
      for (const Path& path : paths()) {
        RetainedData data = random_data(shape, 60, 2);
        data.query[(50 * 6 + 4) * 32 + 3] = bad;
        RetainedSequence run(shape, policy, data, 10);
        try {
          while (!run.done()) path.run(run);
          ADD_FAILURE() << policy << ", " << path.name << ": no error";
        } catch (const Error& error) {
          EXPECT_EQ(error.kind(), ErrorKind::numerical);
          EXPECT_THAT(error.what(), HasSubstr("layer 1, head 4")) << path.name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace sift::cpu
