"""Trained models on real data: logits, decisions and accuracy after conversion with default settings.

The bounds lie 2 dB below what was measured when they were written, or at the decisions that were counted then.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qrnn.accuracy.compare import compare
from qrnn.accuracy.metrics import sqnr_db
from qrnn.accuracy.onnxruntime_run import run_onnxruntime
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import load_onnx
from qrnn.running.session import Session

SHARED = Path(__file__).parents[3] / "shared"
THIRD_PARTY = SHARED / "models" / "thirdparty"
pytestmark = [
    pytest.mark.fused,  # plain loops take long on so much data
    pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="the shared models are not here"),
]

Arrays = dict[str, np.ndarray[Any, Any]]


def assert_reference_equals_cpu(model: QuantModel, inputs: Arrays, lengths: Any = None) -> None:
    a, b = (Session(model, backend).run(inputs, lengths) for backend in ("reference", "cpu"))
    for name, value in a.outputs.items():
        assert np.abs(value).max() > 0
        np.testing.assert_array_equal(value, b.outputs[name])
    for name, pair in a.state.layers.items():
        for u, v in zip(pair, b.state.layers[name], strict=True):
            np.testing.assert_array_equal(u, v)


# --- spoken digits ----------------------------------------------------------------------------------------------------------------------

# Logits' SQNR over every step and at the last frames, in dB; last-frame decisions as in float; right in float; fewest right in integers.
FSDD = {
    "fsdd_lstm64": (45.91, 47.30, 300, 294, 292),
    "fsdd_gru64": (47.04, 48.87, 299, 290, 289),
    "fsdd_gru64x2": (46.37, 49.20, 300, 297, 295),
    "fsdd_bilstm64": (45.54, 46.27, 299, 292, 290),
    "fsdd_rnn64": (40.73, 40.76, 300, 268, 266),
    "fsdd_hardlstm64": (45.30, 44.74, 300, 296, 294),
    "fsdd_lstm64_dynamo": (45.91, 47.30, 300, 294, 292),
    "fsdd_gru64_dynamo": (47.04, 48.87, 299, 290, 289),
}

every_model = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "fsdd_rnn64" else pytest.mark.matrix) for name in FSDD]
)
"""The smallest of them in the default run."""


@cache
def clips(test: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(frames [N, T, 32] padded, lengths, labels): the 300 test clips, or 200 training clips of a fixed seed."""
    with np.load(SHARED / "data" / "fsdd_logmel.npz") as data:
        frames, lengths, labels, is_test = data["frames"], data["lengths"], data["labels"], data["test"]
    chosen = np.nonzero(is_test)[0]
    if not test:
        chosen = np.random.default_rng(0).choice(np.nonzero(~is_test)[0], 200, replace=False)
    ends = np.cumsum(lengths)
    x = np.zeros((len(chosen), int(lengths[chosen].max()), 32))
    for row, clip in enumerate(chosen):
        x[row, : lengths[clip]] = frames[ends[clip] - lengths[clip] : ends[clip]]
    return x, lengths[chosen].astype(np.int64), labels[chosen]


@cache
def fsdd(name: str) -> tuple[FloatModel, QuantModel]:
    x, lengths, _ = clips(test=False)
    model = load_onnx(SHARED / "models" / f"{name}.onnx")
    return model, quantize(model, {"x": x, "lengths": lengths})


@every_model
def test_fsdd(name: str) -> None:
    sqnr, last_sqnr, agreement, float_right, right = FSDD[name]
    model, quantized = fsdd(name)
    x, lengths, labels = clips(test=True)
    assert len(labels) == 300
    want = run_oracle(model, {"x": x}, lengths).outputs["logits"]
    got = Session(quantized).run({"x": x}, lengths).outputs["logits"]
    ends = np.arange(300), lengths - 1
    assert sqnr_db(want, got) >= max(30.0, sqnr - 2.0)
    assert sqnr_db(want[ends], got[ends]) >= max(30.0, last_sqnr - 2.0)
    decisions, ours = want[ends].argmax(axis=1), got[ends].argmax(axis=1)
    assert (decisions == ours).sum() >= max(297, agreement - 1)
    assert (decisions == labels).sum() == float_right
    assert (ours == labels).sum() >= right


