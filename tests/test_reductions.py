"""Means, sums, largest and least values of features and over time, and average pools: by their definition, and in integers everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st
from pooled import pooled
from schemes import BYTES
from test_conv import windows

import qrnn
from qrnn import DataError, Session, layers
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.running import QuantRunning
from qrnn.model.reduced import Reduction
from qrnn.model.window import EACH, Window, causal

pytestmark = pytest.mark.usefixtures("loops")

Array = npt.NDArray[Any]
FUNCTIONS: tuple[Reduction, ...] = get_args(Reduction)


def network(function: Reduction, count: int = 1, inner: int = 1, outer: int = 2, seed: int = 0) -> FloatModel:
    """The reduction of the features of x, that of all steps so far of the same, its last step, and the same behind a GRU."""
    x = layers.input("x", outer * count * inner)
    rng = np.random.default_rng(seed)
    so_far = layers.running(x, function, count, inner=inner)
    h = layers.gru(x, rng.normal(size=(9, x.features)), 0.4 * rng.normal(size=(9, 3)))
    last = layers.last_step(layers.running(h.output, function))
    each = layers.reduce(x, function, count, inner=inner)
    return layers.model(
        "reduced",
        {
            "each": each,
            "so_far": so_far,
            "all": layers.last_step(so_far),
            "y": layers.dense(last, rng.normal(size=(2, 3))),
        },
    )


def exact(function: Reduction, values: Array, axis: int) -> Array:
    return np.asarray(getattr(np, function)(values, axis=axis))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("count", "inner"), [(1, 1), (3, 1), (2, 4)])
def test_equation(function: Reduction, count: int, inner: int) -> None:
    model = network(function, count, inner)
    x, lengths = np.random.default_rng(1).normal(size=(3, 7, model.tensors["x"].features)), np.array([7, 3, 1])
    found = run_oracle(model, {"x": x}, lengths).outputs
    for n, length in enumerate(lengths):
        rows = x[n, :length].reshape(length, 2, count, inner)
        np.testing.assert_allclose(found["each"][n, :length], exact(function, rows, 2).reshape(length, -1), atol=1e-12)
        for t in range(length):
            seen = np.moveaxis(rows[: t + 1], 2, 1).reshape(-1, 2 * inner)
            np.testing.assert_allclose(found["so_far"][n, t], exact(function, seen, 0), atol=1e-12)
        np.testing.assert_array_equal(found["all"][n], found["so_far"][n, length - 1])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_integers_are_exact_and_rounded_once(function: Reduction) -> None:
    """From the integers of the input to those of the output, at the ends of the range."""
    model = network(function, 3, 2)
    rng = np.random.default_rng(2)
    made = quantize(model, {"x": rng.uniform(-1, 1, (4, 9, 12))}, BYTES)
    x = rng.choice([-32767, -32766, -1, 0, 1, 32767], (2, 9, 12)).astype(np.int16)
    got = Session(made, "reference", integers=True).run({"x": x}).outputs
    for name, over in (("each", 1), ("so_far", 9)):
        (layer,) = (layer for layer in made.layers if made.whole_tensor(out_of(made, name)) == layer.output)
        for n, t in np.ndindex(2, 9):
            seen = x[n, max(0, t + 1 - over) : t + 1].reshape(-1, 2, 3, 2)
            total = np.moveaxis(seen, 2, 1).reshape(-1, 4).astype(object)
            by = getattr(layer, "out_frac") - getattr(layer, "in_frac")  # noqa: B009
            for j in range(4):
                own = list(total[:, j])
                if function in ("max", "min"):
                    want = max(own) if function == "max" else min(own)
                else:
                    scaled, divisor = sum(own) * 2 ** max(by, 0), 2 ** max(-by, 0)
                    divisor *= len(own) if function == "mean" else 1
                    want = max(-32768, min(32767, (2 * scaled + divisor) // (2 * divisor)))
                assert got[name][n, t, j] == want


def out_of(model: Any, name: str) -> Any:
    return next(o for o in model.outputs if o.name == name)


@pytest.mark.parametrize("padding_counts", [False, True])
@pytest.mark.parametrize("band", [EACH, Window(2, 2), Window(3, 1, 1, 1, 1), Window(2, 1, 2, 2, 0)])
@pytest.mark.parametrize("time", [causal(1), causal(3, 2), Window(3), Window(3, 2, 1, 1, 1), Window(4, 3, 2, 1, 5)])
def test_equation_of_a_pool(time: Window, band: Window, padding_counts: bool) -> None:
    x = layers.input("x", 8)
    pool = layers.average_pool(x, time, band=band, bands=4, padding_counts=padding_counts)
    model = layers.model("pool", {"y": pool})
    x, lengths = np.random.default_rng(7).normal(size=(3, 9, 8)), np.array([9, 5, 1])
    found = run_oracle(model, {"x": x}, lengths)

    def mean(inside: Sequence[Any]) -> float:
        return float(sum(inside) / max(time.taps * band.taps if padding_counts else len(inside), 1))

    for n, length in enumerate(lengths):
        want = pooled(x[n, :length], time, band, 4, mean)
        np.testing.assert_allclose(found.outputs["y"][n, : len(want)], want, atol=1e-12)


def everywhere(backend: str, made: Any, x: Array, data: st.DataObject) -> None:
    """Whole and ragged, in chunks, step by step, in pools of streams, and from a saved state: the reference's bits."""
    size, steps, _ = x.shape
    lengths = np.array(data.draw(st.lists(st.integers(0, steps), min_size=size, max_size=size)))
    want = Session(made, "reference").run({"x": x}, lengths)
    session = Session(made, backend)
    got = session.run({"x": x}, lengths)
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values, err_msg=name)
        np.testing.assert_array_equal(got.lengths[name], want.lengths[name])
    for name, arrays in want.state.layers.items():
        for a, b in zip(arrays, got.state.layers[name], strict=True):
            np.testing.assert_array_equal(a, b)
    n = data.draw(st.integers(0, size - 1))
    length = int(lengths[n])
    if length == 0:
        return
    cut = data.draw(st.integers(0, length))
    state, parts = None, []
    for first, last in ((0, cut), (cut, length)):
        if first < last:
            part = session.run({"x": x[n : n + 1, first:last]}, state=state, end=last == length)
            state = session.load_state(session.save_state(part.state))
            parts.append(part)
    pool = session.pool(2)
    other, own = pool.open(), pool.open()
    pool.step([other], {"x": x[n, :1]})
    frames = [(pool.step([own], {"x": x[n, t : t + 1]}), pool.lengths) for t in range(length)]
    assert not any(out[name].any() for out, came in frames for name in came if not came[name][0])
    rest = pool.finish(own)
    for name, values in want.outputs.items():
        timed = out_of(made, name).has_time
        if not timed:  # the latest that is new is that of the whole sequence
            found = [p.outputs[name] for p in parts if p.lengths[name][0]]
            stepped = [out[name] for out, came in (*frames, (rest.outputs, rest.lengths)) if came[name][0]]
            assert bool(found) == bool(stepped) == bool(want.lengths[name][n])
            if found:
                np.testing.assert_array_equal(found[-1][0], values[n])
                np.testing.assert_array_equal(stepped[-1][0], values[n])
            continue
        whole = values[n, : want.lengths[name][n]]
        chunks = np.concatenate([p.outputs[name][0, : p.lengths[name][0]] for p in parts])
        np.testing.assert_array_equal(chunks, whole)
        rows = [out[name][0] for out, came in frames if came[name][0]]
        rows += list(rest.outputs[name][0, : rest.lengths[name][0]])
        np.testing.assert_array_equal(np.reshape(rows, whole.shape), whole)


