#include "sift/engine/chat_prompt.h"

#include <string>

#include "sift/core/error.h"
#include "sift/tokenizer/tokenizer.h"

namespace sift {
namespace {

std::string token_text(const Tokenizer& tokenizer, const std::optional<std::int32_t>& id) {
  return id ? std::string(tokenizer.token_bytes(*id)) : "";
}

}  // namespace

ChatTemplate read_chat_template(const Engine& engine) {
  const std::string& source = engine.tokenizer().chat_template();
  if (source.empty()) {
    throw Error(ErrorKind::bad_file, engine.options().model_path +
                                         ": metadata has no tokenizer.chat_template, so the model "
                                         "cannot chat");
  }
  try {
    return ChatTemplate(source);
  } catch (const Error& error) {
    throw Error(error.kind(),
                engine.options().model_path + ": tokenizer.chat_template: " + error.what());
  }
}

std::vector<TextSegment> render_chat(const Engine& engine, const ChatTemplate& chat_template,
                                     std::span<const ChatMessage> messages,
                                     std::optional<std::int64_t> now) {
  const Tokenizer& tokenizer = engine.tokenizer();
  ChatRequest request;
  request.messages_json = messages_json(messages);
  request.bos_token = token_text(tokenizer, tokenizer.bos_id());
  request.eos_token = token_text(tokenizer, tokenizer.eos_id());
  request.now = now;
  return chat_template.render(request);
}

}  // namespace sift
