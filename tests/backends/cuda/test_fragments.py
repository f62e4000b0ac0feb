"""Fragments and the plain definitions of the instructions, against products of whole matrices."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from qrnn.backends.cuda import fragments as f
from qrnn.backends.cuda.simulated import dot4, multiply_small_tile, multiply_tile, wrap32

RNG = np.random.default_rng(0)


def drawn(signed: bool, *shape: int) -> Any:
    low, high = (-128, 128) if signed else (0, 256)
    values = RNG.integers(low, high, shape)
    return np.where(RNG.random(shape) < 0.3, RNG.choice([low, high - 1], shape), values)


def word(octets: list[int]) -> int:
    return int(np.array([v & 255 for v in octets], np.uint8).view(np.int32)[0])


def test_places_cover_each_element_once() -> None:
    lanes, octets = range(f.LANES), range(4)
    a = {f.a_place(l, r, b) for l in lanes for r in range(4) for b in octets}
    b = {f.b_place(l, r, b) for l in lanes for r in range(2) for b in octets}
    c = {f.c_place(l, r) for l in lanes for r in range(4)}
    assert a == {(row, k) for row in range(16) for k in range(32)}
    assert b == {(k, column) for k in range(32) for column in range(8)}
    assert c == {(row, column) for row in range(16) for column in range(8)}


def test_places_are_those_of_the_manual() -> None:
    """PTX ISA, figures of m16n8k32: lane T5 = group 1, thread 1 of it."""
    assert [f.a_place(5, r, 0) for r in range(4)] == [(1, 4), (9, 4), (1, 20), (9, 20)]
    assert [f.b_place(5, r, 3) for r in range(2)] == [(7, 1), (23, 1)]
    assert [f.c_place(5, r) for r in range(4)] == [(1, 2), (1, 3), (9, 2), (9, 3)]


@pytest.mark.parametrize("signed", [True, False])
def test_a_tile_is_the_product_of_matrices(signed: bool) -> None:
    a, b, c = drawn(True, 16, 32), drawn(signed, 32, 8), RNG.integers(-(1 << 20), 1 << 20, (16, 8))
    lanes = [
        (
            *(word([a[f.a_place(l, r, k)] for k in range(4)]) for r in range(4)),
            *(word([b[f.b_place(l, r, k)] for k in range(4)]) for r in range(2)),
            *(int(c[f.c_place(l, r)]) for r in range(4)),
        )
        for l in range(32)
    ]
    want = a @ b + c
    for lane, found in enumerate(multiply_tile(lanes, signed)):
        assert list(found) == [want[f.c_place(lane, r)] for r in range(4)]
    for lane, found in enumerate(by_small_tiles(lanes, signed)):
        assert list(found) == [want[f.c_place(lane, r)] for r in range(4)]


def by_small_tiles(lanes: list[tuple[int, ...]], signed: bool) -> list[tuple[int, ...]]:
    """Four of m8n8k16, put together as `intrinsics.tile_products` does for Turing."""
    c = [list(values[6:]) for values in lanes]
    for a, b, first in ((0, 4, 0), (2, 5, 0), (1, 4, 2), (3, 5, 2)):
        made = multiply_small_tile(
            [(v[a], v[b], *own[first : first + 2]) for v, own in zip(lanes, c, strict=True)], signed
        )
        for own, pair in zip(c, made, strict=True):
            own[first : first + 2] = pair
    return [tuple(own) for own in c]


@pytest.mark.parametrize("signed", [True, False])
def test_dot_products(signed: bool) -> None:
    for a, b in zip(drawn(True, 50, 4), drawn(signed, 50, 4), strict=True):
        assert dot4(word(a), word(b), 7, signed) == 7 + int(a @ b)
    assert dot4(word([127] * 4), word([127] * 4), (1 << 31) - 1, True) == wrap32((1 << 31) - 1 + 4 * 127 * 127) < 0


@pytest.mark.parametrize(("gates", "hidden", "columns"), [(4, 9, 33), (3, 16, 5), (1, 3, 64)])
def test_packed_weights(gates: int, hidden: int, columns: int) -> None:
    """Each byte is the weight that its place names; what has no row or column is zero."""
    weight = drawn(True, gates * hidden, columns).astype(np.int8)
    order = f.gate_order(gates, hidden)
    packed = f.pack_weights(weight, order).reshape(len(order), f.depth_tiles(columns), 4, 32)
    octets = np.ascontiguousarray(packed)[..., None].view(np.int8)
    seen = set()
    for tile, block, register, lane, k in np.ndindex(octets.shape):
        row, column = f.a_place(lane, register, k)
        r, column = int(order[tile, row]), column + 32 * block
        inside = r >= 0 and column < columns
        assert octets[tile, block, register, lane, k] == (weight[r, column] if inside else 0)
        if inside:
            seen.add((r, column))
    assert len(seen) == weight.size


@pytest.mark.parametrize(("gates", "hidden"), [(4, 20), (3, 8), (1, 9)])
def test_a_lane_has_all_gates_of_its_unit(gates: int, hidden: int) -> None:
    pairs = -(-gates // 2)
    order = f.gate_order(gates, hidden).reshape(-1, pairs, 16)
    for group, unit in np.ndindex(len(order), 8):
        rows = [order[group, gate // 2, 8 * (gate % 2) + unit] for gate in range(gates)]
        u = 8 * group + unit
        assert rows == [gate * hidden + u if u < hidden else -1 for gate in range(gates)]


def test_plain_order() -> None:
    assert f.plain_order(18).reshape(-1).tolist() == [*range(18), *[-1] * 14]
    assert all(b - a == 1 for a, b in pairwise(f.plain_order(32).reshape(-1).tolist()))