@pytest.mark.matrix
@pytest.mark.time_limit(600)
@pytest.mark.parametrize("name", ["fsdd_lnlstm", "fsdd_lnlstm_dynamo"])
def test_layer_norm_gelu_residual_and_prelu(name: str) -> None:
    """Default settings: near the floor or at 45 dB, at least 99 % of the decisions, at most 0.35 points of accuracy lost."""
    x, lengths, _ = clips(test=False)
    path = SHARED / "models" / "whole" / f"{name}.onnx"
    model = load_onnx(path)
    quantized = quantize(model, {"x": x, "lengths": lengths})
    x, lengths, labels = clips(test=True)
    report = compare(model, quantized, {"x": x, "lengths": lengths, "labels": labels})
    assert report.outputs["logits"].sqnr_db >= min(45.0, report.floor["logits"].sqnr_db - 1.5)
    assert report.decisions is not None
    assert report.decisions.agreement.agree >= 297
    right = report.decisions.correct
    assert right["float"].agree == 295
    assert right["float"].rate - right["quantized"].rate <= 0.0035
    assert_reference_equals_cpu(quantized, {"x": x[7:9]}, lengths[7:9])


@pytest.mark.matrix
@pytest.mark.time_limit(1800)
def test_recurrent_layers_over_bands() -> None:
    """The dual path, at default settings: near the floor or at 45 dB, at least 99 % of the decisions, at most 0.35 points of accuracy lost."""
    x, lengths, _ = clips(test=False)
    model = load_onnx(SHARED / "models" / "whole" / "fsdd_dualpath.onnx")
    quantized = quantize(model, {"x": x, "lengths": lengths})
    x, lengths, labels = clips(test=True)
    report = compare(model, quantized, {"x": x, "lengths": lengths, "labels": labels})
    assert report.outputs["logits"].sqnr_db >= min(45.0, report.floor["logits"].sqnr_db - 1.5)
    assert report.decisions is not None
    assert report.decisions.agreement.agree >= 297
    right = report.decisions.correct
    assert right["float"].agree == 289
    assert right["float"].rate - right["quantized"].rate <= 0.0035
    assert_reference_equals_cpu(quantized, {"x": x[7:9]}, lengths[7:9])


def test_fsdd_report_is_of_these_figures() -> None:
    """`compare` on the same data counts the same."""
    model, quantized = fsdd("fsdd_rnn64")
    x, lengths, labels = clips(test=True)
    result = compare(model, quantized, {"x": x, "lengths": lengths, "labels": labels})
    want = run_oracle(model, {"x": x}, lengths).outputs["logits"]
    got = Session(quantized).run({"x": x}, lengths).outputs["logits"]
    ends = np.arange(300), lengths - 1
    assert result.decisions is not None
    assert result.outputs["logits"].sqnr_db == pytest.approx(sqnr_db(want, got), rel=1e-9)
    assert result.decisions.agreement.agree == (want[ends].argmax(axis=1) == got[ends].argmax(axis=1)).sum()
    assert result.decisions.correct["quantized"].agree == (got[ends].argmax(axis=1) == labels).sum()


@every_model
def test_fsdd_reference_equals_cpu(name: str) -> None:
    x, lengths, _ = clips(test=True)
    assert_reference_equals_cpu(fsdd(name)[1], {"x": x[7:9]}, lengths[7:9])


@every_model
def test_fsdd_oracle_against_onnx_runtime(name: str) -> None:
    """Both agree within 1e-5, for logits that reach 10 to 30."""
    pytest.importorskip("onnxruntime")
    path = SHARED / "models" / f"{name}.onnx"
    model = fsdd(name)[0]
    x, lengths, _ = clips(test=True)
    x, lengths = x[:40], lengths[:40]
    if name.endswith("dynamo"):  # 20 steps are baked into the graph
        x, lengths = x[:, :20], None
    want = run_oracle(model, {"x": x}, lengths).outputs["logits"]
    got = run_onnxruntime(model, path, make_batch(model.inputs, {"x": x}, lengths))["logits"]
    assert 5 < np.abs(want).max() < 50
    assert np.abs(want - got).max() <= 1e-5


# --- MNIST -----------------------------------------------------------------------------------------------------------------------------------


