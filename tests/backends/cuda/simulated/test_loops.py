"""Kinds of layers that have no kernel run by their own definition, compiled, and have the bits of the reference."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Shape
from schemes import BYTES

from backends.cuda.simulated.test_arrays import assert_same, on_device, token_model
from backends.generators import QUIET, Case, assert_equal, integers
from backends.loop_kinds import QuantDifference, QuantPooled, difference_rows
from backends.raw_norms import normalized_model
from qrnn import layers
from qrnn.arithmetic import CONTRACT
from qrnn.backends import create_engine
from qrnn.backends.base import Trace
from qrnn.backends.cuda import loops, walk
from qrnn.backends.cuda.arrays import outputs_of
from qrnn.backends.cuda.device_layer import DeviceRowLayer
from qrnn.backends.cuda.kinds import device_kinds
from qrnn.backends.cuda.kinds.recurrent import has_kernel
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.loops import RowLoops
from qrnn.backends.cuda.walk import DeviceModel
from qrnn.backends.cuda.weights import upload
from qrnn.conversion import quantize
from qrnn.errors import BackendError, DataError
from qrnn.model import cell_codes
from qrnn.model.batch import make_batch
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.last_step import QuantLastStep
from qrnn.model.kinds.recurrent.quantized import QuantDirection
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Scratch, StepLoop
from qrnn.model.parts import STATE_MAX, TensorFormat
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session

PROVENANCE = Provenance("", 0, "", 0, 0, "minmax", False, "generic", {})
some = settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
"""A launch in the simulator takes some milliseconds."""


def int16(features: int, has_time: bool = True) -> TensorFormat:
    return TensorFormat(features, has_time, 16, (2.0**-12,), STATE_MAX)


def graph(layers: tuple[QuantLayer, ...], tensors: dict[str, TensorFormat], output: str) -> QuantModel:
    """A model of x and what the layers write, of which ``output`` comes out."""
    x, y = tensors["x"], tensors[output]
    inputs = (GraphInput("x", "features", (x.features,), x.has_time),)
    every = np.arange(y.features)
    outputs = (GraphOutput("y", (y.features,), y.has_time, ((output, every, every),)),)
    return QuantModel("drawn", inputs, layers, outputs, tensors, False, PROVENANCE)


def extremes(rng: np.random.Generator, *shape: int) -> Any:
    """Int16 values, a third of them at an end."""
    drawn = rng.integers(-STATE_MAX, STATE_MAX + 1, shape)
    return np.where(rng.random(shape) < 1 / 3, np.sign(drawn) * STATE_MAX, drawn).astype(np.int16)


# --- loops over rows ----------------------------------------------------------------------------------------------------------------------


def difference(name: str, source: str, target: str, rng: np.random.Generator, features: int, shift: int) -> Any:
    return QuantDifference(name, source, target, extremes(rng, features), shift)


@some
@given(st.integers(0, 1 << 30), st.integers(0, 9), st.integers(1, 6), st.integers(0, 15))
def test_rows(seed: int, rows: int, features: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    layer = difference("d", "x", "y", rng, features, shift)
    model = graph((layer,), {"x": int16(features), "y": int16(features)}, "y")
    x = extremes(rng, rows, features)
    want = create_engine("reference", model).rows(layer, x)
    got = create_engine("cuda", model).rows(layer, x)
    assert got.dtype == np.int16
    np.testing.assert_array_equal(got, want)


def mixed_model(rng: np.random.Generator, features: int) -> QuantModel:
    """Two differences, their sum, and each sequence's last step."""
    tensors = {name: int16(features) for name in ("x", "a", "b", "s")} | {"y": int16(features, False)}
    first, second = difference("d", "x", "a", rng, features, 14), difference("e", "a", "b", rng, features, 3)
    layers = (first, second, QuantAdd("add", "a", "b", "s", 12, 12, 12), QuantLastStep("last", "s", "y"))
    return graph(layers, tensors, "y")


