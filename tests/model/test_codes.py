"""Codes of a converter: the rule's bounds, what is refused, and the range that is told."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from offset_models import far_quantized

import qrnn
from qrnn.arithmetic.codes import CODE_BIAS_MAX, CODE_MULTIPLIER_MAX, CODE_SHIFT_MAX, from_code
from qrnn.errors import DataError
from qrnn.model.codes import CodeFormat, code_format, codes_within
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_model import QuantModel

MODEL = far_quantized()
INT32 = st.integers(-(1 << 31), (1 << 31) - 1) | st.sampled_from([-(1 << 31), (1 << 31) - 1, 0])


def model(*offset: int, scale: tuple[float, ...] = (0.01,)) -> QuantModel:
    fmt = TensorFormat(3, True, 8, scale, 127, offset or (0,))
    return replace(MODEL, tensors={**MODEL.tensors, "x": fmt})


@given(
    code=INT32,
    multiplier=st.integers(-CODE_MULTIPLIER_MAX, CODE_MULTIPLIER_MAX),
    bias=st.integers(-CODE_BIAS_MAX, CODE_BIAS_MAX),
    shift=st.integers(0, CODE_SHIFT_MAX),
    limit=st.integers(1, 32767),
)
def test_the_function(code: int, multiplier: int, bias: int, shift: int, limit: int) -> None:
    exact = Fraction(code * multiplier + bias, 1 << shift)
    want = min(max(math.floor(exact + Fraction(1, 2)), -limit), limit)
    assert from_code(code, multiplier, bias, shift, limit) == want
    assert abs(code * multiplier + bias) + ((1 << shift) >> 1) < 1 << 63


@given(
    scale=st.floats(1e-9, 1e3),
    offset=st.floats(-1e3, 1e3),
    zero=st.integers(-(1 << 52), 1 << 52) | st.integers(-999, 999),
)
def test_rules_are_within_their_bounds(scale: float, offset: float, zero: int) -> None:
    try:
        found = code_format(model(zero), "x", scale, offset, "int32")
    except DataError:
        return
    (rule,) = found.rules
    assert 0 <= rule.shift <= CODE_SHIFT_MAX
    assert abs(rule.multiplier) <= CODE_MULTIPLIER_MAX
    assert abs(rule.bias) <= CODE_BIAS_MAX
    finer = (
        rule.shift == CODE_SHIFT_MAX
        or 2 * abs(rule.multiplier) + 1 > CODE_MULTIPLIER_MAX
        or 2 * abs(rule.bias) + 1 > CODE_BIAS_MAX
    )
    assert finer


@given(
    codes=st.lists(INT32, min_size=3, max_size=3),
    scale=st.floats(1e-3, 1e3),
    zeros=st.tuples(*[st.integers(-9999, 9999)] * 3),
)
def test_arrays_are_what_the_function_gives(codes: list[int], scale: float, zeros: tuple[int, int, int]) -> None:
    found = code_format(model(*zeros), "x", scale, 0.0, "int32")
    rules = [*found.rules] * 3
    want = [from_code(c, r.multiplier, r.bias, r.shift, 127) for c, r in zip(codes, rules, strict=False)]
    assert found.integers(np.array([[codes]])).tolist() == [[want]]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown input": ({"name": "z"}, "no input has this name; expected an input of features (x)"),
    "no scale": ({"scale": 0.0}, "a scale of 0, expected what one code is worth"),
    "infinite": ({"scale": math.inf}, "scales that are not finite"),
    "not a number": ({"offset": math.nan}, "offsets that are not finite"),
    "too many": ({"scale": (1.0, 2.0)}, "2 scales, expected 1 or 3, one for each feature"),
    "an unknown type": ({"kind": "int8"}, "type 'int8', expected one of int16, uint16, int32"),
    "too little": ({"scale": 1e-9}, "all codes of int16 together less than one unit of the input"),
    "too much": ({"scale": 1e12}, "far beyond the units of the input"),
    "elsewhere": ({"scale": 0.01, "offset": 5000.0}, "no code of int16 lies within the input's range, -1.27 to 1.27"),
    "a feature": ({"offset": (0.0, 5000.0, 0.0)}, "codes of 'x', feature 1: one code is worth 0.01"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    given, says = REFUSED[name]
    arguments: dict[str, Any] = {"name": "x", "scale": 0.01, **given}
    with pytest.raises(DataError) as caught:
        code_format(model(), **arguments)
    assert says in str(caught.value)


def test_tokens_have_no_codes() -> None:
    from export.kinds import kind

    with pytest.raises(DataError, match="it takes tokens, which are no real numbers; expected an input of features"):
        code_format(kind("embedded"), "ids", 1.0)


def test_integers_are_checked() -> None:
    found = code_format(model(), "x", (0.01, 0.02, 0.03))
    assert found.integers(np.array([[1, 1, 1], [-40, 64, 20]])).tolist() == [[1, 2, 3], [-40, 127, 60]]
    for codes, says in (
        (np.array([[0.5, 1, 1]]), "codes of type float64, expected integers of type int16"),
        (np.array([[1, 40_000, 1]]), "codes from 1 to 40000, expected -32768 to 32767"),
        (np.array([[1, 2]]), "codes of shape [1, 2], expected [..., 3]"),
    ):
        with pytest.raises(DataError) as caught:
            found.integers(codes)
        assert says in str(caught.value)


def test_a_session_takes_the_integers_of_codes() -> None:
    """Where one code is one unit, real numbers give the same."""
    fmt = MODEL.tensors["x"]
    (unit,) = fmt.scale
    codes = np.random.default_rng(0).integers(-200, 200, (2, 7, 3))
    found: CodeFormat = qrnn.code_format(MODEL, "x", unit)
    session = qrnn.Session(MODEL, "reference")
    of_codes = session.run({"x": found.integers(codes)}, integers=True).outputs["y"]
    assert np.array_equal(
        of_codes, session.run({"x": np.clip(codes, -127, 127).astype(np.int16)}, integers=True).outputs["y"]
    )


def test_the_range_that_is_told() -> None:
    assert codes_within(code_format(model(), "x", 0.02)) == (65536, -64, 64)
    assert codes_within(code_format(model(100), "x", 0.01, 0.0, "uint16")) == (65536, 0, 227)
    assert codes_within(code_format(model(), "x", -0.5)) == (65536, -3, 3)
