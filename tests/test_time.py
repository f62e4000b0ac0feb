"""Time and state as data: strides, delays, several time axes, and states as bytes, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from backends.loop_kinds import QuantDifference, QuantPooled
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn import DataError, Session
from qrnn.backends import available_backends
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.model.time import Axis, Least, LengthRule, Most

I, H = 3, 4
PROVENANCE = Provenance("", 0, "", 0, 0, "", False, "", {})


def fmt(features: int, has_time: bool = True) -> TensorFormat:
    return TensorFormat(features, has_time, 16, (2.0**-12,), 32767)


def output(name: str, tensor: str, features: int, has_time: bool = True) -> GraphOutput:
    every = np.arange(features)
    return GraphOutput(name, (features,), has_time, ((tensor, every, every),))


def pooled(name: str, source: str, target: str, stride: int, delay: int, columns: int = I) -> QuantPooled:
    rng = np.random.default_rng(len(name) + 7 * stride)
    weight = rng.integers(-127, 128, (H, columns)).astype(np.int8)
    bias = rng.integers(-500, 500, H).astype(np.int32)
    return QuantPooled(name, source, target, weight, bias, np.full(H, 1 << 29, np.int32), stride, delay)


def strided(stride: int, delay: int = 0, stride_2: int = 1, delay_2: int = 0) -> QuantModel:
    """X → a difference by rows → a pooled layer → another one."""
    layers = (
        QuantDifference("rows", "x", "d", np.array([300, -200, 4000], np.int16), 12),
        pooled("first", "d", "p", stride, delay),
        pooled("second", "p", "y", stride_2, delay_2, H),
    )
    return QuantModel(
        "strided",
        (GraphInput("x", "features", (I,), True),),
        layers,
        (output("y", "y", H), output("p", "p", H)),
        {"x": fmt(I), "d": fmt(I), "p": fmt(H), "y": fmt(H)},
        False,
        PROVENANCE,
    )


def test_rules() -> None:
    rule: LengthRule = Axis().windows(-2, 1).windows(0, 3).times(2)
    assert str(rule) == "2·floor((T-2)/3)"
    assert [rule.of({"time": t}) for t in (0, 1, 4, 5, 8, 11)] == [0, 0, 0, 2, 4, 6]
    both = Least((rule, Axis("other"))), Most((rule, Axis("other")))
    lengths = {"time": np.array([0, 5, 8]), "other": np.array([1, 1, 9])}
    assert [b.of(lengths).tolist() for b in both] == [[0, 1, 4], [1, 2, 9]]
    assert [b.of({"time": 8, "other": 3}) for b in both] == [3, 4]
    assert both[0].axes == {"time", "other"}
    assert Axis().windows(0, 1) == Axis() == Axis().times(1)


@settings(deadline=None, max_examples=40)
@given(st.data())
@pytest.mark.parametrize("backend", available_backends())
def test_whole_chunks_steps_and_pools_agree(backend: str, data: st.DataObject) -> None:
    """A sequence gives the same bits and the same number of steps whole, ragged, in chunks, step by step, in a pool, and alone."""
    model = strided(*(data.draw(st.integers(*ends)) for ends in ((1, 4), (0, 3), (1, 3), (0, 2))))
    session = Session(model, backend)
    N, T = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = rng.normal(0, 3, (N, T, I))
    lengths = rng.integers(0, T + 1, N)
    whole = Session(model, "reference").run({"x": x}, lengths)
    got = session.run({"x": x}, lengths)
    for name in whole.outputs:
        np.testing.assert_array_equal(got.outputs[name], whole.outputs[name])
        np.testing.assert_array_equal(got.lengths[name], whole.lengths[name])
    cut = int(data.draw(st.integers(1, T)))
    for n in range(N):
        want = {name: v[n, : whole.lengths[name][n]] for name, v in whole.outputs.items()}
        if lengths[n]:
            _same(session.run({"x": x[n : n + 1, : lengths[n]]}), want)
            _same_parts(_in_chunks(session, x[n, : lengths[n]], cut), want)
        _same_parts(_by_steps(session, x[n, : lengths[n]]), want)
    _pooled_streams(session, x, lengths, whole)


def _same(result: Any, want: dict[str, npt.NDArray[Any]]) -> None:
    for name, values in want.items():
        np.testing.assert_array_equal(result.outputs[name][0, : result.lengths[name][0]], values)


def _same_parts(parts: dict[str, list[Any]], want: dict[str, npt.NDArray[Any]]) -> None:
    for name, values in want.items():
        np.testing.assert_array_equal(np.concatenate([np.zeros((0, H)), *parts[name]]), values)


def _in_chunks(session: Session, x: Any, cut: int) -> dict[str, list[Any]]:
    state, parts = None, {"y": [], "p": []}  # type: ignore[var-annotated]
    for at in range(0, len(x), cut):
        result = session.run({"x": x[None, at : at + cut]}, state=state, end=False)
        state = result.state
        for name, found in parts.items():
            found.append(result.outputs[name][0, : result.lengths[name][0]])
    assert state is not None
    result = session.finish(session.load_state(session.save_state(state)))
    for name, found in parts.items():
        found.append(result.outputs[name][0])
    return parts


def _by_steps(session: Session, x: Any) -> dict[str, list[Any]]:
    """By a stream's two ways to step, and by `Session.step`, which have to agree."""
    stream, state, parts = session.stream(), session.initial_state(1), {"y": [], "p": []}  # type: ignore[var-annotated]
    for t, frame in enumerate(x):
        stepped = session.step({"x": frame[None]}, state)
        state = stepped.state
        if t % 2:
            outputs = stream.step({"x": frame[None]})
        else:
            stream.inputs["x"][...] = frame
            stream.advance()
            outputs = dict(stream.outputs)
        for name, found in parts.items():
            assert stepped.lengths[name][0] == stream.lengths[name][0]
            np.testing.assert_array_equal(stepped.outputs[name], outputs[name])
            if stream.lengths[name][0]:
                found.append(outputs[name].copy())
            else:
                assert not outputs[name].any()
    result = stream.finish()
    for name, found in parts.items():
        found.append(result.outputs[name][0])
    return parts


