#include "sift/tokenizer/byte_pair_encoder.h"

#include <algorithm>

namespace sift {
namespace {

/// Orders a heap so that its top is the candidate of highest rank, the leftmost of equals.
constexpr auto kLater = [](const auto& a, const auto& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
};

}  // namespace

void BytePairEncoder::add_merge(std::int32_t left, std::int32_t right, std::int32_t merged) {
  merges_.try_emplace(key(left, right), Merge{static_cast<std::int32_t>(merges_.size()), merged});
}

void BytePairEncoder::push_pair(std::int32_t left, Workspace& workspace) const {
  const auto& symbols = workspace.symbols_;
  if (left < 0 || symbols[left].next < 0) return;
  const std::int32_t left_id = symbols[left].id;
  const std::int32_t right_id = symbols[symbols[left].next].id;
  const auto found = merges_.find(key(left_id, right_id));
  if (found == merges_.end()) return;
  workspace.heap_.push_back({found->second.rank, left, left_id, right_id, found->second.merged});
  std::push_heap(workspace.heap_.begin(), workspace.heap_.end(), kLater);
}

void BytePairEncoder::merge_all(Workspace& workspace) const {
  auto& symbols = workspace.symbols_;
  auto& heap = workspace.heap_;
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), kLater);
    const Workspace::Candidate pair = heap.back();
    heap.pop_back();
    Workspace::Symbol& left = symbols[pair.left];
    if (left.id != pair.left_id || left.next < 0) continue;
    Workspace::Symbol& right = symbols[left.next];
    if (right.id != pair.right_id) continue;
    left.id = pair.merged;
    left.next = right.next;
    right.id = kNoToken;
    if (left.next >= 0) symbols[left.next].previous = pair.left;
    push_pair(left.previous, workspace);
    push_pair(pair.left, workspace);
  }
}

void BytePairEncoder::encode(std::string_view word, Workspace& workspace,
                             std::vector<std::int32_t>& ids) const {
  if (word.empty()) return;
  auto& symbols = workspace.symbols_;
  const auto count = static_cast<std::int32_t>(word.size());
  symbols.resize(word.size());
  for (std::int32_t i = 0; i < count; ++i) {
    symbols[i] = {byte_ids_[static_cast<std::uint8_t>(word[i])], i - 1, i + 1 < count ? i + 1 : -1};
  }
  workspace.heap_.clear();
  for (std::int32_t i = 0; i + 1 < count; ++i) push_pair(i, workspace);
  merge_all(workspace);
  for (std::int32_t i = 0; i >= 0; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace sift
