"""Convolutions by packed products, and pools by vectors of channels, equal their definitions bit for bit, on every instruction set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import BYTES

from backends.generators import QUIET, eager
from backends.raw_layers import ends, matrix
from backends.raw_windows import (
    ConvShape,
    bands_of,
    conv_shapes,
    lines_of,
    model_of,
    raw_conv,
    raw_pool,
    states_of,
    windows,
)
from qrnn import layers
from qrnn.backends import create_engine
from qrnn.backends.cpu.conv_blocks import Blocking, ByChannels, choose_blocking
from qrnn.backends.cpu.defined import DefinedSteps
from qrnn.backends.cpu.engine import CpuEngine
from qrnn.backends.cpu.isa import ISAS, PLAIN, PORTABLE, available_isas
from qrnn.backends.cpu.kinds import conv
from qrnn.backends.cpu.kinds.conv import ConvRun
from qrnn.backends.cpu.matrix import AHEAD
from qrnn.backends.cpu.sequences import CpuSequences
from qrnn.backends.cpu.threads import team
from qrnn.backends.cpu.tuning import Tuning
from qrnn.conversion import quantize
from qrnn.model.quant_model import QuantModel
from qrnn.model.window import EACH, Window, causal
from qrnn.running.session import Session

short = settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
long = settings(max_examples=1500, deadline=None, database=None, suppress_health_check=QUIET)

every_isa = pytest.mark.parametrize(
    "isa", [pytest.param(isa, marks=() if k == 0 or isa == PLAIN else pytest.mark.matrix) for k, isa in enumerate(available_isas())]
)  # fmt: skip


def run(engine: Any, x: Any, states: list[Any], lengths: Any, past: int) -> tuple[Any, ...]:
    """What `Engine.steps` gives of the model's one layer, and the states after it."""
    (layer,) = engine.model.layers
    own = tuple(state.copy() for state in states)
    y, count = engine.steps(layer, [x], own, lengths, layer.rows_in(x.shape[1]), past)
    return y, count, *own


