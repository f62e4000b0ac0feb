"""Networks whose branches come at different times stream: whole sequences, chunks, steps, streams and pools have the same bits, and C too."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from align_networks import NETWORKS, Weights, network
from export.building import COMPILERS, check
from export.test_devices import usable
from export.whole import Builder
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from schemes import BYTES

import qrnn
from qrnn import Session, layers
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.devices.verify import verify
from qrnn.equations.oracle import run_oracle
from qrnn.errors import ModelFileError
from qrnn.export.expected import random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.export.source import export_source
from qrnn.model.aligning import with_aligned
from qrnn.model.kinds.align import Align, QuantAlign
from qrnn.model.lateness import stream_facts, times_of
from qrnn.model.quant_model import QuantModel

pytestmark = pytest.mark.usefixtures("loops")


def made(which: str, ahead: int, seed: int) -> QuantModel:
    model = network(which, ahead, seed)
    return quantize(model, {"x": np.random.default_rng(seed).normal(size=(3, 24, 2))}, BYTES)


def not_aligned(which: str, ahead: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr("qrnn.layers.build.with_aligned", lambda model: model)
        return network(which, ahead, 0)


@pytest.mark.parametrize("ahead", [1, 2, 3])
@pytest.mark.parametrize("which", NETWORKS)
def test_whole_sequences_are_what_they_were(which: str, ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aligning changes nothing over whole sequences, of any lengths; and the model has no uneven join any more."""
    before, after = not_aligned(which, ahead, monkeypatch), network(which, ahead, 0)
    assert before.uneven is not None
    assert after.uneven is None
    assert any(isinstance(layer, Align) for layer in after.layers)
    assert any("is held for" in note for note in after.notes)
    x, lengths = np.random.default_rng(1).normal(size=(4, 9, 2)), np.array([9, 1, 0, 4])
    want, got = (run_oracle(m, {"x": x}, lengths).outputs for m in (before, after))
    for name, values in want.items():
        np.testing.assert_array_equal(got[name], values)


@pytest.mark.parametrize("which", NETWORKS)
def test_float_and_integer_layers_come_at_the_same_times(which: str) -> None:
    model = network(which, 2, 0)
    integers = quantize(model, {"x": np.random.default_rng(0).normal(size=(2, 24, 2))}, BYTES)
    assert stream_facts(model) == stream_facts(integers)
    assert stream_facts(model)["possible"]
    found = [times_of(m.layers, lambda name: name in model.length_rules)[0] for m in (model, integers)]
    assert found[0] == {name: times for name, times in found[1].items() if name in found[0]}


