#include "sift/attention/policy_options.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <system_error>
#include <type_traits>

namespace sift {
namespace {

// Decimal digits only: no plus sign, space, hexadecimal or leading zero (010 reads as octal to
// some and as ten to others).
template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  const bool leading_zero = text.size() > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9';
  if (leading_zero) return std::nullopt;
  Number number{};
  const char* end = text.data() + text.size();
  const auto [stopped, status] = std::from_chars(text.data(), end, number);
  if (status != std::errc() || stopped != end) return std::nullopt;
  return number;
}

template <class Number>
std::string format_number(Number number) {
  std::array<char, 32> buffer;
  const auto [end, status] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number);
  return {buffer.data(), end};
}

bool is_level(double value) { return value > 0 && value < 1; }
bool is_share(double value) { return value > 0 && value <= 1; }
bool is_margin(double value) { return value >= 0 && value <= 20; }
bool is_rate(double value) { return value >= 0 && value <= 1; }

template <double Policy::*member, bool (*valid)(double)>
bool set_real(Policy& policy, std::string_view text) {
  const auto value = parse_number<double>(text);
  if (!value || !valid(*value)) return false;  // NaN is not valid either
  policy.*member = std::abs(*value);           // −0 is 0
  return true;
}

template <double Policy::*member>
std::string get_real(const Policy& policy) {
  return format_number(policy.*member);
}

template <std::int64_t Policy::*member, std::int64_t lowest, std::int64_t highest>
bool set_integer(Policy& policy, std::string_view text) {
  const auto value = parse_number<std::int64_t>(text);
  if (!value || *value < lowest || *value > highest || text[0] == '-') return false;
  policy.*member = *value;
  return true;
}

template <std::int64_t Policy::*member>
std::string get_integer(const Policy& policy) {
  return format_number(policy.*member);
}

// Names of enumerators, by value.
constexpr std::array<std::string_view, 3> kCompensateNames = {"none", "renormalise", "mean"};
constexpr std::array<std::string_view, 2> kCalibrateNames = {"decode", "prefill"};
constexpr std::array<std::string_view, 2> kFitNames = {"ols", "ridge"};
constexpr std::array<std::string_view, 2> kAdaptTargetNames = {"head", "group"};
constexpr std::array<std::string_view, 2> kGateNames = {"off", "auto"};
constexpr std::array<std::string_view, 2> kEmptyRowNames = {"zero", "highest"};
constexpr std::array<std::string_view, 2> kEstimateNames = {"exact", "quantised"};
constexpr std::array<std::string_view, 4> kShadowCodeNames = {"4", "fp8", "3", "2"};

bool set_block(Policy& policy, std::string_view text) {
  const auto value = parse_number<std::int64_t>(text);
  if (value != 16 && value != 32 && value != 64) return false;
  policy.block = *value;
  return true;
}

template <auto member, const auto& names>
bool set_choice(Policy& policy, std::string_view text) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] != text) continue;
    using Choice = std::remove_reference_t<decltype(policy.*member)>;
    policy.*member = static_cast<Choice>(i);
    return true;
  }
  return false;
}

template <auto member, const auto& names>
std::string get_choice(const Policy& policy) {
  return std::string(names[static_cast<std::size_t>(policy.*member)]);
}

template <double Policy::*member, bool (*valid)(double)>
constexpr PolicyOption real_option(const PolicyHelp& help) {
  return {help, set_real<member, valid>, get_real<member>};
}

template <std::int64_t Policy::*member, std::int64_t lowest, std::int64_t highest>
constexpr PolicyOption integer_option(const PolicyHelp& help) {
  return {help, set_integer<member, lowest, highest>, get_integer<member>};
}

template <auto member, const auto& names>
constexpr PolicyOption choice_option(const PolicyHelp& help) {
  return {help, set_choice<member, names>, get_choice<member, names>};
}

constexpr std::int64_t kMostRows = std::int64_t{1} << 31;
constexpr std::string_view kRowRange = "an integer, 0 to 2147483648";

constexpr std::array kOptions = {
    real_option<&Policy::keep, is_share>(
        {"keep", "0 < keep <= 1",
         "Share of the keys that each step keeps (topk), or that stay cached (h2o); of equal ones "
         "those with lower positions."}),
    integer_option<&Policy::budget, 0, kMostRows>(
        {"budget", kRowRange, "Keys that stay cached (h2o) in place of the share keep; 0 is off."}),
    real_option<&Policy::tau, is_level>(
        {"tau", "0 < tau < 1",
         "Intended sparsity: the quantile of the attention scores that the threshold follows."}),
    integer_option<&Policy::warmup, 2, 1'000'000>(
        {"warmup", "an integer, 2 to 1000000", "Rows whose quantiles the power law is fitted to."}),
    choice_option<&Policy::compensate, kCompensateNames>(
        {"compensate", "none|renormalise|mean",
         "What stands in for pruned keys: nothing, the kept ones scaled up, or the mean value."}),
    choice_option<&Policy::calibrate, kCalibrateNames>(
        {"calibrate", "decode|prefill",
         "Which rows the fit learns from: the first generated ones, or spread over the prompt."}),
    choice_option<&Policy::fit, kFitNames>(
        {"fit", "ols|ridge",
         "How the power law is fitted: least squares, or with the slope drawn toward 1."}),
    real_option<&Policy::adapt, is_rate>(
        {"adapt", "0 to 1",
         "Rate at which each step corrects the threshold toward tau; 0 is off."}),
    choice_option<&Policy::adapt_target, kAdaptTargetNames>(
        {"adapt_target", "head|group",
         "What adapt steers: each head's kept keys, or the union over heads that share keys."}),
    integer_option<&Policy::sink, 0, kMostRows>(
        {"sink", kRowRange, "First keys that are always kept."}),
    integer_option<&Policy::recent, 0, kMostRows>(
        {"recent", kRowRange, "Newest keys that are always kept."}),
    integer_option<&Policy::dense_rows, 0, kMostRows>(
        {"dense_rows", kRowRange, "Rows that see at most so many keys run dense."}),
    choice_option<&Policy::gate, kGateNames>(
        {"gate", "auto|off", "Whether steps may run dense where sifting would be slower."}),
    choice_option<&Policy::empty, kEmptyRowNames>(
        {"empty", "zero|highest",
         "What a step outputs when no key passes: zero, or the best key."}),
    choice_option<&Policy::estimate, kEstimateNames>(
        {"estimate", "exact|quantised",
         "What keys are judged by first: their scores, or those of a shadow of them in few bits."}),
    choice_option<&Policy::bits, kShadowCodeNames>(
        {"bits", "4|fp8|3|2",
         "Bits of the shadow's codes; 3 and 2 are for evaluation and the reference backend."}),
    PolicyOption{{"block", "16|32|64", "Values of a shadow that share a scale; not for fp8."},
                 set_block,
                 get_integer<&Policy::block>},
    real_option<&Policy::margin, is_margin>(
        {"margin", "0 to 20",
         "How far below the threshold an estimate may lie (natural logarithm) for the key's score "
         "to be looked at."}),
};

}  // namespace

std::span<const PolicyOption> policy_options() { return kOptions; }

}  // namespace sift
