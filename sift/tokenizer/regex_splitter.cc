#include "sift/tokenizer/regex_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <new>

#include "sift/core/error.h"

namespace sift {
namespace {

// A match of the patterns in use backtracks once per character of a run of white space, so the
// limit lets runs of some megabytes through and stops exponential patterns in a fraction of a
// second.
constexpr std::uint32_t kMatchLimit = 50'000'000;
constexpr std::uint32_t kHeapLimitKib = 64 * 1024;

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using CodePointer = std::unique_ptr<pcre2_code, Freer<pcre2_code_free>>;
using MatchContextPointer = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;
using MatchDataPointer = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;

std::string describe(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

template <typename T>
T* require(T* object) {
  if (object == nullptr) throw std::bad_alloc();
  return object;
}

CodePointer compile(const std::string& pattern) {
  int code = 0;
  std::size_t offset = 0;
  CodePointer compiled(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                     PCRE2_UTF | PCRE2_UCP, &code, &offset, nullptr));
  if (!compiled) {
    throw Error(ErrorKind::bad_file,
                fmt::format("the pre-tokenizer's pattern '{}' does not compile: {} at offset {}",
                            pattern, describe(code), offset));
  }
  // Where the system forbids run-time code, the interpreter gives the same matches, slower.
  pcre2_jit_compile(compiled.get(), PCRE2_JIT_COMPLETE);
  return compiled;
}

}  // namespace

struct RegexSplitter::Compiled {
  std::string pattern;
  CodePointer code;
  MatchContextPointer context;
};

RegexSplitter::RegexSplitter(std::string pattern) : compiled_(std::make_unique<Compiled>()) {
  compiled_->code = compile(pattern);
  compiled_->context.reset(require(pcre2_match_context_create(nullptr)));
  pcre2_set_match_limit(compiled_->context.get(), kMatchLimit);
  pcre2_set_heap_limit(compiled_->context.get(), kHeapLimitKib);
  compiled_->pattern = std::move(pattern);
}

RegexSplitter::~RegexSplitter() = default;
RegexSplitter::RegexSplitter(RegexSplitter&&) noexcept = default;
RegexSplitter& RegexSplitter::operator=(RegexSplitter&&) noexcept = default;

void RegexSplitter::split(std::string_view text, std::vector<std::string_view>& pieces) const {
  const MatchDataPointer match(require(pcre2_match_data_create(1, nullptr)));
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  std::size_t begin = 0;
  while (begin < text.size()) {
    const int found =
        pcre2_match(compiled_->code.get(), subject, text.size(), begin,
                    PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match.get(), compiled_->context.get());
    if (found == PCRE2_ERROR_NOMATCH) {
      pieces.push_back(text.substr(begin));
      return;
    }
    if (found < 0) {
      throw Error(ErrorKind::bad_file,
                  fmt::format("the pre-tokenizer's pattern '{}' failed at byte {} "
                              "of a text of {} bytes: {}",
                              compiled_->pattern, begin, text.size(), describe(found)));
    }
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(match.get());
    if (span[0] > begin) pieces.push_back(text.substr(begin, span[0] - begin));
    pieces.push_back(text.substr(span[0], span[1] - span[0]));
    begin = span[1];
  }
}

}  // namespace sift
