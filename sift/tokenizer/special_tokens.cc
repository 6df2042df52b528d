#include "sift/tokenizer/special_tokens.h"

#include <fmt/format.h>

#include <algorithm>

#include "sift/core/error.h"
#include "sift/model/gguf.h"

namespace sift {
namespace {

constexpr auto kByEdge = [](const std::pair<char, std::int32_t>& edge, char byte) {
  return edge.first < byte;
};

}  // namespace

std::int32_t SpecialTokens::find_child(const Node& node, char byte) {
  const auto found = std::lower_bound(node.children.begin(), node.children.end(), byte, kByEdge);
  return found != node.children.end() && found->first == byte ? found->second : -1;
}

void SpecialTokens::add(std::string_view text, std::int32_t id) {
  if (text.empty() || text.size() > kMaxBytes) {
    throw Error(ErrorKind::bad_file,
                fmt::format("special token {} has a text of {} bytes, expected 1 to {}", id,
                            text.size(), kMaxBytes));
  }
  std::int32_t at = 0;
  for (char byte : text) {
    std::int32_t next = find_child(nodes_[at], byte);
    if (next < 0) {
      next = static_cast<std::int32_t>(nodes_.size());
      auto& children = nodes_[at].children;
      children.insert(std::lower_bound(children.begin(), children.end(), byte, kByEdge),
                      {byte, next});
      nodes_.emplace_back();
    }
    at = next;
  }
  if (nodes_[at].id >= 0) {
    throw Error(ErrorKind::bad_file, fmt::format("tokens {} and {} have the same text '{}'",
                                                 nodes_[at].id, id, printable(text)));
  }
  nodes_[at].id = id;
}

SpecialTokens::Match SpecialTokens::longest_at(std::string_view text, std::size_t begin) const {
  Match best{begin, 0, -1};
  std::int32_t at = 0;
  for (std::size_t i = begin; i < text.size(); ++i) {
    at = find_child(nodes_[at], text[i]);
    if (at < 0) break;
    if (nodes_[at].id >= 0) best = {begin, i + 1 - begin, nodes_[at].id};
  }
  return best;
}

std::vector<SpecialTokens::Match> SpecialTokens::find_all(std::string_view text) const {
  std::vector<Match> matches;
  for (std::size_t i = 0; i < text.size();) {
    const Match match = longest_at(text, i);
    if (match.id >= 0) matches.push_back(match);
    i += std::max<std::size_t>(match.length, 1);
  }
  return matches;
}

}  // namespace sift
