#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sift {

// The experiments of the paper that run on one machine, as a plain list of cells: a cell is what is
// measured once, a result of its own. This header is not installed.

/// How much is run.
struct StudyPlan {
  bool quick = false;           ///< two points a curve, all figures
  std::int64_t context = 4096;  ///< tokens of a window
  std::int64_t windows = 8;     ///< of each text
  std::vector<std::string> texts = {"wikitext2", "c4"};
};

/// One measurement.
struct StudyCell {
  nlohmann::ordered_json identity;  ///< {"kind", …}: what is measured; two cells never share one
  nlohmann::ordered_json charts;    ///< [{"chart", "series"}]: where its result is drawn
};

/// A policy of the table that this build does not know.
struct LeftOut {
  std::string policy;
  std::string why;
};

struct StudyCells {
  std::vector<StudyCell> cells;
  std::vector<LeftOut> left_out;
};

/// The cells of a study, in the order in which they run. Windows too short for a warm-up are left
/// without those cells; policies that cannot be read are left out and named. Kinds: `powerlaw`
/// (text, window), `perplexity` (text, policy, prompt_tokens), `mask` (text, policy, step),
/// `generation` (domain, prompt, policy, max_tokens), `decode_speed` (text, policy, depth),
/// `attention_speed` (policy, batch, context).
StudyCells paper_cells(const StudyPlan& plan);

}  // namespace sift
