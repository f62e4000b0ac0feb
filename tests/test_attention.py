"""Attention over the steps of a sequence, its own or another one's: by its equation, and in integers everywhere."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from export.building import check
from export.test_devices import run as on_device
from export.test_devices import usable
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import BYTES
from test_reductions import everywhere

import qrnn
from qrnn import DataError, QuantizationError, Session, UnsupportedError, layers
from qrnn.accuracy.compare import compare
from qrnn.accuracy.explain import explain
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.attention import QuantAttention, most_multiplier, multiplier_of
from qrnn.model.quant_model import QuantModel

pytestmark = pytest.mark.usefixtures("loops")

Array = npt.NDArray[Any]


def network(
    heads: int = 2,
    key_heads: int | None = None,
    size: int = 2,
    width: int = 3,
    gain: float = 1.0,
    seed: int = 0,
    **options: Any,
) -> FloatModel:
    """A GRU, attention of its own steps, and a dense layer behind that."""
    rng = np.random.default_rng(seed)
    x = layers.input("x", 3)
    h = layers.gru(x, rng.normal(size=(15, 3)), 0.4 * rng.normal(size=(15, 5))).output
    shared = key_heads or heads
    q, k, v = (layers.dense(h, gain * rng.normal(size=(n, 5))) for n in (heads * size, shared * size, shared * width))
    y = layers.attention(q, k, v, heads=heads, key_heads=key_heads, name="attention", **options)
    return layers.model("m", {"each": y, "y": layers.dense(y, rng.normal(size=(2, y.features)))})


def two_sequences(seed: int = 0) -> FloatModel:
    """A decoder whose steps read the states of an encoder over another time axis."""
    rng = np.random.default_rng(seed)
    a, b = layers.input("a", 3, axis="source"), layers.input("b", 2, axis="target")
    m = layers.gru(a, rng.normal(size=(15, 3)), 0.4 * rng.normal(size=(15, 5)))
    d = layers.gru(b, rng.normal(size=(15, 2)), 0.4 * rng.normal(size=(15, 5))).output
    y = layers.attention(layers.dense(d, rng.normal(size=(5, 5))), m.output, m.output, scale=0.7, name="attention")
    return layers.model("m", {"y": y, "z": layers.dense(y, rng.normal(size=(2, 5)))})


def made_of(model: FloatModel, seed: int = 1) -> QuantModel:
    rng = np.random.default_rng(seed)
    return quantize(model, {i.name: rng.normal(size=(6, 12, i.features)) for i in model.inputs}, qrnn.Scheme(input="8"))


@cache
def model_of_two_sequences() -> QuantModel:
    return made_of(two_sequences())


def layer_of(model: QuantModel) -> QuantAttention:
    (layer,) = (layer for layer in model.layers if isinstance(layer, QuantAttention))
    return layer


def naive(q: Array, k: Array, v: Array, heads: int, key_heads: int, scale: float, kept: int | None) -> Array:
    """One sequence, step by step: q [T, heads · D], k [T', key_heads · D], v [T', key_heads · E]; ``kept`` None for all steps."""
    D, E = q.shape[1] // heads, v.shape[1] // key_heads
    y = np.zeros((len(q), heads * E))
    for t in range(len(q)):
        seen = slice(0, len(k)) if kept is None else slice(max(0, t + 1 - kept), t + 1)
        for h in range(heads):
            g = h * key_heads // heads
            s = np.array([q[t, h * D : (h + 1) * D] @ row[g * D : (g + 1) * D] * scale for row in k[seen]])
            p = np.exp(s - s.max())
            y[t, h * E : (h + 1) * E] = p @ v[seen, g * E : (g + 1) * E] / p.sum()
    return y


@pytest.mark.parametrize(("heads", "key_heads"), [(1, 1), (4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("kept", [None, 2, 50])
def test_equation(heads: int, key_heads: int, kept: int | None) -> None:
    sizes = {"q": heads * 3, "k": key_heads * 3, "v": key_heads * 2}
    q, k, v = (layers.input(name, size) for name, size in sizes.items())
    options: dict[str, Any] = {} if kept is None else {"causal": True, "window": 2 if kept == 2 else None}
    y = layers.attention(q, k, v, heads=heads, key_heads=key_heads, **options)
    model = layers.model("m", {"y": y, "state": layers.running(q, "max")})
    rng, lengths = np.random.default_rng(0), np.array([7, 3, 1])
    x = {name: rng.normal(0, 2, (3, 7, size)) for name, size in sizes.items()}
    for values in x.values():
        values[1, 3:] = 1e4  # padding takes no part
    found = run_oracle(model, x, lengths).outputs["y"]
    for n, length in enumerate(lengths):
        own = (x[name][n, :length] for name in "qkv")
        np.testing.assert_allclose(found[n, :length], naive(*own, heads, key_heads, 3**-0.5, kept), atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_integers_are_near_the_exact_mean(data: st.DataObject) -> None:
    """From the integers of all inputs to those of the output: half a unit, and a share for the weights; docs/arithmetic.md, section 5."""
    names = {"q": 4, "k": 4, "v": 4}
    inputs = (layers.input(n, size) for n, size in names.items())
    model = layers.model("m", {"y": layers.attention(*inputs, heads=2, causal=True)})
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    size = data.draw(st.sampled_from([0.01, 1.0, 20.0, 60.0]))
    calibration = {n: rng.uniform(-size, size, (4, 9, 4)) for n in "qk"} | {"v": rng.uniform(-1, 1, (4, 9, 4))}
    made = quantize(model, calibration, qrnn.Scheme(input="16"))
    steps = data.draw(st.integers(1, 20))
    ends = [-32767, -32766, -1, 0, 1, 32766, 32767]
    given = {
        key: np.where(
            rng.random((1, steps, 4)) < 0.2, rng.choice(ends, (1, steps, 4)), rng.integers(-32767, 32768, (1, steps, 4))
        ).astype(np.int16)
        for key in names
    }
    got = Session(made, "reference", integers=True).run(given).outputs["y"][0]
    layer = layer_of(made)
    unit = 2.0 ** (layer.out_frac - layer.value_frac)
    scale = layer.multiplier * 2.0**-layer.shift * np.log(2.0) / 2.0**20
    want = naive(*(given[n][0].astype(np.float64) for n in "qkv"), 2, 2, scale, 1000) * unit
    assert (np.abs(np.clip(want, -32768, 32767) - got) <= 0.5 + 0.1 * unit).all()
    real = 2**-0.5 * 2.0 ** -(layer.query_frac + layer.key_frac)
    assert abs(scale / real - 1.0) < 2.0**-26


@cache
def drawn_model(heads: int, key_heads: int, size: int, window: int | None, causal: bool, gain: float) -> QuantModel:
    options: dict[str, Any] = {"causal": True, "window": window, "most_steps": 40} if causal else {}
    model, rng = network(heads * key_heads, key_heads, size, gain=gain, **options), np.random.default_rng(1)
    return quantize(model, {"x": rng.normal(size=(6, 12, 3))}, qrnn.Scheme(input="8"))


def check_causal(backend: str, data: st.DataObject) -> None:
    window = data.draw(st.sampled_from([None, 1, 3]))
    sizes = (data.draw(st.integers(1, 2)) for _ in range(3))
    made = drawn_model(*sizes, window, True, data.draw(st.sampled_from([0.2, 5.0])))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = rng.normal(0, 3, (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9)), 3))
    everywhere(backend, made, x, data)


def check_whole(backend: str, data: st.DataObject) -> None:
    """Whole sequences, alone and in a ragged batch."""
    sizes = (data.draw(st.integers(1, 2)) for _ in range(3))
    made = drawn_model(*sizes, None, False, data.draw(st.sampled_from([0.2, 5.0])))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    N, T = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    x, lengths = rng.normal(0, 3, (N, T, 3)), np.array([data.draw(st.integers(0, T)) for _ in range(N)])
    want, got = (Session(made, name).run({"x": x}, lengths) for name in ("reference", backend))
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values)
    for n, length in enumerate(lengths):
        if length:
            alone = Session(made, backend).run({"x": x[n : n + 1, :length]}).outputs
            for name, values in got.outputs.items():
                np.testing.assert_array_equal(alone[name][0], values[n, :length])
                assert not values[n, length:].any()


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_backends_agree(backend: str, data: st.DataObject) -> None:
    check_causal(backend, data)


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_backends_agree_on_whole_sequences(backend: str, data: st.DataObject) -> None:
    check_whole(backend, data)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_backends_agree_on_more(backend: str, data: st.DataObject) -> None:
    check_causal(backend, data)
    check_whole(backend, data)


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_the_ends_of_the_ranges(backend: str, data: st.DataObject) -> None:
    """Queries, keys and values at the ends of int16, with scales up to those for which scores saturate."""
    names = ("q", "k", "v")
    scale = data.draw(st.sampled_from([-1.0, 1e-6, 1.0, 4000.0]))
    causal = data.draw(st.booleans())
    q, k, v = (layers.input(n, 2) for n in names)
    y = layers.attention(q, k, layers.running(v, "max"), scale=scale, causal=causal)
    largest = data.draw(st.sampled_from([0.4, 7.0, 900.0]))
    calibration = {n: np.full((1, 2, 2), largest) for n in names}
    made = quantize(layers.model("m", {"y": y}), calibration, qrnn.Scheme(input="16"))
    rows = st.lists(st.sampled_from([-32767, -32766, -1, 0, 1, 32767]), min_size=6, max_size=6)
    drawn = np.array(data.draw(st.lists(rows, min_size=1, max_size=6)), np.int16)[None]
    given = {n: np.ascontiguousarray(drawn[..., 2 * k : 2 * k + 2]) for k, n in enumerate(names)}
    want, got = (Session(made, name, integers=True).run(given) for name in ("reference", backend))
    np.testing.assert_array_equal(got.outputs["y"], want.outputs["y"])


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_another_sequence(backend: str, data: st.DataObject) -> None:
    """Each axis has lengths of its own; one without steps gives zeros."""
    made, rng = model_of_two_sequences(), np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = {"a": rng.normal(size=(3, 7, 3)), "b": rng.normal(size=(3, 4, 2))}
    lengths = {
        "source": np.array([data.draw(st.integers(0, 7)) for _ in range(3)]),
        "target": np.array([data.draw(st.integers(0, 4)) for _ in range(3)]),
    }
    want, got = (Session(made, name).run(x, lengths).outputs for name in ("reference", backend))
    for name, values in want.items():
        np.testing.assert_array_equal(got[name], values)
    for n in range(3):
        s, t = int(lengths["source"][n]), int(lengths["target"][n])
        if not s:
            assert not got["y"][n].any()
        elif t:
            alone = Session(made, backend).run({"a": x["a"][n : n + 1, :s], "b": x["b"][n : n + 1, :t]}).outputs
            np.testing.assert_array_equal(alone["y"][0], got["y"][n, :t])


def test_streams_of_whole_sequences_are_refused() -> None:
    for model in (network(), two_sequences()):
        session = Session(made_of(model))
        x = {i.name: np.zeros((1, 4, i.features)) for i in model.inputs}
        says = "layer 'attention' gives at every step what only the end of a sequence tells"
        with pytest.raises(DataError, match=says):
            session.stream()
        with pytest.raises(DataError, match=says):
            session.run(x, end=False)


@pytest.mark.parametrize("backend", available_backends())
def test_the_most_steps(backend: str) -> None:
    """A step past those that are kept is refused by name; a window goes on."""
    calibration = {"x": np.random.default_rng(1).normal(size=(6, 5, 3))}
    made = quantize(network(causal=True, most_steps=5), calibration, qrnn.Scheme(input="8"))
    session = Session(made, backend)
    x = np.random.default_rng(2).normal(size=(1, 6, 3))
    stream = session.stream()
    for t in range(5):
        stream.step({"x": x[:, t]})
    for call in (lambda: session.run({"x": x}), lambda: stream.step({"x": x[:, 5]})):
        with pytest.raises(DataError, match="layer 'attention' takes at most 5 steps"):
            call()
    Session(made_of(network(causal=True, window=5)), backend).run({"x": x})


@pytest.mark.wide
@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize(
    "options", [{"causal": True, "window": 3}, {"causal": True, "most_steps": 70}, {"key_heads": 1}], ids=str
)
def test_exported_c(options: dict[str, Any], cc: str, tmp_path: Any) -> None:
    check(made_of(network(**options)), tmp_path, cc)


def test_exported_c_of_another_rate(tmp_path: Any) -> None:
    """Queries at every step, keys and values at every second one."""
    rng, x = np.random.default_rng(6), layers.input("x", 3)
    h = layers.gru(x, rng.normal(size=(12, 3)), 0.4 * rng.normal(size=(12, 4))).output
    half = layers.conv(h, rng.normal(size=(4, 4, 2)), stride=2)
    y = layers.attention(h, half, half)
    check(made_of(layers.model("m", {"y": layers.dense(y, rng.normal(size=(2, 4)))})), tmp_path, "gcc")


@pytest.mark.parametrize(
    ("target", "options"), [("cortex-m4", {"causal": True, "window": 3}), ("cortex-m55", {})], ids=str
)
def test_devices(target: str, options: dict[str, Any], tmp_path: Any) -> None:
    """On emulated devices: the host's bits."""
    assert on_device(made_of(network(**options)), usable(target), tmp_path).difference is None