@settings(some, max_examples=8)
@given(st.integers(0, 1 << 30), st.integers(1, 3), st.integers(1, 5), st.integers(1, 4))
def test_a_model_of_several_kinds(seed: int, size: int, features: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    model = mixed_model(rng, features)
    x, lengths = rng.normal(size=(size, steps, features)) * 4, rng.integers(0, steps + 1, size)
    batch = make_batch(model.inputs, {"x": x}, lengths)
    got, want = (integers(Session(model, backend), batch)[0] for backend in ("cuda", "reference"))
    assert_equal(want, got)
    there = Session(model, "cuda").run(on_device({"x": x}), lengths)
    assert_same(there.outputs, Session(model, "reference").run({"x": x}, lengths).outputs)


@pytest.mark.parametrize("has_time", [False, True])
def test_on_a_device_stream(has_time: bool) -> None:
    """Loops over rows are launched among the kernels of a stream, into arrays that are allocated once."""
    rng = np.random.default_rng(3)
    tensors = {name: int16(4, has_time) for name in ("x", "a", "y")}
    layers = (difference("d", "x", "a", rng, 4, 14), difference("e", "a", "y", rng, 4, 13))
    model = graph(layers, tensors, "y")
    session, reference = Session(model, "cuda"), Session(model, "reference")
    stream = session.device_stream(2)
    for _ in range(3):
        frame = rng.normal(size=(2, 4)).astype(np.float32)
        stream.inputs["x"].copy_to_device(frame)
        with mock.patch("numba.cuda.device_array", side_effect=AssertionError("allocated")):
            stream.advance()
        assert_same(dict(stream.outputs), reference.step({"x": frame}).outputs)


def test_a_definition_is_compiled_once() -> None:
    assert loops.row_loop_kernel(difference_rows) is loops.row_loop_kernel(difference_rows)


# --- steps --------------------------------------------------------------------------------------------------------------------------------


def plain_dot(weight: Any, r: int, x: Any, n: int) -> int:
    return sum(int(weight[r, k]) * int(x[n, k]) for k in range(weight.shape[1]))


def plain_steps(
    loop: StepLoop, x: Any, states: tuple[Any, ...], lengths: Any, out: Any, past: int, reverse: bool = False
) -> Any:
    """Take the steps on Python's integers. ``states`` and ``out`` hold objects, and are changed in place."""
    step = loop.make(SimpleNamespace(dot=plain_dot, **{function.__name__: function for function in CONTRACT}))
    parameters = [p.astype(object) if isinstance(p, np.ndarray) else p for p in loop.parameters]
    scratch = [np.zeros((len(x), *s.shape), object) for s in loop.scratch]
    written = np.zeros(len(x), np.int64)
    for n in range(len(x)):
        times = list(range(lengths[n]))
        for t in [*(reversed(times) if reverse else times), *[-1] * past]:
            written[n] += step(n, t, written[n], x.astype(object), out, *states, *parameters, *scratch)
    return written


def pooled(rng: np.random.Generator, features: int, width: int, stride: int, delay: int) -> QuantPooled:
    return QuantPooled(
        "pool",
        "x",
        "p",
        rng.integers(-127, 128, (width, features)).astype(np.int8),
        rng.integers(-1000, 1000, width).astype(np.int32),
        (2 * rng.integers(0, 1 << 28, width)).astype(np.int32),
        stride,
        delay,
    )


def zero_states(layer: QuantLayer, size: int) -> tuple[Any, ...]:
    return tuple(np.zeros((size, *state.shape), state.dtype) for state in layer.states())


chunks_of_steps = st.tuples(
    st.integers(0, 1 << 30), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4),
    st.integers(0, 3), st.lists(st.integers(0, 4), min_size=1, max_size=3),
)  # fmt: skip


