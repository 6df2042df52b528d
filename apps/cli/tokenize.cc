#include <fmt/format.h>

#include <memory>

#include "apps/cli/arguments.h"
#include "apps/cli/commands.h"
#include "apps/cli/common.h"
#include "apps/cli/report.h"
#include "sift/core/error.h"
#include "sift/model/model.h"
#include "sift/tokenizer/tokenizer.h"
#include "sift/tokenizer/tokenizer_from_gguf.h"

namespace sift::cli {
namespace {

/// What the common options are where there is a vocabulary but nothing to run.
void add_common_options(CLI::App& app, ModelOptions& model, OutputOptions& output) {
  model.add_model_to(app);
  add_unused(app, {"--threads", "--affinity", "--attention"});
  output.add_to(app);
  add_log_level(app);
}

Tokenizer load_tokenizer(const std::string& model) {
  return tokenizer_from_gguf(Model(resolve_model(model)).metadata());
}

struct TokenizeCommand {
  ModelOptions model;
  OutputOptions output;
  std::string text;
  std::string text_file;
  bool text_given = false;

  void run() const {
    if (text_given == !text_file.empty()) {
      throw Error(ErrorKind::invalid_argument, "expected one of --text TEXT and --text-file FILE");
    }
    JsonOutput json(output);
    const auto ids = load_tokenizer(model.model)
                         .encode(text_given ? text : read_text(text_file), ParseSpecial::yes);
    if (json.wanted()) json.write({{"token_ids", ids}});
    if (!json.to_stdout()) print_text(fmt::format("{}\n", fmt::join(ids, " ")));
  }
};

struct DetokenizeCommand {
  ModelOptions model;
  OutputOptions output;
  std::vector<std::string> ids;

  void run() const {
    JsonOutput json(output);
    std::vector<std::int32_t> tokens;
    tokens.reserve(ids.size());
    for (const std::string& id : ids) {
      tokens.push_back(static_cast<std::int32_t>(
          parse_integer("token id", id, 0, std::numeric_limits<std::int32_t>::max())));
    }
    const std::string text = load_tokenizer(model.model).decode(tokens);
    if (json.wanted()) json.write({{"text", text}});
    if (!json.to_stdout()) print_text(text + "\n");
  }
};

}  // namespace

void add_tokenize(CLI::App& root) {
  auto command = std::make_shared<TokenizeCommand>();
  CLI::App* app = root.add_subcommand("tokenize", "Show the tokens of a text");
  app->footer("Example:\n  sift tokenize --text \"Hello world\" --json");
  CLI::Option* text =
      app->add_option("--text", command->text, "the text; special tokens count as such");
  text->type_name("TEXT");
  app->add_option("--text-file", command->text_file, "file with the text, - for standard input")
      ->type_name("FILE");
  add_common_options(*app, command->model, command->output);
  app->callback([command, text] {
    command->text_given = text->count() > 0;
    command->run();
  });
}

void add_detokenize(CLI::App& root) {
  auto command = std::make_shared<DetokenizeCommand>();
  CLI::App* app = root.add_subcommand("detokenize", "Show the text of tokens");
  app->footer("Example:\n  sift detokenize 19556 905");
  app->add_option("ids", command->ids, "token ids")->required();
  add_common_options(*app, command->model, command->output);
  app->callback([command] { command->run(); });
}

}  // namespace sift::cli
