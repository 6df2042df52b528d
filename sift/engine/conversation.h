#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sift/engine/engine.h"
#include "sift/tokenizer/chat_template.h"

namespace sift {

/// Turns of a user and a model, put into words by the model's chat template. What has been said
/// stays in the cache. The text of special tokens in messages is plain text.
class Conversation {
 public:
  /// `system` is the message that stands before all others; empty: none (some templates have their
  /// own). Throws Error (bad_file) when the model has no chat template, or one that cannot be read.
  /// REQUIRES: the engine outlives the conversation.
  Conversation(Engine& engine, const Policy& policy, std::string system);
  ~Conversation();

  /// Says `text` and returns the answer. An answer that was cut short stays part of the
  /// conversation as far as it came; a turn that ended inside its prompt is forgotten. `request`
  /// tells how to generate; its prompt and policy are ignored. Throws Error: invalid_argument for
  /// text that is not UTF-8, a template that refuses the conversation, or one that no longer fits
  /// the context; the turn is then forgotten.
  GenerationResult say(const std::string& text, const GenerationRequest& request,
                       const TokenCallback& callback = {},
                       const PromptCallback& prompt_callback = {});

  /// Forgets all turns.
  void clear();
  /// Changes the policy; all turns stay, and their rows are computed anew with the next.
  void set_policy(const Policy& policy);

  const Policy& policy() const { return policy_; }
  /// Tokens of the conversation so far.
  std::int64_t tokens() const { return static_cast<std::int64_t>(ids_.size()); }

 private:
  std::vector<std::int32_t> next_prompt();
  void forget_turn(std::string& text_before);

  Engine& engine_;
  Policy policy_;
  std::string system_;
  ChatTemplate template_;
  std::vector<ChatMessage> messages_;
  std::unique_ptr<Session> session_;
  std::string text_;               ///< the prompt of the last turn and its answer, as text
  std::vector<std::int32_t> ids_;  ///< the same as tokens
};

}  // namespace sift
