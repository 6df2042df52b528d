#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "apps/cli/child_process.h"
#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/known_models.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"

namespace sift::cli {
namespace {

using Json = nlohmann::ordered_json;

/// The script that gets models: installed beside this program, or in the source tree that it was
/// built from.
std::string script_path() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto installed = program.parent_path() / SIFT_RELATIVE_LIBEXEC_DIR / "get-model";
  if (!error && std::filesystem::exists(installed)) return installed.lexically_normal();
  return SIFT_SOURCE_SCRIPT_DIR "/get-model";
}

struct PullCommand {
  OutputOptions output;
  std::string name;

  int run() const {
    JsonOutput json(output);
    if (name.empty()) {
      list(json);
      return 0;
    }
    require_known();
    catch_interrupts();
    const ChildResult result = run_child({script_path(), name});
    if (interrupted()) return static_cast<int>(ErrorKind::interrupted);
    if (result.exit_code != 0) {
      throw Error(ErrorKind::input_output, fmt::format("model {} could not be got", name));
    }
    const std::string path = result.output.substr(0, result.output.find('\n'));
    if (json.wanted()) json.write({{"name", name}, {"path", path}});
    if (!json.to_stdout()) print_text(path + "\n");
    return 0;
  }

 private:
  void require_known() const {
    if (find_known_model(name) != nullptr) return;
    std::string known;
    for (const KnownModel& model : known_models()) {
      known += (known.empty() ? "" : ", ") + model.name;
    }
    throw Error(ErrorKind::invalid_argument,
                fmt::format("no model is called '{}'; known: {}", name, known));
  }

  static void list(JsonOutput& json) {
    Json entries = Json::array();
    std::string text;
    for (const KnownModel& model : known_models()) {
      const std::string path = models_folder() + "/" + model.file;
      const bool here = std::filesystem::exists(path);
      entries.push_back({{"name", model.name},
                         {"description", model.description},
                         {"bytes", model.bytes},
                         {"path", here ? Json(path) : Json(nullptr)}});
      text += fmt::format("{:<24} {:>10}  {}  {}\n", model.name, mebibytes(model.bytes),
                          model.description, here ? path : "(not here yet)");
    }
    if (json.wanted()) json.write({{"models", entries}});
    if (!json.to_stdout()) print_text(text);
  }
};

}  // namespace

void add_pull(CLI::App& root, int& exit_code) {
  auto command = std::make_shared<PullCommand>();
  CLI::App* app = root.add_subcommand("pull", "Get a model, or list the models that can be had");
  app->footer("Example:\n  sift pull smollm2-135m-instruct");
  app->add_option("--model,name", command->name, "the model; without it, all are listed")
      ->type_name("NAME");
  add_unused(*app, {"--threads", "--affinity", "--attention"});
  command->output.add_to(*app);
  add_log_level(*app);
  app->callback([command, &exit_code] { exit_code = command->run(); });
}

}  // namespace sift::cli
