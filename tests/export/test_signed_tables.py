"""Tables of odd gate functions for both signs: the sum that is made of their entries is the contract's value at every int16."""

from __future__ import annotations

import numpy as np
import pytest
from arithmetic.evaluation import Array, outputs
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.arithmetic import gates as g
from qrnn.export.signed_tables import has_signed_table, signed_table, signed_values
from qrnn.model.activation import Activation
from qrnn.model.parts import GateFunction
from qrnn.quantization.gate_choice import GateChoice
from qrnn.quantization.gate_tables import complement, gate_function

SIGMOID, TANH = Activation("sigmoid"), Activation("tanh")


def odd(offset: int, bits: int, cut: int, table: list[int]) -> GateFunction:
    params = np.zeros(g.PARAMS, np.int64)
    params[g.KIND], params[g.OFFSET], params[g.SEGMENT_BITS], params[g.CUT] = g.ODD, offset, bits, cut
    return GateFunction("odd", params, np.array(table, np.int32))


def values(function: GateFunction) -> Array:
    """What targets/runtime/qrnn_gates_dsp.h computes at every int16."""
    begin, bits, turned, *_ = signed_values(function)
    table, x = signed_table(function), np.arange(-32768, 32768)
    at, low = (x >> bits) + len(table) // 2, x & ((1 << bits) - 1)
    sums = ((1 << bits) - low) * table[at] + low * table[at + 1] + begin + ((x ^ turned) >> 31)
    return np.asarray(sums >> bits)


@pytest.mark.parametrize("segments", [128, 1024])
@pytest.mark.parametrize("activation", [SIGMOID, TANH, Activation("scaled_tanh", 1.7, 0.6)])
def test_real_functions(activation: Activation, segments: int) -> None:
    function = gate_function(activation, GateChoice(segments=segments))
    assert has_signed_table(function)
    assert np.array_equal(values(function), outputs(function))
    if activation is SIGMOID:
        turned = complement(function)
        assert has_signed_table(turned)
        assert np.array_equal(values(turned), outputs(turned))


@settings(deadline=None, max_examples=15)
@given(st.integers(5, 14), st.sampled_from([0, 1 << 14, -(1 << 14)]), st.integers(0, 2**32))
def test_drawn_tables(bits: int, offset: int, seed: int) -> None:
    most = abs(offset) or 32767
    table = [0, *np.random.default_rng(seed).integers(-most, most + 1, 1 << (15 - bits)).tolist()]
    table[-1] = table[-2]  # the contract takes -32768 for -32767
    function = odd(offset, bits, 0, table)
    assert has_signed_table(function)
    assert np.array_equal(values(function), outputs(function))


@pytest.mark.parametrize(
    "function",
    [
        odd(0, 14, 1, [0, 5, 5]),  # a cut
        odd(0, 14, 0, [3, 5, 5]),  # two values at 0
        odd(0, 14, 0, [0, 16384, 32767]),  # another value at -32768
        odd(0, 15, 0, [0, 0]),  # a factor of 2^15
        odd(0, 0, 0, [0] * 32769),  # nothing to round
    ],
)
def test_other_functions_keep_their_tables(function: GateFunction) -> None:
    assert not has_signed_table(function)
