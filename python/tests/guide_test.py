"""The examples in the guide run as they stand there."""

import pathlib
import re
import subprocess
import sys

import pytest

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "python.md"


def run(example):
    """What example number `example` of the guide prints."""
    code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[example]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.library
def test_every_argument_is_described():
    import inspect

    from siftattention import KeyShadows, MethodStates, decode_attention, write_key_shadows

    described = set(re.findall(r"`(\w+)`", GUIDE.read_text()))
    fields = {*KeyShadows._fields, *MethodStates._fields} - {"head_states", "group_states"}
    functions = (decode_attention, write_key_shadows)
    parameters = {name for each in functions for name in inspect.signature(each).parameters}
    assert fields | parameters <= described | {"begin", "end"}


@pytest.mark.gpu
def test_the_example_of_thresholds_runs():
    kept = float(run(0).split("%")[0])
    assert 5 < kept < 25  # of normal scores, 11.6 % exceed twice the average


@pytest.mark.gpu
def test_the_example_of_the_method_runs():
    pruned, candidates = re.findall(r"([\d.]+)%", run(1))
    assert 80 < float(pruned) < 95  # τ is 87.5 %
    assert 5 < float(candidates) < 90  # of any of four heads
