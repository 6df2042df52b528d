"""Gives the operators a CPU implementation, the reference, so that what is around them is tested
without a GPU; tests of the kernels skip there."""

import pytest
import torch

siftattention = pytest.importorskip("siftattention", exc_type=(ImportError, OSError))
reference = pytest.importorskip("siftattention.reference", exc_type=(ImportError, OSError))


@torch.library.impl("siftattention::decode_attention_out", "cpu")
def _decode_attention_out(
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
    pages = {"block_table": table} if table_begin is None else {"indptr": table_begin, "indices": table}
    result = reference.decode_attention(
        query, (key_cache, value_cache), lengths, layout=layout, **pages, **options
    )
    out.copy_(result.output)
    if log_sum_exp is not None:
        log_sum_exp.copy_(result.log_sum_exp)
    facts = reference.facts(result, key_cache.shape[2 if layout == "NHD" else 1])
    for given, counted in zip((head_facts, group_facts), facts):
        if given is not None:
            given.copy_(counted)


def pytest_runtest_setup(item):
    if "gpu" in item.keywords and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
