"""Bounds of vectors: they contain what random expressions give, and what has none, or a branch, is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from llvmlite import ir

from backends.lanes import LANES, Bounds, Kernel, columns_of, fits_32
from qrnn.arithmetic import fixedpoint, gates
from qrnn.backends.cpu.parts import vector_type
from qrnn.backends.cpu.vector import Vec, lift

INT32, INT16 = (-(1 << 31), (1 << 31) - 1), (-(1 << 15), (1 << 15) - 1)
UNIT, FRAC = (0, 1 << 15), (0, 15)


def loose_vec(low: int, high: int, lanes: int = 8) -> Vec:
    """A Vec of nothing in a function that is never compiled."""
    module = ir.Module("loose")
    kind = vector_type(lanes, 32)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [kind, kind]), "loose")
    builder = ir.IRBuilder(function.append_basic_block())
    if fits_32(low, high):
        return Vec(builder, function.args[0], low, high)
    found = Vec(builder, function.args[0], *INT32) * (1 << 32) + Vec(builder, function.args[1], *INT32)
    found.low, found.high = low, high
    return found


OPERATIONS = ("+", "-", "*", "<<", ">>", "&", "neg", "lt", "le", "gt", "clamp", "round", "leaf", "leaf", "const")


def expression(rng: random.Random, depth: int, leaves: int) -> Any:
    """A random tree over arguments 0 … leaves - 1 and shifts ``leaves`` (0 … 15)."""
    kind = rng.choice(OPERATIONS) if depth else "leaf"
    if kind == "leaf":
        return ("leaf", rng.randrange(leaves))
    if kind == "const":
        return ("const", rng.choice((0, 1, -1, rng.randint(-40000, 40000), rng.randint(-(1 << 40), 1 << 40))))
    if kind in ("<<", ">>", "round"):
        by = ("leaf", leaves) if rng.random() < 0.5 else ("const", rng.randint(0, 30))
        return (kind, expression(rng, depth - 1, leaves), by)
    if kind == "&":
        return (kind, expression(rng, depth - 1, leaves), ("const", (1 << rng.randint(0, 40)) - 1))
    count = {"neg": 1, "lt": 4, "le": 4, "gt": 4, "clamp": 1}.get(kind, 2)
    parts = [expression(rng, depth - 1, leaves) for _ in range(count)]
    if kind == "clamp":
        parts += [
            ("const", -rng.randint(0, 1 << rng.randint(0, 40))),
            ("const", rng.randint(0, 1 << rng.randint(0, 40))),
        ]
    return (kind, *parts)


def evaluate(tree: Any, leaves: Any) -> Any:
    """Of ints by the contract's functions, of Vecs by the lifted ones."""
    kind, *parts = tree
    if kind == "leaf":
        return leaves[parts[0]]
    if kind == "const":
        return parts[0]
    values = [evaluate(p, leaves) for p in parts]
    a, b = values[0], values[1] if len(values) > 1 else None
    vector = any(isinstance(v, Vec) for v in values)
    choose, saturate, rounded = (
        lift(f) if vector else f for f in (fixedpoint.choose, fixedpoint.saturate, fixedpoint.shift_right_round)
    )
    found: dict[str, Callable[[], Any]] = {
        "+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "<<": lambda: a << b, ">>": lambda: a >> b,
        "&": lambda: a & b, "neg": lambda: -a, "clamp": lambda: saturate(*values), "round": lambda: rounded(a, b),
        "lt": lambda: choose(a < b, *values[2:]), "le": lambda: choose(a <= b, *values[2:]),
        "gt": lambda: choose(a > b, *values[2:]),
    }  # fmt: skip
    return found[kind]()


LEAVES: tuple[Bounds, ...] = (INT16, UNIT, INT32, (-5, 3), FRAC)


def fitting_expressions(rng: random.Random, count: int) -> list[Any]:
    """Random trees whose values fit 64 bits, with at least one Vec in them."""
    found = []
    while len(found) < count:
        tree = expression(rng, 4, len(LEAVES) - 1)
        builder_leaf = loose_vec(*LEAVES[0])
        leaves = [Vec(builder_leaf.builder, builder_leaf.parts, *b) for b in LEAVES]
        try:
            if isinstance(evaluate(tree, leaves), Vec) and tree[0] != "leaf":
                found.append(tree)
        except (AssertionError, AttributeError, TypeError):  # beyond 64 bits; a constant compared with a Vec, or chosen
            continue
    return found