def check_reductions(backend: str, data: st.DataObject) -> None:
    count, inner, outer = (data.draw(st.integers(1, most)) for most in (4, 3, 2))
    model = network(data.draw(st.sampled_from(FUNCTIONS)), count, inner, outer, data.draw(st.integers(0, 3)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    features = model.tensors["x"].features
    made = quantize(model, {"x": rng.normal(size=(2, 12, features))}, BYTES)
    x = rng.normal(0, 3, (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9)), features))
    everywhere(backend, made, x, data)


def check_pools(backend: str, data: st.DataObject) -> None:
    time, band = data.draw(windows()), data.draw(windows())
    bands, channels = (
        data.draw(st.integers(max(1, band.span - band.before - band.after), 5)),
        data.draw(st.integers(1, 3)),
    )
    x = layers.input("x", bands * channels)
    pool = layers.average_pool(x, time, band=band, bands=bands, padding_counts=data.draw(st.booleans()))
    mean = layers.last_step(layers.running(pool, "mean"))
    made = quantize(
        layers.model(
            "pool", {"pool": pool, "mean": mean, "y": layers.dense(mean, np.ones((2, mean.features)), np.ones(2))}
        ),
        {"x": np.random.default_rng(0).normal(size=(2, 40, x.features))},
        BYTES,
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = rng.normal(0, 3, (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9)), x.features))
    everywhere(backend, made, values, data)


