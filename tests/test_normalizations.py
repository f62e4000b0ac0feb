"""Normalizations of groups of a step, of whole sequences and of the last steps, and moments of groups: float equations, integers everywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.building import check
from export.drawn import check_on_core
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import BYTES
from test_reductions import everywhere

from qrnn import DataError, Scheme, Session, layers
from qrnn.accuracy.metrics import sqnr_db
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import ModelFileError, QuantizationError
from qrnn.model.file import load, save
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.moment import QuantMoment
from qrnn.model.kinds.running_norm import QuantRunningNorm

pytestmark = pytest.mark.usefixtures("loops")

WIDE = Scheme(activations=16, input="16")
KINDS = ("group_norm", "instance_norm", "running_norm")


def parameters(features: int, rng: Any, **more: Any) -> dict[str, Any]:
    own = {"gain": rng.uniform(-2, 2, features), "bias": rng.normal(size=features), "epsilon": 1e-3}
    return own | more


def network(kind: str, groups: int, inner: int, features: int, **more: Any) -> FloatModel:
    """The normalization of x, y, a GRU behind it, h, and the spread of each group of it, s."""
    rng = np.random.default_rng(5)
    x = layers.input("x", features)
    y = getattr(layers, kind)(x, groups=groups, inner=inner, **parameters(features, rng, **more))
    h = layers.gru(y, rng.normal(size=(6, features)), 0.4 * rng.normal(size=(6, 2))).output
    s = layers.moment(y, groups, inner=inner)
    return layers.model(kind, {"y": y, "h": h, "s": s})


def expected(x: Any, own: dict[str, Any], count: int, inner: int, centred: bool, over: Any) -> Any:
    """Return y of x [T, F] step by step; ``over`` gives the steps of which step t has its moments."""
    y = np.zeros_like(x)
    for t, k in np.ndindex(x.shape):
        start = k // (count * inner) * count * inner + k % inner
        group = x[over(t), start : start + count * inner : inner]
        mean = group.mean() if centred else 0.0
        y[t, k] = (x[t, k] - mean) / np.sqrt(((group - mean) ** 2).mean() + own["epsilon"])
    return own["gain"] * y + own["bias"]


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("kind", [*KINDS, "window"])
def test_equation(kind: str, centred: bool) -> None:
    """Element by element, also of ragged sequences."""
    name, more = ("running_norm", {"steps": 3}) if kind == "window" else (kind, {})
    rng, (outer, count, inner) = np.random.default_rng(5), (2, 3, 2)
    F = outer * count * inner
    model = network(name, outer * inner, inner, F, centred=centred, **more)
    own = parameters(F, rng)
    x, lengths = 3 + np.random.default_rng(1).normal(size=(3, 6, F)), [6, 4, 1]
    got = run_oracle(model, {"x": x}, lengths).outputs
    for n, length in enumerate(lengths):
        over = {
            "group_norm": lambda t: slice(t, t + 1),
            "instance_norm": lambda t, length=length: slice(0, length),
            "running_norm": lambda t: slice(0, t + 1),
            "window": lambda t: slice(max(0, t - 2), t + 1),
        }[kind]
        want = expected(x[n, :length], own, count, inner, centred, over)
        np.testing.assert_allclose(got["y"][n, :length], want, atol=1e-9)
        grouped = want.reshape(length, outer, count, inner)
        np.testing.assert_allclose(got["s"][n, :length], np.sqrt(grouped.var(axis=2)).reshape(length, -1), atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e-3])
@pytest.mark.parametrize("kind", KINDS)
def test_integers_are_near_float64(kind: str, scale: float) -> None:
    """The bounds are those of `tests/layers/test_layer_norm.py`."""
    model = network(kind, 2, 1, 16)
    x = {"x": scale * np.random.default_rng(4).normal(size=(4, 40, 16))}
    want = run_oracle(model, x).outputs["y"]
    assert sqnr_db(want, Session(quantize(model, x, WIDE), "reference").run(x).outputs["y"]) > (38 if scale < 1 else 68)


def test_few_values_of_a_large_mean() -> None:
    """A variance from squares in int16 would leave nothing."""
    x = layers.input("x", 8)
    model = layers.model("m", {"d": layers.moment(x, 2), "last": layers.last_step(layers.running(x, "mean"))})
    data = {"x": 10 + np.random.default_rng(2).normal(size=(6, 20, 8))}
    want = run_oracle(model, data).outputs["d"]
    assert sqnr_db(want, Session(quantize(model, data, WIDE), "reference").run(data).outputs["d"]) > 60


def drawn(data: st.DataObject, kind: str) -> tuple[Any, Any]:
    """A model of integers with a drawn normalization, and x [N, T, F] with values up to the ends of its format."""
    outer, count, inner = (data.draw(st.integers(1, most)) for most in (2, 4, 2))
    features = outer * count * inner
    more: dict[str, Any] = {
        "centred": data.draw(st.booleans()),
        "epsilon": data.draw(st.sampled_from([0.0, 1e-5, 0.5])),
    }
    if kind == "running_norm":
        more["steps"] = data.draw(st.integers(0, 4))
    model = network(kind, outer * inner, inner, features, **more)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    changes = {
        "outside": data.draw(st.sampled_from([0.0, 1e-4, 0.3])),
        "least": data.draw(st.sampled_from([0.0, 1e-3, 0.7])),
    }
    if kind != "group_norm":
        changes["sample"] = data.draw(st.booleans())
    model = replace(model, layers=(replace(model.layers[0], **changes), *model.layers[1:]))  # type: ignore[arg-type]
    made = quantize(model, {"x": rng.normal(size=(2, 12, features))}, BYTES)
    x = rng.normal(
        0,
        data.draw(st.sampled_from([1e-3, 1.0, 4.0])),
        (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 7)), features),
    )
    if data.draw(st.booleans()):
        x[:] = np.where(rng.random(x.shape) < 0.5, -50.0, 50.0)
    return made, x


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("kind", ["group_norm", "running_norm"])
@settings(deadline=None, max_examples=5)
@given(data=st.data())
def test_backends_agree(kind: str, backend: str, data: st.DataObject) -> None:
    everywhere(backend, *drawn(data, kind), data)


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=5)
@given(data=st.data())
def test_whole_sequences_agree(backend: str, data: st.DataObject) -> None:
    """Batches of all lengths, and each sequence alone."""
    made, x = drawn(data, "instance_norm")
    lengths = np.array(data.draw(st.lists(st.integers(0, x.shape[1]), min_size=len(x), max_size=len(x))))
    want, session = Session(made, "reference").run({"x": x}, lengths), Session(made, backend)
    for given_lengths in (lengths, None):
        whole = want if given_lengths is not None else Session(made, "reference").run({"x": x})
        got = session.run({"x": x}, given_lengths)
        for name, values in whole.outputs.items():
            np.testing.assert_array_equal(got.outputs[name], values, err_msg=name)
    for n, length in enumerate(lengths):
        if length:
            alone = session.run({"x": x[n : n + 1, :length]}).outputs
            for name, values in want.outputs.items():
                np.testing.assert_array_equal(alone[name][0], values[n, :length])


def test_what_needs_the_end_is_refused_by_name() -> None:
    made = quantize(network("instance_norm", 2, 1, 4), {"x": np.random.default_rng(1).normal(size=(2, 6, 4))}, BYTES)
    session, x = Session(made, "reference"), {"x": np.zeros((1, 3, 4))}
    for call in (lambda: session.stream(), lambda: session.run(x, end=False), lambda: session.pool(2)):
        with pytest.raises(
            Exception, match="layer 'instance_norm' gives at every step what only the end of a sequence tells"
        ):
            call()


@pytest.mark.parametrize("kind", KINDS)
def test_exported_c(kind: str, tmp_path: Path) -> None:
    x = np.random.default_rng(3).normal(size=(4, 12, 6))
    check(quantize(network(kind, 3, 1, 6), {"x": x}, BYTES), tmp_path / kind, "gcc")
    if kind == "running_norm":
        check(quantize(network(kind, 3, 3, 6, steps=4), {"x": x}, BYTES), tmp_path / "window", "gcc")


@pytest.mark.parametrize("kind", KINDS)
def test_file(kind: str, tmp_path: Path) -> None:
    x = {"x": np.random.default_rng(3).normal(size=(2, 8, 6))}
    made = quantize(network(kind, 3, 1, 6), x, BYTES)
    save(made, tmp_path / "m.qrnn")
    again = load(tmp_path / "m.qrnn")
    for name, values in Session(made, "reference").run(x).outputs.items():
        np.testing.assert_array_equal(Session(again, "reference").run(x).outputs[name], values)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gain_shift": np.full(6, -1, np.int8)}, "a gain_shift below 0"),
        ({"count": 4}, "6 features by 4"),
        ({"inner": 0}, "6 features by 2 and 0"),
        ({"epsilon": 1 << 61}, "epsilon"),
        ({"outside": -1}, "outside"),
        ({"least": 0}, "least"),
        ({"in_frac": 16}, "in_frac 16"),
        ({"bias": np.zeros(5, np.int32)}, "bias"),
        ({"steps": 1 << 17}, "the last 131072 steps"),
    ],
)
def test_a_layer_that_does_not_fit_is_refused(change: dict[str, Any], says: str) -> None:
    made = quantize(network("running_norm", 3, 1, 6), {"x": np.random.default_rng(3).normal(size=(2, 8, 6))}, BYTES)
    layer = made.layers[0]
    assert isinstance(layer, QuantRunningNorm)
    with pytest.raises(ModelFileError, match=says):
        replace(layer, **change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"multiplier": 5}, "multiplier 5"),
        ({"shift": 15}, "shift 15"),
        ({"before": 63}, "before 63"),
        ({"count": 0}, "3 times 0"),
    ],
)
def test_a_moment_that_does_not_fit_is_refused(change: dict[str, Any], says: str) -> None:
    made = quantize(network("group_norm", 3, 1, 6), {"x": np.random.default_rng(3).normal(size=(2, 8, 6))}, BYTES)
    (layer,) = (layer for layer in made.layers if isinstance(layer, QuantMoment))
    with pytest.raises(ModelFileError, match=says):
        replace(layer, **change)


def test_what_the_builder_and_the_converter_refuse() -> None:
    x = layers.input("x", 6)
    for call, says in (
        (lambda: layers.group_norm(x, 4), "groups is 4 and inner 1, expected groups that divide the 6 features"),
        (lambda: layers.instance_norm(x, groups=3, inner=2), "groups is 3 and inner 2"),
        (lambda: layers.running_norm(x, steps=-1), "steps is -1"),
        (lambda: layers.group_norm(x, 2, epsilon=-1.0), "epsilon is -1.0"),
        (lambda: layers.moment(x, 2, factor=0.0), "factor is 0.0"),
        (lambda: layers.instance_norm(layers.last_step(x)), "expected a sequence"),
    ):
        with pytest.raises(DataError, match=says):
            call()
    with pytest.raises(QuantizationError, match="epsilon 1e\\+25 is too large"):
        quantize(network("group_norm", 2, 1, 6, epsilon=1e25), {"x": np.ones((1, 2, 6))}, BYTES)


def test_as_many_steps_as_there_may_be() -> None:
    """What a state of the largest sums gives, everywhere; a step more is refused by name."""
    made = quantize(network("running_norm", 2, 1, 4), {"x": np.random.default_rng(3).normal(size=(2, 8, 4))}, BYTES)
    layer = made.layers[0]
    assert isinstance(layer, QuantRunningNorm)
    assert layer.most_steps == (1 << 30) - 1
    found = []
    for backend in available_backends():
        session = Session(made, backend, integers=True)
        start = session.initial_state(1)
        full = [array.copy() for array in start.layers[layer.name]]
        number = 2 * (layer.most_steps - 1)
        total, squares = -32768 * (number // 2) + 32767 * (number // 2), (number // 2) * (32768**2 + 32767**2)
        full[0][...], full[1][...] = total >> 31, total & 0x7FFFFFFF
        full[2][...], full[3][...], full[4][...] = squares >> 31, squares & 0x7FFFFFFF, layer.most_steps - 1
        state = replace(start, layers={**start.layers, layer.name: tuple(full)})
        x = {"x": np.array([[[32767, -32767, 0, 1]]], np.int16)}
        result = session.run(x, state=state)
        found.append(result.outputs["y"])
        with pytest.raises(Exception, match="layer 'running_norm' takes at most"):
            session.run(x, state=result.state)
    real = np.array([32767, -32767, 0, 1]) + 0.5
    want = layer.gain * 2.0 ** (8.0 - layer.gain_shift) * real / 32767.5 + layer.bias / 256
    assert np.abs(found[0][0, 0] - np.clip(want, -32768, 32767)).max() < 1.0
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
def test_on_a_core(core: str) -> None:
    """Under an emulator: the host's bits, of the widest integers that C has there."""
    x = {"x": np.random.default_rng(3).normal(size=(4, 12, 6))}
    check_on_core(quantize(network("instance_norm", 3, 1, 6), x, BYTES), core, lengths=(1, 2, 7))
    check_on_core(quantize(network("running_norm", 3, 3, 6, steps=4), x, BYTES), core, lengths=(1, 2, 7))
