#include "sift/kernels/cpu/attend_decode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "sift/kernels/cpu/attend_decode_fixture.h"

namespace sift::cpu {
namespace {

// ---- Shapes, lengths, types ----

TEST(AttendDecode, EqualsTheDefinitionAtPageAndChunkEdges) {
  for (const std::int64_t keys :
       {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 511, 512, 513, 767, 1023, 1024, 1025, 4097}) {
    Fixture fixture({}, keys, static_cast<std::uint32_t>(keys));
    check_both(fixture, sift_policy(), "keys " + std::to_string(keys));
  }
}

TEST(AttendDecode, TakesEveryCacheTypeHeadDimensionAndGroup) {
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
    for (const int dim : {16, 32, 48, 64, 80, 96, 128, 160, 256}) {
      if (type == DType::q8_0 && dim % 32 != 0) continue;
      for (const int group : {1, 2, 3, 4, 5, 6, 7, 8}) {
        Fixture fixture({2, group, dim, type}, 130, static_cast<std::uint32_t>(dim + group));
        check_both(fixture, sift_policy(),
                   std::string(traits(type).name) + " dim " + std::to_string(dim) + " group " +
                       std::to_string(group));
      }
    }
  }
}

TEST(AttendDecode, TakesGroupsOfMoreHeadsThanAVectorHasLanes) {
  Fixture fixture({1, 71, 64, DType::f16}, 600);
  check_both(fixture, sift_policy(), "group 71");
}

// ---- Options ----

TEST(AttendDecode, HonoursEveryOptionOfTheSelection) {
  Fixture fixture({}, 1100);
  for (const Compensate compensate :
       {Compensate::none, Compensate::renormalise, Compensate::mean}) {
    for (const auto& [sink, recent] : std::vector<std::pair<int, int>>{
             {0, 0}, {1, 0}, {0, 1}, {4, 64}, {600, 17}, {0, 700}, {2000, 0}, {0, 2000}}) {
      Policy policy = sift_policy();
      policy.compensate = compensate;
      policy.sink = sink;
      policy.recent = recent;
      check_both(fixture, policy,
                 "sink " + std::to_string(sink) + " recent " + std::to_string(recent));
    }
  }
}

TEST(AttendDecode, KeepsNothingOrTheHighestKeyWhenNothingPasses) {
  for (const EmptyRow empty : {EmptyRow::zero, EmptyRow::highest}) {
    for (const Compensate compensate :
         {Compensate::none, Compensate::renormalise, Compensate::mean}) {
      Fixture fixture({}, 1100);
      Policy policy = sift_policy();
      policy.empty = empty;
      policy.compensate = compensate;
      for (const DecodeKernels* kernels : all_kernels()) {
        check_sifted(fixture, policy, 1.0, *kernels, "empty");
      }
    }
  }
}

TEST(AttendDecode, OutputsExactZerosWhenThePaperKeepsNothing) {
  Fixture fixture({}, 700);
  const auto state = state_at(fixture, sift_policy(), 1.0);
  EXPECT_THAT(attend(fixture, *state, sifted_row(fixture)), testing::Each(0.0F));
}

TEST(AttendDecode, KeepsTheFirstOfEqualHighestKeys) {
  Fixture fixture({1, 2, 64, DType::f16}, 1300);
  fixture.set_unit_queries();
  for (std::int64_t key = 0; key < fixture.keys(); ++key) fixture.set_score(0, key, 0.5F);
  for (const std::int64_t key : {700, 701, 1200}) fixture.set_score(0, key, 3.0F);
  Policy policy = sift_policy();
  policy.empty = EmptyRow::highest;
  policy.compensate = Compensate::renormalise;
  for (const DecodeKernels* kernels : all_kernels()) {
    const auto state = state_at(fixture, policy, 0.5);
    const std::vector<float> output = attend(fixture, *state, sifted_row(fixture), *kernels);
    for (int d = 0; d < 64; ++d) EXPECT_NEAR(output[d], fixture.value(0, 700)[d], 1e-6);
    EXPECT_EQ(state->totals(1).groups.value_rows_read, 1);
  }
}

TEST(AttendDecode, AdaptMovesTheThresholdByWhatWasKept) {
  Fixture fixture({}, 600);
  Policy policy = sift_policy();
  policy.adapt = 0.1;
  policy.recent = 10;
  const double ln_eta = ln_eta_for(fixture, 0.5);
  for (const DecodeKernels* kernels : all_kernels()) {
    const auto state = state_at(fixture, policy, ln_eta);
    attend(fixture, *state, sifted_row(fixture), *kernels);
    for (int head = 0; head < fixture.heads(); ++head) {
      const Expected expected = expect_head(fixture, head, policy, ln_eta);
      const double kept = (static_cast<double>(expected.facts.kept_eligible) + 0.5) / (590 + 1);
      const double step = 0.1 * std::clamp(std::log(kept / (1 - policy.tau)), -2.0, 2.0);
      EXPECT_NEAR(state->head_state(0, head).correction, step, 1e-12) << kernels->name;
    }
  }
}

TEST(AttendDecode, RunsTheFirstRowsDenseAndSaysSo) {
  Fixture fixture({}, 300);
  Policy policy = sift_policy();
  policy.dense_rows = 300;
  const auto state = state_at(fixture, policy, 1.0);
  const std::vector<float> output = attend(fixture, *state, sifted_row(fixture));
  expect_close(output, 0, expect_head(fixture, 0, policy, -kInfinity).output, 5e-6, "dense_rows");
  EXPECT_EQ(state->totals(1).groups.dense_rows, 2);
  EXPECT_EQ(state->totals(1).groups.sparse_rows, 0);
}

TEST(AttendDecode, TheGateRunsShortRowsDenseOnlyWhenAutomatic) {
  for (const std::int64_t keys : {kSiftGateMinimum - 1, kSiftGateMinimum}) {
    Fixture fixture({}, keys);
    for (const Gate gate : {Gate::off, Gate::automatic}) {
      Policy policy = sift_policy();
      policy.gate = gate;
      const auto state = state_at(fixture, policy, ln_eta_for(fixture, 0.3));
      attend(fixture, *state, sifted_row(fixture));
      const bool dense = gate == Gate::automatic && keys < kSiftGateMinimum;
      EXPECT_EQ(state->totals(1).groups.dense_rows, dense ? 2 : 0);
      EXPECT_EQ(state->totals(1).groups.sparse_rows, dense ? 0 : 2);
    }
  }
}

TEST(AttendDecode, TakesTheMemoryThatIsTold) {
  const AttentionShape shape{1, 6, 2, 64};
  for (const RowMode mode : {RowMode::dense, RowMode::record, RowMode::sift}) {
    for (const int threads : {1, 3}) {
      DecodeWorkspace workspace;
      workspace.ensure(shape, 1500, mode, threads);
      EXPECT_EQ(workspace.bytes(), decode_workspace_bytes(shape, 1500, mode, threads));
      EXPECT_GE(workspace.bytes(), 3 * 6 * 64 * sizeof(float));  // one sum for each chunk
    }
  }
}

TEST(AttendDecode, PromptRowsCountAsNeither) {
  Fixture fixture({}, 100);
  AttentionState state(Policy{}, fixture.attention_shape());
  attend(fixture, state, {100, 0});
  EXPECT_EQ(state.totals(1).groups.dense_rows, 0);
}

TEST(AttendDecode, RawThresholdsAreOfTheScoresThemselves) {
  for (const std::int64_t keys : {1, 17, 600, 1300}) {
    Fixture fixture({}, keys, static_cast<std::uint32_t>(keys));
    Policy policy = sift_policy();
    policy.threshold = Threshold::raw;
    for (const Compensate compensate : {Compensate::none, Compensate::mean}) {
      policy.compensate = compensate;
      for (const double threshold : {-0.7, 0.31, 1.9, 9.0}) {
        for (const DecodeKernels* kernels : all_kernels()) {
          check_sifted(fixture, policy, threshold, *kernels, "raw " + std::to_string(threshold));
        }
      }
    }
  }
}

}  // namespace
}  // namespace sift::cpu
