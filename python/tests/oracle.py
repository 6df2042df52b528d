"""The reference of the package: that of the sources where no package is installed."""

import importlib.util
import pathlib
import sys

if importlib.util.find_spec("siftattention") is None:
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from siftattention import reference  # noqa: E402, F401
