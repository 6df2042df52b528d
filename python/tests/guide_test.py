"""The example in the guide runs as it stands there."""

import pathlib
import re
import subprocess
import sys

import pytest

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "python.md"


def example():
    return re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL).group(1)


@pytest.mark.library
def test_every_argument_is_described():
    import inspect

    from siftattention import decode_attention

    described = set(re.findall(r"`(\w+)`", GUIDE.read_text()))
    assert set(inspect.signature(decode_attention).parameters) <= described


@pytest.mark.gpu
def test_the_example_runs():
    done = subprocess.run([sys.executable, "-c", example()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = float(done.stdout.split("%")[0])
    assert 5 < kept < 25  # of normal scores, 11.6 % exceed twice the average
