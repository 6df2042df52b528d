"""The two programs that are compared, each behind a function that returns tokens per second."""

import json
import os
import re
import subprocess
from dataclasses import dataclass

from machine import OtherWork


@dataclass(frozen=True)
class Measure:
    """What is timed.

    `name` is "prefill" or "decode", `depth` the tokens in the cache before, `tokens` those timed.
    """

    name: str
    depth: int
    tokens: int


class ProgramFailed(Exception):
    pass


class Programs:
    def __init__(self, peer, sift, threads, repeat, compute):
        self._peer, self._sift, self._threads = peer, sift, threads
        self._repeat, self._compute = repeat, compute
        self.commands = []

    def time_peer(self, model, measure, flash_attention):
        prompt, generated = (
            (measure.tokens, 0) if measure.name == "prefill" else (0, measure.tokens)
        )
        output, other_work = self._run(
            [
                f"{self._peer}/bin/llama-bench",
                "-m",
                model,
                "-t",
                self._threads,
                "-p",
                prompt,
                "-n",
                generated,
                "-d",
                measure.depth,
                "-fa",
                int(flash_attention),
                "-ctk",
                "f16",
                "-ctv",
                "f16",
                "--repack",
                1,
                "-r",
                self._repeat,
                "-o",
                "json",
            ]
        )
        samples = sorted(json.loads(output)[0]["samples_ts"])
        return {
            "tokens_per_second": _median(samples),
            "minimum": samples[0],
            "maximum": samples[-1],
            "other_work": other_work,
        }

    def time_sift(self, model, measure, attention, text):
        """Feeds the tokens of `text`: what a policy can leave unread depends on them."""
        decode = measure.name == "decode"
        output, other_work = self._run(
            [self._sift, "bench", measure.name, "--model", model, "--threads", self._threads]
            + (["--tokens", measure.tokens] if decode else [])
            + ["--depth", measure.depth if decode else measure.tokens, "--repeat", self._repeat]
            + ["--text", text, "--attention", attention, "--cache-type", "f16", "--json"]
            + (["--compute", self._compute] if self._compute else [])
        )
        row = json.loads(output)["results"][0]
        # Without a prompt of its own, decoding begins behind one token.
        if row["tokens"] != measure.tokens or abs(row["depth"] - measure.depth) > 1:
            raise ProgramFailed(
                f"sift bench measured {row['tokens']} tokens at depth {row['depth']}, "
                f"expected {measure.tokens} at {measure.depth}"
            )
        return {
            "tokens_per_second": row["median_tokens_per_second"],
            "minimum": row["minimum"],
            "maximum": row["maximum"],
            "compute": row["compute"],
            "attention": row["attention"],
            "other_work": other_work,
        }

    def perplexity_of_peer(self, model, text, context, windows):
        """Over the second half of each window; the estimate is among the lines of the log."""
        output, _ = self._run(
            [
                f"{self._peer}/bin/llama-perplexity",
                "-m",
                model,
                "-f",
                text,
                "-t",
                self._threads,
                "-c",
                context,
                "--chunks",
                windows,
            ],
            with_errors=True,
        )
        found = re.search(r"Final estimate: PPL = ([0-9.]+)", output)
        if not found:
            raise ProgramFailed("llama-perplexity printed no final estimate")
        return float(found.group(1))

    def perplexity_of_sift(self, model, text, context, windows, attention):
        command = [
            self._sift,
            "perplexity",
            "--model",
            model,
            "--text",
            text,
            "--threads",
            self._threads,
            "--context",
            context,
            "--windows",
            windows,
            "--score",
            "second-half",
            "--path",
            "decode",
            "--attention",
            attention,
            "--cache-type",
            "f16",
            "--json",
        ]
        output, _ = self._run(command + (["--compute", self._compute] if self._compute else []))
        result = json.loads(output)
        return {"perplexity": result["perplexity"], "compute": result["compute"]}

    def memory_bandwidth(self, program):
        return json.loads(self._run([program, "--threads", self._threads])[0])

    def version_of_sift(self):
        return self._run([self._sift, "--version"])[0].strip()

    def _run(self, command, with_errors=False):
        """Standard output, and the share of the processors that others took.

        OMP_* of the caller reach neither program: each is measured as a user finds it.
        """
        command = [str(argument) for argument in command]
        self.commands.append(" ".join(map(_without_folder, command)))
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))
        }
        with OtherWork() as other:
            try:
                result = subprocess.run(
                    command,
                    env=environment,
                    text=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT if with_errors else subprocess.PIPE,
                )
            except OSError as error:
                raise ProgramFailed(f"cannot start '{command[0]}': {error.strerror}") from error
        if result.returncode != 0:
            complaint = (result.stderr or result.stdout).strip().splitlines()[-1:]
            raise ProgramFailed(
                f"'{' '.join(command)}' ended with {result.returncode}: {' '.join(complaint)}"
            )
        return result.stdout, other.fraction


def _without_folder(argument):
    """Where somebody keeps the files is of no use to who repeats the command elsewhere."""
    return os.path.basename(argument) if os.path.isabs(argument) else argument


def _median(ordered):
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
