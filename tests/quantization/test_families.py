"""Families of inputs with a known answer, as users' raw data have them: the model stays within 2 dB of its floor, or the conversion warns.

A model of normal features is folded onto features of another size and about another middle, as users fold a normalizer into the first
weights; its float outputs are those of the plain model. Where the widths of what lies inside the model are another choice, activations have
16 bits; by default, `ENOUGH_DB` are enough.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from layers.test_quantized import TOOL
from models import Shape, make_model

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import DEFAULT_SCHEME, quantize
from qrnn.conversion.noise import ENOUGH_DB
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel, TensorInfo
from qrnn.model.kinds.dense import Dense
from qrnn.model.parts import FloatArray
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.floor import floor_model
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

MARGIN_DB = 2.0
"""The most that the whole scheme may cost beside the rounding of the weights."""

WIDE = Scheme(activations=16)
F, N, T = 4, 24, 30
CELLS = ("lstm", "gru", "rnn")
SEEDS = [pytest.param(seed, marks=[] if seed == 1 else [pytest.mark.matrix]) for seed in range(1, 7)]
Rng = np.random.Generator


def plain(cell: str, seed: int) -> FloatModel:
    return make_model(Shape(cell, F, 48, weight=0.15, head=3), np.random.default_rng(seed))  # type: ignore[arg-type]


def folded(model: FloatModel, size: Any, middle: Any) -> FloatModel:
    """Return the model of x · size + middle that gives what ``model`` gives for x."""
    first = model.layers[0].with_input_divided(np.asarray(size)).with_input_shifted(-np.asarray(middle))
    return replace(model, layers=(first, *model.layers[1:]))


def about_mean(want: FloatArray, got: FloatArray) -> float:
    middle = want.mean(axis=tuple(range(want.ndim - 1)))
    return sqnr_db(want - middle, got - middle)


def converted(model: FloatModel, x: Any, scheme: Scheme = WIDE) -> tuple[QuantModel, list[str]]:
    """Convert, and return what was warned of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quantized = quantize(model, {"x": x}, scheme)
    return quantized, [str(w.message) for w in seen]


def outputs(model: FloatModel | QuantModel, x: Any) -> FloatArray:
    batch = make_batch(model.inputs, {"x": x})
    if isinstance(model, QuantModel):
        return Session(model).run_batch(batch)[0].outputs["y"]
    return run_oracle_batch(model, batch).outputs["y"]


def floor_db(model: FloatModel, x: Any, folded_by: Any = None) -> float:
    """Return the floor on ``x``; the data ``folded_by``, ``x`` when left out, say what is folded of the features."""
    rounded = floor_model(model, make_batch(model.inputs, {"x": x if folded_by is None else folded_by}))
    return about_mean(outputs(model, x), outputs(rounded, x))


def model_db(model: FloatModel, quantized: QuantModel, x: Any) -> float:
    return about_mean(outputs(model, x), outputs(quantized, x))


# --- what each feature's values are -----------------------------------------------------------------------------------------------


def loud_and_quiet(rng: Rng) -> FloatArray:
    return rng.normal(size=(N, T, F)) * 10.0 ** rng.uniform(-3, 1, (N, 1, 1))


def on_and_off(rng: Rng) -> FloatArray:
    return rng.normal(size=(N, T, F)) * (rng.random((N, T, F)) < 0.1)


def mixed(rng: Rng) -> FloatArray:
    x = rng.normal(size=(N, T, F))
    x[..., 0], x[..., 1] = np.abs(x[..., 0]), rng.standard_t(3, size=(N, T))
    x[..., 2] = rng.random((N, T)) < 0.3
    return x


DRAWN: dict[str, Callable[[Rng], FloatArray]] = {
    "normal": lambda rng: rng.normal(size=(N, T, F)),
    "uniform": lambda rng: rng.uniform(-2, 2, size=(N, T, F)),
    "ReLU features": lambda rng: np.maximum(rng.normal(size=(N, T, F)), 0.0),
    "Laplace": lambda rng: rng.laplace(size=(N, T, F)),
    "Student's t of 3": lambda rng: rng.standard_t(3, size=(N, T, F)),
    "Student's t of 2": lambda rng: rng.standard_t(2, size=(N, T, F)),
    "log-normal": lambda rng: np.exp(rng.normal(size=(N, T, F))),
    "loud and quiet": loud_and_quiet,
    "on and off": on_and_off,
    "mixed": mixed,
}


