#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <system_error>

#include "apps/cli/arguments.h"
#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/log.h"
#include "apps/cli/progress.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"
#include "sift/core/version.h"
#include "sift/eval/corpus.h"
#include "sift/eval/result_lines.h"
#include "sift/eval/study_run.h"
#include "sift/eval/study_tasks.h"

namespace sift::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kComputeNames = {"f32", "bf16", "q8"};
constexpr std::array kBackendNames = {"cpu", "reference"};

struct PaperCommand {
  ModelOptions model;
  OutputOptions output;
  StudyPlan plan;
  std::string folder;
  std::string wikitext = "../shared/data/wikitext2/wiki.test.raw";
  std::string c4 = "../shared/data/c4-sample/c4.jsonl";
  std::string task_data = "../shared/data";
  std::int64_t windows = 0;

  int run() {
    plan.windows = windows != 0 ? windows : plan.quick ? 2 : 8;
    const StudyCells cells = paper_cells(plan);
    const StudyTasks tasks = paper_tasks(plan);
    JsonOutput json(output);
    const std::string results = prepare_folder() + "/cells.jsonl";
    const std::map<std::string, std::string> texts = {{"wikitext2", read_text(wikitext)},
                                                      {"c4", read_text(c4)}};
    ResultLines lines(results, settings(texts).dump(), origin().dump());
    for (const LeftOut& policy : cells.left_out) {
      log_warning("{} is left out: {}", policy.policy, policy.why);
    }
    const auto engine = load_engine(model);
    catch_interrupts();
    const std::int64_t ran = run_cells(*engine, cells, texts, lines);
    if (!interrupted()) run_tasks(*engine, tasks);
    const Json summary = {{"results", lines.path()},
                          {"cells", cells.cells.size()},
                          {"finished", lines.lines().size()},
                          {"ran", ran},
                          {"left_out", left_out(cells)}};
    if (json.wanted()) json.write(summary);
    if (!json.to_stdout()) {
      print_text(fmt::format("{} of {} cells in {}; tools/plot {} draws them\n",
                             lines.lines().size(), cells.cells.size(), lines.path(), folder));
    }
    return interrupted() ? static_cast<int>(ErrorKind::interrupted) : 0;
  }

