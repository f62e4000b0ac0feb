"""Trained models whose cells are written out by hand: decisions and errors after conversion with default settings."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from accuracy.test_shared_models import SHARED, THIRD_PARTY, assert_reference_equals_cpu
from qrnn.accuracy.metrics import sqnr_db
from qrnn.accuracy.onnxruntime_run import run_onnxruntime
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.model.batch import make_batch
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import load_onnx
from qrnn.running.session import Session

WHOLE = SHARED / "models" / "whole"
pytestmark = [
    pytest.mark.fused,
    pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="the shared models are not here"),
]

Array = np.ndarray[Any, Any]


@cache
def cut_clips() -> tuple[Array, Array, Array]:
    """Clips of 20 frames each, to calibrate on and to test, and the labels of the latter (F20 of the models' README)."""
    with np.load(SHARED / "data" / "fsdd_logmel.npz") as data:
        frames, lengths = data["frames"].astype(np.float64), data["lengths"]
        test, labels = data["test"].astype(bool), data["labels"]
    clips = [
        clip[np.round(np.linspace(0, len(clip) - 1, 20)).astype(int)]
        for clip in np.split(frames, np.cumsum(lengths)[:-1])
    ]
    whole = np.stack(clips)
    return whole[~test][::9], whole[test], labels[test]


UNROLLED = pytest.mark.parametrize("name", ["fsdd_deploop", "fsdd_deploop_chunk", "fsdd_deploop_cell"])


@UNROLLED
def test_float_of_a_loop_that_was_unrolled(name: str) -> None:
    """Twenty steps by hand are one layer over time, as ONNX Runtime computes them."""
    pytest.importorskip("onnxruntime")
    path = WHOLE / f"{name}.onnx"
    model = load_onnx(path)
    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "Pointwise", "Recurrent", "Dense"]
    _, test, _ = cut_clips()
    runtime = run_onnxruntime(model, path, make_batch(model.inputs, {"x": test}))["logits"]
    assert np.abs(run_oracle(model, {"x": test}).outputs["logits"] - runtime).max() <= 1e-5


@pytest.mark.matrix
@UNROLLED
def test_a_loop_that_was_unrolled(name: str) -> None:
    """Decisions are as in float for 99 of 100 clips."""
    model = load_onnx(WHOLE / f"{name}.onnx")
    calibration, test, labels = cut_clips()
    float_logits = run_oracle(model, {"x": test}).outputs["logits"]
    quantized = quantize(model, {"x": calibration})
    logits = Session(quantized).run({"x": test}).outputs["logits"]
    assert (logits.argmax(1) == float_logits.argmax(1)).mean() >= 0.99  # 300 of 300 measured
    assert (float_logits.argmax(1) == labels).mean() > 0.98
    assert_reference_equals_cpu(quantized, {"x": test[:3]})


@pytest.mark.matrix
def test_steps_of_a_noise_suppressor() -> None:
    """400 chained steps, with the state of two LSTMs written out in one input and one output."""
    path = THIRD_PARTY / "dtln_model_2.onnx"
    model = load_onnx(path)
    assert sum(isinstance(layer, Recurrent) for layer in model.layers) == 2
    with np.load(SHARED / "data" / "dtln_model_2_io.npz") as data:
        frames, golden, states = data["frame"][None].astype(np.float64), data["output"], data["state_out"]
    want = run_oracle(model, {"input_4": frames}).outputs
    assert np.abs(want["conv1d_3"].reshape(golden.shape) - golden).max() <= 1e-5
    assert np.abs(want["tf_op_layer_stack_5"] - states).max() <= 1e-5 * np.abs(states).max()
    quantized = quantize(model, {"input_4": frames[:, :133]})
    got = Session(quantized).run({"input_4": frames}).outputs["conv1d_3"].reshape(golden.shape)
    assert sqnr_db(golden, got) >= 30.0  # 30.8 measured
    session = Session(quantized)
    state, parts = None, []
    for part in np.split(frames, [1, 7, 50, 51], axis=1):
        result = session.run({"input_4": part}, state=state)
        state = result.state
        parts.append(result.outputs["conv1d_3"].reshape(part.shape[1], -1))
    np.testing.assert_array_equal(np.concatenate(parts), got)
    assert_reference_equals_cpu(quantized, {"input_4": frames[:, :3]})
