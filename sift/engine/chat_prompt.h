#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sift/engine/engine.h"
#include "sift/tokenizer/chat_template.h"

namespace sift {

/// The chat template of an engine's model. Throws Error (bad_file) when it has none, or one that
/// cannot be read.
ChatTemplate read_chat_template(const Engine& engine);

/// The prompt of `messages` up to where the model answers. `now` is the date that templates may
/// ask for, in seconds since 1970; none: the clock. Throws Error (invalid_argument) for text that
/// is not UTF-8, or a template that refuses the messages.
std::vector<TextSegment> render_chat(const Engine& engine, const ChatTemplate& chat_template,
                                     std::span<const ChatMessage> messages,
                                     std::optional<std::int64_t> now = {});

}  // namespace sift
