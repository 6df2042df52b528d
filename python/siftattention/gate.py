"""Where sifting pays: what a caller asks before a step, to set `gated`."""

from siftattention.library import operators


def independent_union(tau, group):
    """The share of values that a group of `group` query heads reads if each keeps a share 1 − tau of the
    keys and heads have nothing in common: the most there is."""
    return 1 - tau**group


def sifting_pays(heads, kv_heads, head_dim, keys, union_density, estimates=False):
    """Whether requests that together see `keys` keys are not slower sifted than attended to exactly,
    where the heads of a group read the share `union_density` of the values.

    A rule measured on an H100 (sift/kernels/cuda/decode_gate.h). What a model reads is in
    `group_facts`; `independent_union` is the worst case. Raises ValueError for heads that are no
    multiple of the KV heads.
    """
    return operators.sifting_pays(heads, kv_heads, head_dim, keys, union_density, estimates)
