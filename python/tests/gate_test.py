"""Where sifting pays, as the library says."""

import pytest

pytestmark = pytest.mark.library

LLAMA_8B = {"heads": 32, "kv_heads": 8, "head_dim": 128}


def test_independent_heads_read_more_the_more_there_are():
    from siftattention import independent_union

    assert independent_union(0.875, 1) == pytest.approx(0.125)
    assert independent_union(0.875, 4) == pytest.approx(0.4138, abs=1e-4)


@pytest.mark.parametrize(
    "keys, union, estimates, pays",
    (
        (8192, 0.41, False, True),
        (4096, 0.19, False, False),
        (8192, 0.69, False, False),
        (8 * 8192, 0.69, False, True),
        (8 * 8192, 0.94, False, False),
        (8 * 8192, 0.41, True, True),
        (8192, 0.19, True, False),
    ),
)
def test_the_rule(keys, union, estimates, pays):
    from siftattention import sifting_pays

    assert sifting_pays(**LLAMA_8B, keys=keys, union_density=union, estimates=estimates) == pays


def test_heads_that_do_not_fit_are_refused():
    from siftattention import sifting_pays

    with pytest.raises(ValueError, match="7 query heads and 2 KV heads"):
        sifting_pays(7, 2, 128, 8192, 0.3)
