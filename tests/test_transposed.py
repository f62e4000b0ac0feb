"""Transposed convolutions and repeated steps: against their definition in float64, and in integers on every backend, in streams and in C."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from export.building import check
from export.drawn import check_on_core
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import BYTES

import qrnn
from qrnn import DataError, Session, layers
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.model.float_model import FloatModel
from qrnn.model.lateness import AT_ONCE
from qrnn.model.transposed import Transposed
from qrnn.quantization.scheme import Scheme

pytestmark = pytest.mark.usefixtures("loops")

Array = npt.NDArray[np.float64]


def defined(x: Array, weight: Array, bias: Array, time: Transposed, band: Transposed, bands: int, groups: int) -> Array:
    """Scatter each input of one sequence [T, bands · C] to the output, tap by tap, and cut off its ends."""
    x = x.reshape(len(x), bands, groups, -1)
    rows = weight.shape[1]
    whole = [axis.count(size) + axis.before + axis.after for axis, size in ((time, len(x)), (band, bands))]
    y = np.zeros((*(max(0, size) for size in whole), groups, rows)) + bias.reshape(groups, rows)
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    for (g, c, o, k, b), w in np.ndenumerate(by_group):
        for j in range(len(x)):
            for p in range(bands):
                y[j * time.stride + k * time.dilation, p * band.stride + b * band.dilation, g, o] += w * x[j, p, g, c]
    y = y[time.before : max(time.before, len(y) - time.after), band.before : y.shape[1] - band.after]
    return y.reshape(len(y), y.shape[1] * groups * rows)


@st.composite
def axes(draw: st.DrawFn, size: int | None = None) -> Transposed:
    """Any transposed window of few taps that leaves something of an axis of ``size``."""
    taps, stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    more = draw(st.integers(0, max(stride, dilation) - 1))
    axis = Transposed(taps, stride, dilation, draw(st.integers(0, 3)), draw(st.integers(0, 3)), more)
    return axis if axis.count(size or 8) > 0 else Transposed(taps, stride, dilation)


def network(
    time: Transposed, band: Transposed, channels: int, rows: int, bands: int, groups: int, seed: int, recurrent: bool
) -> tuple[FloatModel, Array, Array]:
    rng = np.random.default_rng(seed)
    x = layers.input("x", channels * bands)
    weight = rng.normal(0, 0.5, (channels, rows, time.taps, band.taps))
    bias = rng.normal(size=rows * groups)
    c = layers.conv_transpose(
        x, weight, bias, stride=time.stride, dilation=time.dilation, padding=(time.before, time.after), more=time.more, band=band,
        bands=bands, groups=groups,
    )  # fmt: skip
    outputs = {"c": c}
    if recurrent:
        h = layers.gru(c, rng.normal(0, 0.4, (9, c.features)), rng.normal(0, 0.4, (9, 3)), rng.normal(size=9))
        outputs |= {"h": h.h_n, "last": layers.last_step(h.output)}
    return layers.model("transposed", outputs), weight, bias


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_equation(data: st.DataObject) -> None:
    bands = data.draw(st.integers(1, 4))
    time, band = data.draw(axes()), data.draw(axes(bands))
    groups, channels = data.draw(st.sampled_from([(1, 1), (1, 3), (2, 2), (2, 4), (3, 3)]))
    model, weight, bias = network(time, band, channels, data.draw(st.integers(1, 3)), bands, groups, 0, False)
    lengths = np.array([8, data.draw(st.integers(1, 8))])
    x = np.random.default_rng(1).normal(size=(2, 8, channels * bands))
    found = run_oracle(model, {"x": x}, lengths).outputs["c"]
    for n, length in enumerate(lengths):
        want = defined(x[n, :length], weight, bias, time, band, bands, groups)
        np.testing.assert_allclose(found[n, : len(want)], want, atol=1e-12)
        assert not found[n, len(want) :].any()


def streamed(session: Session, x: Array, name: str) -> Array:
    """The rows that a stream gives of an output, with those of its end."""
    stream, rows = session.stream(), []
    for frame in x:
        outputs = stream.step({"x": frame[None]})[name][0]
        many = outputs if outputs.ndim == 2 else outputs[None]
        assert not many[stream.lengths[name][0] :].any()
        rows.extend(many[: stream.lengths[name][0]])
    rest = stream.finish()
    rows.extend(rest.outputs[name][0, : rest.lengths[name][0]])
    return np.array(rows)


def same_everywhere(
    model: FloatModel, backend: str, data: st.DataObject, name: str, scheme: Scheme | None = None
) -> None:
    """Whole and ragged, in chunks, step by step and in a pool: the reference's bits."""
    features = model.tensors["x"].features
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    made = quantize(model, {"x": rng.normal(size=(2, 20, features))}, scheme or Scheme(8, input="8"))
    N, T = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 5))
    x, lengths = rng.normal(0, 3, (N, T, features)), rng.integers(0, T + 1, N)
    want, session = Session(made, "reference").run({"x": x}, lengths), Session(made, backend)
    got = session.run({"x": x}, lengths)
    for output, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[output], values)
        np.testing.assert_array_equal(got.lengths[output], want.lengths[output])
    width = want.outputs[name].shape[2]
    for n in range(N):
        alone = want.outputs[name][n, : want.lengths[name][n]]
        np.testing.assert_array_equal(streamed(session, x[n, : lengths[n]], name).reshape(-1, width), alone)
        bound = data.draw(st.integers(0, int(lengths[n])))
        pieces, state = [], None
        for piece, end in ((x[n : n + 1, :bound], False), (x[n : n + 1, bound : lengths[n]], True)):
            if piece.shape[1] or end:
                given = piece if piece.shape[1] else np.zeros((1, 1, features))
                part = session.run({"x": given}, np.array([piece.shape[1]]), state=state, end=end)
                pieces.append(part.outputs[name][0, : part.lengths[name][0]])
                state = part.state
        np.testing.assert_array_equal(np.concatenate(pieces), alone)
    pool = session.pool()
    streams = [pool.open() for _ in range(N)]
    found: list[list[Array]] = [[] for _ in range(N)]
    for t in range(T):
        some = [n for n in range(N) if t < lengths[n]]
        values = pool.step([streams[n] for n in some], {"x": x[some, t]})[name]
        for k, n in enumerate(some):
            many = values[k] if values.ndim == 3 else values[k][None]
            found[n].extend(many[: pool.lengths[name][k]])
    for n in range(N):
        rest = pool.finish(streams[n])
        found[n].extend(rest.outputs[name][0, : rest.lengths[name][0]])
        alone = want.outputs[name][n, : want.lengths[name][n]]
        np.testing.assert_array_equal(np.array(found[n]).reshape(-1, width), alone)