def check_expressions(seed: int, lanes: int, count: int, rows: int) -> None:
    trees = fitting_expressions(random.Random(seed), count)
    compiled = Kernel(lanes, LEAVES, lambda _b, leaves, _t: [evaluate(tree, leaves) for tree in trees])
    columns = columns_of(LEAVES, rows, seed)
    results = compiled(columns)
    leaves = list(zip(*columns, strict=True))
    for tree, got, (low, high) in zip(trees, results, compiled.results, strict=True):
        want = [evaluate(tree, row) for row in leaves]
        assert low <= min(want), tree
        assert max(want) <= high, tree
        wrong = [(row, w, g) for row, w, g in zip(leaves, want, got.tolist(), strict=True) if w != g]
        assert not wrong, f"{tree}: {wrong[:2]}"


@pytest.mark.parametrize("count", [12, pytest.param(40, marks=pytest.mark.matrix)])
@pytest.mark.parametrize("lanes", LANES)
def test_random_expressions(lanes: int, count: int) -> None:
    """Values, and bounds that contain them."""
    check_expressions(lanes, lanes, count, 300)


@pytest.mark.long
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("seed", range(100, 140))
def test_random_expressions_long(seed: int, lanes: int) -> None:
    check_expressions(seed, lanes, 50, 1000)


CONDITIONS = {
    "<": lambda x, y: x < y,
    ">": lambda x, y: x > 3,
    "<=": lambda x, y: x <= 3,
    ">=": lambda x, y: x >= 3,
    "==": lambda x, y: x == y,
    "!=": lambda x, y: x != 3,
    "bool": lambda x, y: x,
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_branch_on_a_value_is_refused(name: str) -> None:
    with pytest.raises(TypeError):
        bool(CONDITIONS[name](loose_vec(0, 9), loose_vec(0, 9)))


def test_a_contract_function_that_branches_is_refused() -> None:
    with pytest.raises(TypeError):
        lift(fixedpoint.align16)(loose_vec(*INT16), loose_vec(*FRAC), 3)


def test_a_contract_function_that_asks_for_a_kind_is_refused() -> None:
    params = [[loose_vec(0, 3), 12, 15, 1, 0, 0, 0, 9]]
    with pytest.raises(TypeError):
        lift(gates.evaluate)(loose_vec(*INT16), params, [[0]], 0)


def test_bounds_beyond_64_bits_are_refused() -> None:
    x = loose_vec(*INT32)
    for operation in (lambda: x * x * x, lambda: x << 33, lambda: (x * x) << 2, lambda: x * x * 4 + x):
        with pytest.raises(AssertionError, match="64 bits"):
            operation()
    with pytest.raises(AssertionError, match="low bits"):
        x & -8


@pytest.mark.parametrize("shift", [lambda x: x >> 64, lambda x: x << 64, lambda x: x >> -1])
def test_shifts_beyond_64_bits_are_refused(shift: Callable[[Vec], Vec]) -> None:
    with pytest.raises(AssertionError, match="are not lifted"):
        shift(loose_vec(0, 0))


@pytest.mark.parametrize("lanes", LANES)
def test_shifts_beyond_32_bits_take_wide_lanes(lanes: int) -> None:
    """LLVM leaves open what a shift by 32 or more does to 32-bit lanes."""
    bounds: list[Bounds] = [(-100, 100)]
    columns = columns_of(bounds, 300, 5)
    (right,) = Kernel(lanes, bounds, lambda _b, a, _t: [a[0] >> 40])(columns)
    assert right.tolist() == [x >> 40 for x in columns[0]]


@pytest.mark.parametrize("lanes", LANES)
def test_shifts_of_both_lane_widths(lanes: int) -> None:
    """A 64-bit value by 0 … 46, and to the left into 64 bits."""
    bounds: list[Bounds] = [(-(1 << 62), 1 << 62), (-(1 << 20), 1 << 20), (0, 40)]
    columns = columns_of(bounds, 3000, 5)
    right, left = Kernel(lanes, bounds, lambda _b, a, _t: [a[0] >> a[2], a[1] << a[2]])(columns)
    for (x, y, by), r, l in zip(zip(*columns, strict=True), right.tolist(), left.tolist(), strict=True):
        assert (r, l) == (x >> by, y << by)
