#!/usr/bin/env python3
"""Makes tests/data/splits.json: how Hugging Face's tokenizers cut random texts into words.

Needs `pip install tokenizers==0.23.3`. The texts are random but fixed by a seed.
Each text comes with, for each pre-tokenizer, the byte lengths of its pieces.
"""

import json
import pathlib
import random

from tokenizers import Regex, pre_tokenizers

CONTRACTIONS_AND_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
SYMBOLS_AND_SPACES = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

ATOMS = (
    list("aZbé'.,!?-_(\"0179$+<>|{}#~") + ["'s", "'LL", "'t", "'Re", "'ve", "'d", "'M", "'ſ"]
    + [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\v", "\f", "\x00", "\x1c", "\x1f", "\x7f"]
    + ["\x85", "\xa0", "\u1680", "\u180e", "\u2003", "\u200b", "\u2028", "\u2029", "\u202f", "\u3000"]
    + ["\u034f", "\u0301", "\u093c", "\u094d", "\u200d", "\ufeff", "\ufffd", "\ufe0f"]
    + ["你好", "五", "क", "اَ", "ש", "ᄒ", "한", "ǅ", "ß", "İ", "ſ", "𝔸", "٣", "२", "½", "²", "①", "Ⅷ", "𝟘"]
    + ["👨‍👩‍👧", "🙂", "🇫🇷", "<|im_end|>", "€", "№", "a1", "2024", "3.14", "http://x.y/z?q=1"]
)


def make_splitters():
    def split(numbers):
        pattern = CONTRACTIONS_AND_WORDS + numbers + SYMBOLS_AND_SPACES
        return pre_tokenizers.Split(Regex(pattern), "isolated")

    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    return {
        "gpt-2": gpt2,
        "llama-bpe": split(r"\p{N}{1,3}"),
        "qwen2": split(r"\p{N}"),
        "smollm": pre_tokenizers.Sequence([digits, gpt2]),
    }


def make_texts(count):
    generator = random.Random(20250607)
    texts = []
    for _ in range(count):
        texts.append("".join(generator.choice(ATOMS) for _ in range(generator.randint(1, 24))))
    return texts


def piece_lengths(splitter, text):
    spans = [span for _, span in splitter.pre_tokenize_str(text)]
    assert "".join(text[begin:end] for begin, end in spans) == text
    return [len(text[begin:end].encode()) for begin, end in spans]


def main():
    splitters = make_splitters()
    cases = []
    for text in make_texts(500):
        lengths = {name: piece_lengths(splitter, text) for name, splitter in splitters.items()}
        cases.append({"text": text, **lengths})
    path = pathlib.Path(__file__).parents[2] / "tests" / "data" / "splits.json"
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path.write_text("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    main()
