"""Convolutions over time and bands: against their definition and PyTorch in float64, and in integers on every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st
from pooled import pooled
from schemes import BYTES

import qrnn
from qrnn import DataError, Session, layers
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.export.source import export_source
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.conv import Conv, QuantConv
from qrnn.model.window import EACH, Window, causal

pytestmark = pytest.mark.usefixtures("loops")

Array = npt.NDArray[np.float64]


def network(
    time: Window,
    features: int = 3,
    units: int = 5,
    seed: int = 0,
    band: Window = EACH,
    bands: int = 1,
    groups: int = 1,
    pool: tuple[Window, Window, Window] | None = None,
    line: Window = EACH,
    lines: int = 1,
) -> FloatModel:
    """A convolution of ``features`` channels, a pool over time, bands and lines where it is given, a GRU, outputs of all and the last step."""
    rng = np.random.default_rng(seed)
    x = layers.input("x", features * bands * lines)
    rows = 4 if groups in (1, 2, 4) else groups
    weight = rng.normal(0, 0.5, (rows, features // groups, time.taps, line.taps, band.taps))
    c = layers.conv(
        x, weight, rng.normal(size=rows), stride=time.stride, dilation=time.dilation, padding=(time.before, time.after),
        band=band, bands=bands, groups=groups, line=line, lines=lines, name="conv",
    )  # fmt: skip
    if pool is not None:
        of_line = {"line": pool[2], "lines": line.count(lines)}
        c = layers.max_pool(c, pool[0], band=pool[1], bands=band.count(bands), **of_line)
    wide = c.features
    h = layers.gru(
        c, rng.normal(0, 0.4, (3 * units, wide)), rng.normal(0, 0.4, (3 * units, units)), rng.normal(size=3 * units)
    )
    y = layers.dense(h.output, rng.normal(size=(2, units)))
    return layers.model("conv", {"y": y, "c": c, "h": h.h_n, "last": layers.last_step(y)})


def convolved(x: Array, conv: Conv) -> Array:
    """The equation, written out for one sequence [T, lines · bands · C]."""
    x = x.reshape(len(x), conv.lines, conv.bands, -1)
    rows = len(conv.weight) // conv.groups
    weight = conv.weight.reshape(*conv.weight.shape[:3], conv.line.taps, conv.band.taps)
    places = conv.line.count(conv.lines), conv.band.count(conv.bands)
    y = np.zeros((conv.time.count(len(x)), *places, len(conv.weight))) + conv.bias
    for (j, q, p, o), _ in np.ndenumerate(y):
        first = o // rows * conv.weight.shape[1]
        for (c, k, a, b), w in np.ndenumerate(weight[o]):
            step = j * conv.time.stride - conv.time.before + k * conv.time.dilation
            line = q * conv.line.stride - conv.line.before + a * conv.line.dilation
            band = p * conv.band.stride - conv.band.before + b * conv.band.dilation
            if 0 <= step < len(x) and 0 <= line < conv.lines and 0 <= band < conv.bands:
                y[j, q, p, o] += w * x[step, line, band, first + c]
    return y.reshape(len(y), conv.places * len(conv.weight))


WINDOWS = [
    causal(1),
    causal(3),
    causal(3, 2),
    causal(2, 3, 2),
    causal(4, 2, 3),
    Window(3),
    Window(3, 2, 1, 1, 1),
    Window(4, 3, 2, 1, 5),
]
OVER_BANDS = [
    {},
    {"bands": 5, "band": Window(3, 2, 1, 1, 1), "features": 2},
    {"bands": 4, "band": Window(2, 1, 2), "features": 4, "groups": 4},
    {"features": 4, "groups": 2},
    {"bands": 4, "band": Window(3, 1, 1, 1, 1), "lines": 3, "line": Window(2, 2, 1, 1, 0), "features": 2},
    {"bands": 3, "band": EACH, "lines": 5, "line": Window(2, 1, 2, 1, 1), "features": 4, "groups": 4},
]


@pytest.mark.parametrize("more", OVER_BANDS)
@pytest.mark.parametrize("time", WINDOWS)
def test_equation(time: Window, more: Any) -> None:
    model = network(time, **more)
    (conv,) = (layer for layer in model.layers if isinstance(layer, Conv))
    x = np.random.default_rng(1).normal(size=(3, 9, model.tensors["x"].features))
    lengths = np.array([9, 4, 1])
    found = run_oracle(model, {"x": x}, lengths)
    for n, length in enumerate(lengths):
        want = convolved(x[n, :length], conv)
        np.testing.assert_allclose(found.outputs["c"][n, : len(want)], want, atol=1e-12)
        assert not found.outputs["c"][n, len(want) :].any()


@pytest.mark.parametrize("line", [None, EACH, Window(3, 2, 1, 1, 1)])
@pytest.mark.parametrize("band", [EACH, Window(2, 2), Window(3, 1, 1, 1, 1)])
@pytest.mark.parametrize("time", WINDOWS)
def test_equation_of_a_pool(time: Window, band: Window, line: Window | None) -> None:
    over: Any = {"band": band, "bands": 4} | ({} if line is None else {"line": line, "lines": 3})
    features = 8 * over.get("lines", 1)
    model = layers.model("pool", {"y": layers.max_pool(layers.input("x", features), time, **over)})
    x, lengths = np.random.default_rng(7).normal(size=(3, 9, features)), np.array([9, 5, 1])
    found = run_oracle(model, {"x": x}, lengths)
    for n, length in enumerate(lengths):
        want = pooled(
            x[n, :length], time, band, 4, lambda inside: max(inside, default=0.0), line or EACH, over.get("lines", 1)
        )
        np.testing.assert_array_equal(found.outputs["y"][n, : len(want)], want)


def test_against_torch() -> None:
    torch = pytest.importorskip("torch")
    model = network(Window(3, 2, 2, 1, 1), 4, bands=6, band=Window(3, 2, 1, 1, 1), groups=2)
    (conv,) = (layer for layer in model.layers if isinstance(layer, Conv))
    x = np.random.default_rng(2).normal(size=(2, 11, 24))
    image = torch.tensor(x.reshape(2, 11, 6, 4)).permute(0, 3, 1, 2)
    want = torch.nn.functional.conv2d(
        image, torch.tensor(conv.weight), torch.tensor(conv.bias), stride=(2, 2), dilation=(2, 1), padding=1, groups=2
    ).permute(0, 2, 3, 1)
    got = run_oracle(model, {"x": x}).outputs["c"]
    np.testing.assert_allclose(got, want.reshape(*got.shape).numpy(), atol=1e-12)


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("time", [causal(3), causal(3, 2), Window(4, 3, 2, 2, 2)])
def test_accuracy(time: Window) -> None:
    model = network(time)
    x = np.random.default_rng(3).normal(size=(16, 24, 3))
    found = qrnn.compare(model, quantize(model, {"x": x}, BYTES), {"x": x})
    assert found.outputs["c"].sqnr_db > 38
    assert found.outputs["y"].sqnr_db > 30


def test_file(tmp_path: Any) -> None:
    x = np.random.default_rng(4).normal(size=(4, 10, 3))
    made = quantize(
        network(Window(3, 2, 1, 1, 1), 3, bands=3, band=Window(2)), {"x": np.concatenate([x] * 3, -1)}, BYTES
    )
    x = np.concatenate([x] * 3, -1)
    qrnn.save(made, tmp_path / "conv.qrnn")
    again = qrnn.load(tmp_path / "conv.qrnn")
    for backend in available_backends():
        np.testing.assert_array_equal(
            Session(again, backend).run({"x": x}).outputs["y"], Session(made, "reference").run({"x": x}).outputs["y"]
        )


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Any window of few taps."""
    window = Window(draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    edge = st.integers(0, window.span - 1)
    return replace(window, before=draw(edge), after=draw(edge))


def check_backend(backend: str, data: st.DataObject) -> None:
    """Whole, ragged and step by step, with inputs beyond the calibrated range."""
    time, band = data.draw(windows()), data.draw(windows())
    bands = data.draw(st.integers(max(1, band.span - band.before - band.after), 5))
    groups, channels = data.draw(st.sampled_from([(1, 1), (1, 3), (2, 2), (3, 1)]))
    line = data.draw(st.just(EACH) | windows())
    lines = data.draw(st.integers(max(1, line.span - line.before - line.after), 5)) if line != EACH else 1
    pool = data.draw(st.none() | st.tuples(windows(), windows(), windows()))
    if pool is not None:
        sizes = band.count(bands), line.count(lines)
        fit = (window if window.count(size) > 0 else EACH for window, size in zip(pool[1:], sizes, strict=True))
        pool = pool[0], *fit  # type: ignore[assignment]
    seed = data.draw(st.integers(0, 3))
    model = network(time, groups * channels, 3, seed, band, bands, groups, pool, line, lines)
    features = model.tensors["x"].features
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    quantized = quantize(model, {"x": rng.normal(size=(2, 40, features))}, BYTES)
    N, T = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8))
    x, lengths = rng.normal(0, 3, (N, T, features)), rng.integers(0, T + 1, N)
    want = Session(quantized, "reference").run({"x": x}, lengths)
    session = Session(quantized, backend)
    got = session.run({"x": x}, lengths)
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values)
        np.testing.assert_array_equal(got.lengths[name], want.lengths[name])
    counted = [time.count(n) if pool is None else pool[0].count(time.count(n)) for n in lengths.tolist()]
    assert want.lengths["y"].tolist() == counted
    for n in range(N):
        stream, rows = session.stream(), []
        for frame in x[n, : lengths[n]]:
            outputs = stream.step({"x": frame[None]})
            if stream.lengths["y"][0]:
                rows.append(outputs["y"][0])
        rest = stream.finish()
        rows.extend(rest.outputs["y"][0, : rest.lengths["y"][0]])
        np.testing.assert_array_equal(np.reshape(rows, (-1, 2)), want.outputs["y"][n, : want.lengths["y"][n]])


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=6)
@given(st.data())
def test_backends_agree(backend: str, data: st.DataObject) -> None:
    check_backend(backend, data)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_backends_agree_on_more(backend: str, data: st.DataObject) -> None:
    check_backend(backend, data)