@pytest.mark.wide("family", "cell")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("family", DRAWN)
def test_distributions(family: str, cell: str, seed: int) -> None:
    model, rng = plain(cell, seed), np.random.default_rng(100 + seed)
    calibration, test = DRAWN[family](rng), DRAWN[family](rng)
    quantized, said = converted(model, calibration)
    assert said == []
    assert model_db(model, quantized, test) >= floor_db(model, test, calibration) - MARGIN_DB


@pytest.mark.wide("family", "cell")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("family", DRAWN)
def test_distributions_by_default(family: str, cell: str, seed: int, request: pytest.FixtureRequest) -> None:
    if (family, cell, seed) == ("on and off", "gru", 1):
        # some 70 values of a feature are not 0, and the largest of other data is a third larger: these data cannot tell
        request.applymarker(pytest.mark.xfail(strict=True, raises=AssertionError))
    model, rng = plain(cell, seed), np.random.default_rng(100 + seed)
    calibration, test = DRAWN[family](rng), DRAWN[family](rng)
    quantized, said = converted(model, calibration, DEFAULT_SCHEME)
    assert said == []
    enough = min(floor_db(model, test, calibration) - MARGIN_DB, ENOUGH_DB)
    assert model_db(model, quantized, test) >= enough


# --- sizes and middles ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """A model of raw features, whose values are z · size + middle, and the plain model of z that it was folded from."""

    plain: FloatModel
    model: FloatModel
    size: FloatArray
    middle: FloatArray
    calibration: FloatArray
    test: FloatArray

    def raw(self, z: FloatArray) -> FloatArray:
        return z * self.size + self.middle


def raw(cell: str, seed: int, deviations: float) -> Raw:
    """Sizes from 10^-4 to 10^4, both among them, and middles of either sign, ``deviations`` times as large."""
    rng = np.random.default_rng(200 + seed)
    size = 10.0 ** rng.permutation(np.append(rng.uniform(-4, 4, F - 2), [-4.0, 4.0]))
    middle = deviations * size * rng.choice([-1.0, 1.0], F)
    model = plain(cell, seed)
    return Raw(model, folded(model, size, middle), size, middle, *rng.normal(size=(2, N, T, F)))


@pytest.mark.wide("deviations", "cell")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("deviations", [0.0, 1.0, 1e2, 1e4, 1e6])
def test_sizes_and_offsets(deviations: float, cell: str, seed: int) -> None:
    """The reference is the plain model's float64 result, and the floor is its floor."""
    r = raw(cell, seed, deviations)
    quantized, said = converted(r.model, r.raw(r.calibration))
    assert said == []
    got = about_mean(outputs(r.plain, r.test), outputs(quantized, r.raw(r.test)))
    assert got >= floor_db(r.plain, r.test) - MARGIN_DB
    assert quantized.tensors["x"].has_offset == (deviations >= 1e2) or deviations == 1.0


@pytest.mark.wide
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("deviations", [1e2, 1e6])
def test_offsets_cost_nothing_at_eight_bits(deviations: float, cell: str) -> None:
    found = []
    for about in (0.0, deviations):
        r = raw(cell, 1, about)
        quantized, _ = converted(r.model, r.raw(r.calibration), Scheme(activations=16, input="8-per-feature"))
        found.append(about_mean(outputs(r.plain, r.test), outputs(quantized, r.raw(r.test))))
    assert found[1] >= found[0] - 1.0


@pytest.mark.parametrize("scheme", ["8-per-feature", "16-per-feature"])
def test_a_row_whose_step_is_its_bias_loses_nothing(scheme: str) -> None:
    """A first layer with rows of tiny weights: what they and a far offset leave in the bias is all that such rows have to say."""
    rng = np.random.default_rng(5)
    behind = plain("gru", 1)
    weight = rng.normal(size=(F, F)) * 0.5
    weight[1:3] *= 1e-9
    dense = Dense("in", "x", "d", weight, np.array([0.2, 3.0, -1.5, 0.1]))
    first = replace(behind.layers[0], input="d")  # type: ignore[call-arg]
    tensors = {**behind.tensors, "d": TensorInfo(F, True)}
    model = replace(behind, layers=(dense, first, *behind.layers[1:]), tensors=tensors)
    size = np.array([1e-3, 1.0, 10.0, 1e4])
    middle = 1e6 * size
    raw_model = folded(model, size, middle)
    z, test = rng.normal(size=(2, N, T, F))
    quantized, said = converted(raw_model, z * size + middle, Scheme(activations=16, input=scheme))
    assert said == []
    assert any("in.weight: 2 rows have the step of their bias" in d for d in quantized.provenance.decisions)
    got = about_mean(outputs(model, test), outputs(quantized, test * size + middle))
    without, _ = converted(model, z, Scheme(activations=16, input=scheme))
    assert got >= about_mean(outputs(model, test), outputs(without, test)) - 1.0


