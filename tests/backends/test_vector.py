"""Lifted contract functions equal the functions themselves on every lane, and their bounds are true."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.lanes import LANES, Bounds, Kernel, columns_of, edges, fits_32
from qrnn.arithmetic import cells, fixedpoint, gates, norms
from qrnn.backends.cpu.vector import Vec, lift

INT32, INT16 = (-(1 << 31), (1 << 31) - 1), (-(1 << 15), (1 << 15) - 1)
SUM = (-(1 << 30) + 1, (1 << 30) - 1)
UNIT, SIGNED, EITHER = (0, 1 << 15), (-32767, 32767), (-(1 << 15), 1 << 15)
NORM_TOTAL = (-(32767 << 15), 32767 << 15)
FRAC, SHIFT, LIMIT = (0, 15), (0, 30), (1, 32767)

few = settings(max_examples=60, deadline=None)

pytestmark = pytest.mark.skipif(not LANES, reason="this processor has no instruction set with fused steps")


@dataclass(frozen=True)
class Spec:
    """A contract function and its arguments: bounds of what varies from lane to lane, an int for a constant."""

    function: Callable[..., Any]
    arguments: tuple[Bounds | int, ...]
    legal: Callable[..., Any] = lambda *values: values
    """Drawn values → values that the function takes."""

    @property
    def bounds(self) -> list[Bounds]:
        return [a for a in self.arguments if isinstance(a, tuple)]

    def call(self, function: Callable[..., Any], varying: Any) -> Any:
        values = iter(varying)
        return function(*(a if isinstance(a, int) else next(values) for a in self.arguments))


def legal_accumulator(acc: int, multiplier: int, left_shift: int) -> tuple[int, int, int]:
    """An accumulator whose shifted value fits, an even multiplier."""
    most = ((1 << 31) - 1) >> left_shift
    return min(most, max(-most, acc)), multiplier & ~1, left_shift


def ordered(x: int, slope: int, intercept: int, shift: int, low: int, high: int) -> tuple[int, ...]:
    return x, slope, intercept, shift, min(low, high), max(low, high)


def requantize_proved(acc: Any, multiplier: Any, left_shift: Any) -> Any:
    """`requantize` as the fused steps call it: with the proof that the shifted accumulator fits."""
    if isinstance(acc, Vec):
        acc.shifted = INT32
        return lift(fixedpoint.requantize)(acc, multiplier, left_shift)
    return fixedpoint.requantize(acc, multiplier, left_shift)


SPECS = {
    "requantize": Spec(requantize_proved, (INT32, (0, INT32[1] - 1), SHIFT), legal_accumulator),
    "requantize-unproved": Spec(fixedpoint.requantize, (INT32, (0, INT32[1] - 1), 0), lambda a, m: (a, m & ~1)),
    "round-64": Spec(fixedpoint.shift_right_round, ((-(1 << 62), 1 << 62), (0, 46))),
    "round-48": Spec(fixedpoint.shift_right_round, ((-(1 << 47), 1 << 47), FRAC)),
    "round-32": Spec(fixedpoint.shift_right_round, (INT32, SHIFT)),
    "round-32-other": Spec(fixedpoint.shift_right_round, (INT32, (1, 31))),
    "round-32-from-2": Spec(fixedpoint.shift_right_round, (INT32, (2, 31))),
    "round-31": Spec(fixedpoint.shift_right_round, ((-(1 << 30), 1 << 30), SHIFT)),
    "round-15": Spec(fixedpoint.shift_right_round, (INT32, 15)),
    "round-1": Spec(fixedpoint.shift_right_round, (INT32, 1)),
    "round-0": Spec(fixedpoint.shift_right_round, (INT32, 0)),
    "round-16": Spec(fixedpoint.shift_right_round, (SIGNED, FRAC)),
    "round-16-not-0": Spec(fixedpoint.shift_right_round, (INT16, (1, 15))),
    "round-16-any": Spec(fixedpoint.shift_right_round, (INT16, FRAC)),
    "magnitude": Spec(fixedpoint.magnitude, (INT16,)),
    "magnitude-32": Spec(fixedpoint.magnitude, (INT32,)),
    "saturate16": Spec(fixedpoint.saturate16, (INT32,)),
    "saturate32": Spec(fixedpoint.saturate32, ((-(1 << 33), 1 << 33),)),
    "saturate16_shifted": Spec(fixedpoint.saturate16_shifted, (INT32, FRAC)),
    "saturate16_shifted-33": Spec(fixedpoint.saturate16_shifted, ((-(1 << 32), 1 << 32), FRAC)),
    "multiply_q15": Spec(fixedpoint.multiply_q15, (INT32, EITHER)),
    "multiply_q15-unit": Spec(fixedpoint.multiply_q15, (SIGNED, UNIT)),
    "multiply_q15-ends": Spec(fixedpoint.multiply_q15, (INT16, INT16)),
    "multiply_q15-16": Spec(fixedpoint.multiply_q15, (INT16, (0, 32767))),
    "to_operand": Spec(fixedpoint.to_operand, (INT16, FRAC, LIMIT)),
    "preactivation": Spec(cells.preactivation, (SUM, SUM, FRAC)),
    "preactivation-32": Spec(cells.preactivation, (INT32, INT32, FRAC)),
    "candidate_after_reset": Spec(cells.candidate_after_reset, (SUM, SUM, UNIT, 15, FRAC)),
    "reset_operand": Spec(cells.reset_operand, (UNIT, SIGNED, 15, FRAC, LIMIT)),
    "lstm_cell_state": Spec(cells.lstm_cell_state, (UNIT, UNIT, SIGNED, INT32, 15, SHIFT)),
    "lstm_output_argument": Spec(cells.lstm_output_argument, (INT32, SHIFT)),
    "lstm_output_argument-from-2": Spec(cells.lstm_output_argument, (INT32, (2, 30))),
    "lstm_hidden_state": Spec(cells.lstm_hidden_state, (UNIT, SIGNED, SHIFT)),
    "lstm_hidden_state-15": Spec(cells.lstm_hidden_state, (UNIT, SIGNED, 15)),
    "gru_hidden_state-0": Spec(cells.gru_hidden_state, (UNIT, SIGNED, SIGNED, 15, 0)),
    "gru_hidden_state": Spec(cells.gru_hidden_state, (UNIT, SIGNED, SIGNED, 15, FRAC)),
    "rnn_hidden_state": Spec(cells.rnn_hidden_state, (EITHER, SHIFT)),
    "normalize": Spec(norms.normalize, (INT16, (1, 32767), NORM_TOTAL, (1 << 15, 1 << 16), (0, 30), INT16, (-128, 127), INT32)),
    "normalize-4096": Spec(norms.normalize, (INT16, 4096, (-(1 << 27), 1 << 27), (1 << 15, 1 << 16), 20, INT16, (-9, 9), INT32)),
    "evaluate_ramp": Spec(gates.evaluate_ramp, (INT16, SIGNED, (-(1 << 29), 1 << 29), FRAC, EITHER, EITHER), ordered),
    "evaluate_threshold": Spec(gates.evaluate_threshold, (INT16, INT16, SIGNED, (-(1 << 29), 1 << 29), EITHER, EITHER)),
}  # fmt: skip


def lifted(function: Callable[..., Any]) -> Callable[..., Any]:
    return function if function is requantize_proved else lift(function)


@cache
def kernel(name: str, lanes: int) -> Kernel:
    spec = SPECS[name]
    return Kernel(lanes, spec.bounds, lambda _b, arguments, _t: [spec.call(lifted(spec.function), arguments)])


def check(name: str, lanes: int, rows: list[tuple[int, ...]]) -> None:
    spec, compiled = SPECS[name], kernel(name, lanes)
    rows = [tuple(spec.legal(*row)) for row in rows]
    want = [spec.call(spec.function, row) for row in rows]
    (got,) = compiled(list(zip(*rows, strict=True)))
    wrong = [(row, w, g) for row, w, g in zip(rows, want, got.tolist(), strict=True) if w != g]
    assert not wrong, f"{len(wrong)} of {len(rows)} differ: arguments, contract, lifted: {wrong[:3]}"
    low, high = compiled.results[0]
    assert low <= min(want)
    assert max(want) <= high


@pytest.mark.wide(cover=False, keep=16)
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("name", SPECS)
def test_edges(name: str, lanes: int) -> None:
    """Every pair of edge values of any two arguments, the others drawn; and numbers of every size."""
    bounds = SPECS[name].bounds
    check(name, lanes, list(zip(*columns_of(bounds, 4000, len(name)), strict=True)))
    known = [edges(*b) for b in bounds]
    rng, rows = random.Random(lanes), []
    for a in range(len(bounds)):
        for b in range(a):
            for u in known[a]:
                for v in known[b]:
                    row = [rng.choice(k) for k in known]
                    row[a], row[b] = u, v
                    rows.append(tuple(row))
    rng.shuffle(rows)
    check(name, lanes, rows[:12000] or [(v,) for v in known[0]])


@pytest.mark.matrix
@pytest.mark.parametrize("name", SPECS)
@few
@given(data=st.data())
def test_draws(name: str, data: st.DataObject) -> None:
    rows = st.tuples(*(st.integers(*b) for b in SPECS[name].bounds))
    check(name, LANES[-1], data.draw(st.lists(rows, min_size=1, max_size=20)))


@pytest.mark.long
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("name", SPECS)
def test_sweep_long(name: str, lanes: int) -> None:
    for seed in range(20):
        check(name, lanes, list(zip(*columns_of(SPECS[name].bounds, 20000, seed), strict=True)))


def test_every_lane_width_is_proved_and_no_wider() -> None:
    """What the fused steps count on: these stay in 32-bit lanes."""
    for name in ("requantize", "preactivation", "lstm_hidden_state", "gru_hidden_state", "evaluate_ramp"):
        assert fits_32(*kernel(name, LANES[0]).results[0]), name


EVERY_INT16 = np.arange(-32768, 32768)


@pytest.mark.parametrize("lanes", LANES)
def test_every_int16_is_rounded(lanes: int) -> None:
    """By every shift: in 16-bit lanes a product with a power of two, with the signs turned where it may be 0; with -32768 a mask then."""
    cases = (
        ("round-16", -32767, range(16)),
        ("round-16-not-0", -32768, range(1, 16)),
        ("round-16-any", -32768, range(16)),
    )
    for name, low, shifts in cases:
        x = EVERY_INT16[low <= EVERY_INT16]
        for s in shifts:
            (got,) = kernel(name, lanes)([x, np.full_like(x, s)])
            np.testing.assert_array_equal(got, (x + ((1 << s) >> 1)) >> s)


@pytest.mark.parametrize("lanes", LANES)
def test_every_value_of_one_factor(lanes: int) -> None:
    """Each factor of an LSTM's h takes all of its values, 32768 among them, beside some values of every size of the other."""
    rng = np.random.default_rng(5)
    for unit in (32768, 32767, 16384, 1, 0, *rng.integers(0, 32769, 20).tolist()):
        signed = np.arange(-32767, 32768)
        (got,) = kernel("lstm_hidden_state-15", lanes)([np.full_like(signed, unit), signed])
        np.testing.assert_array_equal(got, (unit * signed + 16384) >> 15)
    for value in (32767, -32767, 16384, -1, *rng.integers(-32767, 32768, 20).tolist()):
        units = np.arange(32769)
        (got,) = kernel("lstm_hidden_state-15", lanes)([units, np.full_like(units, value)])
        np.testing.assert_array_equal(got, (units * value + 16384) >> 15)