def test_states_of_convolutions_are_checked() -> None:
    """A place outside the ring would be read and written outside of the array."""
    made = quantize(network(causal(3, 2)), {"x": np.random.default_rng(5).normal(size=(2, 6, 3))}, BYTES)
    session = Session(made)
    state = session.initial_state(1)
    (layer,) = (layer for layer in made.layers if isinstance(layer, QuantConv))
    for position, value in ((1, 3), (1, -1), (2, 2), (2, -1), (0, -32768)):
        arrays = [array.copy() for array in state.layers[layer.name]]
        arrays[position][...] = value
        with pytest.raises(DataError, match=r"expected -?[0-9]+…"):
            session.run({"x": np.zeros((1, 2, 3))}, state=qrnn.State({**state.layers, layer.name: tuple(arrays)}))


def test_calibration_needs_a_step_of_every_tensor() -> None:
    with pytest.raises(DataError, match="no sequence is long enough to give a step of 'conv'"):
        quantize(network(Window(4)), {"x": np.ones((2, 3, 3))}, BYTES)


def test_refusals() -> None:
    x = layers.input("x", 3)
    for says, call in {
        r"weight has shape \[4, 2, 3\]": lambda: layers.conv(x, np.zeros((4, 2, 3))),
        "stride=0, expected a whole number": lambda: layers.conv(x, np.zeros((4, 3, 3)), stride=0),
        "expected a sequence": lambda: layers.conv(layers.input("v", 3, has_time=False), np.zeros((4, 3, 3))),
        "joins tensors of different lengths": lambda: layers.model(
            "m", {"y": (layers.conv(x, np.zeros((4, 3, 3)), stride=2), layers.dense(x, np.zeros((2, 3))))}
        ),
    }.items():
        with pytest.raises(DataError, match=says):
            call()