def check_backend(backend: str, data: st.DataObject, N: int = 3, T: int = 14) -> None:
    """Whole, ragged, in chunks of any sizes, step by step, as a stream and in a pool, with inputs beyond the calibrated range."""
    which, ahead = data.draw(st.sampled_from(sorted(NETWORKS))), data.draw(st.integers(1, 3))
    model = made(which, ahead, data.draw(st.integers(0, 2)))
    assert model.uneven is None
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x, lengths = rng.normal(0, 3, (N, T, 2)), rng.integers(0, T + 1, N)
    want = Session(model, "reference").run({"x": x}, lengths)
    session = Session(model, backend)
    got = session.run({"x": x}, lengths)
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values)
    whole = session.run({"x": x}).outputs
    cuts = sorted(data.draw(st.lists(st.integers(1, T - 1), max_size=3, unique=True)))
    state, pieces = None, []
    for first, last in zip([0, *cuts], [*cuts, T], strict=True):
        piece = session.run({"x": x[:, first:last]}, state=state, end=last == T)
        state = piece.state
        pieces.append(piece.outputs["y"][:, : int(piece.lengths["y"].max())])
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole["y"])
    stream, rows = session.stream(), []
    for frame in x[0]:
        step = stream.step({"x": frame[None]})
        rows += [step["y"][0].copy()] if stream.lengths["y"][0] else []
    rows += [*stream.finish().outputs["y"][0]]
    np.testing.assert_array_equal(np.array(rows).reshape(whole["y"][0].shape), whole["y"][0])
    pool = session.pool(N)
    own, found = [pool.open() for _ in range(N)], [list[Any]() for _ in range(N)]
    for t in range(2 * T):  # every stream takes a step when its turn comes
        turn = [n for n in range(N) if t % (n + 1) == 0 and t // (n + 1) < T]
        step = pool.step([own[n] for n in turn], {"x": np.array([x[n, t // (n + 1)] for n in turn]).reshape(-1, 2)})
        for row, n in enumerate(turn):
            found[n] += [step["y"][row].copy()] if pool.lengths["y"][row] else []
    for n in range(N):
        found[n] += [*pool.finish(own[n]).outputs["y"][0]] if n < 2 else []
        np.testing.assert_array_equal(
            np.array(found[n]).reshape(-1, whole["y"].shape[2]), whole["y"][n, : len(found[n])]
        )
    assert all(len(rows) == whole["y"].shape[1] for rows in found[:2])


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
    check_backend(backend, data, N=2, T=17)


@pytest.mark.parametrize("ahead", [1, pytest.param(2, marks=pytest.mark.matrix)])
@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize("which", NETWORKS)
def test_c(which: str, ahead: int) -> None:
    """Bits in C, step by step but where strides stand behind what is aligned."""
    model = made(which, ahead, 0)
    assert export_source(model, "net", "plain").streams != which.startswith("strided")
    with tempfile.TemporaryDirectory() as folder:
        check(model, Path(folder), "gcc", lengths=(1, 2, 13))


@pytest.mark.matrix
@pytest.mark.parametrize("cc", COMPILERS)
@settings(deadline=None, max_examples=8)
@given(st.data())
def test_c_of_drawn_blocks(cc: str, data: st.DataObject) -> None:
    """Residual blocks, gates and branches of windows of any sizes, in C step by step."""
    w = Weights(data.draw(st.integers(0, 99)))
    t = w.dense(layers.input("x", 2), data.draw(st.integers(1, 4)))
    for _ in range(data.draw(st.integers(1, 3))):
        dilation = data.draw(st.integers(1, 2))
        after = dilation * data.draw(st.integers(0, 2))
        before = dilation * data.draw(st.integers(0, 2))
        taps = (after + before) // dilation + 1
        late = w.conv(t, taps, before, after, dilation=dilation)
        kind = data.draw(st.sampled_from(["add", "multiply", "gate", "branches"]))
        if kind == "add":
            t = layers.add(t, late)
        elif kind == "multiply":
            t = layers.multiply(late, t)
        elif kind == "gate":
            gate = w.conv(t, taps, before, after, dilation=dilation)
            t = layers.multiply(layers.activation(gate, "sigmoid"), late)
        else:
            t = w.dense(layers.concat(w.conv(t, 3, 1, 1), late, w.conv(t, 5, 2, 2)), t.features)
    model = layers.model("blocks", {"y": w.gru(t)})
    quantized = quantize(model, {"x": np.random.default_rng(0).normal(size=(2, 20, 2))}, BYTES)
    assert export_source(quantized, "net", "plain").streams
    with tempfile.TemporaryDirectory() as folder:
        check(quantized, Path(folder), cc, lengths=(1, 2, data.draw(st.integers(3, 20))))


@pytest.mark.matrix
@settings(deadline=None, max_examples=15)
@given(st.data())
def test_c_of_drawn_models(data: st.DataObject) -> None:
    """Models of windows, residuals, strides, branches, cells and pools, where they step."""
    made = Builder(data.draw)
    parts = [made.window, made.average, made.residual, made.strided_residual, made.branches, made.other]
    made.residual()
    for part in data.draw(st.lists(st.sampled_from(parts), min_size=1, max_size=3)):
        part()
    w = Weights(data.draw(st.integers(0, 99)))
    made.t = w.gru(made.t)
    model = layers.model("drawn", {"y": made.t, **{f"end{k}": end for k, end in enumerate(made.ends)}})
    quantized = quantize(model, {"x": np.random.default_rng(0).normal(size=(3, 40, model.inputs[0].features))}, BYTES)
    assume(any(isinstance(layer, QuantAlign) for layer in quantized.layers))
    assert quantized.uneven is None
    x = np.random.default_rng(1).normal(size=(2, 30, model.inputs[0].features))
    session = Session(quantized, "reference")
    whole, cut = session.run({"x": x}), data.draw(st.integers(1, 29))
    first = session.run({"x": x[:, :cut]}, end=False)
    second = session.run({"x": x[:, cut:]}, state=first.state)
    pieces = [run.outputs["y"][:, : int(run.lengths["y"].max())] for run in (first, second)]
    np.testing.assert_array_equal(
        np.concatenate(pieces, axis=1), whole.outputs["y"][:, : int(whole.lengths["y"].max())]
    )
    with tempfile.TemporaryDirectory() as folder:
        check(quantized, Path(folder), "gcc", lengths=(1, 2, data.draw(st.integers(3, 30))))


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4"])
def test_bits_on_emulated_devices(name: str, tmp_path: Path) -> None:
    target, model = usable(name), made("residual", 2, 1)
    export_model(model, target, tmp_path / "out", "net")
    folder = read_folder(tmp_path / "out")
    sequences = random_sequences(model, folder.exported, [1, 4, 21], 3)
    assert verify(folder, target, sequences).difference is None


def test_the_file_keeps_aligned_tensors(tmp_path: Path) -> None:
    model = made("residual", 2, 0)
    qrnn.save(model, tmp_path / "held.qrnn")
    again = qrnn.load(tmp_path / "held.qrnn")
    x = np.random.default_rng(5).normal(size=(2, 6, 2))
    np.testing.assert_array_equal(Session(again).run({"x": x}).outputs["y"], Session(model).run({"x": x}).outputs["y"])


@pytest.mark.parametrize("steps", [0, 1 << 16])
def test_what_no_such_layer_can_be(steps: int) -> None:
    with pytest.raises(ModelFileError, match="steps"):
        QuantAlign("h", "x", "y", 3, 2, steps)


def test_models_that_cannot_stream_anyway_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = not_aligned("residual", 1, monkeypatch)
    (cell,) = model.recurrent_layers
    backward = replace(cell, directions=tuple(replace(d, reverse=True) for d in cell.directions))
    twisted = replace(model, layers=tuple(backward if layer is cell else layer for layer in model.layers))
    assert with_aligned(twisted) is twisted
