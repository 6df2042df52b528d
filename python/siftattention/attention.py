"""One step of decode attention, over caches that lie in pages or in one piece."""

import torch

from siftattention.arguments import check_tables, sides_of
from siftattention.library import operators


def decode_attention(
    query,
    cache,
    lengths,
    workspace,
    *,
    block_table=None,
    indptr=None,
    indices=None,
    layout="HND",
    scale=None,
    modes=None,
    thresholds=None,
    exact=True,
    gated=False,
    value_means=None,
    compensation="none",
    empty="highest",
    sink=0,
    recent=0,
    shadows=None,
    margin=0.5,
    method=None,
    generated=None,
    slots=None,
    taus=None,
    warmups=None,
    ln_thetas=None,
    records=True,
    out=None,
    log_sum_exp=None,
    head_facts=None,
    group_facts=None,
):
    """Attention of one new query per request over the request's cache; returns `out`.

    Arguments, all tensors on one CUDA device and contiguous unless said otherwise:

    - query [batch, heads, head_dim], float16 or bfloat16. It begins at a multiple of 16 bytes. out
      has the same shape and type; it is allocated where it is None.
    - cache: the pair (keys, values), of the query's type, or one tensor [pages, 2, …] of both. In
      pages: [pages, kv_heads, page, head_dim] (layout "HND") or [pages, page, kv_heads, head_dim]
      ("NHD"), page a power of two of at least 16. Without a table: [batch, kv_heads, slots,
      head_dim] or [batch, slots, kv_heads, head_dim]. Any strides, but 1 along head_dim.
    - lengths [batch], int32: visible keys, at least 1.
    - workspace: a DecodeWorkspace.
    - block_table [batch, pages of a request], int32; or indptr [batch + 1] and indices [pages], int32,
      where the pages of request b are indices[indptr[b]:indptr[b + 1]].
    - scale of the scores; None is 1 / √head_dim.
    - modes [batch], uint8 values of Mode; None is DENSE for all.
    - thresholds [batch, heads], float32: log2 η. A sifted head keeps keys whose softmax score is
      greater than η.
    - exact: whether a request may attend exactly (DENSE or RECORD). Where none does, False saves a
      launch; a request that does all the same ends the kernel, and with it the CUDA context. Needs
      modes or a method, and with a method records=False.
    - gated: requests that would sift attend exactly in this call, for steps in which sifting would be
      slower. They are as if they were DENSE, and a method's states count them so.
    - compensation for the keys left out: "none", "renormalise" or "mean"; the last needs
      value_means [batch, kv_heads, head_dim], float32, the mean of the values of all visible keys.
    - empty: what a head outputs when no key passes, "zero" or the "highest" key.
    - sink, recent: so many first and last keys are always kept.
    - shadows: the KeyShadows of the cache, if sifted requests estimate their scores: for all keys from
      shadows, then exactly for the candidates, whose estimate is greater than ln η + log Σ exp of all
      estimates − margin. The workspace must have been allocated with estimates=True.
    - method: MethodStates, if the method runs here: modes and thresholds follow from the states, which
      take what the step did. Then thresholds must be None, and modes, where they are not None, replace
      what follows from the counts. With it go:
      - generated [batch], int32: 1 for a request's first row after the prompt, 2 for the next one, …
      - slots [batch], int32: where each request has its states; None: request b has slot b.
      - taus [batch], float64, and warmups [batch], int32: in place of method.tau and method.warmup.
      - ln_thetas [batch, heads], float64: written with the recorded quantiles' logarithms, which then
        do not go to the fits.
      - records: whether a request may be in its warm-up. False saves the search for quantiles; those
        of a request that is are then lost.
    - log_sum_exp [batch, heads], float32, base 2, with estimates for the keys that are no candidates;
      head_facts [batch, heads, 4], int32: keys kept, those kept for their score, the bits of a
      float32 kept mass (kept_masses), 1 where no key passed; group_facts [batch, kv_heads, 3], int32:
      rows of values read, those not forced, and rows of keys read after an estimate. Each is
      written where it is not None; facts are those of sifted requests.

    Raises ValueError or TypeError, before anything is launched, when arguments do not fit each other
    or the workspace. Not checked: lengths, page numbers and slots, which only the device sees.
    """
    keys, values = sides_of(cache)
    check_tables(block_table, indptr, indices)
    if out is None:
        out = torch.empty_like(query)
    operators.decode_attention_out(
        query,
        keys,
        values,
        lengths,
        workspace.buffer,
        workspace.batch,
        workspace.keys,
        out,
        estimates=workspace.estimates,
        table=indices if block_table is None else block_table,
        table_begin=indptr,
        layout=layout,
        scale=scale,
        modes=modes,
        thresholds=thresholds,
        exact=exact,
        gated=gated,
        value_means=value_means,
        compensation=compensation,
        empty=empty,
        sink=sink,
        recent=recent,
        margin=margin,
        **({} if shadows is None else shadows._asdict()),
        **({} if method is None else method._asdict()),
        generated=generated,
        slots=slots,
        taus=taus,
        warmups=warmups,
        ln_thetas=ln_thetas,
        records=records,
        log_sum_exp=log_sum_exp,
        head_facts=head_facts,
        group_facts=group_facts,
    )
    return out


def kept_masses(head_facts):
    """The kept softmax masses [batch, heads], float32, of head_facts [batch, heads, 4]."""
    return head_facts[..., 2].contiguous().view(torch.float32)