@pytest.mark.wide
@pytest.mark.parametrize("kernels", ["plain", "mve"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_exported_c(compiler: str, kernels: Any, tmp_path: Any) -> None:
    """Exported C says how many steps came out, and has the reference's bits."""
    pool = Window(2, 2, 1, 0, 1), Window(2), EACH
    model = network(Window(3, 2, 2, 3, 2), 2, bands=4, band=Window(3, 1, 1, 1, 0), groups=2, pool=pool)
    made = quantize(model, {"x": np.random.default_rng(6).normal(size=(4, 10, 8))}, BYTES)
    check(made, tmp_path, compiler, kernels)


def test_a_convolution_that_keeps_the_steps_may_stand_beside_its_input(tmp_path: Any) -> None:
    """With stride 1 its output has the steps of its input: they can be added, both be outputs, and C has its usual functions."""
    rng = np.random.default_rng(0)
    x = layers.input("x", 3)
    d = layers.dense(x, rng.normal(size=(3, 3)))
    y = layers.add(d, layers.conv(d, rng.normal(size=(3, 3, 4)), dilation=2))
    made = quantize(layers.model("m", {"y": y, "d": d}), {"x": rng.normal(size=(4, 10, 3))}, BYTES)
    check(made, tmp_path, "gcc")
    assert "void net_step(" in export_source(made, "net", "plain").header


@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_joins_steps_of_different_times_and_is_not_aligned_does_not_stream(
    before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A residual around a window that looks ahead, as in earlier files; whole sequences run, and around a causal one streams agree."""
    monkeypatch.setattr("qrnn.layers.build.with_aligned", lambda model: model)
    rng = np.random.default_rng(3)
    x = layers.input("x", 4)
    c = layers.conv(x, rng.normal(0, 0.4, (4, 4, 3, 1)), padding=(before, 2 - before))
    h = layers.gru(layers.add(x, c), *(rng.normal(0, 0.4, (15, n)) for n in (4, 5)), rng.normal(size=15))
    model = layers.model("residual", {"y": h.output})
    data = rng.normal(size=(2, 7, 4))
    made = quantize(model, {"x": data}, BYTES)
    want = Session(made, "reference").run({"x": data}).outputs["y"]
    for backend in available_backends():
        session = Session(made, backend)
        np.testing.assert_array_equal(session.run({"x": data}).outputs["y"], want)
        if before == 2:
            stream = session.stream(2)
            steps = [stream.step({"x": data[:, t]})["y"] for t in range(7)]
            np.testing.assert_array_equal(np.stack(steps, axis=1), want)
            continue
        with pytest.raises(DataError, match="joins tensors of which one comes later"):
            session.stream(2)
        with pytest.raises(DataError, match="whole sequences"):
            session.run({"x": data}, end=False)
        with pytest.raises(DataError, match="whole sequences"):
            session.step({"x": data[:, 0]})