@pytest.mark.parametrize("of", [check_reductions, check_pools])
@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_backends_agree(backend: str, of: Any, data: st.DataObject) -> None:
    of(backend, data)


@pytest.mark.matrix
@pytest.mark.parametrize("of", [check_reductions, check_pools])
@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_backends_agree_on_more(backend: str, of: Any, data: st.DataObject) -> None:
    of(backend, data)


def test_padding_changes_no_mean() -> None:
    """A sequence in a ragged batch has the mean of its own length, whatever stands behind it."""
    model = network("mean")
    rng = np.random.default_rng(3)
    made = quantize(model, {"x": rng.normal(size=(4, 9, 2))}, BYTES)
    x = rng.normal(size=(1, 9, 2))
    alone = Session(made).run({"x": x[:, :5]}).outputs["all"]
    np.testing.assert_array_equal(Session(made).run({"x": x}, np.array([5])).outputs["all"], alone)
    np.testing.assert_allclose(alone[0], x[0, :5].mean(axis=0), atol=1e-3)


def test_means_have_fraction_bits_of_their_own() -> None:
    """Where they vary less than their values, they are finer."""
    x = layers.input("x", 64)
    model = layers.model("m", {"y": layers.running(layers.reduce(x, "mean", 64), "mean")})
    made = quantize(model, {"x": np.random.default_rng(4).normal(0, 2, (4, 50, 64))}, BYTES)
    each, so_far = made.layers
    assert getattr(each, "out_frac") > getattr(each, "in_frac")  # noqa: B009
    assert getattr(so_far, "out_frac") >= getattr(so_far, "in_frac")  # noqa: B009


def test_file(tmp_path: Any) -> None:
    x = np.random.default_rng(5).normal(size=(4, 10, 6))
    made = quantize(network("mean", 3), {"x": x}, BYTES)
    qrnn.save(made, tmp_path / "mean.qrnn")
    again = qrnn.load(tmp_path / "mean.qrnn")
    for name, values in Session(made, "reference").run({"x": x}).outputs.items():
        np.testing.assert_array_equal(Session(again).run({"x": x}).outputs[name], values)


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("function", ["mean", "sum"])
def test_the_most_steps_of_a_sum(backend: str, function: Reduction) -> None:
    """A step past 2^31 - 1 elements is refused by name, in a run, a step, a stream and a pool; the last one that fits is exact."""
    made = quantize(network(function, 3), {"x": np.random.default_rng(6).normal(size=(2, 6, 6))}, BYTES)
    (layer,) = (layer for layer in made.layers if isinstance(layer, QuantRunning) and layer.count == 3)
    most = ((1 << 31) - 1) // 3
    assert layer.most_steps == most
    session = Session(made, backend)
    start = session.initial_state(1)
    full = [array.copy() for array in start.layers[layer.name]]
    full[2][...] = most - 2
    state = qrnn.State({**start.layers, layer.name: tuple(full)})
    x = np.ones((1, 3, 6))
    after = session.run({"x": x[:, :2]}, state=state).state
    assert after.layers[layer.name][2].item() == most
    says = f"layer {layer.name!r} takes at most {most} steps"
    stream, pool = session.stream(state=state), session.pool(2)
    own = pool.open(state)
    pool.open()
    for _ in range(2):
        stream.step({"x": x[:, 0]})
        pool.step([own], {"x": x[:, 0]})
    refused = (
        lambda: session.run({"x": x}, state=state),
        lambda: session.run({"x": x}, np.array([3]), state=state),
        lambda: session.step({"x": x[:, 0]}, after),
        lambda: stream.step({"x": x[:, 0]}),
        stream.advance,
        lambda: pool.step([own], {"x": x[:, 0]}),
    )
    for call in refused:
        with pytest.raises(DataError, match=says):
            call()


