"""Kinds of layers that the CPU has no loops for run by their own definitions, compiled, with the bits of plain Python."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Shape, make_model
from schemes import BYTES

from backends.defined_models import Rng, chain, cpu, difference, model_of, pooled, zeros_of
from backends.generators import QUIET, eager
from backends.loop_kinds import QuantPooled
from backends.raw_layers import ends
from qrnn import layers
from qrnn.arithmetic import CONTRACT
from qrnn.backends import create_engine
from qrnn.backends.base import Trace
from qrnn.backends.cpu import kinds, native
from qrnn.backends.cpu.defined import DefinedRows, StepCalls, at_most_one_row
from qrnn.backends.cpu.engine import CpuEngine
from qrnn.backends.cpu.isa import PLAIN, available_isas
from qrnn.backends.cpu.kinds import recurrent
from qrnn.backends.cpu.kinds.recurrent import RecurrentRun
from qrnn.conversion import quantize
from qrnn.model.activation import Activation
from qrnn.model.float_model import FloatModel, GraphInput, GraphOutput, TensorInfo
from qrnn.model.kinds.add import Add
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.embedding import Embedding
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.softmax import Softmax
from qrnn.model.layer_facts import Scratch, StateArray, Step, StepLoop
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session

short = settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)


every_isa = pytest.mark.parametrize(
    "isas",
    [
        pytest.param(tuple(dict.fromkeys((available_isas()[0], PLAIN))), id="two"),
        pytest.param(available_isas(), marks=pytest.mark.matrix, id="all"),
    ],
)
"""The best instruction set and the plain loops in the default run, and all of them in the matrix: each is another kernel."""


def engines(model: QuantModel, isas: tuple[str, ...]) -> Iterator[CpuEngine]:
    """Of the instruction sets, by one thread and by two that share whatever there is."""
    for isa in isas:
        for threads in (1, 2):
            yield cpu(model, isa, threads)


# --- rows ---------------------------------------------------------------------------------------------------------------------------------


@every_isa
@short
@given(features=st.integers(1, 40), rows=st.integers(0, 9), shift=st.integers(0, 31), seed=st.integers(0, 1 << 32))
def test_rows_are_those_of_plain_python(isas: tuple[str, ...], features: int, rows: int, shift: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = difference(rng, features, shift)
    model = model_of((layer,), {"x": features, "d": features})
    x = ends(rng, -32768, 32767, rows, features).astype(np.int16)
    want = create_engine("reference", model).rows(layer, x)
    for engine in engines(model, isas):
        assert isinstance(engine.layer_runs["d"], DefinedRows)
        for given_rows in (x, np.asfortranarray(x)):
            got = engine.rows(layer, given_rows)
            assert got.dtype == np.int16
            np.testing.assert_array_equal(got, want)


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("threads", [1, 2])
def test_they_take_part_in_streams_and_whole_sequences(isa: str, threads: int) -> None:
    rng = np.random.default_rng(3)
    model = chain(rng)
    reference = Session(model, "reference")
    session = Session(model, "cpu", threads, isa, tuning=eager(2) if threads == 2 else None)
    for kind in (np.float32, np.float64):
        for size, steps, lengths in ((1, 1, None), (3, 5, None), (4, 6, [6, 0, 1, 3])):
            x = rng.normal(size=(size, steps, 7)).astype(kind) * 1000
            more = {} if lengths is None else {"lengths": np.array(lengths)}
            want = reference.run({"x": x}, **more).outputs["y"]
            np.testing.assert_array_equal(session.run({"x": x}, **more).outputs["y"], want)
    stream, x = session.stream(3), rng.normal(size=(3, 4, 7)) * 1000
    want = reference.run({"x": x}).outputs["y"]
    for t in range(4):
        np.testing.assert_array_equal(stream.step({"x": x[:, t]})["y"], want[:, t])
    assert session.engine.streams(2) is not None
    assert session.engine.sequences(2, 3, np.float64) is not None


def every_kind() -> QuantModel:
    """Every kind of layer that is computed by rows, around a recurrent one."""
    rng = np.random.default_rng(4)
    base = make_model(Shape("gru", 8, 5), rng)
    layer = replace(base.layers[0], input="k")
    everything = np.arange(4)
    layers: tuple[Any, ...] = (
        Embedding("embedding", "t", "e", rng.normal(size=(11, 4))),
        Dense("dense", "x", "d", rng.normal(size=(4, 3)), rng.normal(size=4)),
        Add("add", "e", "d", "a"),
        Concat("concat", "k", (("a", everything[::-1]), ("e", everything))),
        layer,
        Pointwise("pointwise", "a", "p", Activation("tanh")),
        Softmax("softmax", "p", "s"),
    )
    sizes = {"t": 1, "x": 3, "e": 4, "d": 4, "a": 4, "k": 8, "p": 4, "s": 4}
    tensors = {**base.tensors, **{name: TensorInfo(size, True) for name, size in sizes.items()}}
    inputs = (GraphInput("t", "tokens", (), True, vocabulary=11), GraphInput("x", "features", (3,), True))
    outputs = (*base.outputs, GraphOutput("s", (4,), True, (("s", everything, everything),)))
    model = replace(base, inputs=inputs, layers=layers, outputs=outputs, tensors=tensors)
    return quantize(model, inputs_of(rng, 3, 9), BYTES)


def inputs_of(rng: Rng, size: int, steps: int) -> dict[str, Any]:
    return {"t": rng.integers(0, 11, (size, steps)), "x": rng.normal(size=(size, steps, 3))}


@pytest.mark.usefixtures("loops")
def test_kinds_with_loops_of_their_own_have_the_same_bits_by_definition() -> None:
    """All functions of the contract that they use are compiled, and loops of several inputs, of tokens, and one after the other."""
    rng, model = np.random.default_rng(6), every_kind()
    own, reference = Session(model, "cpu", 2), Session(model, "reference")
    with mock.patch.object(kinds, "_own_run", lambda kind: None if kind is not QuantRecurrent else RecurrentRun):
        session = Session(model, "cpu", 2)
    assert isinstance(session.engine, CpuEngine)
    by_definition = [run for run in session.engine.layer_runs.values() if isinstance(run, DefinedRows)]
    assert len(by_definition) == len(model.layers) - 1
    x, lengths = inputs_of(rng, 4, 7), np.array([7, 0, 1, 5])
    for more in ({}, {"lengths": lengths}):
        want = reference.run(x, **more).outputs
        for each in (own, session):
            got = each.run(x, **more).outputs
            for name, value in want.items():
                np.testing.assert_array_equal(got[name], value)
    stream, want = session.stream(4), reference.run(x).outputs["s"]
    for t in range(7):
        got = stream.step({name: value[:, t] for name, value in x.items()})
        np.testing.assert_array_equal(got["s"], want[:, t])


# --- steps --------------------------------------------------------------------------------------------------------------------------------


def plain_dot(weight: Any, r: int, x: Any, n: int) -> int:
    return sum(int(w) * int(v) for w, v in zip(weight[r], x[n], strict=True))


PLAIN = SimpleNamespace(**{function.__name__: function for function in CONTRACT}, dot=plain_dot)


def plain_steps(
    loop: StepLoop, x: Any, states: Any, lengths: Any, out: Any, past: int = 0, reverse: bool = False
) -> list[int]:
    """The same on Python's integers; ``states`` and ``out`` are arrays of objects. The rows that each sequence wrote."""
    step = loop.make(PLAIN)
    scratch = [np.zeros((len(x), *s.shape), object) for s in loop.scratch]
    parameters = [p.astype(object) if isinstance(p, np.ndarray) else p for p in loop.parameters]
    written, x = [], x.astype(object)
    for n, length in enumerate(lengths.tolist()):
        k = 0
        for i in range(length):
            t = length - 1 - i if reverse else i
            k += step(n, t, t if reverse else k, x, out, *states, *parameters, *scratch)
        for _ in range(past):
            k += step(n, -1, k, x, out, *states, *parameters, *scratch)
        written.append(k)
    return written


