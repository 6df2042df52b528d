#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sift {

/// The tokens that are matched as text before anything is cut into words, leftmost and longest
/// first.
class SpecialTokens {
 public:
  /// Special tokens are short; the bound keeps a search linear in the text whatever the file says.
  static constexpr std::size_t kMaxBytes = 256;

  struct Match {
    std::size_t begin;
    std::size_t length;
    std::int32_t id;
  };

  /// Adds a token. Throws bad_file when its text is empty, longer than kMaxBytes or there already.
  void add(std::string_view text, std::int32_t id);

  /// All matches in `text`, in order, none overlapping another.
  std::vector<Match> find_all(std::string_view text) const;

 private:
  /// A node of the prefix tree: its children are the edges with `parent` equal to its index.
  struct Node {
    std::vector<std::pair<char, std::int32_t>> children;  ///< (byte, node), sorted by byte
    std::int32_t id = -1;                                 ///< the token that ends here, or -1
  };
  static std::int32_t find_child(const Node& node, char byte);
  Match longest_at(std::string_view text, std::size_t begin) const;

  std::vector<Node> nodes_{1};
};

}  // namespace sift