def test_file(tmp_path: Any) -> None:
    made, x = made_of(network(causal=True, window=4)), np.random.default_rng(5).normal(size=(4, 10, 3))
    qrnn.save(made, tmp_path / "m.qrnn")
    again = qrnn.load(tmp_path / "m.qrnn")
    for name, values in Session(made, "reference").run({"x": x}).outputs.items():
        np.testing.assert_array_equal(Session(again).run({"x": x}).outputs[name], values)


def test_the_laboratory() -> None:
    model, x = network(4), np.random.default_rng(7).normal(size=(6, 12, 3))
    made = quantize(model, {"x": x}, BYTES)
    report = compare(model, made, {"x": x})
    assert report.outputs["each"].sqnr_db > 30.0
    found = explain(model, made, {"x": x})
    (cost,) = (cost for cost in found.costs if cost.part.where == "attention")
    assert 0 <= cost.share < 0.2


@given(scale=st.floats(-1e6, 1e6), frac=st.integers(0, 30), size=st.integers(1, 1 << 16))
def test_multipliers(scale: float, frac: int, size: int) -> None:
    """They fit, and are as exact as they can be; a scale that is too large is refused."""
    try:
        multiplier, shift = multiplier_of("layer", scale, frac, size)
    except QuantizationError:
        assert abs(scale) / np.log(2.0) * 2.0 ** (20 - frac) >= most_multiplier(size) / 4
        return
    assert abs(multiplier) <= most_multiplier(size)
    assert 0 <= shift <= 62
    assert (size << 30) * most_multiplier(size) <= 1 << 62
    real = scale / np.log(2.0) * 2.0 ** (20 - frac)
    assert abs(multiplier * 2.0**-shift - real) <= 2.0 ** -(shift + 1)


def test_refusals() -> None:
    x = layers.input("x", 6)
    for says, kind, call in (
        ("6, 6 and 6 features with heads=4", DataError, lambda: layers.attention(x, x, x, heads=4)),
        (
            "6, 6 and 6 features with heads=3, key_heads=2",
            DataError,
            lambda: layers.attention(x, x, x, heads=3, key_heads=2),
        ),
        ("without causal=True", UnsupportedError, lambda: layers.attention(x, x, x, window=2)),
        ("are kept, at most", UnsupportedError, lambda: layers.attention(x, x, x, causal=True, most_steps=1 << 21)),
        ("expected a sequence", DataError, lambda: layers.attention(x, x, layers.input("v", 6, has_time=False))),
    ):
        with pytest.raises(kind, match=says):
            call()
    other = layers.input("z", 6, axis="other")
    with pytest.raises(DataError, match="joins tensors of different lengths"):
        layers.model("m", {"y": layers.attention(x, x, other, causal=True)})
