#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sift {

/// Merges the bytes of a word into tokens: always the adjacent pair of highest rank, the leftmost
/// first (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units").
/// A word of n bytes takes O(n log n).
class BytePairEncoder {
 public:
  static constexpr std::int32_t kNoToken = -1;

  /// Buffers that encode() reuses from word to word.
  class Workspace;

  /// Sets the token of one byte; bytes that get none cannot be encoded.
  void set_byte(std::uint8_t byte, std::int32_t id) { byte_ids_[byte] = id; }

  /// Adds the next merge, of lower rank than all before it. Of equal pairs the first counts.
  void add_merge(std::int32_t left, std::int32_t right, std::int32_t merged);

  std::int32_t byte_id(std::uint8_t byte) const { return byte_ids_[byte]; }

  /// Appends the tokens of `word`, each of whose bytes has a token.
  void encode(std::string_view word, Workspace& workspace, std::vector<std::int32_t>& ids) const;

 private:
  struct Merge {
    std::int32_t rank;
    std::int32_t merged;
  };
  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  void push_pair(std::int32_t left, Workspace& workspace) const;
  void merge_all(Workspace& workspace) const;

  std::vector<std::int32_t> byte_ids_ = std::vector<std::int32_t>(256, kNoToken);
  std::unordered_map<std::uint64_t, Merge> merges_;
};

class BytePairEncoder::Workspace {
 private:
  friend class BytePairEncoder;

  /// A token so far; symbols form a doubly linked list by index. A merge keeps the left symbol.
  struct Symbol {
    std::int32_t id;  ///< kNoToken once merged into its left neighbour
    std::int32_t previous;
    std::int32_t next;  ///< -1 at the end
  };
  /// A pair that could be merged, if its two symbols are still what they were.
  struct Candidate {
    std::int32_t rank;
    std::int32_t left;
    std::int32_t left_id;
    std::int32_t right_id;
    std::int32_t merged;
  };

  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace sift