def check_chunks(seed: int, size: int, features: int, width: int, stride: int, delay: int, chunks: list[int]) -> None:
    """States go from call to call; the steps past the end come after the last one. Rows that do not come out are zero."""
    rng = np.random.default_rng(seed)
    layer = pooled(rng, features, width, stride, delay)
    model = graph((layer,), {"x": int16(features), "p": int16(width)}, "p")
    engine: Any = create_engine("cuda", model)
    states, plain = zero_states(layer, size), tuple(s.astype(object) for s in zero_states(layer, size))
    for number, steps in enumerate(chunks):
        lengths = rng.integers(0, steps + 1, size)
        past = layer.steps_past_end if number == len(chunks) - 1 else 0
        x, most = extremes(rng, size, steps, features), layer.rows_in(steps)
        want = np.zeros((size, most, width), object)
        rows = plain_steps(layer.step_loop(), x, plain, lengths, want, past)
        y, found = engine.steps(layer, [x], states, lengths, most, past)
        np.testing.assert_array_equal(y, want.astype(np.int16))
        np.testing.assert_array_equal(found, rows)
        for state, expected in zip(states, plain, strict=True):
            np.testing.assert_array_equal(state, expected.astype(state.dtype))


@settings(some, max_examples=8)
@given(drawn=chunks_of_steps)
def test_steps_in_chunks(drawn: Any) -> None:
    check_chunks(*drawn)


@pytest.mark.matrix
@some
@given(drawn=chunks_of_steps)
def test_steps_in_more_chunks(drawn: Any) -> None:
    check_chunks(*drawn)


def pooled_model(rng: np.random.Generator, stride: int, delay: int) -> tuple[QuantModel, QuantPooled]:
    """A pooled sum, a layer by rows of it, and the last row that comes out."""
    layer = pooled(rng, 3, 4, stride, delay)
    tensors = {"x": int16(3), "p": int16(4), "d": int16(4), "y": int16(4, False)}
    layers = (layer, difference("diff", "p", "d", rng, 4, 14), QuantLastStep("last", "d", "y"))
    return graph(layers, tensors, "y"), layer


