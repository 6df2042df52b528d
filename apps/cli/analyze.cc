#include <fmt/format.h>

#include <memory>
#include <optional>

#include "apps/cli/arguments.h"
#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/log.h"
#include "apps/cli/progress.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"
#include "sift/eval/corpus.h"
#include "sift/eval/power_law_analysis.h"
#include "sift/eval/result_json.h"
#include "sift/eval/result_lines.h"

namespace sift::cli {
namespace {

using Json = nlohmann::ordered_json;

struct PowerLawCommand {
  ModelOptions model;
  OutputOptions output;
  std::string text_file;
  std::string completions_file;
  std::string fits_file;
  std::int64_t context = 4096;
  std::int64_t windows = 0;

  int run() {
    check_source();
    JsonOutput json(output);
    const std::string text = read_text(source());
    const auto engine = load_engine(model);
    const std::vector<ForcedTokens> requests = read_requests(*engine, text);
    std::optional<ResultLines> lines;
    if (!fits_file.empty()) {
      lines.emplace(fits_file, settings(*engine).dump(), engine_json(*engine).dump());
    }
    catch_interrupts();
    const bool whole = analyse(*engine, requests, lines);
    const std::vector<PowerLawSummary> summaries = summarise(fits_);
    if (json.wanted()) json.write(to_json(*engine, summaries));
    if (!json.to_stdout()) print(summaries);
    return whole ? 0 : static_cast<int>(ErrorKind::interrupted);
  }

 private:
  const std::string& source() const { return text_file.empty() ? completions_file : text_file; }

  void check_source() const {
    if (text_file.empty() != completions_file.empty()) return;
    throw Error(ErrorKind::invalid_argument, "expected one of --text and --completions");
  }

  std::vector<ForcedTokens> read_requests(const Engine& engine, const std::string& text) const {
    if (text_file.empty()) return completion_requests(engine, completions_file, text);
    if (context > engine.context()) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("--context is {}, but the model has {}", context, engine.context()));
    }
    return cut_windows(corpus_tokens(engine, text_file, text), context, windows);
  }

  /// What the results of a file have in common.
  Json settings(const Engine& engine) const {
    Json object = {{"analysis", "powerlaw"},
                   {text_file.empty() ? "completions" : "text", source()},
                   {"context", text_file.empty() ? Json(nullptr) : Json(context)},
                   {"levels", levels_},
                   {"fitted_rows", fitted_rows_}};
    for (const char* key : {"model", "backend", "compute", "cache_type"}) {
      object[key] = engine_json(engine)[key];
    }
    return object;
  }

  /// False when it was interrupted. Requests whose fits a file holds are not run again.
  bool analyse(Engine& engine, const std::vector<ForcedTokens>& requests,
               std::optional<ResultLines>& lines) {
    std::size_t index = 0;
    for (; lines && index < std::min(lines->lines().size(), requests.size()); ++index) {
      take(parse_fits(Json::parse(lines->lines()[index])));
    }
    std::int64_t rows = 0;
    std::int64_t total = 0;
    for (std::size_t i = index; i < requests.size(); ++i) total += std::ssize(requests[i].tokens);
    if (total == 0) return true;
    Progress progress("power law", total);
    for (; index < requests.size(); ++index) {
      const auto series = quantile_series(engine, requests[index], levels_, [&](std::int64_t done) {
        progress.update(rows + done, "tokens");
        return !interrupted();
      });
      if (!series) return false;
      rows += std::ssize(requests[index].tokens);
      const std::vector<PowerLawFit> fits = fit_power_laws(*series, fitted_rows_);
      if (lines) lines->add(fits_json(static_cast<std::int64_t>(index), *series, fits).dump());
      take(fits);
    }
    return true;
  }

  void take(const std::vector<PowerLawFit>& fits) {
    fits_.insert(fits_.end(), fits.begin(), fits.end());
    requests_ += 1;
  }

  Json to_json(const Engine& engine, const std::vector<PowerLawSummary>& summaries) const {
    Json object = {{"requests", requests_},
                   {"context", text_file.empty() ? Json(nullptr) : Json(context)},
                   {"summaries", summaries_json(summaries)}};
    object.update(engine_json(engine));
    return object;
  }

  void print(const std::vector<PowerLawSummary>& summaries) const {
    print_text(
        fmt::format("R² over all rows of {} requests, percentiles over layers and heads\n"
                    "{:>6} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>6}\n",
                    requests_, "τ", "fitted on", "5 %", "25 %", "50 %", "75 %", "95 %", "negative",
                    "median β", "fits"));
    for (const PowerLawSummary& s : summaries) {
      print_text(fmt::format(
          "{:>6} {:>9} {:>8.3f} {:>8.3f} {:>8.3f} {:>8.3f} {:>8.3f} {:>9} {:>8.3f} {:>6}\n",
          s.level, s.fitted_rows == 0 ? "all" : std::to_string(s.fitted_rows), s.percentiles[0],
          s.percentiles[1], s.percentiles[2], s.percentiles[3], s.percentiles[4],
          percent(s.negative_share), s.beta_percentiles[2], s.fits));
    }
  }

  const std::vector<double> levels_ = {0.5, 0.75, 0.875};
  const std::vector<std::int64_t> fitted_rows_ = {64, 128, 256, 512};
  std::vector<PowerLawFit> fits_;
  std::int64_t requests_ = 0;
};

}  // namespace

void add_analyze(CLI::App& root, int& exit_code) {
  CLI::App* analyze = root.add_subcommand("analyze", "Look at the attention scores of a model");
  analyze->require_subcommand(1);
  analyze->footer("Example:\n  sift analyze powerlaw --text wiki.test.raw --windows 8");

  auto command = std::make_shared<PowerLawCommand>();
  CLI::App* app = analyze->add_subcommand(
      "powerlaw", "How well a power law of the key count predicts the scores' quantiles");
  app->footer(
      "Examples:\n  sift analyze powerlaw --text wiki.test.raw --context 4096 --windows 8 --fits "
      "fits.jsonl\n  sift analyze powerlaw --completions gsm8k.jsonl --json");
  app->add_option("--text", command->text_file,
                  "file with the text, or with documents as JSON lines (.jsonl)")
      ->type_name("FILE");
  app->add_option("--completions", command->completions_file,
                  "JSON lines with \"prompt\" and \"completion\", instead of a text")
      ->type_name("FILE");
  add_integer(*app, "--context", command->context, 2, 1'000'000'000,
              "tokens of a window of a text");
  add_integer(*app, "--windows", command->windows, 0, 1'000'000'000,
              "windows to run; 0: all that the text fills");
  app->add_option("--fits", command->fits_file,
                  "file that all fits go to as JSON lines, one for each window or completion; one "
                  "that holds some already is gone on with")
      ->type_name("FILE");
  add_unused(*app, {"--attention"});
  command->model.add_to(*app);
  command->output.add_to(*app);
  add_log_level(*app);
  app->callback([command, &exit_code] { exit_code = command->run(); });
}

}  // namespace sift::cli
