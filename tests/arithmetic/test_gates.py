"""Gate functions over all 65536 inputs: symmetry, monotony, bounds, error, minimax optimality; ramps; softmax."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from arithmetic.evaluation import Array, X, outputs
from qrnn.arithmetic import gates as g
from qrnn.errors import QuantizationError
from qrnn.model.activation import Activation
from qrnn.model.parts import GateFunction
from qrnn.quantization.gate_choice import GateChoice
from qrnn.quantization.gate_fit import fit_knots
from qrnn.quantization.gate_tables import exp_table, gate_function

SEGMENTS = (8, 16, 32, 64, 128, 256, 512, 1024)


def exact(activation: Activation, x: Array, in_frac: int) -> Array:
    """The real function in units of 2^-15."""
    real = x.astype(np.float64) / 2**in_frac
    if activation.kind == "sigmoid":
        return 2.0**15 / (1.0 + np.exp(-real))
    if activation.kind == "tanh":
        return 2.0**15 * np.tanh(real)
    return 2.0**15 * np.clip(activation.alpha * real + activation.beta, 0.0, 1.0)


@cache
def table_outputs(kind: str, segments: int) -> tuple[Array, GateFunction]:
    function = gate_function(Activation(kind), GateChoice(segments=segments))  # type: ignore[arg-type]
    return outputs(function), function


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
def test_symmetry_monotony_and_bounds(kind: str, segments: int) -> None:
    y, _ = table_outputs(kind, segments)
    low, high = (0, 32768) if kind == "sigmoid" else (-32767, 32767)
    assert y.min() >= low
    assert y.max() <= high
    assert (np.diff(y) >= 0).all()
    positive, negative = y[32769:], y[32767:0:-1]  # x = 1 … 32767 and -1 … -32767
    np.testing.assert_array_equal(positive - y[32768], y[32768] - negative)
    assert y[32768] == (16384 if kind == "sigmoid" else 0)
    assert y[0] == y[1], "-32768 counts as -32767"


def test_a_gate_opens_and_closes_exactly() -> None:
    """From 128 segments the fitted end lies within half a unit of 1: a saturated forget gate does not leak."""
    for segments in (128, 256, 512, 1024):
        y, _ = table_outputs("sigmoid", segments)
        assert (y[0], y[-1]) == (0, 32768)
        y, _ = table_outputs("tanh", segments)
        assert (y[0], y[-1]) == (-32767, 32767)


MAX_LSB = {
    "sigmoid": {8: 896.0, 16: 192.0, 32: 50.0, 64: 13.0, 128: 3.8, 256: 1.5, 512: 1.1, 1024: 1.0},
    "tanh": {8: 1791.0, 16: 383.0, 32: 99.0, 64: 25.0, 128: 6.9, 256: 2.2, 512: 1.3, 1024: 1.0},
}


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
def test_error_against_the_real_function(kind: str, segments: int) -> None:
    y, function = table_outputs(kind, segments)
    error = np.abs(y - exact(Activation(kind), X, function.in_frac)).max()  # type: ignore[arg-type]
    assert error <= MAX_LSB[kind][segments]
    ideal = _fit_error(kind, segments)
    assert error <= ideal + 1.5, "integers cost at most their two roundings and the clip of the last unit"


def _real(kind: str) -> Callable[[Array], Array]:
    return (lambda x: 0.5 * np.tanh(0.5 * x)) if kind == "sigmoid" else np.tanh


def _fit_error(kind: str, segments: int) -> float:
    """Largest error of the real-valued fit, in units of 2^-15, on a fine grid."""
    width = 2.0**15 / segments / 2 ** (11 if kind == "sigmoid" else 12)
    knots = fit_knots(_real(kind), width, segments)
    x = np.linspace(0.0, width * segments, 64 * segments + 1)
    fitted = np.interp(x, width * np.arange(segments + 1), knots)
    return float(np.abs(fitted - _real(kind)(x)).max() * 2**15)


@pytest.mark.parametrize("segments", [8, 16, 32, 64, 128])
@pytest.mark.parametrize("kind", ["sigmoid", "tanh"])
def test_the_fit_is_minimax(kind: str, segments: int) -> None:
    """A linear program over the knots, p(0) = f(0), finds no better continuous table."""
    optimize = pytest.importorskip("scipy.optimize")
    sparse = pytest.importorskip("scipy.sparse")
    width, fine = 2.0**15 / segments / 2 ** (11 if kind == "sigmoid" else 12), 64
    x = np.linspace(0.0, width * segments, fine * segments + 1)
    k = np.minimum(np.arange(x.size) // fine, segments - 1)
    fraction = x / width - k
    rows = np.arange(x.size)
    hat = sparse.csr_matrix(
        (np.concatenate([1 - fraction, fraction]), (np.tile(rows, 2), np.concatenate([k, k + 1]))),
        (x.size, segments + 1),
    )
    minus_one = -np.ones((x.size, 1))
    f = _real(kind)(x)
    constraints = sparse.vstack([sparse.hstack([hat, minus_one]), sparse.hstack([-hat, minus_one])]).tocsr()
    cost = np.zeros(segments + 2)
    cost[-1] = 1.0
    bounds = [(0.0, 0.0)] + [(None, None)] * segments + [(0.0, None)]
    found = optimize.linprog(cost, constraints, np.concatenate([f, -f]), bounds=bounds, method="highs")
    assert found.status == 0
    best = found.fun * 2**15
    assert best <= _fit_error(kind, segments) * (1 + 1e-6)
    assert _fit_error(kind, segments) <= 1.01 * best


# --- ramps ----------------------------------------------------------------------------------------------------------------------

RAMPS = [
    (a, b)
    for a in (0.2, 1 / 6, 0.25, 0.001, 2.0**-10, 1.0, 3.7, 40.0, 700.0, -0.2, -5.0)
    for b in (0.5, 0.0, 1.0, -1.25, 3.0)
]


@pytest.mark.parametrize(("alpha", "beta"), [*RAMPS, (0.0, 0.3), (2.0**-12, 0.5), (0.01, 300.0)])
def test_hard_sigmoid(alpha: float, beta: float) -> None:
    activation = Activation("hard_sigmoid", alpha, beta)
    function = gate_function(activation)
    y = outputs(function)
    assert y.min() >= 0
    assert y.max() <= 32768
    steps = np.diff(y)
    assert (steps >= 0).all() if alpha >= 0 else (steps <= 0).all()
    error = np.abs(y - exact(activation, X, function.in_frac))
    # The slope keeps 15 significant bits, so a ramp that lies |beta| + 1 units from x = 0 is off by at most so many units there.
    assert error.max() <= abs(beta) + 2.0, f"{error.max()} at x = {X[error.argmax()]}"
    if (alpha, beta) in ((0.2, 0.5), (1 / 6, 0.5), (0.25, 0.5), (1.0, 0.0)):
        assert error.max() <= 1.0


def test_hard_sigmoid_stays_in_32_bits() -> None:
    for alpha, beta in RAMPS:
        p = gate_function(Activation("hard_sigmoid", alpha, beta)).params
        slope, intercept, shift = (int(v) for v in p[[g.SLOPE, g.INTERCEPT, g.SHIFT]])
        assert abs(slope) * 32768 + abs(intercept) + ((1 << shift) >> 1) < 1 << 31


@pytest.mark.parametrize(("alpha", "beta"), [(1e9, 0.5), (1e-9, 0.5), (0.2, 1e6), (np.inf, 0.5), (0.2, np.nan)])
def test_ramps_that_do_not_fit_are_refused(alpha: float, beta: float) -> None:
    with pytest.raises(QuantizationError, match="hard_sigmoid"):
        gate_function(Activation("hard_sigmoid", alpha, beta))


@pytest.mark.parametrize("frac", [0, 9, 15])
def test_relu(frac: int) -> None:
    np.testing.assert_array_equal(
        outputs(gate_function(Activation("relu"), in_frac=frac)), np.maximum(X.astype(int), 0)
    )


# --- softmax --------------------------------------------------------------------------------------------------------------------


def test_exp_table() -> None:
    table = exp_table().tolist()
    assert (len(table), table[0]) == (129, 32768)
    d = np.arange(32768)
    y = np.array([g.exp_weight(int(v), g.EXP_FRAC, table) for v in d])
    assert (np.diff(y) <= 0).all()
    assert y.min() >= 0
    error = np.abs(y - 2.0**15 * np.exp(-d / 2.0**g.EXP_FRAC))
    assert error.max() <= 44.0
    for frac in range(16):
        for v in (0, 1, 3, 1000, 65535):
            real = 2.0**15 * np.exp(-v / 2.0**frac)
            assert abs(g.exp_weight(v, frac, table) - real) <= 46.0


@pytest.mark.parametrize("frac", [5, 9, 12])
def test_softmax(frac: int) -> None:
    table, rng = exp_table().tolist(), np.random.default_rng(frac)
    for features in (1, 2, 10, 1000):
        x = np.clip(np.floor(rng.normal(size=features) * 2.0 ** (frac + 1)), -32768, 32767)
        weights = [g.exp_weight(int(x.max() - v), frac, table) for v in x]
        total = sum(weights)
        p = np.array([g.softmax_divide(w, total) for w in weights])
        real = np.exp((x - x.max()) / 2.0**frac)
        real /= real.sum()
        assert p.min() >= 0
        assert p.max() <= 1 << 14
        assert abs(p.sum() - (1 << 14)) <= features / 2, "each probability is rounded once"
        assert np.abs(p / 2.0**14 - real).max() <= 0.002
        assert p.argmax() == x.argmax()


def test_softmax_divide_rounds_half_up() -> None:
    from fractions import Fraction
    from math import floor

    for total in (32768, 32769, 65536, 98304, 2147483647):
        for weight in (0, 1, 2, 3, 5, 16384, 32767, 32768):
            assert g.softmax_divide(weight, total) == floor(Fraction(weight << 14, total) + Fraction(1, 2))