@every_isa
@short
@given(data=st.data())
def test_steps_are_those_of_plain_python(isas: tuple[str, ...], data: Any) -> None:
    """In chunks, between which the states are carried, of sequences of any lengths; the last one with the steps past the end."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    features, rows, size = (data.draw(st.integers(1, most)) for most in (20, 6, 4))
    layer = pooled(rng, features, rows, data.draw(st.integers(1, 4)), data.draw(st.integers(0, 5)))
    model = model_of((layer,), {"x": features, "p": rows})
    steps = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=3))
    chunks = []
    states = zeros_of(layer, size, object)
    for number, T in enumerate(steps):
        x = ends(rng, -32768, 32767, size, T, features).astype(np.int16)
        lengths = rng.integers(0, T + 1, size)
        past = layer.delay if number == len(steps) - 1 else 0
        out = np.zeros((size, layer.rows_in(T), rows), object)
        written = plain_steps(layer.step_loop(), x, states, lengths, out, past)
        chunks.append((x, lengths, past, out, written, [state.copy() for state in states]))
    for engine in engines(model, isas):
        own = tuple(zeros_of(layer, size))
        for x, lengths, past, out, written, after in chunks:
            got, rows_of = engine.steps(layer, [x], own, lengths, out.shape[1], past)
            assert (got.dtype, rows_of.dtype) == (np.int16, np.int64)
            np.testing.assert_array_equal(got, out.astype(np.int16))
            assert rows_of.tolist() == written
            for state, want in zip(own, after, strict=True):
                np.testing.assert_array_equal(state, want.astype(state.dtype))


def test_states_of_any_layout_and_no_sequences() -> None:
    rng = np.random.default_rng(5)
    layer = pooled(rng, 3, 2)
    engine = cpu(model_of((layer,), {"x": 3, "p": 2}))
    x, lengths = ends(rng, -32768, 32767, 2, 7, 3).astype(np.int16), np.array([7, 5])
    plain, wide = zeros_of(layer, 2), [np.zeros((2, 2, *s.shape), s.dtype) for s in layer.states()]
    want, _ = engine.steps(layer, [x], tuple(plain), lengths, 3, 0)
    got, _ = engine.steps(layer, [x], tuple(array[:, 1] for array in wide), lengths, 3, 0)
    np.testing.assert_array_equal(got, want)
    for a, b in zip(plain, wide, strict=True):
        np.testing.assert_array_equal(b[:, 1], a)
        assert not b[:, 0].any()
    none, rows_of = engine.steps(layer, [x[:0]], tuple(zeros_of(layer, 0)), lengths[:0], 3, 1)
    assert (none.shape, rows_of.shape) == ((0, 3, 2), (0,))


def test_which_models_are_lists_of_calls() -> None:
    """A layer may skip steps; where no row comes out of a whole run, or one step gives several, the model goes from tensor to tensor."""
    layer = pooled(np.random.default_rng(0), 3, 2)
    engine = cpu(model_of((layer,), {"x": 3, "p": 2}))
    assert engine.streams(1) is not None
    assert engine.sequences(1, 3, np.float64) is not None
    assert engine.sequences(1, 2, np.float64) is None
    with mock.patch.object(QuantPooled, "length_rule", lambda self, given: given.times(2)):
        assert not at_most_one_row(layer)
        engine = cpu(model_of((layer,), {"x": 3, "p": 2}))
        assert engine.streams(1) is None
        assert engine.sequences(1, 3, np.float64) is None


# --- directions of recurrent layers -------------------------------------------------------------------------------------------------------


def leaky_step(contract: Any) -> Step:
    """H = saturate16(a quarter of the input and of c); c adds up what h was."""
    saturate16, shift_right_round = contract.saturate16, contract.shift_right_round

    def step(n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any, bias: int) -> int:
        for u in range(h.shape[1]):
            c[n, u] = c[n, u] + h[n, u] + bias
            h[n, u] = saturate16(shift_right_round(x[n, t, u] + c[n, u], 2))
            out[n, k, u] = h[n, u]
        return 1

    return step


@every_isa
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_directions(isas: tuple[str, ...], reverse: bool, threads: int) -> None:
    """Rows have the numbers of their steps, also from the last step to the first; two directions of one definition have parameters apart."""
    rng = np.random.default_rng(7)
    states = (StateArray("h", (4,), np.int16, 32767), StateArray("c", (4,), np.int32, (1 << 31) - 1))
    for isa in isas:
        tasks = cpu(model_of((difference(rng, 4),), {"x": 4, "d": 4}), isa, threads).tasks
        for number, bias in enumerate((3, -1000)):
            loop = StepLoop(leaky_step, (bias,))
            calls = StepCalls(loop, states, ("layer", number), tasks)
            x, lengths = ends(rng, -32768, 32767, 3, 6, 4).astype(np.int16), np.array([6, 0, 4])
            h, c = ends(rng, -99, 99, 3, 4).astype(np.int16), ends(rng, -99, 99, 3, 4).astype(np.int32)
            own, want = [h.astype(object), c.astype(object)], np.zeros((3, 6, 4), object)
            plain_steps(loop, x, own, lengths, want, 0, reverse)
            y = np.zeros((3, 6, 4), np.int16)
            calls.run([x], (h, c), lengths, y, reverse)
            np.testing.assert_array_equal(y, want.astype(np.int16))
            np.testing.assert_array_equal(h, own[0].astype(np.int16))
            np.testing.assert_array_equal(c, own[1].astype(np.int32))


def traced_step(contract: Any) -> Step:
    """A cell whose gates' arguments are twice what h becomes, in scratch."""
    saturate16, shift_right_round = contract.saturate16, contract.shift_right_round

    def step(n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any, bias: int, pre: Any) -> int:
        total = bias
        for i in range(x.shape[2]):
            total += x[n, t, i]
        for u in range(h.shape[1]):
            pre[n, u] = saturate16(total + 2 * h[n, u] + c[n, u])
            c[n, u] = c[n, u] + pre[n, u]
            h[n, u] = shift_right_round(pre[n, u], 1)
            out[n, k, u] = h[n, u]
        return 1

    return step


