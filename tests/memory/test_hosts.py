"""One-step graphs on every backend, in streams and in C: the same bits, and nothing carried that the graph does not carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.building import compiler, replayed
from hypothesis import given, settings
from hypothesis import strategies as st
from model.qrnn_files import QrnnFile
from onnx import TensorProto
from onnx_import.builders import Graph
from onnx_import.running import data, runtime

import qrnn
from memory.graphs import SHAPES, F, called, one_step, stacked
from qrnn.conversion import quantize
from qrnn.errors import DataError, ModelFileError
from qrnn.export.expected import first_difference, host_results, integer_sequences, random_sequences
from qrnn.export.source import export_source
from qrnn.model.file import load, save
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import import_model
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

OPS = ("LSTM", "GRU", "RNN")
BACKENDS = ("reference", "cpu")


def quantized(proto: Any, stream: bool = False, seed: int = 1) -> QuantModel:
    model = import_model(proto, "one", stream=stream)
    lead = (40,) if model.rows else (10, 4)
    return quantize(model, {"x": data(*lead, *model.inputs[0].shape, seed=seed)}, Scheme(input="8"))


def mixed(op: str, first: bool) -> QuantModel:
    return quantized(stacked(op, first, not first))


@settings(max_examples=25, deadline=None)
@given(
    op=st.sampled_from(OPS),
    shape=st.sampled_from(SHAPES),
    initial=st.booleans(),
    directions=st.sampled_from([1, 2]),
    rows=st.integers(1, 9),
    threads=st.sampled_from([1, 2]),
    double=st.booleans(),
)
def test_rows_have_the_bits_that_they_have_alone(
    op: str, shape: str, initial: bool, directions: int, rows: int, threads: int, double: bool
) -> None:
    model = quantized(one_step(op, shape, initial=initial, directions=directions))
    x = data(rows, *model.inputs[0].shape, seed=rows).astype(np.float64 if double else np.float32)
    alone = [Session(model, "reference").run({"x": x[n : n + 1]}).outputs["y"] for n in range(rows)]
    want = np.concatenate(alone)
    for backend in BACKENDS:
        session = Session(model, backend, threads)
        for _ in range(3):  # buffers are kept from the second call of a shape on
            np.testing.assert_array_equal(session.run({"x": x}).outputs["y"], want)
        np.testing.assert_array_equal(session.run({"x": x[:, None]}).outputs["y"], want[:, None])
        np.testing.assert_array_equal(session.step({"x": x}).outputs["y"], want)
        first = session.step({"x": x})
        for h, c in session.run({"x": x}).state.layers.values():  # a caller's own, whatever becomes of it
            h[...], c[...] = 99, 99
        np.testing.assert_array_equal(session.step({"x": x}, first.state).outputs["y"], want)


@pytest.mark.parametrize("op", OPS)
def test_accuracy_of_rows(op: str) -> None:
    proto = one_step(op)
    model = quantized(proto)
    x = data(50, F, seed=9)
    want = called(proto, SHAPES[0], x[:, None], {}, {})[:, 0]
    error = Session(model).run({"x": x}).outputs["y"] - want
    assert 10 * np.log10((want**2).sum() / (error**2).sum()) > 30.0


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("first", [False, True])
def test_mixed_layers(op: str, first: bool) -> None:
    """Chunks, steps, streams and pools: the bits of a whole run, on each backend; ragged batches too."""
    model = mixed(op, first)
    x = data(4, 6, F, seed=3)
    lengths = [6, 1, 0, 4]
    want = Session(model, "reference").run({"x": x}, lengths)
    for backend in BACKENDS:
        session = Session(model, backend)
        np.testing.assert_array_equal(session.run({"x": x}, lengths).outputs["y"], want.outputs["y"])
        whole = session.run({"x": x})
        head = session.run({"x": x[:, :2]})
        tail = session.run({"x": x[:, 2:]}, state=head.state)
        np.testing.assert_array_equal(
            np.concatenate([head.outputs["y"], tail.outputs["y"]], axis=1), whole.outputs["y"]
        )
        stream, pool, state = session.stream(4), session.pool(2), None
        callers = [pool.open() for _ in range(4)]
        for t in range(6):
            step = session.step({"x": x[:, t]}, state)
            state = step.state
            for outputs in (step.outputs, stream.step({"x": x[:, t]}), pool.step(callers, {"x": x[:, t]})):
                np.testing.assert_array_equal(outputs["y"], whole.outputs["y"][:, t])
        forgetful = next(layer for layer in model.recurrent_layers if not layer.memory)
        assert not any(part.any() for part in whole.state.layers[forgetful.name])


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("first", [False, True])
def test_accuracy_of_mixed_layers(op: str, first: bool) -> None:
    real = import_model(stacked(op, first, not first), "one")
    x = data(4, 6, F, seed=3)
    model = quantize(real, {"x": x}, Scheme(activations=16))
    report = qrnn.compare(real, model, {"x": x, "lengths": np.array([6, 1, 0, 4])})
    assert report.outputs["y"].sqnr_db > 30.0


def test_streams_of_rows_are_refused() -> None:
    session = Session(quantized(one_step("GRU")))
    for make in (session.stream, session.pool):
        with pytest.raises(DataError, match=r"keeps nothing from step to step and cannot be streamed.*--stream"):
            make()
    with pytest.raises(DataError, match=r"shape \[1, 6, 4\].*give its rows as \[6, 4\]"):
        session.run({"x": data(1, 6, F)})


def test_lengths_mask_rows() -> None:
    session = Session(quantized(one_step("GRU")))
    x = data(3, F)
    want = session.run({"x": x}).outputs["y"]
    got = session.run({"x": x}, lengths=[1, 0, 1]).outputs["y"]
    np.testing.assert_array_equal(got, want * np.array([[1], [0], [1]]))
    with pytest.raises(DataError, match=r"lengths: value 2"):
        session.run({"x": x}, lengths=[1, 2, 1])


# --- C ------------------------------------------------------------------------------------------------------------------------------


def assert_exported(model: QuantModel, place: Path) -> None:
    exported = export_source(model, "m", "plain")
    sequences = random_sequences(model, exported, [1, 2, 7], seed=4)
    if model.rows:
        sequences += integer_sequences(model, exported, {"x": data(70, *model.inputs[0].shape)})
        assert [len(s["x"]) for s in sequences[3:]] == [64, 6]
    got = replayed(exported, sequences, place, compiler("gcc"))
    assert first_difference(host_results(model, exported, sequences, "reference"), got) is None


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
def test_c_of_rows(op: str, initial: bool, directions: int, tmp_path: Path) -> None:
    model = quantized(one_step(op, initial=initial, directions=directions))
    assert export_source(model, "m", "plain").state == ()
    assert_exported(model, tmp_path)


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("op", OPS)
def test_c_of_given_states_begins_every_step_with_them(op: str, tmp_path: Path) -> None:
    model = quantized(one_step(op, state_in=True))
    assert [f.kind for f in export_source(model, "m", "plain").state] == (
        ["int16_t", "int32_t"] if op == "LSTM" else ["int16_t"]
    )
    assert_exported(model, tmp_path)


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("first", [False, True])
def test_c_of_mixed_layers(op: str, first: bool, tmp_path: Path) -> None:
    model = mixed(op, first)
    kept = {f.layer for f in export_source(model, "m", "plain").state}
    assert kept == {layer.name for layer in model.recurrent_layers if layer.memory}
    assert_exported(model, tmp_path)


def test_the_exported_folder_says_it(tmp_path: Path) -> None:
    for stream, text in ((False, "keeps nothing from one call to the next"), (True, "the state is carried on")):
        model = quantized(one_step("LSTM"), stream)
        qrnn.export_model(model, qrnn.load_target("generic"), tmp_path / str(stream), "m")
        assert text in (tmp_path / str(stream) / "README.md").read_text(encoding="utf-8")


# --- files --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_files_without_the_field_remember(op: str, tmp_path: Path) -> None:
    """A schema-1 file of before the field has the bits of a model converted with --stream: the state is carried."""
    proto = one_step(op)
    save(quantized(proto, stream=True), tmp_path / "stream.qrnn")
    assert '"memory"' not in QrnnFile(tmp_path / "stream.qrnn").metadata["model"]
    save(quantized(proto), tmp_path / "rows.qrnn")
    file = QrnnFile(tmp_path / "rows.qrnn")
    layer = next(part for part in file.structure["layers"] if part["type"] == "QuantRecurrent")
    assert layer.pop("memory") is False
    assert file.structure["inputs"][0].pop("rows") is True
    file.metadata["schema"] = "1"
    old = load(file.write(tmp_path / "old.qrnn"))
    assert not old.rows
    x = data(2, 5, F)
    whole = Session(old).run({"x": x}).outputs["y"]
    stream = Session(old).stream(2)
    rows = Session(load(tmp_path / "rows.qrnn")).run({"x": x[:, 0]}).outputs["y"]
    np.testing.assert_array_equal(whole[:, 0], rows)
    for t in range(5):
        np.testing.assert_array_equal(stream.step({"x": x[:, t]})["y"], whole[:, t])
    again = Session(load(tmp_path / "rows.qrnn")).run({"x": x[:, 4]}).outputs["y"]
    assert (again != whole[:, 4]).any()


def test_files_are_read_back(tmp_path: Path) -> None:
    for name, model in (("rows", quantized(one_step("LSTM"))), ("mixed", mixed("GRU", True))):
        save(model, tmp_path / f"{name}.qrnn")
        found = load(tmp_path / f"{name}.qrnn")
        assert [r.memory for r in found.recurrent_layers] == [r.memory for r in model.recurrent_layers]
        assert found.inputs == model.inputs


@pytest.mark.parametrize("edit", ["rows", "memory", "one_step"])
def test_files_that_contradict_themselves_are_refused(edit: str, tmp_path: Path) -> None:
    save(quantized(one_step("GRU")), tmp_path / "rows.qrnn")
    file = QrnnFile(tmp_path / "rows.qrnn")
    if edit == "one_step":
        file.structure["one_step"] = False
    elif edit == "rows":
        del file.structure["inputs"][0]["rows"]
    else:
        del file.structure["layers"][0]["memory"]
    with pytest.raises(ModelFileError, match=r"memory"):
        load(file.write(tmp_path / "edited.qrnn"))


# --- beside ONNX Runtime --------------------------------------------------------------------------------------------------------------


@pytest.mark.wide(cover=False, keep=4)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("state_in", [False, True])
def test_compare_runs_onnx_runtime_on_rows(shape: str, state_in: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "m.onnx"
    path.write_bytes(one_step("LSTM", shape, state_in=state_in).SerializeToString())
    real = qrnn.load_onnx(path)
    arrays = {"x": data(6, *real.inputs[0].shape)}
    if state_in:
        arrays |= {f"state_{s}": data(6, 1, 5, seed=k) for k, s in enumerate("hc")}
    report = qrnn.compare(real, quantize(real, arrays, Scheme(activations=16)), arrays, onnx_path=path)
    assert report.onnxruntime["y"].sqnr_db > 100.0
    assert report.outputs["y"].sqnr_db > 30.0


def test_models_of_other_memory_are_not_compared() -> None:
    proto = one_step("GRU")
    for stream in (False, True):
        real, other = import_model(proto, "one", stream=stream), quantized(proto, not stream)
        for measure in (qrnn.compare, qrnn.explain):
            with pytest.raises(DataError, match=rf"load_onnx\(path, stream={not stream}\)"):
                measure(real, other, {"x": data(4, F)})


def test_tokens_and_lengths() -> None:
    g = Graph()
    ids, lens = g.input("ids", ["n"], TensorProto.INT64), g.input("lens", ["n"], TensorProto.INT32)
    x = g.axes_op("Unsqueeze", g.node("Gather", [g.random(7, F), ids], axis=0), [0])
    g.recurrent("GRU", x, F, 5, lengths=lens, outputs=["Y", "Y_h"])
    g.node("Gemm", [g.axes_op("Squeeze", "Y_h", [0]), g.random(5, 3)], ["y"])
    g.output("y", 2)
    proto = g.model()
    values = np.array([3, 0, 6, 6])
    model = quantize(import_model(proto, "one"), {"ids": values}, Scheme(activations=16))
    ones = np.ones(4, np.int32)
    want = runtime(proto, {"ids": values, "lens": ones})["y"]
    for ids_given in (values, values[:, None]):
        got = Session(model).run({"ids": ids_given, "lens": ones}).outputs["y"]
        assert got.shape == (4, *([1] if ids_given.ndim == 2 else []), 3)
        np.testing.assert_allclose(got.reshape(want.shape), want, atol=0.01)
    with pytest.raises(DataError, match=r"shape \[2, 2\].*give its rows as \[4\]"):
        Session(model).run({"ids": values.reshape(2, 2)})
