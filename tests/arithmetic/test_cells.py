"""Cells: exact in any format, nothing leaves its width at the extremes, the GRU state is convex, and compiled equals Python."""

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
from qrnn.backends.cpu.jit import for_python

GATE = (0, 1, 2, 16383, 16384, 16385, 32767, 32768)
ANY_GATE = (-32768, -32767, -12345, -1, 0, 1, 16384, 32767, 32768)
"""Outputs of gate functions that are not bounded by 0 and 1."""
SIGNED = (-32767, -32766, -16384, -1, 0, 1, 16384, 32767)
CELL = (-(1 << 31), -(1 << 31) + 1, -(1 << 23), -1, 0, 1, 1 << 23, (1 << 31) - 1)
PART = (1 << 30) - 1
FRACS = range(16)
quick = settings(max_examples=300, deadline=None, derandomize=True, database=None)
q15 = st.integers(0, 32768)
gate = st.integers(-32768, 32768)
signed = st.integers(-32767, 32767)
frac = st.integers(0, 15)


def half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


def shifted(x: int, shift: int) -> int:
    """round(x / 2^shift), in rationals."""
    return half_up(Fraction(x, 1 << shift))


def clamp(x: int, low: int, high: int) -> int:
    return sorted((low, x, high))[1]


# --- LSTM -----------------------------------------------------------------------------------------------------------------------


def test_lstm_cell_state_saturates_at_int32_alone() -> None:
    for i, f, g, c, c_frac in itertools.product(GATE, GATE, SIGNED, CELL, range(12, 24)):
        got = cells.lstm_cell_state(i, f, g, c, 15, 30 - c_frac)
        exact = shifted(c * f, 15) + shifted(i * g, 30 - c_frac)
        assert got == clamp(exact, -(1 << 31), (1 << 31) - 1)


def test_lstm_cell_state_of_unbounded_gates() -> None:
    for i, f, g, c in itertools.product(ANY_GATE, ANY_GATE, ANY_GATE, CELL):
        for f_frac, shift in ((0, 0), (0, 30), (3, 7), (14, 29), (15, 0)):
            exact = shifted(c * f, f_frac) + shifted(i * g, shift)
            assert cells.lstm_cell_state(i, f, g, c, f_frac, shift) == clamp(exact, -(1 << 31), (1 << 31) - 1)


def test_an_open_forget_gate_keeps_the_cell() -> None:
    for c in CELL:
        for f_frac in FRACS:
            assert cells.lstm_cell_state(0, 1 << f_frac, 32767, c, f_frac, 7) == c