def check_backend(backend: str, data: st.DataObject) -> None:
    bands = data.draw(st.integers(1, 3))
    time, band = data.draw(axes()), data.draw(axes(bands))
    groups, channels = data.draw(st.sampled_from([(1, 1), (1, 2), (2, 2), (2, 4), (3, 3)]))
    model, *_ = network(time, band, channels, data.draw(st.integers(1, 2)), bands, groups, 1, data.draw(st.booleans()))
    schemes = st.sampled_from([Scheme(8, input="8"), Scheme(16, input="16"), Scheme(8, input="8", weights=4)])
    same_everywhere(model, backend, data, "c", data.draw(schemes))


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=6)
@given(st.data())
def test_backends_agree(backend: str, data: st.DataObject) -> None:
    check_backend(backend, data)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_backends_agree_on_more(backend: str, data: st.DataObject) -> None:
    check_backend(backend, data)


def rates(draw: st.DrawFn, rng: Any) -> tuple[FloatModel, int]:
    """Layers that change the rate of steps one after the other, and a way around the last of them."""
    x = layers.input("x", 4)
    y = x
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["up", "conv", "repeat", "down", "slice"]))
        if kind == "up":
            stride = draw(st.integers(1, 3))
            taps = draw(st.integers(1, 4))
            edges = draw(st.integers(0, 2)), draw(st.integers(0, 1))
            axis = Transposed(taps, stride, 1, *edges)
            edges = edges if axis.count(1) > 0 else (0, 0)
            y = layers.conv_transpose(y, rng.normal(0, 0.4, (4, 4, taps)), stride=stride, padding=edges)
        elif kind == "repeat":
            y = layers.upsample(y, draw(st.integers(1, 3)))
        elif kind == "slice":
            y = layers.time_slice(y, draw(st.integers(0, 1)), draw(st.sampled_from([None, -1])))
        else:
            stride, ahead = (draw(st.integers(2, 3)) if kind == "down" else 1), draw(st.integers(0, 2))
            y = layers.conv(y, rng.normal(0, 0.4, (4, 4, 3)), stride=stride, padding=(2 - ahead, ahead))
    ahead = draw(st.integers(0, 2))
    beside = layers.conv(y, rng.normal(0, 0.4, (4, 4, 3)), padding=(2 - ahead, ahead))
    return layers.model("rates", {"y": layers.add(layers.dense(y, np.eye(4)), beside)}), 4


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_rates_of_steps_are_joined_in_streams(data: st.DataObject) -> None:
    """A convolution that looks ahead beside none, at whatever rate: one of them is held by steps of that rate."""
    model, _ = data.draw(st.composite(lambda draw: rates(draw, np.random.default_rng(3)))())
    if model.uneven is None:
        same_everywhere(model, "reference", data, "y")