@pytest.mark.parametrize(("stride", "delay"), [(1, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize("end", [True, False])
def test_later_layers_have_the_lengths_that_came_out(stride: int, delay: int, end: bool) -> None:
    rng = np.random.default_rng(stride)
    model, layer = pooled_model(rng, stride, delay)
    x, lengths, start = extremes(rng, 4, 5, 3), np.array([5, 0, 3, 4]), zero_states(layer, 4)
    on_device: DeviceModel = create_engine("cuda", model).on_device  # type: ignore[attr-defined]
    given = {"pool": tuple(upload(state) for state in start)}
    run = on_device.run({"x": upload(x)}, given, Lengths.of(lengths), end=end)
    plain, p = tuple(state.astype(object) for state in start), np.zeros((4, layer.rows_in(5), 4), object)
    rows = plain_steps(layer.step_loop(), x, plain, lengths, p, delay if end else 0)
    p = p[:, : rows.max()]
    np.testing.assert_array_equal(run.tensors["p"].copy_to_host(), p.astype(np.int16))
    for name in ("p", "d"):
        np.testing.assert_array_equal(run.lengths[name].device.copy_to_host(), rows)
    reference = create_engine("reference", model)
    d = reference.rows(model.layers[1], p.astype(np.int16).reshape(-1, 4)).reshape(p.shape)
    last = np.where(rows[:, None] > 0, d[np.arange(4), np.maximum(rows, 1) - 1], 0)
    np.testing.assert_array_equal(run.tensors["y"].copy_to_host(), last)
    for found, want, begun in zip(run.final["pool"], plain, given["pool"], strict=True):
        np.testing.assert_array_equal(found.copy_to_host(), want.astype(found.dtype))
        assert not begun.copy_to_host().any(), "states that are given are left alone"


def test_outputs_over_time_end_where_their_rows_do() -> None:
    rng = np.random.default_rng(1)
    layer = pooled(rng, 2, 3, 2, 0)
    model = graph((layer,), {"x": int16(2), "p": int16(3)}, "p")
    on_device: DeviceModel = create_engine("cuda", model).on_device  # type: ignore[attr-defined]
    x, lengths = extremes(rng, 2, 6, 2), np.array([6, 3])
    start = tuple(upload(state) for state in zero_states(layer, 2))
    run = on_device.run({"x": upload(x)}, {"pool": start}, Lengths.of(lengths))
    y = outputs_of(on_device, run, False, "d")["y"].copy_to_host()
    assert y.shape == (2, 3, 3)
    np.testing.assert_array_equal(y, run.tensors["p"].copy_to_host() * 2.0**-12)
    assert y[1, 0].any()
    assert not y[1, 1:].any()


def test_inputs_of_equal_lengths_may_have_other_padding() -> None:
    """X has a step of padding, which its pooled sum has not; the two are added, and both come out."""
    rng = np.random.default_rng(5)
    layer = pooled(rng, 3, 3, 1, 0)
    tensors = {name: int16(3) for name in ("x", "p", "y")}
    model = graph((layer, QuantAdd("add", "x", "p", "y", 12, 12, 12)), tensors, "y")
    every = np.arange(3)
    both = (("x", every, every), ("p", every, every + 3))
    model = replace(model, outputs=(*model.outputs, GraphOutput("both", (6,), True, both)))
    on_device: DeviceModel = create_engine("cuda", model).on_device  # type: ignore[attr-defined]
    x, lengths = extremes(rng, 2, 5, 3), np.array([4, 3])
    start = tuple(upload(state) for state in zero_states(layer, 2))
    run = on_device.run({"x": upload(x)}, {"pool": start}, {"x": Lengths.of(lengths)})
    p = run.tensors["p"].copy_to_host()
    assert p.shape == (2, 4, 3)
    want = create_engine("reference", model).rows(model.layers[1], x[:, :4].reshape(8, 3), p.reshape(8, 3))
    np.testing.assert_array_equal(run.tensors["y"].copy_to_host(), want.reshape(2, 4, 3))
    outputs = {name: value.copy_to_host() for name, value in outputs_of(on_device, run, False, "d").items()}
    real = (np.arange(4) < lengths[:, None])[:, :, None]
    np.testing.assert_array_equal(outputs["y"], np.where(real, want.reshape(2, 4, 3), 0) * 2.0**-12)
    np.testing.assert_array_equal(outputs["both"], np.where(real, np.concatenate([x[:, :4], p], axis=2), 0) * 2.0**-12)


def test_a_stream_on_the_device_has_one_size() -> None:
    model, layer = pooled_model(np.random.default_rng(2), 2, 0)
    engine = create_engine("cuda", model)
    with pytest.raises(BackendError, match="layer 'pool': how many rows it gives in a call depends on its state"):
        engine.device_rows(2, None, "float32", {"pool": zero_states(layer, 2)}, np.ones(2, np.int64))  # type: ignore[dict-item]


def test_states_beyond_their_limit_are_refused() -> None:
    model, layer = pooled_model(np.random.default_rng(2), 2, 0)
    engine = create_engine("cuda", model)
    start = zero_states(layer, 2)
    start[0][:] = np.iinfo(np.int32).min
    start[1][1] = 3
    x = on_device({"x": np.zeros((2, 4, 3))})
    with pytest.raises(
        DataError, match=r"state of layer 'pool': 1 values of phase are below 0 or above 1, expected 0…1"
    ):
        engine.run_on_device(x, None, lambda *_: {"pool": start}, False, True, None)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("kind", ["group_norm", "instance_norm", "running_norm"])
def test_normalizations(kind: str) -> None:
    """Groups of a step, whole sequences in two passes and the last steps give the reference's bits in ragged batches, a moment behind them."""
    rng = np.random.default_rng(3)
    more = {"steps": 2} if kind == "running_norm" else {}
    y = getattr(layers, kind)(layers.input("x", 6), groups=2, gain=rng.normal(size=6), **more)
    outputs = {"y": y, "s": layers.moment(y, 2), "mean": layers.running(y, "mean")}
    model = quantize(layers.model(kind, outputs), {"x": rng.normal(size=(2, 6, 6))}, BYTES)
    x, lengths = {"x": rng.normal(size=(3, 5, 6))}, np.array([5, 0, 3])
    want = Session(model, "reference").run(x, lengths)
    got = Session(model, "cuda").run(x, lengths)
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values, err_msg=name)


# --- cells without a kernel ---------------------------------------------------------------------------------------------------------------


def leaky_step(contract: Any) -> Any:
    """Each unit: argument = weight · x + h; c = c - c / 4 + argument; h = c / 2^shift. There are four arguments a unit, as an LSTM has."""
    saturate16, saturate32, shift_right_round = contract.saturate16, contract.saturate32, contract.shift_right_round

    def step(n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any, weight: Any, shift: int, arguments: Any) -> int:
        for r in range(arguments.shape[1]):
            arguments[n, r] = saturate16(weight[r] * x[n, t, 0] + h[n, r % h.shape[1]])
        for u in range(h.shape[1]):
            c[n, u] = saturate32(c[n, u] - shift_right_round(c[n, u], 2) + arguments[n, u])
            h[n, u] = saturate16(shift_right_round(c[n, u], shift))
            out[n, k, u] = h[n, u]
        return 1

    return step


@pytest.mark.wide
@pytest.mark.parametrize("directions", [(False,), (True,), (False, True)])
@pytest.mark.parametrize("traced", [False, True])
def test_a_cell_that_has_no_kernel(directions: tuple[bool, ...], traced: bool) -> None:
    """The layer's own loop runs each direction, forwards or backwards, with traces of the gates' arguments, of c and of h."""
    case = Case(Shape("lstm", 1, 5, directions), "none", sequences=3, steps=4, lengths=(4, 0, 2))
    model = case.quantized()
    (layer,) = model.recurrent_layers
    weights = [np.arange(1, 21, dtype=np.int16) * (9 + number) for number in range(len(directions))]

    def direction_loop(self: Any, number: int) -> StepLoop:
        return StepLoop(leaky_step, (weights[number], 3), (Scratch((20,), np.int16),))

    rng = np.random.default_rng(7)
    x, lengths, D = extremes(rng, 3, 4, 1), np.array([4, 0, 2]), len(directions)
    h, c = extremes(rng, 3, D, 5), rng.integers(-(1 << 31), 1 << 31, (3, D, 5)).astype(np.int32)
    with (
        mock.patch.dict(cell_codes.CODES, clear=True),
        mock.patch.object(type(layer), "direction_loop", direction_loop, create=True),
    ):
        engine: Any = create_engine("cuda", model)
        assert all("runs by its own definition" in choice.why for choice in engine.plans(3).values())
        trace = Trace() if traced else None
        y, (h_n, c_n) = engine.recurrent(layer, x, (h, c), lengths, trace)
    for number, reverse in enumerate(directions):
        states = h[:, number].astype(object), c[:, number].astype(object)
        out = np.zeros((3, 4, 5), object)
        rows = plain_steps(direction_loop(layer, number), x, states, lengths, out, 0, reverse)
        np.testing.assert_array_equal(rows, lengths)
        for n, length in enumerate(lengths):
            want = out[n, :length][::-1] if reverse else out[n, :length]
            np.testing.assert_array_equal(y[n, :length, 5 * number : 5 * number + 5], want)
            assert not y[n, length:].any()
        if trace is not None:
            key = f"{layer.name}[{number}]"
            np.testing.assert_array_equal(trace.arrays[f"{key}.h"], y[:, :, 5 * number : 5 * number + 5])
            assert_traced(trace, key, x, h[:, number], c[:, number], lengths, weights[number], reverse)
        np.testing.assert_array_equal(h_n[:, number], states[0])
        np.testing.assert_array_equal(c_n[:, number], states[1])


def assert_traced(trace: Trace, key: str, x: Any, h: Any, c: Any, lengths: Any, weight: Any, reverse: bool) -> None:
    """The traces of a direction of `leaky_step`, computed once more step by step: zero past a sequence's end."""
    pre, cells = np.zeros((3, 4, 20), np.int16), np.zeros((3, 4, 5), np.int32)
    for n, length in enumerate(lengths):
        h_now, c_now = h[n].astype(object), c[n].astype(object)
        for i in range(length):
            t = length - 1 - i if reverse else i
            arguments = np.clip(weight.astype(object) * int(x[n, t, 0]) + np.tile(h_now, 4), -32768, 32767)
            c_now = np.clip(c_now - ((c_now + 2) >> 2) + arguments[:5], -(1 << 31), (1 << 31) - 1)
            h_now = np.clip((c_now + 4) >> 3, -32768, 32767)
            pre[n, t], cells[n, t] = arguments.astype(np.int16), c_now.astype(np.int32)
    np.testing.assert_array_equal(trace.arrays[f"{key}.pre"], pre)
    np.testing.assert_array_equal(trace.arrays[f"{key}.c"], cells)


@dataclass(frozen=True)
class Normed(QuantDirection):
    """A direction with something that no kernel takes account of."""

    norm: str | None = None


def test_what_kernels_would_overlook_runs_by_the_definition() -> None:
    """A field that the kernels do not know takes a layer away from them, where it is not left out."""
    (layer,) = Case(Shape("gru", 2, 3), "none", lengths=(5, 5)).quantized().recurrent_layers
    (d,) = layer.directions
    assert has_kernel(layer)
    with mock.patch.dict(cell_codes.CODES, {"gru_reset_after": 99, "gru_reset_before": 99}):
        assert not has_kernel(layer), "a cell that another backend alone has code for"
    own = {f.name: getattr(d, f.name) for f in fields(d)}
    assert has_kernel(replace(layer, directions=(Normed(**own),)))
    assert not has_kernel(replace(layer, directions=(Normed(**own, norm="layer"),)))


@pytest.mark.parametrize("cell", ["layer_norm_lstm", "layer_norm_gru"])
def test_no_kernel_takes_a_normalized_layer(cell: str) -> None:
    """Not by its cell's form and, were that the form of a kernel, not by its direction's fields; the definition has the reference's bits."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        model = normalized_model(rng, cell)
        (layer,) = model.recurrent_layers
        assert not has_kernel(layer)
        with mock.patch.dict(cell_codes.CODES, {cell: cell_codes.LSTM}):
            assert not has_kernel(layer)
        x = {"x": rng.integers(-32768, 32768, (3, 4, layer.input_size)).astype(np.int16)}
        start, lengths = Session(model, "reference").initial_state(3).layers, np.array([4, 0, 2])
        want, got = (create_engine(name, model).run(x, start, lengths) for name in ("reference", "cuda"))
        np.testing.assert_array_equal(got[0]["y"], want[0]["y"])


HEADS = ("dense", "softmax", "tanh")


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize("head", HEADS)
def test_kinds_with_kernels_have_the_bits_of_their_definition(head: Any) -> None:
    """Every kind by rows that has a kernel, by the definition in its place: the same tensors."""
    case = Case(Shape("gru", 3, 4), head, sequences=2, steps=3, lengths=(3, 1), concat=True)
    model = case.quantized()
    batch = case.batch(model)
    want = integers(Session(model, "cuda"), batch)[0]
    kept = {kind: own for kind, own in device_kinds().items() if not issubclass(own, DeviceRowLayer)}
    with mock.patch.object(walk, "device_kinds", return_value=kept):
        session = Session(model, "cuda")
    own: Any = session.engine
    assert sum(isinstance(layer, RowLoops) for layer in own.on_device.layers.values()) == len(model.layers) - 1
    assert_equal(want, integers(session, batch)[0])


@pytest.mark.matrix
def test_tokens_by_the_definition() -> None:
    model, data = token_model()
    want = Session(model, "cuda").run(data).outputs
    kept = {kind: own for kind, own in device_kinds().items() if not issubclass(own, DeviceRowLayer)}
    with mock.patch.object(walk, "device_kinds", return_value=kept):
        got = Session(model, "cuda").run(data).outputs
    assert_same({name: upload(value) for name, value in got.items()}, want)