# --- what data cannot tell --------------------------------------------------------------------------------------------------------


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cell", CELLS)
def test_one_outlier_in_a_hundred_thousand(cell: str, seed: int) -> None:
    model, rng = plain(cell, seed), np.random.default_rng(300 + seed)
    calibration, test = rng.normal(size=(250, 100, F)), rng.normal(size=(N, T, F))
    calibration[97, 31, seed % F] = 10.0 ** rng.uniform(3, 6)  # one of 100,000 values
    quantized, said = converted(model, calibration)
    assert len(said) == 1
    assert f"feature {seed % F}: 1 value of 25000" in said[0]
    assert model_db(model, quantized, test) >= floor_db(model, test) - MARGIN_DB


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("cell", CELLS)
def test_an_outlier_among_few_values_is_kept_and_named(cell: str) -> None:
    model, rng = plain(cell, 1), np.random.default_rng(1)
    calibration = rng.normal(size=(N, T, F))
    calibration[3, 4, 1] = 1e4
    quantized, said = converted(model, calibration)
    assert len(said) == 1
    assert "feature 1: 1 value of 720 (10000)" in said[0]
    assert "the data cannot tell" in said[0]
    fmt = quantized.tensors["x"]
    assert fmt.scales[-1] * fmt.limit < 1e3, "the other features keep their ranges"


@pytest.mark.wide("value", "lives", "cell")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("lives", [False, True], ids=["dead", "lives again"])
@pytest.mark.parametrize("value", [0.0, 50.0])
def test_a_dead_channel(value: float, lives: bool, cell: str, seed: int) -> None:
    """It costs the others nothing, and has a range for the values that it has if it lives again."""
    rng = np.random.default_rng(400 + seed)
    model = folded(plain(cell, seed), np.ones(F), np.array([0.0, 0.0, value, 0.0]))
    calibration, test = rng.normal(size=(2, N, T, F))
    calibration[..., 2] = value
    test[..., 2] = test[..., 2] + value if lives else value
    quantized, said = converted(model, calibration)
    assert len(said) == 1
    assert f"feature 2 ({value:g}) always had one value" in said[0]
    assert model_db(model, quantized, test) >= floor_db(model, test) - MARGIN_DB


# --- every cell -------------------------------------------------------------------------------------------------------------------


@pytest.mark.wide(cover=False, keep=4)
@pytest.mark.parametrize("name", TOOL.CELLS)
def test_every_cell_folds_offsets(name: str) -> None:
    """Whatever a cell does with W · x, the model of features at 1000 deviations gives what the plain one gives for the same integers."""
    model, rng = TOOL.cell(name, 8, 4, 0), np.random.default_rng(6)
    if not all(layer.folds_offset for layer in model.layers if "x" in layer.inputs):
        return
    size = np.array([0.5, 1.0, 2.0, 4.0])
    z = rng.integers(-100, 101, (2, 6, 15, 4)) / 64
    scheme = Scheme(activations=16, input="16-per-feature")
    here, _ = converted(model, z[0] - z[0].mean(axis=(0, 1)).round(), scheme)
    far_model = folded(model, size, 1024 * size)
    far, _ = converted(far_model, z[0] * size + 1024 * size, scheme)
    assert far.tensors["x"].has_offset
    want, got = outputs(model, z[1]), outputs(far_model, z[1] * size + 1024 * size)
    np.testing.assert_allclose(got, want, atol=1e-8)
    plain_db, far_db = model_db(model, here, z[1]), about_mean(want, outputs(far, z[1] * size + 1024 * size))
    assert far_db >= min(plain_db - 3.0, 38.0), (
        "small models, whose weights round otherwise; a bias without its offset has no dB left"
    )
