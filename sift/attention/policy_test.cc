#include "sift/attention/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sift/core/error.h"

namespace sift {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// The message with which `text` is refused; empty if it is taken.
std::string refusal(std::string_view text) {
  try {
    parse_policy(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    return error.what();
  }
  return "";
}

TEST(ParsePolicy, FullIsTheDefault) {
  EXPECT_EQ(parse_policy("full"), Policy{});
  EXPECT_EQ(parse_policy("full").select, Select::all);
}

TEST(ParsePolicy, PaperPreset) {
  const Policy policy = parse_policy("sift:paper");
  EXPECT_EQ(policy.select, Select::above);
  EXPECT_EQ(policy.tau, 0.875);
  EXPECT_EQ(policy.warmup, 128);
  EXPECT_EQ(policy.compensate, Compensate::none);
  EXPECT_EQ(policy.calibrate, Calibrate::decode);
  EXPECT_EQ(policy.fit, FitKind::ols);
  EXPECT_EQ(policy.adapt, 0);
  EXPECT_EQ(policy.sink, 0);
  EXPECT_EQ(policy.recent, 0);
  EXPECT_EQ(policy.dense_rows, 0);
  EXPECT_EQ(policy.gate, Gate::off);
  EXPECT_EQ(policy.empty, EmptyRow::zero);
  EXPECT_EQ(policy.name, "sift:paper");
}

TEST(ParsePolicy, PlainSiftKeepsTheHighestKeyAndMayRunDense) {
  const Policy policy = parse_policy("sift");
  EXPECT_EQ(policy.select, Select::above);
  EXPECT_EQ(policy.calibrate, Calibrate::prefill);
  EXPECT_EQ(policy.compensate, Compensate::mean);
  EXPECT_EQ(policy.fit, FitKind::ridge);
  EXPECT_EQ(policy.gate, Gate::automatic);
  EXPECT_EQ(policy.empty, EmptyRow::highest);
}

TEST(ParsePolicy, EveryOption) {
  const Policy policy = parse_policy(
      "sift:margin=0.25,block=64,bits=fp8,estimate=quantised,empty=zero,gate=off,dense_rows=7,"
      "recent=2147483648,sink=4,adapt_target=group,"
      "adapt=0.25,fit=ols,calibrate=decode,compensate=renormalise,warmup=1000000,tau=1e-3");
  EXPECT_EQ(policy.tau, 0.001);
  EXPECT_EQ(policy.warmup, 1000000);
  EXPECT_EQ(policy.compensate, Compensate::renormalise);
  EXPECT_EQ(policy.calibrate, Calibrate::decode);
  EXPECT_EQ(policy.fit, FitKind::ols);
  EXPECT_EQ(policy.adapt, 0.25);
  EXPECT_EQ(policy.adapt_target, AdaptTarget::group);
  EXPECT_EQ(policy.sink, 4);
  EXPECT_EQ(policy.recent, std::int64_t{1} << 31);
  EXPECT_EQ(policy.dense_rows, 7);
  EXPECT_EQ(policy.gate, Gate::off);
  EXPECT_EQ(policy.empty, EmptyRow::zero);
  EXPECT_EQ(policy.estimate, Estimate::quantised);
  EXPECT_EQ(policy.bits, ShadowCode::fp8);
  EXPECT_EQ(policy.block, 64);
  EXPECT_EQ(policy.margin, 0.25);
  EXPECT_EQ(parse_policy(policy.name), policy);
}

TEST(ParsePolicy, TopkKeepsAShare) {
  const Policy policy = parse_policy("topk");
  EXPECT_EQ(policy.select, Select::largest);
  EXPECT_EQ(policy.keep, 0.125);
  EXPECT_EQ(policy.compensate, Compensate::renormalise);
  EXPECT_EQ(policy.gate, Gate::off);
  EXPECT_EQ(parse_policy("topk:recent=8,keep=.25").name, "topk:keep=0.25,recent=8");
  EXPECT_EQ(parse_policy("topk:keep=1").keep, 1);
  EXPECT_EQ(parse_policy("topk:keep=0.125").name, "topk");
  for (const char* text : {"topk:keep=0", "topk:keep=1.5", "topk:keep=nan", "topk:keep=-0.5"}) {
    EXPECT_THAT(refusal(text), HasSubstr("0 < keep <= 1")) << text;
  }
  EXPECT_THAT(refusal("topk:tau=0.5"), HasSubstr("keep, compensate"));
  EXPECT_THAT(refusal("sift:keep=0.5"), HasSubstr("does not know 'keep=0.5'"));
}

TEST(ParsePolicy, H2oEvictsByAShareOrABudget) {
  const Policy policy = parse_policy("h2o");
  EXPECT_EQ(policy.select, Select::all);
  EXPECT_EQ(policy.retain, Retain::heavy_hitters);
  EXPECT_EQ(policy.keep, 0.25);
  EXPECT_EQ(policy.budget, 0);
  EXPECT_EQ(policy.compensate, Compensate::none);
  EXPECT_TRUE(evicts(policy));
  EXPECT_FALSE(is_dense(policy));
  EXPECT_EQ(parse_policy("h2o:keep=0.25").name, "h2o");
  EXPECT_EQ(parse_policy("h2o:dense_rows=9,recent=2,sink=1,compensate=none,budget=512").name,
            "h2o:budget=512,sink=1,recent=2,dense_rows=9");
  EXPECT_EQ(parse_policy("h2o:budget=0,keep=0.5").name, "h2o:keep=0.5");
  EXPECT_THAT(refusal("h2o:budget=-1"), HasSubstr("an integer, 0 to"));
  for (const char* text : {"h2o:keep=0.5,budget=8", "h2o:budget=8,keep=0.25"}) {
    EXPECT_THAT(refusal(text), HasSubstr("'keep' and 'budget' of attention policy 'h2o' are both"));
  }
}

TEST(ParsePolicy, WindowKeepsTheFirstAndTheNewest) {
  const Policy policy = parse_policy("window");
  EXPECT_EQ(policy.retain, Retain::window);
  EXPECT_EQ(policy.sink, 4);
  EXPECT_EQ(policy.recent, 1020);
  EXPECT_EQ(parse_policy("window:sink=4,recent=60").name, "window:recent=60");
  EXPECT_THAT(refusal("window:keep=0.5"), HasSubstr("does not know 'keep=0.5'"));
}

TEST(ParsePolicy, NothingStandsInForEvictedKeys) {
  for (const char* text :
       {"h2o:compensate=mean", "h2o:compensate=renormalise", "window:sink=1,compensate=mean"}) {
    EXPECT_THAT(refusal(text), AllOf(HasSubstr("compensate="), HasSubstr("evicts keys"),
                                     HasSubstr("no 'compensate' but none")));
  }
  // Compositions that no string names.
  Policy policy = parse_policy("h2o");
  policy.compensate = Compensate::mean;
  EXPECT_THROW(check_composition(policy), Error);
  policy = parse_policy("topk:compensate=none");
  policy.retain = Retain::window;
  EXPECT_THROW(check_composition(policy), Error);
  policy = parse_policy("h2o");
  policy.estimate = Estimate::quantised;
  EXPECT_THROW(check_composition(policy), Error);
  for (const char* text : {"full", "sift", "topk", "h2o", "window"}) {
    EXPECT_NO_THROW(check_composition(parse_policy(text))) << text;
  }
}

TEST(ParsePolicy, EstimatesAreExactUnlessAskedFor) {
  for (const char* text : {"full", "sift", "sift:paper"}) {
    EXPECT_EQ(parse_policy(text).estimate, Estimate::exact) << text;
  }
  const Policy policy = parse_policy("sift:estimate=quantised");
  EXPECT_EQ(policy.estimate, Estimate::quantised);
  EXPECT_EQ(policy.bits, ShadowCode::bits4);
  EXPECT_EQ(policy.block, 32);
  EXPECT_EQ(policy.margin, 0.5);
  EXPECT_EQ(policy.name, "sift:estimate=quantised");
  EXPECT_EQ(parse_policy("sift:bits=4,block=32,margin=5e-1,estimate=quantised").name, policy.name);
  EXPECT_EQ(parse_policy("sift:paper,margin=0,bits=3,estimate=quantised,block=16").name,
            "sift:paper,estimate=quantised,bits=3,block=16,margin=0");
  EXPECT_EQ(parse_policy("sift:bits=2").bits, ShadowCode::bits2);
}

TEST(ParsePolicy, OptionsChangeThePreset) {
  Policy expected = parse_policy("sift:paper");
  expected.tau = 0.5;
  expected.warmup = 512;
  expected.name = "sift:paper,tau=0.5,warmup=512";
  EXPECT_EQ(parse_policy("sift:paper,warmup=512,tau=0.5"), expected);
}

TEST(ParsePolicy, CanonicalNamesAreShortAndStable) {
  EXPECT_EQ(parse_policy("sift:warmup=96,tau=0.5").name, "sift:tau=0.5,warmup=96");
  EXPECT_EQ(parse_policy("sift:tau=0.875").name, "sift");  // the default
  EXPECT_EQ(parse_policy("sift:tau=.95").name, "sift:tau=0.95");
  EXPECT_EQ(parse_policy("sift:paper,tau=5e-1,adapt=-0").name, "sift:paper,tau=0.5");
  const Policy plain = parse_policy("sift");
  const std::string spelt =
      "sift:paper,warmup=64,compensate=mean,calibrate=prefill,fit=ridge,gate=auto,empty=highest";
  EXPECT_EQ(parse_policy(spelt + ",adapt=0.25").name, "sift:adapt=0.25");
  Policy changed = plain;
  changed.gate = Gate::off;
  EXPECT_EQ(policy_name(changed), "sift:gate=off");
  EXPECT_EQ(policy_name(Policy{}), "full");
}

TEST(ParsePolicy, RefusesUnknownWords) {
  EXPECT_THAT(refusal("sieve"), AllOf(HasSubstr("'sieve'"), HasSubstr("full, sift, topk")));
  EXPECT_THAT(refusal(""), HasSubstr("full, sift, topk"));
  EXPECT_THAT(refusal("Sift"), HasSubstr("unknown attention policy"));
  EXPECT_THAT(refusal(" sift"), HasSubstr("unknown attention policy"));
  EXPECT_THAT(refusal("sift:quantile=0.5"),
              AllOf(HasSubstr("'quantile=0.5'"), HasSubstr("paper"), HasSubstr("tau, warmup")));
  EXPECT_THAT(refusal("full:tau=0.5"), HasSubstr("it takes no options"));
  EXPECT_THAT(refusal("full:paper"), HasSubstr("it takes no options"));
  for (const char* text : {"sift:", "sift:,", "sift:paper,", "sift:,paper", "sift:tau=0.5,,sink=1",
                           "sift: tau=0.5", "sift:paper:tau=0.5", "full:", "sift:TAU=0.5"}) {
    EXPECT_NE(refusal(text), "") << text;
  }
}

TEST(ParsePolicy, PresetsStandDirectlyAfterTheColon) {
  EXPECT_THAT(refusal("sift:tau=0.5,paper"), HasSubstr("directly after 'sift:'"));
  EXPECT_THAT(refusal("sift:paper,paper"), HasSubstr("directly after 'sift:'"));
  EXPECT_THAT(refusal("sift:paper=1"), HasSubstr("does not know"));
}

TEST(ParsePolicy, RefusesRepeatedOptions) {
  EXPECT_THAT(refusal("sift:tau=0.5,sink=1,tau=0.5"),
              AllOf(HasSubstr("'tau'"), HasSubstr("twice")));
}

TEST(ParsePolicy, RefusesValuesOutOfRange) {
  for (const char* tau : {"nan",   "inf",
                          "-inf",  "infinity",
                          "0",     "-0",
                          "1",     "1.0",
                          "-0.5",  "2",
                          "1e400", "1e-400",
                          "",      "0x1p-1",
                          "+0.5",  " 0.5",
                          "0.5 ",  "0,5",
                          "00.5",  "0.5f",
                          "half",  "0.99999999999999999999"}) {
    EXPECT_THAT(refusal(std::string("sift:tau=") + tau), HasSubstr("tau")) << tau;
  }
  EXPECT_THAT(refusal("sift:tau=nan"), HasSubstr("0 < tau < 1"));
  for (const char* warmup : {"1", "0", "-1", "1000001", "010", "+64", "64.0", "1e3", "0x40", "",
                             "99999999999999999999", " 64"}) {
    EXPECT_THAT(refusal(std::string("sift:warmup=") + warmup), HasSubstr("2 to 1000000")) << warmup;
  }
  for (const char* adapt : {"-0.01", "1.01", "nan", "inf", ""}) {
    EXPECT_THAT(refusal(std::string("sift:adapt=") + adapt), HasSubstr("0 to 1")) << adapt;
  }
  for (const char* margin : {"-0.01", "20.5", "nan", "inf", ""}) {
    EXPECT_THAT(refusal(std::string("sift:margin=") + margin), HasSubstr("0 to 20")) << margin;
  }
  for (const char* block : {"8", "0", "-32", "48", "128", "32.0", "032", ""}) {
    EXPECT_THAT(refusal(std::string("sift:block=") + block), HasSubstr("16|32|64")) << block;
  }
  for (const char* bits : {"1", "8", "16", "FP8", "fp4", "4.0", ""}) {
    EXPECT_THAT(refusal(std::string("sift:bits=") + bits), HasSubstr("4|fp8|3|2")) << bits;
  }
  for (const std::string option : {"sink", "recent", "dense_rows"}) {
    for (const char* value : {"-1", "-0", "2147483649", "1.5", "", "00"}) {
      EXPECT_THAT(refusal("sift:" + option + "=" + value), HasSubstr("0 to 2147483648")) << value;
    }
  }
  for (const char* word :
       {"compensate=", "compensate=Mean", "calibrate=off", "fit=ridge ", "adapt_target=union",
        "gate=on", "empty=none", "estimate=sparq", "estimate=quantized", "gate", "tau"}) {
    EXPECT_THAT(refusal(std::string("sift:") + word), HasSubstr("expected")) << word;
  }
}

TEST(ParsePolicy, MessagesStaySmallAndPrintable) {
  EXPECT_THAT(refusal(std::string(5000, 'a')), HasSubstr("5000 bytes"));
  EXPECT_LT(refusal(std::string(4000, 'a')).size(), 300U);
  EXPECT_THAT(refusal("si\x1b[0mft\xff"), HasSubstr("'si\\x1b[0mft\\xff'"));
  EXPECT_THAT(refusal(std::string_view("sift\0", 5)), HasSubstr("'sift\\x00'"));
}

TEST(PolicySettings, AreAllOptionsWithTheirValues) {
  const auto settings = policy_settings(parse_policy("sift:paper,tau=0.9,compensate=mean"));
  ASSERT_EQ(settings.size(), policy_option_help().size() - 2);  // all but keep and budget
  std::string text = "sift:";
  for (const PolicySetting& setting : settings) {
    if (text.back() != ':') text += ',';
    text += std::string(setting.name) + "=" + setting.value;
  }
  EXPECT_THAT(text, HasSubstr("tau=0.9,warmup=128,compensate=mean,calibrate=decode"));
  EXPECT_EQ(parse_policy(text), parse_policy("sift:paper,tau=0.9,compensate=mean"));
  EXPECT_TRUE(policy_settings(parse_policy("full")).empty());
}

TEST(PolicyHelp, NamesWhatIsKnown) {
  EXPECT_EQ(policy_help().size(), 5U);
  const std::string known = refusal("sift:unknown") + refusal("topk:unknown") +
                            refusal("h2o:unknown") + refusal("window:unknown");
  for (const PolicyHelp& option : policy_option_help()) {
    EXPECT_THAT(known, HasSubstr(std::string(option.name)));
    EXPECT_FALSE(option.values.empty());
    EXPECT_FALSE(option.description.empty());
  }
}

}  // namespace
}  // namespace sift
