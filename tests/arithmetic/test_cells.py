"""Cells: nothing leaves its width at the extremes, the GRU state is convex, and compiled equals Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.arithmetic import CONTRACT, cells
from qrnn.backends.cpu.jit import jit

GATE = (0, 1, 2, 16383, 16384, 16385, 32767, 32768)
SIGNED = (-32767, -32766, -16384, -1, 0, 1, 16384, 32767)
CELL = (-(1 << 31), -(1 << 31) + 1, -(1 << 23), -1, 0, 1, 1 << 23, (1 << 31) - 1)
PART = (1 << 30) - 1
quick = settings(max_examples=300, deadline=None, derandomize=True, database=None)
q15 = st.integers(0, 32768)
signed = st.integers(-32767, 32767)


def half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


def test_lstm_cell_state_saturates_at_int32_alone() -> None:
    for i, f, g, c, c_frac in itertools.product(GATE, GATE, SIGNED, CELL, range(12, 24)):
        got = cells.lstm_cell_state(i, f, g, c, c_frac)
        exact = half_up(Fraction(c * f, 1 << 15)) + half_up(Fraction(i * g, 1 << (30 - c_frac)))
        assert got == max(-(1 << 31), min((1 << 31) - 1, exact))


def test_an_open_forget_gate_keeps_the_cell() -> None:
    for c in CELL:
        assert cells.lstm_cell_state(0, 32768, 32767, c, 23) == c


def test_lstm_output() -> None:
    for c, c_frac in itertools.product(CELL, range(12, 24)):
        got = cells.lstm_output_argument(c, c_frac, 12)
        assert got == max(-32768, min(32767, half_up(Fraction(c, 1 << (c_frac - 12)))))
    for o, a, h_frac in itertools.product(GATE, SIGNED, range(16)):
        got = cells.lstm_hidden_state(o, a, h_frac)
        assert abs(got) <= 32767
        assert got == half_up(Fraction(o * a, 1 << (30 - h_frac)))


@quick
@given(z=q15, n=signed, h=signed, h_frac=st.integers(0, 15))
def test_gru_state_is_a_convex_combination(z: int, n: int, h: int, h_frac: int) -> None:
    aligned = half_up(Fraction(n, 1 << (15 - h_frac)))
    got = cells.gru_hidden_state(z, n, h, h_frac)
    assert min(aligned, h) <= got <= max(aligned, h)
    assert abs(got) <= 32767
    assert got == half_up(Fraction(z * h + (32768 - z) * aligned, 1 << 15))


def test_gru_state_at_its_ends() -> None:
    for n, h in itertools.product(SIGNED, SIGNED):
        assert cells.gru_hidden_state(32768, n, h, 15) == h
        assert cells.gru_hidden_state(0, n, h, 15) == n
        for z in GATE:
            assert min(n, h) <= cells.gru_hidden_state(z, n, h, 15) <= max(n, h)


def test_gru_products_fit_32_bits() -> None:
    """z·h + (32768 - z)·n + 2^14 needs no wider register than int32."""
    assert max(abs(z * h) + (32768 - z) * abs(n) for z in GATE for h in SIGNED for n in SIGNED) + 16384 < 1 << 31


def test_preactivations() -> None:
    for x, h, shift in itertools.product((-PART, -40000, -1, 0, 1, 40000, PART), (-PART, 0, 7, PART), range(16)):
        assert abs(x + h) < 1 << 31
        got = cells.preactivation(x, h, shift)
        assert -32768 <= got <= 32767
        if abs(x + h) << shift <= 32767:
            assert got == (x + h) << shift
        for r in GATE:
            after = cells.candidate_after_reset(x, h, r, shift)
            assert -32768 <= after <= 32767
            part = half_up(Fraction(h * r, 1 << 15))
            assert abs(x + part) < 1 << 31
            if abs(x + part) << shift <= 32767:
                assert after == (x + part) << shift


def test_reset_operand_rounds_the_full_product_once() -> None:
    for r, h, shift, limit in itertools.product(GATE, SIGNED, range(16), (127, 32767)):
        exact = half_up(Fraction(r * h, 1 << (15 + shift)))
        assert cells.reset_operand(r, h, shift, limit) == max(-limit, min(limit, exact))


def test_rnn_hidden_state() -> None:
    for a, out_frac in itertools.product((0, 1, 255, 32767), range(16)):
        for h_frac in range(out_frac + 1):
            assert cells.rnn_hidden_state(a, out_frac, h_frac) == half_up(Fraction(a, 1 << (out_frac - h_frac)))


# --- compiled -------------------------------------------------------------------------------------------------------------------


def check_compiled(function: Callable[..., int], rows: list[tuple[int, ...]], types: tuple[Any, ...]) -> None:
    """Compiled from arrays of the given widths equals Python."""
    count = len(types)
    calls = ", ".join(f"a{k}[i]" for k in range(count))
    names = ", ".join(f"a{k}" for k in range(count))
    source = f"def loop(out, {names}):\n    for i in range(out.shape[0]):\n        out[i] = function({calls})\n"
    space: dict[str, Any] = {"function": function}
    exec(source, space)
    kernel = jit(space["loop"])
    columns = [np.array(column, dtype) for column, dtype in zip(zip(*rows, strict=True), types, strict=True)]
    out = np.zeros(len(rows), np.int64)
    kernel(out, *columns)
    np.testing.assert_array_equal(out, [function(*row) for row in rows])


I16, I32, I64, I8 = np.int16, np.int32, np.int64, np.int8
COMPILED: dict[str, tuple[list[tuple[int, ...]], tuple[Any, ...]]] = {
    "preactivation": (list(itertools.product((-PART, -1, 40000, PART), (-PART, 0, PART), range(16))), (I32, I32, I8)),
    "candidate_after_reset": (
        list(itertools.product((-PART, -1, PART), (-PART, 5, PART), GATE, (0, 1, 15))),
        (I32, I32, I64, I8),
    ),
    "reset_operand": (list(itertools.product(GATE, SIGNED, range(16), (127, 32767))), (I64, I16, I64, I64)),
    "lstm_cell_state": (list(itertools.product(GATE, GATE, SIGNED, CELL, (12, 20, 23))), (I64, I64, I64, I32, I64)),
    "lstm_output_argument": (list(itertools.product(CELL, (12, 20, 23), (12,))), (I32, I64, I64)),
    "lstm_hidden_state": (list(itertools.product(GATE, SIGNED, range(16))), (I64, I64, I64)),
    "gru_hidden_state": (list(itertools.product(GATE, SIGNED, SIGNED, (0, 9, 15))), (I64, I64, I16, I64)),
    "rnn_hidden_state": (list(itertools.product(SIGNED, (15,), range(16))), (I64, I64, I64)),
}


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_equals_python(name: str) -> None:
    rows, types = COMPILED[name]
    check_compiled(getattr(cells, name), rows, types)


def test_every_function_is_registered_after_those_it_calls() -> None:
    names = [function.__name__ for function in CONTRACT]
    assert len(set(names)) == len(names)
    for position, function in enumerate(CONTRACT):
        for called in function.__code__.co_names:
            if called in names:
                assert names.index(called) < position, f"{function.__name__} calls {called}"
    own = {n for n, v in vars(cells).items() if callable(v) and getattr(v, "__module__", "") == cells.__name__}
    assert own <= set(names)
    assert set(COMPILED) == own