def assert_same(want: tuple[Any, ...], got: tuple[Any, ...], says: str) -> None:
    for a, b in zip(want, got, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(b, a, err_msg=says)


def check(model: QuantModel, rng: np.random.Generator, isa: str, size: int, steps: int) -> None:
    """From any state: ragged sequences, by one thread and by shares of two; in chunks; and where they end."""
    (layer,) = model.layers
    x = ends(rng, -32768, 32767, size, steps, layer.features).astype(np.int16)  # type: ignore[attr-defined]
    lengths, states = rng.integers(0, steps + 1, size), states_of(rng, layer, size)
    lengths[rng.integers(size)] = steps
    reference = create_engine("reference", model)
    engines = [create_engine("cpu", model, 1, isa), create_engine("cpu", model, 2, isa, eager(2))]
    for past in {0, layer.steps_past_end}:
        want = run(reference, x, states, lengths, past)
        for engine in engines:
            assert_same(want, run(engine, x, states, lengths, past), f"{isa}, {past} steps past the end")
    begun, cut = states, np.minimum(lengths, steps // 2)
    _, first, *begun = run(engines[0], x[:, : max(1, steps // 2)], begun, cut, 0)
    rest = np.zeros_like(x)
    for n in range(size):
        rest[n, : lengths[n] - cut[n]] = x[n, cut[n] : lengths[n]]
    _, second, *ended = run(engines[0], rest, begun, lengths - cut, 0)
    _, count, *want_ended = run(reference, x, states, lengths, 0)
    np.testing.assert_array_equal(first + second, count)
    assert_same(tuple(want_ended), tuple(ended), f"{isa}, in chunks")


def check_streams(model: QuantModel, rng: np.random.Generator, isa: str, size: int, steps: int) -> None:
    """Whole runs, chunks, streams and a pool whose streams begin one after the other, from real numbers to real numbers."""
    (layer,) = model.layers
    x = rng.normal(0, 3000, (size, steps, layer.features))  # type: ignore[attr-defined]
    reference, session = Session(model, "reference"), Session(model, "cpu", 2, isa)
    want = reference.run({"x": x})
    for _ in range(2):  # by the calls of a whole run, laid out and then used again
        got = session.run({"x": x})
        np.testing.assert_array_equal(got.outputs["y"], want.outputs["y"])
        np.testing.assert_array_equal(got.lengths["y"], want.lengths["y"])
        for a, b in zip(want.state.layers[layer.name], got.state.layers[layer.name], strict=True):
            np.testing.assert_array_equal(a, b)
    pool, opened, seen = session.pool(), [], [[] for _ in range(size)]  # type: ignore[var-annotated]
    for t in range(steps + size - 1):
        if t < size:
            opened.append(pool.open())
        now = [n for n in range(size) if 0 <= t - n < steps]
        outputs = pool.step([opened[n] for n in now], {"x": np.stack([x[n, t - n] for n in now])})
        came = pool.lengths["y"]
        for k, n in enumerate(now):
            if came[k]:
                seen[n].append(outputs["y"][k])
            else:
                assert not outputs["y"][k].any()
    stream = session.stream(size)
    for t in range(steps):
        stream.step({"x": x[:, t]})
    held = stream.finish()
    for n in range(size):
        rows = np.reshape(
            seen[n] + list(held.outputs["y"][n, : held.lengths["y"][n]]), (-1, want.outputs["y"].shape[2])
        )
        np.testing.assert_array_equal(rows, want.outputs["y"][n, : want.lengths["y"][n]])


@every_isa
@short
@given(conv_shapes(), st.integers(1, 3), st.integers(1, 9), st.integers(0, 1 << 32))
def test_convolutions(isa: str, shape: ConvShape, size: int, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(model_of(raw_conv(rng, shape)), rng, isa, size, steps)


@pytest.mark.long
@pytest.mark.parametrize("isa", available_isas())
@long
@given(conv_shapes(), st.integers(1, 4), st.integers(1, 20), st.integers(0, 1 << 32))
def test_convolutions_long(isa: str, shape: ConvShape, size: int, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = model_of(raw_conv(rng, shape))
    check(model, rng, isa, size, steps)
    check_streams(model, rng, isa, size, steps)


@every_isa
@short
@given(
    windows(4), bands_of(), lines_of(), st.integers(1, 70), st.integers(1, 3), st.integers(1, 9), st.integers(0, 1 << 32)
)  # fmt: skip
def test_pools(
    isa: str, time: Window, band: tuple[Window, int], line: tuple[Window, int], channels: int, size: int, steps: int, seed: int
) -> None:  # fmt: skip
    check(model_of(raw_pool(time, *band, channels, *line)), np.random.default_rng(seed), isa, size, steps)


@every_isa
@short
@given(conv_shapes(), st.integers(1, 4), st.integers(1, 9), st.integers(0, 1 << 32))
def test_streams_of_convolutions(isa: str, shape: ConvShape, size: int, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    check_streams(model_of(raw_conv(rng, shape)), rng, isa, size, steps)


@every_isa
@short
@given(
    windows(4), bands_of(), lines_of(), st.integers(1, 40), st.integers(1, 4), st.integers(1, 9), st.integers(0, 1 << 32)
)  # fmt: skip
def test_streams_of_pools(
    isa: str, time: Window, band: tuple[Window, int], line: tuple[Window, int], channels: int, size: int, steps: int, seed: int
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    check_streams(model_of(raw_pool(time, *band, channels, *line)), rng, isa, size, steps)


@every_isa
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("limit", [127, 32767])
def test_everything_at_its_ends(isa: str, limit: int, sign: int) -> None:
    """The largest weights and inputs, with padding beside them: sums as near to 32 bits as the proof lets them come."""
    shape = ConvShape(Window(3, 1, 1, 1, 1), Window(3, 1, 1, 1, 1), 5, 1, 6, 9, limit)
    layer = raw_conv(np.random.default_rng(0), shape, matrix)
    m = layer.matrix
    m.weight[:] = 127 * sign
    m.left_shift[:] = 0
    m.bias[:] = sign * ((1 << 31) - 1 - 127 * m.weight.shape[1] * limit)
    m.multiplier[:] = (1 << 31) - 2 >> np.arange(9) % 24 & ~1
    m.prove("drawn")
    layer.pre_shift[:] = np.arange(9) % 16
    x = np.full((3, 4, 30), 32767, np.int16)
    x[1], x[2, ::2] = -32768, -32768
    model, lengths = model_of(layer), np.array([4, 4, 3])
    states = [np.zeros((3, *array.shape), array.dtype) for array in layer.states()]
    want = run(create_engine("reference", model), x, states, lengths, 1)
    assert_same(want, run(create_engine("cpu", model, 1, isa), x, states, lengths, 1), isa)


SHAPES = {
    "1x1": ConvShape(EACH, EACH, 1, 1, 17, 70),
    "over time": ConvShape(causal(5), EACH, 1, 1, 12, 32),
    "dilated": ConvShape(causal(3, 1, 8), EACH, 1, 1, 9, 20),
    "images": ConvShape(causal(3), Window(3, 1, 1, 1, 1), 32, 1, 1, 8),
    "dilated bands": ConvShape(causal(2), Window(3, 1, 4, 4, 4), 20, 1, 3, 12),
    "depthwise": ConvShape(causal(5, 2), EACH, 1, 48, 1, 1),
    "depthwise bands": ConvShape(causal(3), Window(3, 2, 1, 1, 1), 17, 16, 1, 1),
    "grouped": ConvShape(causal(2), EACH, 1, 4, 8, 24),
    "within a step": ConvShape(EACH, Window(24, 8), 96, 1, 1, 10),
    "planes": ConvShape(EACH, Window(3, 1, 1, 1, 1), 12, 1, 3, 8, 127, 0, Window(3, 1, 1, 1, 1), 10),
    "planes over time": ConvShape(causal(2), Window(3, 2, 1, 1, 1), 9, 1, 5, 7, 127, 0, Window(3, 2, 1, 1, 0), 8),
    "dilated planes": ConvShape(EACH, Window(3, 1, 2, 2, 2), 9, 1, 4, 6, 127, 0, Window(2, 1, 3), 8),
    "depthwise planes": ConvShape(EACH, Window(3, 1, 1, 1, 1), 7, 24, 1, 1, 127, 0, Window(3, 2, 1, 1, 1), 6),
    "grouped planes": ConvShape(EACH, Window(2, 2), 8, 3, 4, 5, 127, 0, Window(5, 1, 1, 2, 2), 6),
}  # fmt: skip


@every_isa
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize("name", SHAPES)
def test_usual_shapes(isa: str, name: str, limit: int) -> None:
    """More vectors than are multiplied at once, of sequences that end within them."""
    rng = np.random.default_rng(limit)
    model = model_of(raw_conv(rng, replace(SHAPES[name], limit=limit)))
    (layer,) = model.layers
    steps = 2 * AHEAD // layer.places + 3  # type: ignore[attr-defined]
    x = ends(rng, -32768, 32767, 5, steps, layer.features).astype(np.int16)  # type: ignore[attr-defined]
    lengths, states = rng.integers(0, steps + 1, 5), states_of(rng, layer, 5)
    want = run(create_engine("reference", model), x, states, lengths, 0)
    assert_same(want, run(create_engine("cpu", model, 1, isa), x, states, lengths, 0), isa)


@pytest.mark.parametrize("fields", [
    {"conv_weight_bytes": 0}, {"conv_weight_bytes": 1 << 40}, {"conv_sums_dots": 0, "conv_vector_dots": 0, "conv_copy_dots": 0},
    {"conv_sums_dots": 10_000}, {"conv_vector_dots": 10_000}, {"conv_copy_dots": 10_000},
])  # fmt: skip
@pytest.mark.parametrize("name", ["images", "depthwise", "depthwise bands", "grouped"])
def test_no_bit_depends_on_what_is_multiplied_together(name: str, fields: dict[str, int]) -> None:
    rng = np.random.default_rng(3)
    model = model_of(raw_conv(rng, SHAPES[name]))
    (layer,) = model.layers
    x = ends(rng, -32768, 32767, 2, 6, layer.features).astype(np.int16)  # type: ignore[attr-defined]
    states, lengths = states_of(rng, layer, 2), np.array([6, 4])
    engines = [CpuEngine(model, 1, None, tuning) for tuning in (None, Tuning(**fields))]  # type: ignore[arg-type]
    want, got = (run(engine, x, states, lengths, 0) for engine in engines)
    assert_same(want, got, name)


def test_what_would_take_too_much_memory_is_run_by_its_definition() -> None:
    """A band that is padded by 65535 on both sides would make rows of 131071 operands of one."""
    rng, wide = np.random.default_rng(4), Window(2, 1, 65535, 65535, 65535)
    small, large = (model_of(raw_conv(rng, ConvShape(causal(taps), wide, 1, 1, 1, 1))) for taps in (2, 400))
    assert isinstance(CpuEngine(small, 1).layer_runs["conv"], ConvRun)
    assert isinstance(CpuEngine(large, 1).layer_runs["conv"], DefinedSteps)
    many = raw_conv(rng, ConvShape(causal(3), EACH, 1, 1 << 15, 1, 1))
    assert isinstance(CpuEngine(model_of(many), 1).layer_runs["conv"], ConvRun)
    check(small, rng, available_isas()[0], 1, 3)
    with mock.patch.object(conv, "LEAST_BYTES", 0), mock.patch.object(conv, "MOST_TIMES", 0):
        model = model_of(raw_conv(rng, SHAPES["images"]))
        assert isinstance(CpuEngine(model, 1).layer_runs["conv"], DefinedSteps)
        check(model, rng, available_isas()[0], 2, 3)


@pytest.mark.parametrize("isa", [*ISAS, PORTABLE], ids=lambda isa: isa.name)
def test_lanes_are_filled(isa: Any) -> None:
    """Few channels are multiplied several places together, and filters of one channel each have lanes of their own."""
    rng, tuning = np.random.default_rng(0), Tuning()
    images = choose_blocking(raw_conv(rng, SHAPES["images"]), isa, tuning)
    assert images.rows >= isa.lanes
    depthwise = choose_blocking(raw_conv(rng, SHAPES["depthwise"]), isa, tuning)
    assert isinstance(depthwise, ByChannels)
    assert depthwise.rows >= isa.lanes
    assert depthwise.columns == depthwise.layer.matrix.weight.shape[1]
    small = choose_blocking(raw_conv(rng, SHAPES["images"]), isa, replace(tuning, conv_weight_bytes=0))
    assert small.weight_bytes() <= Blocking(small.layer, isa, 1, 1).weight_bytes()


@pytest.mark.parametrize("after", [0, 1])
def test_steps_that_come_apart_are_no_list_of_calls(after: int) -> None:
    """A sum of the input and a convolution that looks one step ahead: its streams would add rows of two steps."""
    rng = np.random.default_rng(5)
    x = layers.input("x", 3)
    y = layers.add(x, layers.conv(x, rng.normal(size=(3, 3, 3)), padding=(2 - after, after)))
    model = quantize(layers.model("m", {"y": y}), {"x": rng.normal(size=(2, 9, 3))}, BYTES)
    engine = CpuEngine(model, 1)
    assert (engine.streams(1) is None) == (after > 0)
    assert engine.sequences(2, 9, np.float64) is not None
    given = rng.normal(size=(2, 9, 3))
    want, session = Session(model, "reference").run({"x": given}), Session(model)
    for _ in range(2):
        np.testing.assert_array_equal(session.run({"x": given}).outputs["y"], want.outputs["y"])


@pytest.mark.skipif(not team.SUPPORTED, reason="no thread teams on this platform")
@pytest.mark.parametrize("name", ["images", "pool"])
def test_a_team_shares_the_windows_of_a_sequence(name: str) -> None:
    rng = np.random.default_rng(6)
    layer = raw_pool(Window(3, 2, 1, 1, 1), Window(2, 2), 16, 8) if name == "pool" else raw_conv(rng, SHAPES["images"])
    model = model_of(layer)
    session = Session(model, "cpu", 2, tuning=eager(2))
    x = rng.normal(0, 3000, (1, 21, layer.features))
    want, before = Session(model, "reference").run({"x": x}), team.team_workers()
    for _ in range(2):
        got = session.run({"x": x})
        np.testing.assert_array_equal(got.outputs["y"], want.outputs["y"])
        for a, b in zip(want.state.layers[layer.name], got.state.layers[layer.name], strict=True):
            np.testing.assert_array_equal(a, b)
    assert team.team_workers() == before + 4


@pytest.mark.parametrize("read", ["once", "by an output too", "by two layers"])
def test_functions_are_computed_in_place_where_nobody_else_reads(read: str) -> None:
    rng = np.random.default_rng(8)
    x = layers.input("x", 5)
    c = layers.conv(x, rng.normal(size=(4, 5, 2)))
    a = layers.activation(c, "relu")
    y = layers.add(a, c) if read == "by two layers" else layers.dense(a, rng.normal(size=(3, 4)))
    outputs = {"y": y, "c": c} if read == "by an output too" else {"y": y}
    model = quantize(layers.model("m", outputs), {"x": rng.normal(size=(2, 9, 5))}, BYTES)
    given = rng.normal(size=(3, 9, 5))
    want, session = Session(model, "reference").run({"x": given}), Session(model)
    for _ in range(2):
        got = session.run({"x": given})
        for name, values in want.outputs.items():
            np.testing.assert_array_equal(got.outputs[name], values)
    rows = session.engine.sequences(3, 9, np.float64)
    assert isinstance(rows, CpuSequences)
    names = [layer.outputs[0] for layer in model.layers[:2]]
    convolved, changed = (rows.tensors[name] for name in names)
    assert (convolved is changed) == (read == "once")
