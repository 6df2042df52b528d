#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sift/engine/engine.h"
#include "sift/eval/study_cells.h"

namespace sift {

// The downstream tasks of a study: their answers are files of completions, as `sift eval` writes
// them, for tools/score. This header is not installed.

/// Answers to one task under one policy.
struct StudyTask {
  std::string task;  ///< a name that find_task() knows
  std::string data;  ///< file, below the folder of the tasks' data
  std::string policy;
  std::string series;  ///< of charts
  std::int64_t samples = 0;
};

struct StudyTasks {
  std::vector<StudyTask> tasks;
  std::vector<LeftOut> left_out;
};

/// The task runs of a study: full attention, sifting at each τ and Top-k at each share, 32 samples
/// of GSM8K if quick, else 64 of each of GSM8K, IFEval and LongGenBench.
StudyTasks paper_tasks(const StudyPlan& plan);

/// Runs what `folder`/completions does not hold yet of a task whose data lie in `data_folder`.
/// `model` says what was run, and stands in the file's settings. A model without a chat template
/// gets plain prompts; the settings say so. False when `proceed` ended it. A
/// data file that is missing throws Error (input_output); else throws as run_task().
bool run_study_task(Engine& engine, const StudyTask& task, const std::string& data_folder,
                    const std::string& folder, const nlohmann::ordered_json& model,
                    const std::function<bool()>& proceed);

}  // namespace sift