def stepped_kinds(normalized: bool) -> FloatModel:
    """A convolution and a cell without a kernel, or two, each of which gives a step for a step."""
    rng = np.random.default_rng(11)
    x = layers.input("x", 3)
    c = layers.conv(x, rng.normal(0, 0.5, (4, 3, 3)), rng.normal(size=4), dilation=2)
    h = layers.min_gru(c, rng.normal(0, 0.4, (10, 4)), rng.normal(size=10))
    if not normalized:
        return layers.model("stepped", {"y": h.output, "c": c, "last": h.h_n})
    y = layers.layer_norm_lstm(h.output, rng.normal(0, 0.4, (20, 5)), rng.normal(0, 0.4, (20, 5)), norm_sum=np.ones(20))
    return layers.model("stepped", {"y": y.output, "c": c, "last": y.c_n})


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("normalized", [False, pytest.param(True, marks=pytest.mark.matrix)])
def test_layers_that_give_a_step_for_a_step_take_part_in_streams_and_whole_sequences(
    normalized: bool, threads: int
) -> None:
    """Streams in an order of their own, each with its own state, and whole sequences in both types of real numbers."""
    rng = np.random.default_rng(12)
    x = rng.normal(size=(5, 7, 3))
    model = quantize(stepped_kinds(normalized), {"x": x}, BYTES)
    session = Session(model, "cpu", threads, "plain", tuning=eager(2) if threads == 2 else None)
    engine = session.engine
    assert engine.streams(2) is not None
    assert engine.sequences(2, 3, np.float64) is not None
    want = Session(model, "reference").run({"x": x}).outputs
    for kind in (np.float32, np.float64):
        expected = Session(model, "reference").run({"x": x.astype(kind)}).outputs
        for _ in range(2):  # the second run has buffers of its own
            got = session.run({"x": x.astype(kind)}).outputs
            for name, values in expected.items():
                np.testing.assert_array_equal(got[name], values)
    pool = session.pool(5)
    streams = [pool.open() for _ in x]
    pool.close(streams[1])
    streams[1] = pool.open()
    for t in range(7):
        order = rng.permutation(5)
        got = pool.step([streams[n] for n in order], {"x": x[order, t]})
        for name in ("y", "c"):
            np.testing.assert_array_equal(got[name], want[name][order, t])
    np.testing.assert_array_equal(got["last"], want["last"][order])


