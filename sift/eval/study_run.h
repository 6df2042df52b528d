#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "sift/engine/engine.h"
#include "sift/eval/study_cells.h"

namespace sift {

/// Runs cells of a study. This header is not installed.
class StudyRunner {
 public:
  /// `texts`: the tokens of each text of the plan. `proceed` is asked often; false ends the cell at
  /// hand. Throws Error (invalid_argument) for a plan whose windows a text does not fill, or whose
  /// context the model does not have.
  StudyRunner(Engine& engine, const StudyPlan& plan,
              std::map<std::string, std::vector<std::int32_t>> texts,
              std::function<bool()> proceed);

  /// The result of a cell; nothing when it was ended. The same cell gives the same result, times
  /// apart. Throws Error (numerical) naming the cell whose result is not finite, and what the run
  /// throws.
  std::optional<nlohmann::ordered_json> run(const nlohmann::ordered_json& identity);

 private:
  using Json = nlohmann::ordered_json;
  using Result = std::optional<Json>;

  Result power_law(const Json& cell);
  Result perplexity_of(const Json& cell);
  Result mask(const Json& cell);
  Result generation(const Json& cell);
  Result decode_speed_of(const Json& cell);
  Result attention_speed_of(const Json& cell);
  const std::vector<std::int32_t>& text_of(const Json& cell) const {
    return texts_.at(cell.at("text"));
  }

  Engine& engine_;
  StudyPlan plan_;
  std::map<std::string, std::vector<std::int32_t>> texts_;
  std::function<bool()> proceed_;
};

}  // namespace sift