 private:
  /// The folder, made where it is missing.
  std::string prepare_folder() const {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error || !std::filesystem::is_directory(folder)) {
      throw Error(ErrorKind::input_output, fmt::format("cannot make the folder {}", folder));
    }
    return folder;
  }

  /// What results of one folder have in common.
  Json settings(const std::map<std::string, std::string>& texts) const {
    const std::filesystem::path path = resolve_model(model.model);
    std::error_code error;
    Json object = {{"study", "paper"},
                   {"model", path.filename().string()},
                   {"model_bytes", std::filesystem::file_size(path, error)},
                   {"quick", plan.quick},
                   {"context", plan.context},
                   {"windows", plan.windows},
                   {"compute", kComputeNames[static_cast<std::size_t>(model.compute)]},
                   {"backend", kBackendNames[static_cast<std::size_t>(model.backend)]},
                   {"cache_type", std::string(traits(model.cache_type).name)}};
    for (const auto& [name, text] : texts) object[name] = fingerprint(text);
    return object;
  }

  Json origin() const {
    return {{"version", build_information().version},
            {"commit", build_information().commit},
            {"machine", processor_name()},
            {"threads", resolve_threads(model)},
            {"command", fmt::format("sift study paper --out {}{}",
                                    std::filesystem::path(folder).filename().string(),
                                    plan.quick ? " --quick" : "")}};
  }

  static Json left_out(const StudyCells& cells) {
    Json array = Json::array();
    for (const LeftOut& policy : cells.left_out) array.push_back(policy.policy);
    return array;
  }

  std::map<std::string, std::vector<std::int32_t>> encode(
      const Engine& engine, const std::map<std::string, std::string>& texts) const {
    return {{"wikitext2", corpus_tokens(engine, wikitext, texts.at("wikitext2"))},
            {"c4", corpus_tokens(engine, c4, texts.at("c4"))}};
  }

  /// Runs what the file does not hold yet and returns how many cells that were.
  std::int64_t run_cells(Engine& engine, const StudyCells& cells,
                         const std::map<std::string, std::string>& texts,
                         ResultLines& lines) const {
    std::set<std::string> finished;
    for (const std::string& line : lines.lines()) {
      finished.insert(Json::parse(line).at("cell").dump());
    }
    StudyRunner runner(engine, plan, encode(engine, texts), [] { return !interrupted(); });
    Progress progress("study", std::ssize(cells.cells));
    std::int64_t done = 0;
    std::int64_t ran = 0;
    for (const StudyCell& cell : cells.cells) {
      progress.update(done++, cell.identity.at("kind").get<std::string>());
      if (finished.contains(cell.identity.dump())) continue;
      const std::optional<Json> result = runner.run(cell.identity);
      if (!result) return ran;
      lines.add(Json{{"cell", cell.identity}, {"charts", cell.charts}, {"result", *result}}.dump());
      ++ran;
    }
    progress.update(done, "done");
    return ran;
  }

  void run_tasks(Engine& engine, const StudyTasks& tasks) const {
    Json about = settings({});
    for (const char* key : {"study", "quick", "context", "windows"}) about.erase(key);
    Progress progress("tasks", std::ssize(tasks.tasks));
    std::int64_t done = 0;
    std::set<std::string> missing;
    for (const StudyTask& task : tasks.tasks) {
      progress.update(done++, task.task + ", " + task.policy);
      if (!std::filesystem::exists(task_data + "/" + task.data)) {
        if (missing.insert(task.task).second) {
          log_warning("{} is left out: there is no {}/{}", task.task, task_data, task.data);
        }
        continue;
      }
      try {
        const auto proceed = [] { return !interrupted(); };
        if (!run_study_task(engine, task, task_data, folder, about, proceed)) return;
      } catch (const Error& error) {
        // Answers may need more context than the model has.
        if (error.kind() != ErrorKind::invalid_argument) throw;
        log_warning("{} with {} is left out: {}", task.task, task.policy, error.what());
      }
    }
  }
};

}  // namespace

void add_study(CLI::App& root, int& exit_code) {
  CLI::App* study = root.add_subcommand("study", "Run the experiments of a paper");
  study->require_subcommand(1);
  study->footer("Example:\n  sift study paper --out results --quick");

  auto command = std::make_shared<PaperCommand>();
  CLI::App* app = study->add_subcommand(
      "paper", "Every experiment of the SiftAttention paper that runs on one machine");
  app->footer(
      "Results go to DIR/cells.jsonl, one line for each finished measurement. The same command\n"
      "goes on where one before it ended.\n\n"
      "Example:\n  sift study paper --out results --quick && tools/plot results");
  app->add_option("--out", command->folder, "folder for the results")->type_name("DIR")->required();
  app->add_flag("--quick", command->plan.quick,
                "two windows and at least two points a curve instead of all")
      ->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  add_integer(*app, "--context", command->plan.context, 32, 1'000'000'000, "tokens of a window");
  add_integer(*app, "--windows", command->windows, 1, 1'000'000'000,
              "windows of each text; default: 8, or 2 if quick")
      ->default_str("");
  app->add_option("--wikitext", command->wikitext, "the text of WikiText-2's test set")
      ->type_name("FILE")
      ->capture_default_str();
  app->add_option("--c4", command->c4, "documents of C4 as JSON lines")
      ->type_name("FILE")
      ->capture_default_str();
  app->add_option("--task-data", command->task_data,
                  "folder with gsm8k/test.jsonl, ifeval/input_data.jsonl and "
                  "longgenbench/Dataset_short.json; a task without its file is left out")
      ->type_name("DIR")
      ->capture_default_str();
  add_unused(*app, {"--attention"});
  command->model.add_to(*app);
  command->output.add_to(*app);
  add_log_level(*app);
  app->callback([command, &exit_code] { exit_code = command->run(); });
}

}  // namespace sift::cli
