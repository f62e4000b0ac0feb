"""Gate functions of every kind, packed and evaluated in lanes, equal the contract's."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import numpy as np
import pytest

from backends.lanes import LANES, Bounds, Kernel, edges
from backends.raw_layers import Rng, fusable_function, gate_function
from qrnn import arithmetic
from qrnn.arithmetic import gates as g
from qrnn.backends.cpu import functions
from qrnn.backends.cpu.functions import PLAIN, Function, lookup_of, pack_function, variant_of
from qrnn.backends.cpu.parts import INT16_LANES
from qrnn.backends.cpu.steps import EITHER, SIGNED, UNIT
from qrnn.backends.cpu.table import SMALL_TABLE, Lookup
from qrnn.backends.cpu.vector import INT16, Vec
from qrnn.errors import QuantizationError
from qrnn.model.activation import Activation, ActivationKind
from qrnn.model.parts import GateFunction
from qrnn.quantization.gate_choice import SEGMENTS, GateChoice
from qrnn.quantization.gate_tables import complement
from qrnn.quantization.gate_tables import gate_function as quantized_function

EVERY_INT16 = np.arange(-32768, 32768)
KINDS = {
    getattr(g, function.__name__.removeprefix("evaluate_").upper())
    for function in arithmetic.CONTRACT
    if function.__name__.startswith("evaluate_")
}
"""Those that the contract can evaluate."""

pytestmark = pytest.mark.skipif(not LANES, reason="this processor has no instruction set with fused steps")


@cache
def kernel(lanes: int, lookup: Lookup, bounds: Bounds, variant: int | None) -> Kernel:
    """A packed function, which is read where the kernel has its table."""

    def body(builder: Any, arguments: list[Vec], record: Any) -> list[Vec]:
        return [Function.packed(builder, record, lanes, lookup, variant)(arguments[0], bounds)]

    return Kernel(lanes, [INT16], body)


def some_arguments(rng: Rng) -> Any:
    """Every edge, the neighbours of the knots of large segments, and others."""
    near = np.arange(-32768, 32768, 256)[:, None] + np.arange(-1, 2)
    return np.unique(np.clip(np.r_[edges(*INT16), near.reshape(-1), rng.integers(-32768, 32768, 1000)], *INT16))


def check(function: GateFunction, lanes: int, x: Any) -> set[Lookup]:
    """The function in every role that its values fit (in 16-bit lanes, those of int16 or uint16); how its table was looked up."""
    params, tables = [function.params.tolist()], [function.table.tolist()]
    want = [g.evaluate(v, params, tables, 0) for v in x.tolist()]
    lookup, (low, high) = lookup_of((function,), lanes == INT16_LANES), function.bounds
    if lanes == INT16_LANES and not lookup.has_int16_lanes:
        return set()  # such a function's steps have fewer lanes
    record, entries = pack_function(function, lookup)
    record[functions.TABLE_AT] = entries.ctypes.data
    packed, seen = np.array(record, np.int64), set()
    for bounds in (UNIT, SIGNED) if lanes == INT16_LANES else (UNIT, SIGNED, EITHER):
        for variant in (None, variant_of(function)):
            if bounds[0] <= low and high <= bounds[1]:
                (got,) = kernel(lanes, lookup, bounds, variant)([x], packed)
                np.testing.assert_array_equal(got, want, err_msg=f"{function.name} in {bounds} by {lookup}, {variant=}")
                seen.add(lookup)
    return seen


def test_every_kind_of_the_contract_has_its_columns() -> None:
    """A kind that the contract gains is refused here until its parameters have bounds."""
    assert set(functions.COLUMNS) == KINDS
    assert set(functions.LINES) <= KINDS
    for columns in functions.COLUMNS.values():
        assert all(functions.FIRST_COLUMN <= column < g.PARAMS for column in columns)


@pytest.mark.wide
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_functions_of_integers(kind: int, lanes: int) -> None:
    """Parameters of any size; of one function all 65,536 arguments."""
    rng, seen, whole = np.random.default_rng(kind), set[Lookup](), False
    for _ in range(400):
        function = gate_function(rng, 12, 15)
        if int(function.params[g.KIND]) == kind:
            found = check(function, lanes, some_arguments(rng) if whole else EVERY_INT16)
            seen, whole = seen | found, whole or bool(found)
    assert seen


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("bounds", [UNIT, SIGNED])
def test_functions_that_fused_steps_find_simple(bounds: Bounds, lanes: int) -> None:
    rng, seen = np.random.default_rng(lanes), set[Lookup]()
    for k in range(40):
        function = fusable_function(rng, *bounds, 12, simple=k % 2 == 0)
        seen |= check(function, lanes, some_arguments(rng))
    assert Lookup.REGISTERS in seen if lanes == INT16_LANES else Lookup.PAIRS in seen


ACTIVATIONS = [
    *(Activation(kind, 0.3, 0.4) for kind in get_args(ActivationKind)),
    Activation("leaky_relu", 0.01),
    Activation("leaky_relu", -0.5),
    Activation("leaky_relu", 3.0),
    Activation("elu", 1.0),
    Activation("elu", -2.0),
    Activation("thresholded_relu", -0.4),
    Activation("affine", -1.0, 0.0),
    Activation("hard_sigmoid", 30.0, -2.0),
    Activation("hard_sigmoid", -0.2, 0.5),
    Activation("scaled_tanh", 1.7159, 2 / 3),
    Activation("scaled_tanh", -0.5, 7.0),
]


@pytest.mark.wide(cover=False, keep=10)
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations(activation: Activation, lanes: int) -> None:
    """Tables of every size, clipped, and 1 - f of what has it."""
    rng = np.random.default_rng(3)
    for segments in SEGMENTS if activation.kind in ("sigmoid", "tanh") else (8, 128, 1024):
        for clip, in_frac in ((None, 12), (1.3, 9)):
            function = quantized_function(activation, GateChoice(segments=segments), in_frac=in_frac, clip=clip)
            made = [function]
            try:
                made.append(complement(function))
            except QuantizationError:
                assert activation.kind not in ("sigmoid", "hard_sigmoid", "step")
            for one in made:
                check(one, lanes, some_arguments(rng))


def odd_table(differences: list[int]) -> GateFunction:
    """A table of these differences, from -32767 on."""
    table = np.concatenate(([-32767], -32767 + np.cumsum(differences))).astype(np.int32)
    params = np.array([g.ODD, 12, 15, 0, 16 - len(differences).bit_length(), 0, 0, 0], np.int64)
    return GateFunction("drawn", params, table)


def test_how_tables_are_looked_up() -> None:
    """By as little as their size and differences allow."""
    small, large = odd_table([1] * SMALL_TABLE), odd_table([1, 2] * SMALL_TABLE)
    lines = odd_table([3] * SMALL_TABLE + [5, 7] * (SMALL_TABLE // 4) + [1] * (SMALL_TABLE // 2))
    steep, wild = odd_table([1, 65533]), odd_table([65533, -65533])
    step = quantized_function(Activation("step"))
    assert lookup_of((small, step), int16_lanes=True) is Lookup.REGISTERS
    assert lookup_of((small, large), int16_lanes=True) is Lookup.GATHERED
    assert lookup_of((small, lines, step), int16_lanes=True) is Lookup.WINDOW
    assert lookup_of((lines, large), int16_lanes=True) is Lookup.GATHERED
    assert lookup_of((small, steep), int16_lanes=True) is Lookup.REGISTERS
    assert lookup_of((small, wild), int16_lanes=True) is Lookup.WIDE
    assert lookup_of((small, large), int16_lanes=False) is Lookup.PAIRS
    assert lookup_of((steep,), int16_lanes=False) is Lookup.WIDE
    assert [variant_of(f) for f in (small, large, steep, step)] == [PLAIN, PLAIN, g.ODD, g.THRESHOLD]
    rng = np.random.default_rng(0)
    for lanes in LANES:
        for function in (small, large, lines, steep, wild):
            check(function, lanes, some_arguments(rng))