@pytest.mark.usefixtures("loops")
@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("threads", [1, 2])
def test_cells_without_a_kernel(threads: int) -> None:
    """Both directions of such a layer, with lengths, carried states and traces."""
    rng = np.random.default_rng(8)
    model = quantize(make_model(Shape("lstm", 3, 5, (False, True)), rng), {"x": rng.normal(size=(2, 9, 3))}, BYTES)
    (layer,) = model.recurrent_layers

    def direction_loop(_: Any, number: int) -> StepLoop:
        return StepLoop(traced_step, (7 * number,), (Scratch((5,), np.int16),))

    x, lengths = ends(rng, -999, 999, 3, 6, 3).astype(np.int16), np.array([6, 0, 4])
    start = ends(rng, -99, 99, 3, 2, 5).astype(np.int16), ends(rng, -99, 99, 3, 2, 5).astype(np.int32)
    want, states = np.zeros((3, 6, 10), object), [array.astype(object) for array in start]
    for k, reverse in enumerate((False, True)):
        out = np.zeros((3, 6, 5), object)
        plain_steps(direction_loop(layer, k), x, [state[:, k] for state in states], lengths, out, 0, reverse)
        want[:, :, 5 * k : 5 * k + 5] = out
    with (
        mock.patch.object(type(layer), "direction_loop", direction_loop, create=True),
        mock.patch.object(recurrent, "CODES", {}),
    ):
        engine, trace = cpu(model, None, threads), Trace()
        engine.warm_up(None, None, None)
        before = native.compilations
        for traced in (None, trace):
            y, final = engine.recurrent(layer, x, start, lengths, traced)
            np.testing.assert_array_equal(y, want.astype(np.int16))
            for got, state in zip(final, states, strict=True):
                np.testing.assert_array_equal(got, state.astype(got.dtype))
        assert native.compilations == before
        assert engine.sequences(1, 1, np.float64) is not None
    for k in (0, 1):
        h, pre = (trace.arrays[f"layer0[{k}].{name}"] for name in ("h", "pre"))
        np.testing.assert_array_equal(h, y[:, :, 5 * k : 5 * k + 5])
        np.testing.assert_array_equal((pre.astype(np.int32) + 1) >> 1, h)
        c = trace.arrays[f"layer0[{k}].c"].astype(np.int64)
        ordered = c[0, ::-1] if k else c[0]
        np.testing.assert_array_equal(np.diff(ordered, axis=0), (pre[0, ::-1] if k else pre[0])[1:])
