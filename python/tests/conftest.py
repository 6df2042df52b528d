"""What tests need that depends on the machine: the library, a GPU, or the reference in its place."""

import pytest
import torch

import rehearsal

try:
    import siftattention.library

    missing = None
except (ImportError, OSError) as failure:
    missing = f"the library of siftattention cannot be loaded: {failure}"


if missing is None:
    rehearsal.install()


def pytest_addoption(parser):
    parser.addoption(
        "--rehearse",
        action="store_true",
        help="run the tests of the kernels on the CPU, the reference standing in for the kernels: "
        "this tests the tests",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "library: needs the library of siftattention")
    config.addinivalue_line("markers", "gpu: needs the library and a GPU")


def pytest_runtest_setup(item):
    if missing and ("library" in item.keywords or "gpu" in item.keywords):
        pytest.skip(missing)
    if "gpu" in item.keywords and not torch.cuda.is_available():
        pytest.skip("there is no GPU")


@pytest.fixture
def device(request):
    """Where the kernels are tested."""
    if missing:
        pytest.skip(missing)
    if request.config.getoption("rehearse"):
        return "cpu"
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return "cuda"


@pytest.fixture
def cuda_implementation(monkeypatch):
    """The operators' implementations for CUDA whatever the tensors are: their checks need no GPU."""
    import siftattention.attention
    import siftattention.key_shadows

    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)

    class Operators:
        @staticmethod
        def decode_attention_out(*arguments, **keywords):
            operator = torch.ops.siftattention.decode_attention_out.default
            operator.redispatch(keys, *arguments, **keywords)

        @staticmethod
        def write_key_shadows(*arguments, **keywords):
            operator = torch.ops.siftattention.write_key_shadows.default
            operator.redispatch(keys, *arguments, **keywords)

        key_shadow_tile_bytes = torch.ops.siftattention.key_shadow_tile_bytes

    for module in (siftattention.attention, siftattention.key_shadows):
        monkeypatch.setattr(module, "operators", Operators)
