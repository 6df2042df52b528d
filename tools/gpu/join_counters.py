#!/usr/bin/env python3
"""Joins what ncu counted with the steps of `sift_cuda_bench --once`, into one JSON object for each step.

    tools/gpu/join_counters.py COUNTERS.csv STEPS.jsonl

The program sweeps the cache before and after each step, so the kernels of step i stand between sweeps
2i and 2i + 1; all other kernels prepare something. MB are 10⁶ bytes:

    must_read_mb        the rows of K and V and the shadows that the step had to read, as it counted them
    read_mb             read from device memory by its kernels, and `ratio` to must_read_mb
    written_mb          written to device memory while its kernels ran
    written_later_mb    what the sweep after it wrote: lines that the step had left in the cache
    kernels             the first two of each of its kernels

Only bytes that hardware counted are told: whatever is missing or does not fit is an error.
"""

import csv
import json
import re
import sys

SWEEP = "sweep_cache"
METRICS = {"dram__bytes_read.sum": "read", "dram__bytes_write.sum": "written"}
UNITS = {"byte": 1, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}


class NotCounted(Exception):
    """Why there are no bytes to tell, as a sentence."""


def refuse_errors(log):
    """Raises if ncu's log says that it could not count, or that its counts are not of cold caches."""
    if "ERR_NVGPUCTRPERM" in log:
        raise NotCounted("this machine refuses its hardware counters to this user "
                         "(ERR_NVGPUCTRPERM), so no bytes were counted")
    error = re.search(r"^==ERROR== *(.+)", log, re.MULTILINE)
    if error:
        raise NotCounted(f"ncu could not count bytes: {error.group(1).strip()}")
    passes = [int(number) for number in re.findall(r"^==PROF== .*- (\d+) pass", log, re.MULTILINE)]
    if max(passes, default=1) > 1:
        raise NotCounted(f"ncu ran a kernel {max(passes)} times to count its bytes, and all but the first "
                         "find the cache filled; expected one pass")


def base_name(kernel):
    """`values_kernel` of `void sift::cuda::<unnamed>::values_kernel<__half, (int)128>(Arguments)`."""
    kernel = kernel.replace("(anonymous namespace)", "").replace("<unnamed>", "")
    return re.split(r"[<(]", kernel)[0].split("::")[-1].split()[-1]


def bytes_of(row):
    value, unit = row["Metric Value"].replace(",", ""), row["Metric Unit"]
    if unit not in UNITS or not re.fullmatch(r"\d+(\.\d+)?", value):
        raise NotCounted(f"ncu gave '{value} {unit}' for {row['Metric Name']} of {row['Kernel Name']}, "
                         "expected bytes")
    return float(value) * UNITS[unit]


def parse_kernels(log):
    """[{"name", "read", "written"}] of all kernels in the order of their launches."""
    table = [line for line in log.splitlines() if line.startswith('"')]
    kernels = {}
    for row in csv.DictReader(table):
        kernel = kernels.setdefault(int(row["ID"]), {"name": base_name(row["Kernel Name"])})
        if row["Metric Name"] in METRICS:
            kernel[METRICS[row["Metric Name"]]] = bytes_of(row)
    for number, kernel in kernels.items():
        if not {"read", "written"} <= kernel.keys():
            raise NotCounted(f"ncu did not count all bytes of kernel {number} ({kernel['name']})")
    return [kernels[number] for number in sorted(kernels)]


def split_at_sweeps(kernels, steps):
    """(kernels, sweep after them) of each step."""
    sweeps = [place for place, kernel in enumerate(kernels) if kernel["name"] == SWEEP]
    if len(sweeps) != 2 * steps:
        raise NotCounted(f"ncu saw {len(sweeps)} sweeps of the cache, expected 2 for each of {steps} steps")
    return [(kernels[begin + 1:end], kernels[end]) for begin, end in zip(sweeps[::2], sweeps[1::2])]


def megabytes(number):
    return round(number / 1e6, 3)


def by_kernel(kernels):
    """Bytes of kernels with the same name together."""
    sums = {}
    for kernel in kernels:
        entry = sums.setdefault(kernel["name"], {"read": 0, "written": 0})
        for side in entry:
            entry[side] += kernel[side]
    return {name: {f"{side}_mb": megabytes(number) for side, number in entry.items()}
            for name, entry in sums.items()}


def join_step(step, kernels, sweep):
    if not kernels:
        raise NotCounted(f"ncu saw no kernel of {step['variant']} ({step['cell']})")
    must_read = step["must_read"]
    read = sum(kernel["read"] for kernel in kernels)
    return {key: value for key, value in step.items() if key != "must_read"} | {
        "must_read_mb": megabytes(must_read),
        "read_mb": megabytes(read),
        "written_mb": megabytes(sum(kernel["written"] for kernel in kernels)),
        "written_later_mb": megabytes(sweep["written"]),
        "ratio": round(read / must_read, 4),
        "kernels": by_kernel(kernels),
    }


def join(log, steps):
    """`log`: what ncu wrote; `steps`: objects that the program printed."""
    refuse_errors(log)
    if not steps:
        raise NotCounted("sift_cuda_bench printed no steps")
    sections = split_at_sweeps(parse_kernels(log), len(steps))
    return [join_step(step, *section) for step, section in zip(steps, sections)]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        log = file.read()
    with open(sys.argv[2], encoding="utf-8") as file:
        lines = file.read().splitlines()
    try:
        # If ncu is refused, it may write so among the program's lines.
        refuse_errors("\n".join(lines))
        steps = [json.loads(line) for line in lines if line.startswith("{")]
        for joined in join(log, steps):
            print(json.dumps(joined))
    except NotCounted as reason:
        sys.exit(f"decode-bytes: {reason}")


if __name__ == "__main__":
    main()