def _pooled_streams(session: Session, x: Any, lengths: Any, whole: Any) -> None:
    """Streams of a pool that begin at different times, each with a phase of its own."""
    pool = session.pool(1)
    opened: dict[int, int] = {}
    parts: dict[int, dict[str, list[Any]]] = {n: {"y": [], "p": []} for n in range(len(x))}
    for clock in range(x.shape[1] + len(x)):
        if clock < len(x):
            opened[clock] = pool.open()
        active = [n for n in opened if clock - n < lengths[n]]
        if not active:
            continue
        outputs = pool.step([opened[n] for n in active], {"x": np.stack([x[n, clock - n] for n in active])})
        for name, came in pool.lengths.items():
            for row, n in enumerate(active):
                if came[row]:
                    parts[n][name].append(outputs[name][row : row + 1])
    for n, number in opened.items():
        result = pool.finish(number)
        for name, found in parts[n].items():
            found.append(result.outputs[name][0])
            values = np.concatenate([np.zeros((0, H)), *found])
            np.testing.assert_array_equal(values, whole.outputs[name][n, : whole.lengths[name][n]])
    assert len(pool) == 0


def two_axes() -> QuantModel:
    """Inputs a and b over time axes of their own: one is pooled, the other taken through rows."""
    inputs = tuple(GraphInput(name, "features", (I,), True, axis=f"axis of {name}") for name in "ab")
    layers = (
        QuantDifference("rows", "a", "y", np.array([300, -200, 4000], np.int16), 12),
        pooled("pool", "b", "z", 2, 1),
    )
    formats = {"a": fmt(I), "b": fmt(I), "y": fmt(I), "z": fmt(H)}
    return QuantModel(
        "two axes", inputs, layers, (output("y", "y", I), output("z", "z", H)), formats, False, PROVENANCE
    )


@pytest.mark.parametrize("backend", available_backends())
def test_two_time_axes(backend: str) -> None:
    """Each has its own number of steps and its own lengths; a mapping gives them."""
    session, rng = Session(two_axes(), backend), np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, I)), rng.normal(size=(2, 8, I))
    lengths = {"axis of a": np.array([5, 2]), "axis of b": np.array([3, 8])}
    result = session.run({"a": a, "b": b}, lengths)
    assert result.outputs["y"].shape == (2, 5, I)
    assert result.lengths["y"].tolist() == [5, 2]
    assert result.lengths["z"].tolist() == [2, 4]
    for n in range(2):
        alone = session.run(
            {"a": a[n : n + 1, : lengths["axis of a"][n]], "b": b[n : n + 1, : lengths["axis of b"][n]]}
        )
        for name in "yz":
            count = result.lengths[name][n]
            assert alone.lengths[name].tolist() == [count]
            np.testing.assert_array_equal(alone.outputs[name][0, :count], result.outputs[name][n, :count])
    for says, given_lengths in {
        "one array for a model with the time axes": np.array([5, 2]),
        "'time' is no time axis": {"time": np.array([5, 2])},
        "an empty mapping": {},
        "lengths of 'axis of a': value 6": {"axis of a": np.array([6, 2])},
    }.items():
        with pytest.raises(DataError, match=says):
            session.run({"a": a, "b": b}, given_lengths)
    with pytest.raises(DataError, match="sequences"):
        session.run({"a": a, "b": b[:1]})


def test_saved_states() -> None:
    """They are the same on every machine, and refused where they are of another model, damaged, or not states at all."""
    session, other = Session(strided(3, 1)), Session(strided(2, 1))
    x = np.random.default_rng(0).normal(size=(2, 4, I))
    state = session.run({"x": x}, end=False).state
    saved = session.save_state(state)
    again = Session(strided(3, 1), "reference").load_state(saved)
    for name, arrays in state.layers.items():
        for array, loaded in zip(arrays, again.layers[name], strict=True):
            np.testing.assert_array_equal(array, loaded)
            assert array.dtype == loaded.dtype
    with pytest.raises(DataError, match="of another model"):
        other.load_state(saved)
    for cut in (0, 5, 20, len(saved) - 1):
        with pytest.raises(DataError, match=r"begins with|damaged or cut off"):
            session.load_state(saved[:cut])
    for at in range(0, len(saved), 7):
        damaged = bytearray(saved)
        damaged[at] ^= 1
        with pytest.raises(DataError, match="a saved state"):
            session.load_state(bytes(damaged))
    with pytest.raises(DataError, match="list, expected the bytes"):
        session.load_state([])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="expected a State"):
        session.save_state({})  # type: ignore[arg-type]
