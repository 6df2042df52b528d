"""The reference of shadows against formulas and bytes that can be worked out by hand."""

import math

import pytest
import torch

from oracle import reference  # noqa: F401: finds the package
from siftattention.reference_shadow import decode, encode, from_tiles, into_tiles

FORMATS = (("bits4", 32), ("bits4", 64), ("fp8", 32))
ORDERS = ("as_stored", "pairs_parted")


def keys_of(count, head_dim=128, dtype=torch.float16):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, head_dim, generator=generator).to(dtype)


def test_bytes_of_a_key_in_4_bits():
    key = torch.arange(32).float() / 2 - 1  # of −1 … 14.5: the scale is 15.5 / 15
    row = encode(torch.cat([key, torch.full((32,), 3.0)]), "bits4", 32)
    scale = torch.tensor(15.5 / 15).half()
    codes = ((key + 1) / scale.float()).round().int()
    assert row[:16].tolist() == [low + 16 * high for low, high in codes.view(16, 2).tolist()]
    assert row[16:32].tolist() == [0] * 16  # values that are all alike have a scale of 0
    assert row[32:].view(torch.float16).tolist() == [scale.item(), -1, 0, 3]


def test_bytes_of_a_key_in_fp8():
    key = torch.zeros(64)
    key[:4] = torch.tensor([448.0, -1.0, 2.0**-9, 0.3])
    row = encode(key, "fp8", 32)
    # Bias 7, 3 bits of mantissa: 448 = 1.75 · 2^8, 2^−9 is the smallest, and 0.3 is near 1.25 · 2^−2.
    assert row[:5].tolist() == [0x7E, 0xB8, 0x01, 0x2A, 0]
    assert row[64:].view(torch.float32).item() == 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("code, block", FORMATS)
@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_what_shadows_stand_for_is_near_the_keys(code, block, order, dtype):
    keys = keys_of(100, dtype=dtype)
    near = decode(encode(keys, code, block, order), 128, code, block, order)
    spread = keys.double().abs().amax(-1, keepdim=True)
    error = (near - keys.double()).abs()
    if code == "fp8":  # half of the last of 4 bits
        assert (error <= keys.double().abs() / 16 + spread / 448 / 2**9).all()
    else:
        assert (error <= spread * 2 / 15 * 0.51).all()


@pytest.mark.parametrize("code, block", FORMATS)
def test_a_key_that_is_not_finite_is_found_by_scores(code, block):
    keys = keys_of(2)
    keys[0, 3] = math.inf
    rows = encode(keys, code, block)
    lost = decode(rows, 128, code, block).isnan()
    assert lost[0].sum() == (128 if code == "fp8" else block) and not lost[1].any()
    assert not rows[0, : 4 if code == "bits4" else 8].any()


@pytest.mark.parametrize("code, block", FORMATS)
def test_signs_of_zeros_do_not_matter_to_scales(code, block):
    rows = [encode(torch.full((1, 64), zero), code, block) for zero in (0.0, -0.0)]
    assert torch.equal(*rows) and not rows[0].any()


def test_the_order_of_codes():
    key = torch.arange(64).float()
    stored, parted = (encode(key, "fp8", 32, order)[:64] for order in ORDERS)
    assert torch.equal(parted, torch.cat([stored[::2], stored[1::2]]))


@pytest.mark.parametrize("head_dim", (64, 96, 128, 256))
@pytest.mark.parametrize("code, unit", (("bits4", 4), ("fp8", 8)))
def test_places_of_units_in_a_tile(code, unit, head_dim):
    units = head_dim // 8
    rows = encode(keys_of(16, head_dim), code, 32)
    tile = into_tiles(rows, head_dim, code)[0]
    for key in (0, 7, 15):
        for number in range(units):
            place = (4 * key + number % 4) * (head_dim // 32) + number // 4
            own = rows[key, number * unit : (number + 1) * unit]
            assert torch.equal(tile[place * unit : (place + 1) * unit], own)
        scales = rows[key, units * unit :]
        first = 16 * units * unit + key * len(scales)
        assert torch.equal(tile[first : first + len(scales)], scales)


@pytest.mark.parametrize("slots", (1, 16, 40))
def test_rows_come_back_from_tiles(slots):
    rows = encode(keys_of(3 * slots).view(3, slots, 128), "bits4", 32)
    again = from_tiles(into_tiles(rows, 128, "bits4"), 128, "bits4")
    assert torch.equal(again[:, :slots], rows) and not again[:, slots:].any()
