"""What comes out of the measurements: medians, ratios, bytes, and the table of them."""

import statistics

# The name in the table, and whether flash attention is on.
PEERS = {"llama.cpp fa=0": False, "llama.cpp fa=1": True}
# A twentieth of the processors lost to others exceeds the spread of runs on a quiet machine.
LARGEST_OTHER_WORK = 0.05


def summarise(row):
    """Medians over the turns, and sift's ratio to the better of the peers, with its range."""
    turns = row["turns"]
    row["measure"] = vars(row["measure"])
    row["tokens_per_second"] = {
        name: statistics.median(turn["tokens_per_second"] for turn in results)
        for name, results in turns.items()
    }
    row["best_of_llama_cpp"] = max(PEERS, key=row["tokens_per_second"].get)
    best = row["best_of_llama_cpp"]
    row["ratios"] = {
        name: {"median": rate / row["tokens_per_second"][best], **spread(turns[name], turns[best])}
        for name, rate in row["tokens_per_second"].items()
        if name not in PEERS
    }
    row["other_work"] = max(turn["other_work"] for results in turns.values() for turn in results)


def spread(ours, theirs):
    ratios = [
        mine["tokens_per_second"] / other["tokens_per_second"] for mine, other in zip(ours, theirs)
    ]
    return {"minimum": min(ratios), "maximum": max(ratios)}


def add_bytes(report):
    """GB/s of weights and cache that generation reads, where all of the cache is read."""
    for row in report["rows"]:
        measure, model = row["measure"], report["models"][row["type"]]
        if measure["name"] != "decode":
            continue
        positions = measure["depth"] + measure["tokens"] / 2
        size = model["weight_bytes_per_token"] + positions * model["cache_bytes_per_position"]
        row["gigabytes_per_second"] = {
            name: rate * size / 1e9
            for name, rate in row["tokens_per_second"].items()
            if name in PEERS or name == "sift full"
        }


def print_report(report):
    facts, rows = report["machine"], report["rows"]
    changes = " with uncommitted changes" if facts["uncommitted_changes"] else ""
    print(
        f"{facts['processor']}, {facts['processors']} processors, "
        f"{facts['memory_bytes'] / 2**30:.0f} GiB; {facts['date']}; "
        f"commit {facts['commit'][:12]}{changes}; {report['peer']['package']}"
    )
    ceiling = report.get("memory_bandwidth", {}).get("median_gigabytes_per_second")
    if ceiling:
        print(f"memory reads {ceiling:.1f} GB/s")
    print("\n| model | measured | depth | program | tokens/s | ratio | ratio, turns | GB/s |")
    print("|---|---|---:|---|---:|---:|---|---:|")
    for row in rows:
        print_row(row)
    for kind, values in report.get("perplexity", {}).items():
        print(f"perplexity of {kind}: {values}")
    ratios = [
        (ratio["median"], row["type"], row["measure"]["name"], row["measure"]["depth"], name)
        for row in rows
        for name, ratio in row["ratios"].items()
    ]
    if ratios:
        print("\nlowest ratio: {:.2f} ({} {} at {}, {})".format(*min(ratios)))
    disturbed = [row["other_work"] for row in rows if row["other_work"] > LARGEST_OTHER_WORK]
    if disturbed:
        print(
            f"\nOTHER PROGRAMS RAN during {len(disturbed)} of {len(rows)} measurements and took "
            f"up to {max(disturbed):.0%} of the processors: these numbers are indicative only"
        )


def print_row(row):
    for name, rate in row["tokens_per_second"].items():
        ratio = row["ratios"].get(name)
        columns = (
            (f"{ratio['median']:.2f}", f"{ratio['minimum']:.2f}-{ratio['maximum']:.2f}")
            if ratio
            else ("", "")
        )
        reads = row.get("gigabytes_per_second", {}).get(name)
        print(
            "| {} | {} | {} | {} | {:.1f} | {} | {} | {} |".format(
                row["type"],
                row["measure"]["name"],
                row["measure"]["depth"],
                name,
                rate,
                *columns,
                f"{reads:.1f}" if reads else "",
            )
        )
