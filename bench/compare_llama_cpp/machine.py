"""What is measured on, and whether anything else was running."""

import datetime
import os
import platform
import resource
import subprocess
import time


def describe(repository):
    """The facts that a number is worth nothing without."""
    return {
        "processor": _field("/proc/cpuinfo", "model name"),
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _git(repository, "rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git(repository, "status", "--porcelain")),
        "load_average": os.getloadavg(),
    }


class OtherWork:
    """Measures, while it is open, how busy the processors are with the work of others.

    Others are all but this process and its children. `fraction` is 0 when nothing else ran and 1
    when all processors were taken, time stolen by a hypervisor included.
    """

    def __enter__(self):
        self._start = (time.monotonic(), _busy_seconds(), _own_seconds())
        return self

    def __exit__(self, *_):
        elapsed, busy, own = (
            now - then
            for now, then in zip((time.monotonic(), _busy_seconds(), _own_seconds()), self._start)
        )
        self.fraction = max(0.0, busy - own) / (elapsed * os.cpu_count())


def _own_seconds():
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (
            resource.getrusage(resource.RUSAGE_SELF),
            resource.getrusage(resource.RUSAGE_CHILDREN),
        )
    )


def _busy_seconds():
    """user, nice, system, irq, softirq and steal; idle and iowait are fields 3 and 4."""
    with open("/proc/stat") as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _field(path, name):
    with open(path) as file:
        return next(
            (line.split(":", 1)[1].strip() for line in file if line.startswith(name)), "unknown"
        )


def _git(repository, *arguments):
    result = subprocess.run(["git", "-C", repository, *arguments], capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else "unknown"
