#include "sift/tokenizer/chat_template.h"

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "sift/core/error.h"
#include "sift/tokenizer/jinja/ast.h"
#include "sift/tokenizer/jinja/interpreter.h"
#include "sift/tokenizer/jinja/json_value.h"
#include "sift/tokenizer/utf8.h"

namespace sift {
namespace {

std::int64_t seconds_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

void require_utf8(std::string_view text) {
  if (utf8::find_invalid(text) == std::string_view::npos) return;
  throw Error(ErrorKind::invalid_argument, "a message of the conversation is not UTF-8");
}

jinja::Value parse_list(std::string_view what, std::string_view json) {
  jinja::Value value = jinja::value_from_json(what, json);
  if (!value.is_list())
    jinja::fail(fmt::format("{} is {}, expected a list", what, type_name(value)));
  return value;
}

jinja::Variables variables_of(const ChatRequest& request) {
  jinja::Variables variables;
  const auto add = [&](std::string_view name, jinja::Value value) {
    variables.emplace_back(name, std::move(value));
  };
  add("messages", parse_list("the list of messages", request.messages_json));
  add("tools", request.tools_json.empty() ? jinja::Value(jinja::None{})
                                          : parse_list("the list of tools", request.tools_json));
  add("documents", jinja::None{});
  add("add_generation_prompt", request.add_generation_prompt);
  add("bos_token", jinja::Text(request.bos_token));
  add("eos_token", jinja::Text(request.eos_token));
  if (request.variables_json.empty()) return variables;
  const jinja::Value more =
      jinja::value_from_json("the template's variables", request.variables_json);
  if (!more.is_dictionary()) jinja::fail("the template's variables are not a JSON object");
  for (const auto& [key, value] : more.dictionary().entries()) add(key.text().bytes(), value);
  return variables;
}

}  // namespace

struct ChatTemplate::Parsed {
  jinja::Program program;
};

ChatTemplate::ChatTemplate(std::string_view source)
    : parsed_(std::make_unique<const Parsed>(Parsed{jinja::parse(source)})) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::vector<TextSegment> ChatTemplate::render(const ChatRequest& request) const {
  jinja::Context context(jinja::Limits{}, request.now.value_or(seconds_now()));
  return jinja::run(parsed_->program, context, variables_of(request)).segments();
}

std::string messages_json(std::span<const ChatMessage> messages) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const ChatMessage& message : messages) {
    require_utf8(message.role);
    require_utf8(message.content);
    all.push_back({{"role", message.role}, {"content", message.content}});
  }
  return all.dump();
}

}  // namespace sift