@cache
def mnist_images() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The 10,000 test images [N, 28, 28] in [0, 1] and their labels."""
    images = gzip.decompress((SHARED / "data" / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((SHARED / "data" / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28) / 255, np.frombuffer(
        labels, np.uint8, offset=8
    )


@cache
def mnist() -> tuple[FloatModel, QuantModel]:
    """Calibrated on the first 128 test images, unlabelled: the training set is not among the shared data."""
    model = load_onnx(THIRD_PARTY / "mnist_gru128x2.onnx")
    return model, quantize(model, {model.inputs[0].name: mnist_images()[0][:128]})


@pytest.mark.matrix
def test_mnist_accuracy() -> None:
    images, labels = mnist_images()
    model, quantized = mnist()
    (output,), x = quantized.outputs, model.inputs[0].name
    got = Session(quantized).run({x: images}).outputs[output.name]
    right = got.argmax(axis=1) == labels
    assert right.shape == (10_000,)
    assert right.sum() >= 9800
    assert right[128:].sum() >= 9672  # 98 % of the images that were not calibrated on
    want = run_oracle(model, {x: images[128:1128]}).outputs[output.name]
    assert sqnr_db(want, got[128:1128]) >= 47.6  # 49.6 measured
    assert (want.argmax(axis=1) == got[128:1128].argmax(axis=1)).sum() >= 990


@pytest.mark.matrix
def test_mnist_reference_equals_cpu() -> None:
    model, quantized = mnist()
    assert_reference_equals_cpu(quantized, {model.inputs[0].name: mnist_images()[0][500:501]})


@pytest.mark.matrix
def test_mnist_oracle_against_onnx_runtime() -> None:
    """Both agree within 1e-5."""
    pytest.importorskip("onnxruntime")
    model = mnist()[0]
    data = {model.inputs[0].name: mnist_images()[0][:20]}
    path = THIRD_PARTY / "mnist_gru128x2.onnx"
    want = run_oracle(model, data).outputs[model.outputs[0].name]
    got = run_onnxruntime(model, path, make_batch(model.inputs, data))[model.outputs[0].name]
    assert np.abs(want - got).max() <= 1e-5


# --- sentence boundaries --------------------------------------------------------------------------------------------------------------------


@pytest.mark.matrix
def test_sentence_split() -> None:
    """Bytes of two texts; one logit for each of two kinds of boundary, decided by its sign. Calibrated on the same two texts."""
    path = THIRD_PARTY / "sentence_split_bilstm.onnx"
    model = load_onnx(path)
    with np.load(SHARED / "data" / "sentence_split_bilstm_io.npz") as data:
        tokens, golden = data["input"], data["Add_26"].astype(np.float64)
    want = run_oracle(model, {"input": tokens}).outputs["output"]
    assert np.abs(want - golden).max() <= 1e-5
    quantized = quantize(model, {"input": tokens})
    got = Session(quantized).run({"input": tokens}).outputs["output"]
    assert sqnr_db(golden, got) >= 53.0  # 55.0 measured
    np.testing.assert_array_equal(got > 0, golden > 0)
    assert (golden > 0).any()
    assert_reference_equals_cpu(quantized, {"input": tokens[:1, :12]})
    if pytest.importorskip("onnxruntime"):
        runtime = run_onnxruntime(model, path, make_batch(model.inputs, {"input": tokens}))["output"]
        assert np.abs(want - runtime).max() <= 1e-5


# --- noise suppression ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.matrix
def test_dtln() -> None:
    """A clip of 1218 frames, calibrated on its first 400 alone; masks in [0, 1]."""
    model = load_onnx(THIRD_PARTY / "dtln_model_1.onnx")
    with np.load(SHARED / "data" / "dtln_model_1_io.npz") as data:
        magnitude, golden = data["magnitude"][None].astype(np.float64), data["mask"][None].astype(np.float64)
    name, output = model.inputs[0].name, model.outputs[0].name
    quantized = quantize(model, {name: magnitude[:, :400]})
    got = Session(quantized).run({name: magnitude}).outputs[output]
    assert np.sqrt(np.mean((got - golden) ** 2)) <= 0.02  # 0.0167 measured
    unseen = slice(400, None)
    assert np.sqrt(np.mean((got[:, unseen] - golden[:, unseen]) ** 2)) <= 0.02
    assert np.std(golden) > 0.2  # a constant would not pass
    assert_reference_equals_cpu(quantized, {name: magnitude[:, 600:603]})


def test_dtln_oracle_against_onnx_runtime() -> None:
    """The graph runs step by step, with the states carried through its own inputs and outputs.

    Masks are within 1e-5; states, cells of hundreds among them, are within 1e-5 of the largest.
    """
    pytest.importorskip("onnxruntime")
    path = THIRD_PARTY / "dtln_model_1.onnx"
    model = load_onnx(path)
    with np.load(SHARED / "data" / "dtln_model_1_io.npz") as data:
        magnitude = data["magnitude"][None, :300].astype(np.float64)
    want = run_oracle(model, {model.inputs[0].name: magnitude}).outputs
    got = run_onnxruntime(model, path, make_batch(model.inputs, {model.inputs[0].name: magnitude}))
    for name, value in want.items():
        assert np.abs(value).max() > 0.5
        largest = 1.0 if name == model.outputs[0].name else np.abs(value).max()
        assert np.abs(value - got[name]).max() <= 1e-5 * largest
