#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sift/tokenizer/text_segment.h"

namespace sift {

/// One turn of a conversation.
struct ChatMessage {
  std::string role;
  std::string content;
};

/// What a chat template is given.
struct ChatRequest {
  /// The conversation: a JSON array of objects with `role`, `content` and whatever else the
  /// template knows (`tool_calls`). See messages_json().
  std::string messages_json = "[]";
  std::string tools_json;      ///< a JSON array of functions; empty: none
  std::string variables_json;  ///< a JSON object of further variables; empty: none
  bool add_generation_prompt = true;
  std::string bos_token;  ///< the text of the token; empty: none
  std::string eos_token;
  std::optional<std::int64_t> now;  ///< seconds since 1970 for the template's date; none: the clock
};

/// `messages` as JSON. Throws invalid_argument when a text is not UTF-8.
std::string messages_json(std::span<const ChatMessage> messages);

/// A model's chat template: the subset of Jinja that such templates are written in, with the
/// meaning that Hugging Face transformers gives it. Templates are run like any hostile input, with
/// bounds on steps, memory, nesting and output (4 MiB). Immutable, so one serves all threads.
///
/// Differences: letters change case one for one ("ß" stays), integers have 64 bits, the date is
/// that of UTC, and what templates do not use (inheritance, includes, recursive loops, call blocks,
/// `*` in calls) is refused.
class ChatTemplate {
 public:
  /// Throws bad_file, naming the line, when `source` is not a template of the supported language.
  explicit ChatTemplate(std::string_view source);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  /// The prompt, in stretches that stem from the template or from content: every string of the
  /// request's JSON is content, wherever the template moves it (numbers are not). Throws
  /// invalid_argument, naming the line, when the template raises an error or exceeds its bounds, or
  /// when the request is not as described.
  std::vector<TextSegment> render(const ChatRequest& request) const;

 private:
  struct Parsed;
  std::unique_ptr<const Parsed> parsed_;
};

}  // namespace sift