@quick
@given(i=gate, f_frac=frac, g=gate, c=st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_coupled_forget_gate_is_exactly_the_rest(i: int, f_frac: int, g: int, c: int) -> None:
    f = cells.coupled_forget(i, f_frac)
    assert Fraction(f, 1 << f_frac) == 1 - Fraction(i, 1 << f_frac)
    assert abs(f) <= 65536
    exact = shifted(c * f, f_frac) + shifted(i * g, 4)
    assert cells.lstm_cell_state(i, f, g, c, f_frac, 4) == clamp(exact, -(1 << 31), (1 << 31) - 1)


def test_a_coupled_forget_gate_of_a_bounded_one_is_bounded() -> None:
    for f_frac in FRACS:
        one = 1 << f_frac
        assert {cells.coupled_forget(i, f_frac) for i in (0, one)} == {0, one}
        assert all(0 <= cells.coupled_forget(i, f_frac) <= one for i in GATE if i <= one)


def test_lstm_output() -> None:
    for c, shift in itertools.product(CELL, range(24)):
        assert cells.lstm_output_argument(c, shift) == clamp(shifted(c, shift), -32768, 32767)
    for o, a, shift in itertools.product(GATE, SIGNED, range(15, 31)):
        got = cells.lstm_hidden_state(o, a, shift)
        assert abs(got) <= 32767
        assert got == shifted(o * a, shift)


def test_lstm_output_of_unbounded_gates() -> None:
    for o, a, shift in itertools.product(ANY_GATE, ANY_GATE, range(31)):
        assert cells.lstm_hidden_state(o, a, shift) == clamp(shifted(o * a, shift), -32767, 32767)


def test_peepholes() -> None:
    """Any shift to 46, saturated at ±2^30; added to a requantized sum it stays an int32."""
    limit = 1 << 30
    for c, weight, shift in itertools.product(CELL, (-32768, -32767, -1, 0, 1, 77, 32767), range(47)):
        got = cells.peephole(c, weight, shift)
        assert got == clamp(shifted(c * weight, shift), -limit, limit)
        assert all(-(1 << 31) <= x + got < 1 << 31 for x in (-PART, PART))
    assert cells.peephole(-(1 << 31), 32767, 0) == -limit
    assert cells.peephole(-(1 << 31), -32768, 0) == limit
    assert cells.peephole(-(1 << 31), -32768, 46) == 1


# --- GRU ------------------------------------------------------------------------------------------------------------------------


@quick
@given(z=q15, n=signed, h=signed, h_frac=st.integers(0, 15))
def test_gru_state_is_a_convex_combination(z: int, n: int, h: int, h_frac: int) -> None:
    aligned = shifted(n, 15 - h_frac)
    got = cells.gru_hidden_state(z, n, h, 15, 15 - h_frac)
    assert min(aligned, h) <= got <= max(aligned, h)
    assert abs(got) <= 32767
    assert got == shifted(z * h + (32768 - z) * aligned, 15)


@quick
@given(z=gate, n=gate, h=signed, z_frac=frac, n_shift=frac)
def test_gru_state_of_unbounded_gates(z: int, n: int, h: int, z_frac: int, n_shift: int) -> None:
    aligned = shifted(n, n_shift)
    got = cells.gru_hidden_state(z, n, h, z_frac, n_shift)
    assert got == clamp(shifted(z * h + ((1 << z_frac) - z) * aligned, z_frac), -32767, 32767)
    if 0 <= z <= 1 << z_frac:
        assert min(aligned, h) <= got <= max(aligned, h) or abs(aligned) == 32768


def test_gru_state_at_its_ends() -> None:
    for n, h in itertools.product(SIGNED, SIGNED):
        for z_frac in FRACS:
            assert cells.gru_hidden_state(1 << z_frac, n, h, z_frac, 0) == h
            assert cells.gru_hidden_state(0, n, h, z_frac, 0) == n
        for z in GATE:
            assert min(n, h) <= cells.gru_hidden_state(z, n, h, 15, 0) <= max(n, h)


def test_gru_products_fit_32_bits() -> None:
    """z·h + (32768 - z)·n + 2^14 needs no wider register than int32."""
    assert max(abs(z * h) + (32768 - z) * abs(n) for z in GATE for h in SIGNED for n in SIGNED) + 16384 < 1 << 31


def test_reset_operand_rounds_the_full_product_once() -> None:
    for r, h, r_frac, shift in itertools.product(ANY_GATE + GATE, SIGNED, (0, 1, 7, 14, 15), FRACS):
        exact = shifted(r * h, r_frac + shift)
        for limit in (127, 8191, 32767):
            assert cells.reset_operand(r, h, r_frac, shift, limit) == clamp(exact, -limit, limit)


# --- arguments, and RNN ---------------------------------------------------------------------------------------------------------


def test_preactivations() -> None:
    for x, h, shift in itertools.product((-PART, -40000, -1, 0, 1, 40000, PART), (-PART, 0, 7, PART), FRACS):
        assert abs(x + h) < 1 << 31
        check_argument(cells.preactivation(x, h, shift), x + h, shift)
        for r in GATE:
            part = shifted(h * r, 15)
            assert abs(x + part) < 1 << 31
            check_argument(cells.candidate_after_reset(x, h, r, 15, shift), x + part, shift)


def test_candidate_after_an_unbounded_reset() -> None:
    for x, h, r in itertools.product((-PART, -1, 0, 40000, PART), (-PART, 0, 7, PART), ANY_GATE):
        for r_frac, shift in itertools.product((0, 1, 9, 15), (0, 1, 15)):
            total = x + shifted(h * r, r_frac)
            assert abs(total) < 1 << 46
            check_argument(cells.candidate_after_reset(x, h, r, r_frac, shift), total, shift)


def check_argument(got: int, total: int, shift: int) -> None:
    """``total`` as an int16 whose lowest ``shift`` bits are zero, saturated."""
    assert got == clamp(total, -32768 >> shift, 32767 >> shift) << shift


def test_a_peephole_and_two_sums_saturate_once() -> None:
    for x, p, h in itertools.product((-PART, 0, PART), (-(1 << 30), -3, 1 << 30), (-PART, 1, PART)):
        check_argument(cells.preactivation(x + p, h, 2), x + p + h, 2)


def test_rnn_hidden_state() -> None:
    for a, out_frac in itertools.product((0, 1, 255, -256, 32767), FRACS):
        for h_frac in range(out_frac + 1):
            assert cells.rnn_hidden_state(a, out_frac - h_frac) == shifted(a, out_frac - h_frac)
    for a in (-32768, 32768):
        assert cells.rnn_hidden_state(a, 0) == clamp(a, -32767, 32767)
        assert cells.rnn_hidden_state(a, 15) == a // 32768


# --- widths ---------------------------------------------------------------------------------------------------------------------


class Register(int):
    """An integer that asserts that it fits 64 bits, and so does whatever is computed from it."""

    def __new__(cls, value: int) -> Register:
        assert -(1 << 63) <= value < 1 << 63
        return super().__new__(cls, value)


def _checked(name: str) -> Callable[..., Register]:
    plain = getattr(int, name)
    return lambda a, b: Register(plain(a, b))


for _operator in ("add", "sub", "mul", "lshift", "rshift"):
    for _side in ("", "r"):
        setattr(Register, f"__{_side}{_operator}__", _checked(f"__{_side}{_operator}__"))


I16, I32, I64, I8 = np.int16, np.int32, np.int64, np.int8
SHIFTS = (0, 1, 7, 15, 30)
CASES: dict[str, tuple[list[tuple[int, ...]], tuple[Any, ...]]] = {
    "preactivation": (list(itertools.product((-PART, -1, 40000, PART), (-PART, 0, PART), FRACS)), (I32, I32, I8)),
    "peephole": (list(itertools.product(CELL, (-32768, -1, 0, 1, 32767), range(47))), (I32, I16, I8)),
    "candidate_after_reset": (
        list(itertools.product((-PART, -1, PART), (-PART, 5, PART), ANY_GATE, (0, 7, 15), (0, 1, 15))),
        (I32, I32, I32, I64, I8),
    ),
    "reset_operand": (
        list(itertools.product(ANY_GATE, SIGNED, (0, 9, 15), FRACS, (127, 32767))),
        (I32, I16, I64, I64, I64),
    ),
    "coupled_forget": (list(itertools.product(ANY_GATE, FRACS)), (I32, I64)),
    "lstm_cell_state": (
        list(itertools.product(ANY_GATE, (*ANY_GATE, -65536, 65536), SIGNED, CELL, (0, 8, 15), SHIFTS)),
        (I32, I32, I32, I32, I64, I64),
    ),
    "lstm_output_argument": (list(itertools.product(CELL, range(24))), (I32, I64)),
    "lstm_hidden_state": (list(itertools.product(ANY_GATE, ANY_GATE, range(31))), (I32, I32, I64)),
    "gru_hidden_state": (
        list(itertools.product(ANY_GATE, ANY_GATE, SIGNED, (0, 9, 14, 15), (0, 6, 15))),
        (I32, I32, I16, I64, I64),
    ),
    "rnn_hidden_state": (list(itertools.product(ANY_GATE, range(31))), (I32, I64)),
    "begin_state": (
        [
            (x, *shifts, *ends)
            for x in CELL
            for shift in (0, 1, 8, 15, 30)
            for shifts in ((shift, 0), (0, shift))
            for ends in ((-32767, 32767), (-(1 << 31), (1 << 31) - 1))
        ],
        (I32, I64, I64, I64, I64),
    ),
}
"""Function → arguments at the ends of their domains, and the widths in which the CPU backend holds them."""


@pytest.mark.parametrize("name", CASES)
def test_nothing_needs_more_than_64_bits(name: str) -> None:
    function = getattr(cells, name)
    for row in CASES[name][0]:
        assert function(*map(Register, row)) == function(*row)


def test_registers_see_what_does_not_fit() -> None:
    with pytest.raises(AssertionError):
        Register(1 << 62) * 2
    with pytest.raises(AssertionError):
        1 - Register(-(1 << 63))


# --- compiled -------------------------------------------------------------------------------------------------------------------


def check_compiled(function: Callable[..., int], rows: list[tuple[int, ...]], types: tuple[Any, ...]) -> None:
    """Compiled from arrays of the given widths equals Python."""
    count = len(types)
    calls = ", ".join(f"a{k}[i]" for k in range(count))
    names = ", ".join(f"a{k}" for k in range(count))
    source = f"def loop(out, {names}):\n    for i in range(out.shape[0]):\n        out[i] = function({calls})\n"
    space: dict[str, Any] = {"function": function}
    exec(source, space)
    kernel = for_python(space["loop"])
    columns = [np.array(column, dtype) for column, dtype in zip(zip(*rows, strict=True), types, strict=True)]
    out = np.zeros(len(rows), np.int64)
    kernel(out, *columns)
    np.testing.assert_array_equal(out, [function(*row) for row in rows])


@pytest.mark.wide(cover=False, keep=5)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_compiled_equals_python(name: str, wide: bool) -> None:
    rows, types = CASES[name]
    check_compiled(getattr(cells, name), rows, (I64,) * len(types) if wide else types)


def test_every_function_is_registered_after_those_it_calls() -> None:
    names = [function.__name__ for function in CONTRACT]
    assert len(set(names)) == len(names)
    for position, function in enumerate(CONTRACT):
        for called in function.__code__.co_names:
            if called in names:
                assert names.index(called) < position, f"{function.__name__} calls {called}"
    own = {n for n, v in vars(cells).items() if callable(v) and getattr(v, "__module__", "") == cells.__name__}
    assert own <= set(names)
    assert set(CASES) == own
