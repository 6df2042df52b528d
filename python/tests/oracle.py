"""The reference of the package, also where the package's library cannot be loaded."""

import importlib.util
import pathlib

PATH = pathlib.Path(__file__).parents[1] / "siftattention" / "reference.py"
specification = importlib.util.spec_from_file_location("siftattention_reference", PATH)
reference = importlib.util.module_from_spec(specification)
specification.loader.exec_module(reference)
