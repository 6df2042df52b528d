"""The GPU that is measured on, and the state that it is in."""

import datetime
import subprocess

import torch

STATE = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "clocks_event_reasons.active")


def state():
    """{"clocks.sm": "1980 MHz", …} of the first GPU, now."""
    query = ["nvidia-smi", f"--query-gpu={','.join(STATE)}", "--format=csv,noheader", "--id=0"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as failure:
        return {"unknown": str(failure)}
    return dict(zip(STATE, (part.strip() for part in line.split(","))))


def describe():
    """The facts that a number is worth nothing without."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "gpu": properties.name,
        "processors": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
