"""What tests need that depends on the machine: the library, a GPU, or the reference in its place."""

import pytest
import torch

from oracle import reference

try:
    import siftattention.library

    missing = None
except (ImportError, OSError) as failure:
    missing = f"the library of siftattention cannot be loaded: {failure}"


def decode_attention_by_reference(
    query,
    key_cache,
    value_cache,
    lengths,
    workspace,
    batch_capacity,
    key_capacity,
    out,
    *,
    table=None,
    table_begin=None,
    layout="HND",
    log_sum_exp=None,
    head_facts=None,
    group_facts=None,
    **options,
):
    """The operator on a CPU, so that what is around the kernels is tested without a GPU."""
    paged = {"block_table": table}
    if table_begin is not None:
        paged = {"indptr": table_begin, "indices": table}
    result = reference.decode_attention(
        query, (key_cache, value_cache), lengths, layout=layout, **paged, **options
    )
    facts = reference.facts(result, key_cache.shape[2 if layout == "NHD" else 1])
    computed = (result.output, result.log_sum_exp, *facts)
    for given, values in zip((out, log_sum_exp, head_facts, group_facts), computed):
        if given is not None:
            given.copy_(values)


if missing is None:
    torch.library.impl(
        "siftattention::decode_attention_out", "cpu", decode_attention_by_reference
    )


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
