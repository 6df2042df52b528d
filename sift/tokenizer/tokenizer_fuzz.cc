// Hostile vocabularies and texts. The input is lines: the pre-tokenizer's name, then
// "T<type><token>" adds a token, "M<left> <right>" a merge, "I<end-of-text id>"; the first other
// line begins the text.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sift/core/error.h"
#include "sift/tokenizer/byte_alphabet.h"
#include "sift/tokenizer/stream_decoder.h"
#include "sift/tokenizer/tokenizer.h"

namespace {

struct Input {
  sift::VocabularyData data;
  std::string_view text;
};

std::string_view take_line(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return line;
}

bool take_entry(std::string_view line, sift::VocabularyData& data) {
  if (line.size() < 2) return false;
  if (line[0] == 'T') {
    data.token_types.push_back(line[1] - '0');
    data.tokens.push_back(line.substr(2));
  } else if (line[0] == 'M') {
    data.merges.push_back(line.substr(1));
  } else if (line[0] == 'I') {
    data.eos_id = std::atoi(std::string(line.substr(1)).c_str());
  } else {
    return false;
  }
  return true;
}

Input parse(std::string_view rest, const std::vector<std::string>& bytes) {
  Input input;
  input.data.model = "gpt2";
  input.data.pre = take_line(rest);
  input.data.tokens.assign(bytes.begin(), bytes.end());
  input.data.token_types.assign(bytes.size(), 1);
  while (!rest.empty()) {
    std::string_view after = rest;
    if (!take_entry(take_line(after), input.data)) break;
    rest = after;
  }
  input.text = rest;
  return input;
}

void check(const sift::Tokenizer& tokenizer, std::string_view text, sift::ParseSpecial parse) {
  const auto ids = tokenizer.encode(text, parse);
  sift::StreamDecoder decoder(tokenizer);
  std::string streamed;
  for (std::int32_t id : ids) streamed += decoder.push(id);
  streamed += decoder.finish();
  if (streamed != text || tokenizer.decode(ids) != text) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<std::string> kBytes = [] {
    std::vector<std::string> all;
    for (int byte = 0; byte < 256; ++byte) {
      all.push_back(sift::byte_to_alphabet(static_cast<std::uint8_t>(byte)));
    }
    return all;
  }();
  const Input input = parse({reinterpret_cast<const char*>(data), size}, kBytes);
  try {
    const sift::Tokenizer tokenizer(input.data);
    check(tokenizer, input.text, sift::ParseSpecial::yes);
    check(tokenizer, input.text, sift::ParseSpecial::no);
  } catch (const sift::Error&) {
  }
  return 0;
}
