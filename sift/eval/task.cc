#include "sift/eval/task.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "sift/core/error.h"
#include "sift/eval/json_documents.h"
#include "sift/sampler/random.h"

namespace sift {
namespace {

using Json = nlohmann::ordered_json;

/// What is special in a task's data.
struct TaskReader {
  std::string_view task;
  bool (*belongs)(const JsonDocument& document);
  std::string (*question)(const JsonDocument& document);
  std::string (*answer)(const JsonDocument& document);  ///< of a worked example
  void (*check)(const JsonDocument& document);          ///< what scorers need besides
};

bool always(const JsonDocument& /*document*/) { return true; }

std::string prompt(const JsonDocument& document) { return text_member(document, "prompt"); }

std::string no_answer(const JsonDocument& /*document*/) { return {}; }

// The texts of prompts are those of lm-eval's tasks, byte for byte: scores compare only so.

bool is_level_5(const JsonDocument& document) {
  return text_member(document, "level") == "Level 5";
}

std::string math_question(const JsonDocument& document) {
  return "Problem:\n" + text_member(document, "problem") + "\n\nSolution:";
}

std::string math_answer(const JsonDocument& document) { return text_member(document, "solution"); }

void check_math(const JsonDocument& document) { math_answer(document); }

std::string gsm8k_question(const JsonDocument& document) {
  return "Question: " + text_member(document, "question") + "\nAnswer:";
}

std::string gsm8k_answer(const JsonDocument& document) { return text_member(document, "answer"); }

void check_gsm8k(const JsonDocument& document) { gsm8k_answer(document); }

void check_ifeval(const JsonDocument& document) {
  const Json& instructions = member(document, "instruction_id_list");
  const bool texts =
      instructions.is_array() && !instructions.empty() &&
      std::ranges::all_of(instructions, [](const Json& value) { return value.is_string(); });
  if (!texts) refuse_member(document, "instruction_id_list", "a list of texts");
  const Json& arguments = member(document, "kwargs");
  const bool objects =
      arguments.is_array() && arguments.size() == instructions.size() &&
      std::ranges::all_of(arguments, [](const Json& value) { return value.is_object(); });
  if (!objects) refuse_member(document, "kwargs", "one object for each instruction");
  member(document, "key");
}

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

void check_longgenbench(const JsonDocument& document) {
  text_member(document, "type");
  text_member(document, "prefix");
  const Json& number = member(document, "number");
  if (!number.is_number_integer() || number <= 0) {
    refuse_member(document, "number", "an integer above 0");
  }
  for (const char* key : {"checks_once", "checks_range", "checks_periodic"}) {
    const Json& checks = member(document, key);
    bool events = checks.is_object();
    for (const auto& [block, event] : checks.items()) {
      events = events && is_number(block) && event.is_string();
    }
    if (!events) refuse_member(document, key, "an object of blocks' numbers and events' texts");
  }
}

constexpr TaskReader kReaders[] = {
    {"ifeval", always, prompt, no_answer, check_ifeval},
    {"math-hard", is_level_5, math_question, math_answer, check_math},
    {"gsm8k", always, gsm8k_question, gsm8k_answer, check_gsm8k},
    {"longgenbench", always, prompt, no_answer, check_longgenbench},
};

const TaskReader& reader_of(const TaskDefinition& definition) {
  return *std::ranges::find(kReaders, definition.name, &TaskReader::task);
}

/// FNV-1a.
class Hash {
 public:
  void add(std::string_view text) {
    for (const char c : text) value_ = (value_ ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325U;
};

std::vector<JsonDocument> read_examples(const TaskDefinition& definition, std::int64_t shots,
                                        const TaskFile& file) {
  if (shots > 0 && !definition.takes_examples) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("{} worked examples asked for, but {} takes none", shots, definition.name));
  }
  if (shots == 0) return {};
  if (file.name.empty()) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} shows {} worked examples before each question, expected a file of "
                            "them",
                            definition.name, shots));
  }
  std::vector<JsonDocument> examples = read_json_documents(file);
  const auto available = static_cast<std::int64_t>(examples.size());
  if (available < shots) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("{} worked examples asked for, but {} has {}", shots, file.name, available));
  }
  examples.resize(static_cast<std::size_t>(shots));
  return examples;
}

}  // namespace

std::string_view name(PromptFormat format) {
  return format == PromptFormat::chat ? "chat" : "plain";
}

std::span<const TaskDefinition> task_definitions() {
  static const std::vector<TaskDefinition> kDefinitions = {
      {.name = "ifeval",
       .description = "instructions that a program can check",
       .max_tokens = 1280},
      {.name = "math-hard",
       .description = "problems of level 5 of MATH",
       .shots = 4,
       .takes_examples = true,
       .max_tokens = 1024,
       .stop = {"Problem:"}},
      {.name = "gsm8k",
       .description = "grade-school word problems",
       .takes_examples = true,
       .max_tokens = 512,
       .max_warmup = 128,
       .stop = {"Question:", "</s>", "<|im_end|>"}},
      {.name = "longgenbench",
       .description = "long documents with events at given places",
       .format = PromptFormat::plain,
       .max_tokens = 4096,
       .temperature = 0.95,
       .top_p = 0.95,
       .stop = {"*** finished"}},
  };
  return kDefinitions;
}

const TaskDefinition& find_task(std::string_view name) {
  const auto tasks = task_definitions();
  const auto found = std::ranges::find(tasks, name, &TaskDefinition::name);
  if (found != tasks.end()) return *found;
  std::vector<std::string_view> known;
  for (const TaskDefinition& task : tasks) known.push_back(task.name);
  throw Error(ErrorKind::invalid_argument,
              fmt::format("unknown task '{}'; known tasks: {}", name, fmt::join(known, ", ")));
}

Task load_task(const TaskDefinition& definition, const TaskFile& data, std::int64_t shots,
               const TaskFile& examples) {
  const TaskReader& reader = reader_of(definition);
  Task task;
  task.definition = &definition;
  task.shots = shots;
  Hash hash;
  hash.add(data.text);
  std::vector<ChatMessage> shown;
  for (const JsonDocument& example : read_examples(definition, shots, examples)) {
    shown.push_back({"user", reader.question(example)});
    shown.push_back({"assistant", reader.answer(example)});
    hash.add(example.value.dump());
  }
  for (const JsonDocument& document : read_json_documents(data)) {
    if (!reader.belongs(document)) continue;
    reader.check(document);
    TaskSample& sample = task.samples.emplace_back();
    sample.index = document.index;
    sample.turns = shown;
    sample.turns.push_back({"user", reader.question(document)});
    sample.document = document.value.dump();
  }
  if (task.samples.empty()) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: holds no sample of {}, expected {}", data.name, definition.name,
                            definition.description));
  }
  task.data_hash = hash.value();
  return task;
}

std::vector<std::int64_t> sample_order(const Task& task, std::int64_t limit, std::uint64_t seed) {
  const auto count = static_cast<std::int64_t>(task.samples.size());
  if (limit < 0 || limit > count) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} samples asked for, but the data of {} has {}", limit,
                            task.definition->name, count));
  }
  std::vector<std::int64_t> order(task.samples.size());
  std::iota(order.begin(), order.end(), 0);
  for (std::int64_t i = 0; i < count; ++i) {
    const double left = static_cast<double>(count - i);
    const auto step =
        static_cast<std::int64_t>(left * uniform_random(seed, 0, static_cast<std::uint64_t>(i)));
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(i + step)]);
  }
  if (limit > 0) order.resize(static_cast<std::size_t>(limit));
  return order;
}

}  // namespace sift
