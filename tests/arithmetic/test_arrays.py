"""The contract's functions of whole arrays: each element is what the function gives for it, and what it saturates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrnn.arithmetic import fixedpoint
from qrnn.arithmetic.arrays import of_arrays, unclamped
from qrnn.arithmetic.cells import lstm_hidden_state, lstm_output_argument, reset_operand, rnn_hidden_state
from qrnn.arithmetic.fixedpoint import add16, shift_right_round, to_operand

INT16 = st.integers(-32768, 32767)
CASES: dict[Callable[..., Any], tuple[st.SearchStrategy[int], ...]] = {
    to_operand: (INT16, st.integers(0, 15), st.integers(1, 32767)),
    add16: (INT16, INT16, st.integers(0, 15), st.just(0), st.integers(0, 15)),
    reset_operand: (st.integers(-(1 << 15), 1 << 15), INT16, st.integers(0, 15), st.integers(0, 15), st.integers(1, 32767)),
    lstm_output_argument: (st.integers(-(1 << 31), (1 << 31) - 1), st.integers(0, 30)),
    lstm_hidden_state: (st.integers(-(1 << 15), 1 << 15), st.integers(-(1 << 20), 1 << 20), st.integers(0, 30)),
    rnn_hidden_state: (st.integers(-(1 << 20), 1 << 20), st.integers(0, 15)),
}  # fmt: skip


@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
@given(st.data())
def test_each_element_is_that_of_the_function(function: Callable[..., Any], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.tuples(*CASES[function]), min_size=1, max_size=8))
    found = of_arrays(function)(*np.array(rows, np.int64).T)
    assert found.tolist() == [function(*row) for row in rows]


@given(INT16, INT16, st.integers(0, 15), st.integers(0, 15))
def test_without_its_saturation_a_sum_is_the_rounded_one(a: int, b: int, a_shift: int, out_shift: int) -> None:
    expected = shift_right_round((a << a_shift) + b, out_shift)
    assert unclamped(add16)(np.array([a]), np.array([b]), a_shift, 0, out_shift).tolist() == [expected]


def test_limits_do_not_take_part_without_saturation() -> None:
    q = np.arange(-32768, 32768, 7)
    assert unclamped(to_operand)(q, 3, 1).tolist() == [shift_right_round(int(v), 3) for v in q]


def test_the_contract_itself_is_as_before() -> None:
    """The functions are copies: those of the contract still call the contract's own choice and saturation."""
    of_arrays(add16), unclamped(add16)
    assert add16.__globals__["saturate16"] is fixedpoint.saturate16
    assert add16(32767, 32767, 0, 0, 0) == 32767