@pytest.mark.parametrize("backend", available_backends())
def test_any_state_that_is_taken_is_harmless(backend: str) -> None:
    """Parts of sums that no sum has: every backend makes the same of them, and ends within the ranges that are declared."""
    made = quantize(network("mean"), {"x": np.random.default_rng(7).normal(size=(2, 6, 2))}, BYTES)
    (layer,) = (layer for layer in made.layers if isinstance(layer, QuantRunning) and layer.input == "x")
    start = Session(made, backend).initial_state(4)
    high = np.array([[-32768] * 2, [32767] * 2, [-32768, 0], [0, 0]], np.int16)
    low = np.array([[0] * 2, [(1 << 31) - 1] * 2, [5, 9], [1, 2]], np.int32)
    state = qrnn.State({**start.layers, layer.name: (high, low, np.array([[0], [0], [9], [1 << 30]], np.int32))})
    x = np.full((4, 3, 2), -100.0)
    want, got = (Session(made, name).run({"x": x}, state=state) for name in ("reference", backend))
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values)
    Session(made, backend).check_state(got.state, 4)
    for a, b in zip(want.state.layers[layer.name], got.state.layers[layer.name], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_exported_c(function: Reduction, tmp_path: Any) -> None:
    made = quantize(network(function, 2, 2), {"x": np.random.default_rng(8).normal(size=(4, 10, 8))}, BYTES)
    check(made, tmp_path, "gcc")


@pytest.mark.parametrize("padding_counts", [False, True])
def test_exported_c_of_a_pool(padding_counts: bool, tmp_path: Any) -> None:
    """Behind a stride and a delay, steps may give no row: the mean so far is kept."""
    x = layers.input("x", 6)
    time, band = Window(3, 2, 1, 1, 1), Window(2, 1, 1, 1, 0)
    pool = layers.average_pool(x, time, band=band, bands=3, padding_counts=padding_counts)
    model = layers.model("m", {"pool": pool, "mean": layers.last_step(layers.running(pool, "mean"))})
    check(quantize(model, {"x": np.random.default_rng(9).normal(size=(4, 10, 6))}, BYTES), tmp_path, "gcc")


def test_refusals() -> None:
    x = layers.input("x", 6)
    for says, call in {
        "function='median', expected one of mean, sum, max, min": lambda: layers.running(x, "median"),  # type: ignore[arg-type]
        "count=4 with inner=1, expected a divisor of its input's 6 features": lambda: layers.reduce(x, "mean", 4),
        "count=0, expected a whole number of at least 1": lambda: layers.running(x, "sum", 0),
        "expected a sequence": lambda: layers.running(layers.input("v", 3, has_time=False), "max"),
        "bands=4, expected a divisor": lambda: layers.average_pool(x, bands=4),
        "a window of 3 bands does not fit into 2": lambda: layers.average_pool(x, band=Window(3), bands=2),
    }.items():
        with pytest.raises(DataError, match=says):
            call()
