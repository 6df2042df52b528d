"""The operators on a CPU, computed by the references, so that what is around the kernels is tested
without a GPU."""

import torch

from oracle import reference
from siftattention import reference_method, reference_shadow


def _paged(table, table_begin):
    """The arguments that say where pages lie."""
    if table_begin is None:
        return {"block_table": table}
    return {"indptr": table_begin, "indices": table}


def _shadows(tiles, code="bits4", block=32, order="as_stored"):
    from siftattention import KeyShadows

    return None if tiles is None else KeyShadows(tiles, code, block, order)


def decode_attention(
    query,
    key_cache,
    value_cache,
    lengths,
    workspace,
    batch_capacity,
    key_capacity,
    out,
    *,
    estimates=False,
    table=None,
    table_begin=None,
    layout="HND",
    tiles=None,
    code="bits4",
    block=32,
    order="as_stored",
    head_states=None,
    group_states=None,
    tau=0.875,
    fit="ridge",
    adapt=0.0,
    adapt_target="head",
    warmup=128,
    dense_rows=0,
    records=True,
    generated=None,
    slots=None,
    taus=None,
    warmups=None,
    ln_thetas=None,
    log_sum_exp=None,
    head_facts=None,
    group_facts=None,
    **options,
):
    from siftattention import MethodStates

    given = (query, (key_cache, value_cache), lengths)
    options |= _paged(table, table_begin) | {"layout": layout}
    options["shadows"] = _shadows(tiles, code, block, order)
    if head_states is None:
        result = reference.decode_attention(*given, **options)
    else:
        choices = (tau, warmup, fit, adapt, adapt_target, dense_rows)
        method = MethodStates(head_states, group_states, *choices)
        options.pop("thresholds", None)
        result, _ = reference_method.decode_attention(
            *given,
            method,
            generated,
            slots=slots,
            taus=taus,
            warmups=warmups,
            ln_thetas=ln_thetas,
            **options,
        )
    facts = reference.facts(result, key_cache.shape[2 if layout == "NHD" else 1])
    computed = (result.output, result.log_sum_exp, *facts)
    for array, values in zip((out, log_sum_exp, head_facts, group_facts), computed):
        if array is not None:
            array.copy_(values)


def write_key_shadows(
    tiles,
    keys,
    begin,
    end,
    most,
    *,
    table=None,
    table_begin=None,
    layout="HND",
    code="bits4",
    block=32,
    order="as_stored",
):
    shadows = _shadows(tiles, code, block, order)
    paged = _paged(table, table_begin)
    reference_shadow.write_key_shadows(shadows, (keys,), begin, end, layout=layout, **paged)


def install():
    """Makes these the operators' implementations for tensors on a CPU."""
    torch.library.impl("siftattention::decode_attention_out", "cpu", decode_attention)
    torch.library.impl("siftattention::write_key_shadows", "cpu", write_key_shadows)
