"""Every activation's integer function over all 65536 inputs: formats, bounds, error, symmetry, clip, complement."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
from arithmetic.evaluation import Array, outputs

from qrnn.errors import QuantizationError
from qrnn.model.activation import ACTIVATION_PARAMETERS, Activation, activate
from qrnn.model.parts import GateFunction
from qrnn.quantization.gate_choice import GateChoice
from qrnn.quantization.gate_fit import fit_knots, fit_with_kink
from qrnn.quantization.gate_tables import complement, gate_function, needs_input_range

STEP, HARD = GateChoice("step"), GateChoice("hard")


def clamped(largest: int) -> Array:
    """Positions in `outputs` of clamp(x, ±largest)."""
    return np.clip(np.arange(-32768, 32768), -largest, largest) + 32768


def made(activation: Activation, choice: GateChoice = GateChoice(), **options: Any) -> GateFunction:  # noqa: B008
    if needs_input_range(activation):
        options.setdefault("in_frac", 11)
    return gate_function(activation, choice, **options)


ALL = [
    Activation("sigmoid"),
    Activation("tanh"),
    Activation("relu"),
    Activation("hard_sigmoid", 0.2, 0.5),
    Activation("hard_sigmoid", -0.3, 0.4),
    Activation("hard_tanh"),
    Activation("step"),
    Activation("affine", 0.3, 0.1),
    Activation("affine", -1.0, 2.0),
    Activation("affine", 0.0, -0.5),
    Activation("leaky_relu", 0.01),
    Activation("leaky_relu", 1.5),
    Activation("leaky_relu", -0.3),
    Activation("thresholded_relu", 1.0),
    Activation("thresholded_relu", -1.0),
    Activation("scaled_tanh", 1.0, 0.5),
    Activation("scaled_tanh", 1.7159, 2 / 3),
    Activation("scaled_tanh", -1.0, 1.0),
    Activation("scaled_tanh", 1.0, 100.0),
    Activation("elu", 1.0),
    Activation("elu", 30.0),
    Activation("elu", -0.5),
    Activation("softsign"),
    Activation("softplus"),
    Activation("swish", 1.0),
    Activation("swish", 1.702),
    Activation("hard_swish"),
    Activation("gelu"),
    Activation("gelu_tanh"),
    Activation("mish"),
]

LSB = {"hard_sigmoid": 1.0, "hard_tanh": 1.0, "affine": 1.25, "leaky_relu": 1.0, "softplus": 1.5, "sigmoid": 3.8,
       "swish": 2.0, "hard_swish": 1.5, "gelu": 2.0, "gelu_tanh": 2.0, "mish": 2.0}  # fmt: skip
"""Bounds of the error in output units, where one bound serves all parameters; the others in the test."""


def test_every_kind_is_here() -> None:
    assert {a.kind for a in ALL} == set(ACTIVATION_PARAMETERS)


@pytest.mark.parametrize(
    ("activation", "in_frac"),
    [(a, frac) for a in ALL for frac in ((6, 11, 14) if needs_input_range(a) else (11,))],
    ids=str,
)
def test_error_bounds_and_monotony(activation: Activation, in_frac: int) -> None:
    f = made(activation, in_frac=in_frac)
    y, kind = outputs(f), activation.kind
    assert (y.min(), y.max()) == f.bounds, "the bounds are reached"
    x = np.arange(-32768, 32768).clip(-32767) / 2.0**f.in_frac
    true = activate(activation, x)
    error = np.abs(y * 2.0**-f.out_frac - true).max()
    largest = LSB.get(kind, 0.0)
    if kind in ("tanh", "scaled_tanh"):  # in proportion to the width of a segment in units of tanh, squared
        wide = max(1.0, abs(activation.beta) * 2.0 ** (15 - f.in_frac) / 8 if kind == "scaled_tanh" else 1.0)
        segments = (f.table.size - 1) / 128
        size = abs(activation.alpha) if kind == "scaled_tanh" else 1.0
        largest = 1.0 + 6.2 * (wide / segments) ** 2 * size * 2.0 ** (f.out_frac - 15)
    elif kind == "softsign":  # 1024 segments do not suffice for the bend at 0 on ±512
        largest = {6: 785.0, 11: 21.0, 14: 2.5}[in_frac]
    elif kind == "elu":
        largest = 1.0 + 1.1 * abs(activation.alpha) * {6: 1.0, 11: 0.35, 14: 0.15}[in_frac]
    assert error * 2.0**f.out_frac <= largest + 1e-9
    direction = np.diff(true[1:])
    if (direction >= 0).all():
        assert (np.diff(y) >= 0).all()
    elif (direction <= 0).all():
        assert (np.diff(y) <= 0).all()


@pytest.mark.parametrize("segments", [8, 64, 128])
@pytest.mark.parametrize(
    "activation", [a for a in ALL if a.kind in ("tanh", "scaled_tanh", "softsign", "hard_tanh")], ids=str
)
def test_odd_functions_are_odd_in_integers(activation: Activation, segments: int) -> None:
    y = outputs(made(activation, GateChoice(segments=segments)))
    assert y[32768] == 0
    np.testing.assert_array_equal(y[32769:], -y[32767:0:-1])


@pytest.mark.parametrize("in_frac", [0, 9, 12, 15])
def test_the_identity_is_exact(in_frac: int) -> None:
    positive = np.arange(32768)
    for activation in (
        Activation("leaky_relu", 0.01),
        Activation("leaky_relu", 1.0),
        Activation("elu", 0.5),
        Activation("relu"),
    ):
        f = made(activation, in_frac=in_frac)
        assert f.out_frac == in_frac
        np.testing.assert_array_equal(outputs(f)[32768:], positive)
    np.testing.assert_array_equal(
        outputs(made(Activation("leaky_relu", 1.0), in_frac=in_frac))[1:], np.arange(-32767, 32768)
    )


@pytest.mark.parametrize("alpha", [-70000.0, -16.0, -15.99, -1.0, -0.3, 0.0, 0.3, 1.0, 15.9, 16.0, 1e9])
def test_thresholded_relu_is_exact(alpha: float) -> None:
    exact = Fraction(alpha) * 2048
    want = [x if x > exact else 0 for x in (max(x, -32767) for x in range(-32768, 32768))]
    np.testing.assert_array_equal(outputs(made(Activation("thresholded_relu", alpha))), want)


def test_step_is_one_from_zero_on() -> None:
    np.testing.assert_array_equal(outputs(made(Activation("step"))), np.where(np.arange(-32768, 32768) >= 0, 32768, 0))


def test_hard_tanh_is_exact() -> None:
    want = np.clip(8 * np.arange(-32768, 32768), -32767, 32767)
    np.testing.assert_array_equal(outputs(made(Activation("hard_tanh"))), want)


@pytest.mark.parametrize("clip", [0.0, 0.0002, 0.25, 1.0, 3.0, 7.99, 1e9, float("inf")])
@pytest.mark.parametrize("activation", ALL, ids=str)
def test_clip_is_exact(activation: Activation, clip: float) -> None:
    whole = made(activation)
    end = floor(min(clip, 1e6) * 2.0**whole.in_frac + 0.5)
    f = made(activation, clip=clip)
    y = outputs(whole)
    if end < 32767:
        y = y[clamped(end)]
    np.testing.assert_array_equal(outputs(f), y)
    assert f.bounds[0] <= y.min()
    assert y.max() <= f.bounds[1]
    assert (f.in_frac, f.out_frac) == (whole.in_frac, whole.out_frac)


@pytest.mark.parametrize("clip", [None, 0.0, 0.3, 2.0])
@pytest.mark.parametrize("segments", [8, 128, 1024])
def test_complement_of_sigmoid(segments: int, clip: float | None) -> None:
    f = gate_function(Activation("sigmoid"), GateChoice(segments=segments), clip=clip)
    once = complement(f)
    np.testing.assert_array_equal(outputs(once), 32768 - outputs(f))
    np.testing.assert_array_equal(complement(once).params, f.params)


@pytest.mark.parametrize("clip", [None, 0.4])
def test_complement_of_the_others(clip: float | None) -> None:
    functions = [
        gate_function(Activation("hard_sigmoid", a, b), clip=clip)
        for a, b in ((0.2, 0.5), (-0.7, 0.2), (1e-3, 0.5), (0.0, 0.3))
    ]
    functions += [gate_function(Activation("step"), clip=clip)]
    functions += [made(Activation("softplus"), in_frac=13, clip=0.5), made(Activation("elu", 0.0), in_frac=15)]
    functions += [made(Activation("leaky_relu", -0.5), in_frac=15), made(Activation("relu"), in_frac=15)]
    for f in functions:
        np.testing.assert_array_equal(outputs(complement(f)), (1 << f.out_frac) - outputs(f), f.name)


@pytest.mark.parametrize(
    "activation", [Activation("tanh"), Activation("softplus"), Activation("hard_tanh"), Activation("relu")], ids=str
)
def test_complement_needs_the_unit_interval(activation: Activation) -> None:
    with pytest.raises(QuantizationError, match=r"\[0, 1\]"):
        complement(made(activation))


def test_complement_of_a_clipped_threshold_is_refused() -> None:
    with pytest.raises(QuantizationError, match="HIGH"):
        complement(made(Activation("thresholded_relu", 0.5), in_frac=11, clip=0.75))


def test_choices_replace_the_function() -> None:
    sigmoid, tanh = Activation("sigmoid"), Activation("tanh")
    for choice, activation, same in (
        (STEP, sigmoid, Activation("step")),
        (HARD, sigmoid, Activation("hard_sigmoid", 0.2, 0.5)),
        (GateChoice("hard", ramp=(0.25, 0.5)), sigmoid, Activation("hard_sigmoid", 0.25, 0.5)),
        (HARD, tanh, Activation("hard_tanh")),
        (STEP, Activation("hard_sigmoid", 0.3, 0.5), Activation("hard_sigmoid", 0.3, 0.5)),
    ):
        np.testing.assert_array_equal(made(activation, choice).params, made(same).params)


def test_input_formats() -> None:
    for activation in ALL:
        if needs_input_range(activation):
            with pytest.raises(QuantizationError, match="in_frac"):
                gate_function(activation)
            with pytest.raises(QuantizationError, match="in_frac"):
                gate_function(activation, in_frac=16)
        else:
            assert gate_function(activation, in_frac=3).in_frac == gate_function(activation).in_frac
    formats = {str(a): (made(a).in_frac, made(a).out_frac) for a in ALL if a.kind in ("scaled_tanh", "hard_tanh")}
    assert list(formats.values()) == [(12, 15), (11, 15), (11, 14), (12, 15), (15, 15)]


@pytest.mark.parametrize(
    "activation",
    [
        Activation("affine", 1e9, 0.0),
        Activation("affine", 0.0, 40000.0),
        Activation("leaky_relu", 3000.0),
        Activation("elu", 40000.0),
        Activation("scaled_tanh", 40000.0, 1.0),
        Activation("scaled_tanh", 1.0, 1e-5),
        Activation("elu", float("nan")),
        Activation("thresholded_relu", float("inf")),
    ],
    ids=str,
)
def test_functions_that_do_not_fit_are_refused(activation: Activation) -> None:
    with pytest.raises(QuantizationError, match=activation.kind):
        made(activation)


@pytest.mark.parametrize("clip", [-1.0, float("nan")])
def test_a_clip_is_a_positive_number(clip: float) -> None:
    for activation in (Activation("tanh"), Activation("thresholded_relu", 1.0)):
        with pytest.raises(QuantizationError, match="clip"):
            made(activation, clip=clip)


# --- fits -----------------------------------------------------------------------------------------------------------------------


def least_error(function: Any, x: Any, fine: int, fixed: int | None) -> float:
    """The least largest error on the grid x of any continuous table with a knot each ``fine`` points, by linear programming."""
    optimize = pytest.importorskip("scipy.optimize")
    sparse = pytest.importorskip("scipy.sparse")
    segments = (x.size - 1) // fine
    k = np.minimum(np.arange(x.size) // fine, segments - 1)
    s = np.arange(x.size) / fine - k
    places = (np.tile(np.arange(x.size), 2), np.concatenate([k, k + 1]))
    hat = sparse.csr_matrix((np.concatenate([1 - s, s]), places), (x.size, segments + 1))
    one = np.ones((x.size, 1))
    constraints = sparse.vstack([sparse.hstack([hat, -one]), sparse.hstack([-hat, -one])]).tocsr()
    f = function(x)
    bounds = [(None, None)] * (segments + 1) + [(0.0, None)]
    if fixed is not None:
        bounds[fixed] = (f[fixed * fine],) * 2
    cost = np.r_[np.zeros(segments + 1), 1.0]
    found = optimize.linprog(cost, constraints, np.concatenate([f, -f]), bounds=bounds, method="highs")
    assert found.status == 0
    return float(found.fun)


@pytest.mark.parametrize(("segments", "reach"), [(8, 8.0), (64, 8.0), (128, 16.0)])
@pytest.mark.parametrize(
    "activation", [Activation("softplus"), Activation("elu", 1.0), Activation("elu", -2.0)], ids=str
)
def test_fits_over_the_whole_range_are_minimax(activation: Activation, segments: int, reach: float) -> None:
    fine, width = 64, reach / segments

    def real(x: Any) -> Any:
        return activate(activation, x)

    x = np.linspace(-reach, reach, 2 * segments * fine + 1)
    if activation.kind == "softplus":
        knots = fit_knots(real, width, 2 * segments, -reach, fixed_start=False)
    else:
        knots = fit_with_kink(real, width, segments)
        np.testing.assert_array_equal(knots[segments:], width * np.arange(segments + 1))
    error = np.abs(np.interp(x, np.linspace(-reach, reach, 2 * segments + 1), knots) - real(x)).max()
    best = least_error(real, x, fine, None if activation.kind == "softplus" else segments)
    assert best * (1 - 1e-6) - 1e-9 <= error <= 1.01 * best + 1e-9
    if activation.kind == "elu":
        assert error <= 1.42 * least_error(real, x, fine, None), "what exactness at 0 costs"