def test_times_are_those_of_the_steps() -> None:
    """Times, put together layer by layer, say with which step of the inputs each step of a tensor comes."""

    class Like:
        def __init__(self, late: tuple[int, int] = (1, 0), gives: tuple[int, int] = (1, 0)) -> None:
            self.name, self.comes_late, self.gives_steps = "layer", late, gives

    rng, told = np.random.default_rng(0), 0
    for _ in range(3000):
        times, comes = AT_ONCE, np.arange(4000)
        for _ in range(rng.integers(1, 5)):
            if rng.integers(2):
                count = int(rng.integers(1, 5))
                cut = int(rng.integers(count))
                layer: Any = Like(gives=(count, cut))
                steps = np.arange(len(comes) * count - cut)
                comes = comes[(steps + cut) // count]
            else:
                stride, late = int(rng.integers(1, 4)), int(rng.integers(0, 4))
                layer = Like((stride, late))
                comes = comes[late::stride]
            times = times.behind(layer)
            comes = comes[:4000]
            if len(comes) > 40 and not times.unlike and rng.integers(2):
                held = int(rng.integers(0, 4))
                if times.skip == 1:
                    times, comes = times.held(held), comes[held:]
        assert times.most_rows >= np.bincount(comes).max()
        if not times.unlike:
            told += 1
            steps = np.arange(len(comes))
            wanted = times.stride * ((times.skip * steps + times.shift) // times.rows) + times.late
            np.testing.assert_array_equal(wanted, comes)
            assert times.rows == 1 or (0 <= times.shift < times.rows and np.gcd(times.skip, times.rows) == 1)
    assert told > 2000


def test_rules_of_lengths_are_equal_where_lengths_are() -> None:
    x = layers.input("x", 4)
    weight = np.ones((4, 4, 4))
    up = layers.conv_transpose(layers.conv_transpose(x, weight, stride=2), weight, stride=2, padding=(1, 1))
    again = layers.upsample(x, 4)
    down = layers.conv(up, weight, stride=4)
    model = layers.model("rules", {"y": layers.add(up, again), "x": layers.add(down, x)})
    rules = [
        str(rule) for rule in {name: model.length_rules[name] for name in (up.name, "unstack_3", down.name)}.values()
    ]
    assert rules[2] == "T"
    assert len(set(map(str, (model.length_rules[name] for name, _, _ in model.outputs[0].parts)))) == 1


def test_refusals() -> None:
    x = layers.input("x", 4)
    for says, call in {
        r"weight has shape \[3, 2, 3, 1\]": lambda: layers.conv_transpose(x, np.zeros((3, 2, 3))),
        "stride=0, expected a whole number": lambda: layers.conv_transpose(x, np.zeros((4, 3, 3)), stride=0),
        "nothing is left of the 2 bands": lambda: layers.conv_transpose(
            x, np.zeros((2, 3, 1, 1)), bands=2, band=Transposed(1, 1, 1, 1, 1)
        ),
        "expected the 2 of weight": lambda: layers.conv_transpose(x, np.zeros((4, 3, 1, 2)), band=Transposed(3)),
        "steps=3 does not divide the 4 features": lambda: layers.unstack(x, 3),
        "bands=3 does not divide": lambda: layers.upsample(x, bands=3),
    }.items():
        with pytest.raises(DataError, match=says):
            call()


def up_network(seed: int = 0) -> FloatModel:
    """Both axes are strided, with something cut off each, in groups; a recurrent layer and a strided convolution read the result."""
    rng = np.random.default_rng(seed)
    x = layers.input("x", 8)
    c = layers.conv_transpose(
        x, rng.normal(0, 0.5, (2, 2, 4, 3)), rng.normal(size=4), stride=3, padding=(1, 1), bands=4, groups=2,
        band=Transposed(3, 2, 1, 1, 1),
    )  # fmt: skip
    h = layers.gru(c, rng.normal(0, 0.4, (9, c.features)), rng.normal(0, 0.4, (9, 3)), rng.normal(size=9))
    return layers.model("up", {"y": layers.dense(h.output, rng.normal(size=(2, 3)))})


def test_a_step_gives_the_same_in_every_way_to_ask_for_it() -> None:
    """In place, as integers, with the state as a value, and none in a pool without streams: three steps of the output for one."""
    x = np.random.default_rng(6).normal(size=(2, 4, 8))
    made = quantize(up_network(), {"x": x}, BYTES)
    session = Session(made, "cpu")
    stream, whole, state = session.stream(2), session.stream(2, integers=True), session.initial_state(2)
    unit, offset = made.scales_and_offsets(made.outputs[0])
    for t, came in enumerate((0, 2, 3, 3)):  # the window looks one step ahead, and a step is cut off
        stream.inputs["x"][...] = x[:, t]
        stream.advance()
        q = whole.step({"x": np.round(x[:, t] / made.tensors["x"].scales_and_offsets[0]).astype(np.int16)})["y"]
        taken = session.step({"x": x[:, t]}, state)
        state = taken.state
        assert stream.outputs["y"].shape == q.shape == taken.outputs["y"].shape == (2, 3, 2)
        assert stream.lengths["y"].tolist() == taken.lengths["y"].tolist() == [came] * 2
        np.testing.assert_array_equal(stream.outputs["y"], taken.outputs["y"])
        np.testing.assert_allclose(((q + offset) * unit)[:, :came], taken.outputs["y"][:, :came], atol=1e-12)
    assert session.pool().step([], {"x": np.zeros((0, 8))})["y"].shape == (0, 3, 2)
    assert session.finish(state).lengths["y"].tolist() == stream.finish().lengths["y"].tolist()
    with pytest.raises(DataError, match="up to 3 steps of output 'y' come out of one step"):
        session.device_stream()


@pytest.mark.wide
@pytest.mark.parametrize("kernels", ["plain", "mve", "dsp"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_exported_c(compiler: str, kernels: Any, tmp_path: Any) -> None:
    model = up_network()
    check(quantize(model, {"x": np.random.default_rng(6).normal(size=(4, 10, 8))}, BYTES), tmp_path, compiler, kernels)


@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m55"])
def test_emulated_cores(name: str) -> None:
    made = quantize(
        up_network(), {"x": np.random.default_rng(6).normal(size=(4, 10, 8))}, Scheme(8, input="8", weights=4)
    )
    check_on_core(made, name, lengths=(1, 5, 12))


def test_exported_c_of_steps_that_are_repeated(tmp_path: Any) -> None:
    rng = np.random.default_rng(2)
    x = layers.input("x", 4)
    y = layers.conv(layers.upsample(layers.unstack(x, 2), 3, bands=2, times=2), rng.normal(0, 0.5, (3, 4, 2)), stride=2)
    check(quantize(layers.model("m", {"y": y}), {"x": rng.normal(size=(4, 10, 4))}, BYTES), tmp_path, "gcc")


def test_file(tmp_path: Any) -> None:
    x = np.random.default_rng(4).normal(size=(4, 10, 8))
    made = quantize(up_network(), {"x": x}, BYTES)
    qrnn.save(made, tmp_path / "up.qrnn")
    again = qrnn.load(tmp_path / "up.qrnn")
    want = Session(made, "reference").run({"x": x}).outputs["y"]
    np.testing.assert_array_equal(Session(again, "reference").run({"x": x}).outputs["y"], want)


def test_accuracy() -> None:
    x = np.random.default_rng(3).normal(size=(8, 24, 8))
    model = up_network()
    found = qrnn.compare(model, quantize(model, {"x": x}, Scheme(16, input="16")), {"x": x})
    assert found.outputs["y"].sqnr_db > 35
