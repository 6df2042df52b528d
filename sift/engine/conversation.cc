#include "sift/engine/conversation.h"

#include <utility>

#include "sift/engine/chat_prompt.h"
#include "sift/tokenizer/tokenizer.h"

namespace sift {
namespace {

std::string join(const std::vector<TextSegment>& segments) {
  std::string text;
  for (const TextSegment& segment : segments) text += segment.text;
  return text;
}

/// What stands behind the first `bytes` bytes.
std::vector<TextSegment> behind(const std::vector<TextSegment>& segments, std::size_t bytes) {
  std::vector<TextSegment> rest;
  for (const TextSegment& segment : segments) {
    const std::size_t cut = std::min(bytes, segment.text.size());
    bytes -= cut;
    if (cut < segment.text.size()) rest.push_back({segment.text.substr(cut), segment.is_content});
  }
  return rest;
}

}  // namespace

Conversation::Conversation(Engine& engine, const Policy& policy, std::string system)
    : engine_(engine),
      policy_(policy),
      system_(std::move(system)),
      template_(read_chat_template(engine)) {
  clear();
}

Conversation::~Conversation() = default;

void Conversation::clear() {
  messages_.clear();
  if (!system_.empty()) messages_.push_back({"system", system_});
  text_.clear();
  ids_.clear();
  set_policy(policy_);
}

void Conversation::set_policy(const Policy& policy) {
  session_ = engine_.start_session(policy);  // or throws, and the old one stays
  policy_ = policy;
}

// The tokens that were generated stay as they are: encoding their text again may cut it otherwise,
// and then nothing that is cached could be used.
std::vector<std::int32_t> Conversation::next_prompt() {
  const std::vector<TextSegment> segments = render_chat(engine_, template_, messages_);
  std::string text = join(segments);
  const bool continues = !ids_.empty() && text.starts_with(text_);
  std::vector<std::int32_t> ids = continues ? ids_ : std::vector<std::int32_t>();
  const auto added = engine_.tokenizer().encode(behind(segments, continues ? text_.size() : 0));
  ids.insert(ids.end(), added.begin(), added.end());
  text_ = std::move(text);
  return ids;
}

void Conversation::forget_turn(std::string& text_before) {
  messages_.pop_back();
  text_ = std::move(text_before);
}

GenerationResult Conversation::say(const std::string& text, const GenerationRequest& request,
                                   const TokenCallback& callback,
                                   const PromptCallback& prompt_callback) {
  std::string text_before = text_;
  messages_.push_back({"user", text});
  GenerationResult result;
  try {
    GenerationRequest turn = request;
    turn.prompt = next_prompt();
    result = session_->generate(turn, callback, prompt_callback);
    if (result.generated_tokens == 0) {  // interrupted inside the prompt
      forget_turn(text_before);
      return result;
    }
    ids_ = std::move(turn.prompt);
  } catch (...) {
    forget_turn(text_before);
    throw;
  }
  messages_.push_back({"assistant", result.text});
  text_ += result.text;
  ids_.insert(ids_.end(), result.token_ids.begin(), result.token_ids.end());
  // A stop string was cut out of the text but not of the tokens: then the text is encoded anew.
  if (engine_.tokenizer().decode(result.token_ids) != result.text) ids_.clear();
  return result;
}

}  // namespace sift
