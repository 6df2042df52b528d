#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sift {

/// The alphabet in which byte-level vocabularies write their tokens: every byte is one printable
/// character. Printable Latin-1 bytes stand for themselves, the other 68 bytes, in order, for
/// U+0100, U+0101, … (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").
/// The character of `byte`, in UTF-8.
std::string byte_to_alphabet(std::uint8_t byte);

/// The bytes that `token` stands for, or nothing when a character of it is not of the alphabet
/// (such a token is literal text).
std::optional<std::string> alphabet_to_bytes(std::string_view token);

}  // namespace sift
