"""A comparison's every figure, computed again from the two runs that it compares."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import Shape, make_model
from onnx_import.builders import head

from accuracy.compared import strict, text
from accuracy.pairs import LENGTHS, MASK, RNG, N, T, X, pair
from qrnn.accuracy import float_run
from qrnn.accuracy.compare import compare
from qrnn.accuracy.comparison import Comparison
from qrnn.accuracy.confusion import Agreement
from qrnn.accuracy.diff import diff
from qrnn.accuracy.metrics import sqnr_db, wilson_interval
from qrnn.accuracy.onnxruntime_run import run_onnxruntime
from qrnn.accuracy.probe import ErrorSum
from qrnn.backends.base import Trace
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle, run_oracle_batch
from qrnn.errors import DataError
from qrnn.examples import digits_calibration, digits_model
from qrnn.model.activation import Activation
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel, GraphOutput, TensorInfo
from qrnn.model.gate_values import gate_values
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import load_onnx
from qrnn.quantization.gate_tables import gate_function
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session


@pytest.fixture(autouse=True)
def _several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sums run over several pieces, of the fewest sequences."""
    monkeypatch.setattr(float_run, "MOST_PIECE", float_run.LEAST_PIECE)


def check(
    error: ErrorSum, want: np.ndarray[Any, Any], got: np.ndarray[Any, Any], mask: np.ndarray[Any, Any] | None
) -> None:
    """All figures of one error, from whole arrays [N, T, F] and a mask, or [N, F]."""
    w, g = (want, got) if mask is None else (want[mask], got[mask])
    assert error.count == w.size
    assert error.sqnr_db == pytest.approx(sqnr_db(w, g), rel=1e-9)
    assert error.rmse == pytest.approx(np.sqrt(np.mean((w - g) ** 2)), rel=1e-9)
    assert error.largest == pytest.approx(np.abs(w - g).max(), rel=1e-12)
    if mask is None:
        return
    for t in range(want.shape[1]):
        at = (want - got)[:, t][mask[:, t]]
        assert error.rmse_at()[t] == pytest.approx(np.sqrt(np.mean(at**2)) if at.size else 0.0, rel=1e-9)


@pytest.mark.wide(cover=False, keep=1)
@pytest.mark.parametrize(
    ("cell", "directions", "gates"),
    [("lstm", (False, True), "ifgo"), ("gru", (True,), "rzn"), ("rnn", (False,), ""), ("gru", (False,), "rzn")],
)
def test_every_figure(cell: str, directions: tuple[bool, ...], gates: str) -> None:
    model, quantized = pair(Shape(cell, directions=directions, head=3), X)  # type: ignore[arg-type]
    progress: list[tuple[int, int]] = []
    result = compare(model, quantized, {"x": X, "lengths": LENGTHS}, progress=lambda *a: progress.append(a))
    assert progress == [(64, N), (128, N), (N, N)]
    assert (result.sequences, result.steps, result.backend) == (N, LENGTHS.sum(), "cpu")
    want, got = run_oracle(model, {"x": X}, LENGTHS).outputs, Session(quantized).run({"x": X}, LENGTHS).outputs
    assert set(result.outputs) == set(want)
    for output in model.outputs:
        check(result.outputs[output.name], want[output.name], got[output.name], MASK if output.has_time else None)
    # Gates and states, from the oracle's observations and a trace of one whole run
    batch, seen, trace = make_batch(model.inputs, {"x": X}, LENGTHS), {}, Trace()
    run_oracle_batch(model, batch, lambda name, values, _: seen.__setitem__(name, values))
    Session(quantized).run_batch(batch, trace=trace)
    layer = quantized.layers[0]
    assert isinstance(layer, QuantRecurrent)
    states = ("h", "c") if cell == "lstm" else ("h",)
    assert set(result.layers) == {f"layer0[{d}].{q}" for d in range(len(directions)) for q in (*gates, *states)}
    for number, direction in enumerate(layer.directions):
        key = f"layer0[{number}]"
        for k, gate in enumerate(gates):
            pre = trace.arrays[f"{key}.pre"][:, :, 5 * k : 5 * k + 5]
            check(result.layers[f"{key}.{gate}"], seen[f"{key}.{gate}"], gate_values(direction.gates[k], pre), MASK)
        check(result.layers[f"{key}.h"], seen[f"{key}.h"], trace.arrays[f"{key}.h"] * 2.0**-layer.h_frac, MASK)
        if cell == "lstm":
            check(result.layers[f"{key}.c"], seen[f"{key}.c"], trace.arrays[f"{key}.c"] * 2.0**-layer.c_frac, MASK)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        (Activation("sigmoid"), lambda x: 1 / (1 + np.exp(-x))),
        (Activation("tanh"), np.tanh),
        (Activation("relu"), lambda x: np.maximum(x, 0)),
        (Activation("hard_sigmoid", 0.3, 0.4), lambda x: np.clip(0.3 * x + 0.4, 0, 1)),
    ],
)
def test_gate_values_are_the_functions(activation: Activation, function: Any) -> None:
    gate = gate_function(activation, in_frac=11)
    pre = np.array([[-32768, -32767, -9000, -1, 0], [1, 255, 4000, 32766, 32767]])
    got = gate_values(gate, pre)
    assert got.shape == pre.shape
    np.testing.assert_allclose(got, function(pre * 2.0**-gate.in_frac), atol=2e-4, rtol=0)


# --- decisions ----------------------------------------------------------------------------------------------------------------------------


def decided(rule: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (
        values.argmax(axis=-1) if rule == "argmax" else (values > (0.5 if rule == "threshold 0.5" else 0.0)).astype(int)
    )


def with_sigmoid(model: FloatModel, features: int) -> FloatModel:
    """The head's logits through a sigmoid as output p."""
    every = np.arange(features)
    return replace(
        model,
        layers=(*model.layers, Pointwise("sig", "logits", "p", Activation("sigmoid"))),
        tensors={**model.tensors, "p": TensorInfo(features, True)},
        outputs=(GraphOutput("p", (features,), True, (("p", every, every),)), *model.outputs[1:]),
    )


@pytest.mark.parametrize(
    ("head_size", "sigmoid", "rule"),
    [(3, False, "argmax"), (1, False, "threshold 0"), (1, True, "threshold 0.5"), (3, True, "threshold 0.5")],
)
@pytest.mark.parametrize("per_step", [False, True])
def test_decisions(head_size: int, sigmoid: bool, rule: str, per_step: bool) -> None:
    model = make_model(Shape("gru", head=head_size), np.random.default_rng(3))
    model = with_sigmoid(model, head_size) if sigmoid else model
    name = model.outputs[0].name
    quantized = quantize(model, {"x": X}, Scheme(input="8", gates="pwl:8"))
    want = run_oracle(model, {"x": X}, LENGTHS).outputs[name]
    got = Session(quantized).run({"x": X}, LENGTHS).outputs[name]
    data = {"x": X, "lengths": LENGTHS}
    result = compare(model, quantized, data)
    assert result.decisions is not None
    assert (result.decisions.output, result.decisions.rule, result.decisions.at) == (name, rule, "each step")
    same = decided(rule, want)[MASK] == decided(rule, got)[MASK]
    assert result.decisions.agreement == Agreement(int(same.sum()), same.size)
    assert 0 < same.sum() < same.size  # a test in which all agree would not see much
    assert result.decisions.correct == {}
    assert np.isnan(result.decisions.accuracy_drop)
    labels = RNG.integers(0, max(2, head_size), (N, T) if per_step else N)
    if sigmoid and head_size > 1:
        with pytest.raises(DataError, match="'p' has 3 decisions a step; leave labels out"):
            compare(model, quantized, data | {"labels": labels})
        return
    result = compare(model, quantized, data | {"labels": labels})
    assert result.decisions is not None
    if per_step:
        picks, truth = [v[MASK] for v in (want, got)], labels[MASK]
        assert result.decisions.at == "each step"
    else:
        picks, truth = [v[np.arange(N), LENGTHS - 1] for v in (want, got)], labels
        assert result.decisions.at == "last step of each sequence"
    a, b = (decided(rule, v).reshape(len(truth)) for v in picks)
    assert result.decisions.agreement == Agreement(int((a == b).sum()), len(truth))
    right = [int((choice == truth).sum()) for choice in (a, b)]
    assert result.decisions.correct == {
        "float": Agreement(right[0], len(truth)),
        "quantized": Agreement(right[1], len(truth)),
    }
    assert result.decisions.accuracy_drop == pytest.approx(100 * (right[0] - right[1]) / len(truth))
    for source, choice in (("float", a), ("quantized", b)):
        pairs = zip(truth.tolist(), choice.tolist(), strict=True)
        assert result.decisions.confusion[source].counts == Counter(pairs)
    accuracy = result.to_dict()["decisions"]["accuracy"]["quantized"]
    assert accuracy["confidence_95"] == list(wilson_interval(right[1], len(truth)))


def test_a_sequence_of_no_steps_decides_nothing() -> None:
    """It has no last step: the label beside it counts neither as right nor as wrong."""
    model, quantized = pair(Shape("gru", head=3), X)
    labels, some = RNG.integers(0, 3, N), np.arange(N) % 2 == 0
    lengths = np.where(some, LENGTHS, 0)
    result = compare(model, quantized, {"x": X, "lengths": lengths, "labels": labels}).decisions
    alone = compare(model, quantized, {"x": X[some], "lengths": lengths[some], "labels": labels[some]}).decisions
    assert result is not None
    assert result == alone
    assert result.agreement.total == int(some.sum()) < N


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_that_are_no_class_are_refused(label: int) -> None:
    model, calibration = load_onnx(digits_model()), np.load(digits_calibration())
    quantized = quantize(model, {"x": calibration["x"]}, Scheme(activations=8, input="8"))
    labels = np.array([0, 9, label])
    with pytest.raises(DataError, match=f"labels: value {label}, expected 0…9, the classes of output 'logits'"):
        compare(model, quantized, {"x": calibration["x"][:3], "labels": labels})
    compare(model, quantized, {"x": calibration["x"][:2], "labels": labels[:2]})


def test_sequences_that_all_have_no_steps_are_refused() -> None:
    model, quantized = pair(Shape("gru", head=3), X)
    data = {"x": X, "lengths": np.zeros(N, int)}
    with pytest.raises(DataError, match="every sequence has length 0"):
        compare(model, quantized, data)
    with pytest.raises(DataError, match="every sequence has length 0"):
        diff(quantized, quantized, data)


def test_models_of_states_alone_decide_nothing() -> None:
    model, quantized = pair(Shape("gru"), X)
    result = compare(model, quantized, {"x": X})
    assert result.decisions is None
    assert result.to_dict()["decisions"] is None
    with pytest.raises(DataError, match="no output of the model decides anything"):
        compare(model, quantized, {"x": X, "labels": np.zeros(N, int)})


def test_another_source_is_refused() -> None:
    model, quantized = pair(Shape("gru", head=3), X)
    named = replace(quantized, provenance=replace(quantized.provenance, source_sha256="a" * 64))
    compare(model, named, {"x": X[:2]})  # a model without a file has no source
    compare(replace(model, source_sha256="a" * 64), named, {"x": X[:2]})
    with pytest.raises(DataError, match="made from another file"):
        compare(replace(model, source_sha256="b" * 64), named, {"x": X[:2]})


def test_bundled_example(digits: Comparison) -> None:
    assert digits.decisions is not None
    assert digits.outputs["logits"].sqnr_db > 38
    assert digits.decisions.agreement.total == 360
    assert digits.decisions.agreement.agree >= 358
    assert digits.decisions.correct["float"].agree == 355
    assert digits.decisions.correct["quantized"].agree >= 353


def test_onnx_runtime_is_measured_too(digits: Comparison) -> None:
    pytest.importorskip("onnxruntime")
    assert digits.onnxruntime["logits"].largest < 1e-5
    assert digits.onnxruntime["logits"].sqnr_db > 100
    assert digits.decisions is not None
    assert digits.decisions.correct["onnxruntime"].agree == 355
    assert digits.onnxruntime_note == ""


# --- ONNX Runtime ----------------------------------------------------------------------------------------------------------------------


def onnx_pair(folder: Path, proto: onnx.ModelProto, x: Any) -> tuple[Path, FloatModel, QuantModel]:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    model = load_onnx(path)
    return path, model, quantize(model, {model.inputs[0].name: x}, Scheme(input="8"))


X4 = RNG.normal(size=(5, 6, 4))


LENGTHS4 = np.array([6, 2, 5, 2, 1])


@pytest.mark.parametrize(
    ("op", "more"),
    [
        ("LSTM", {}),
        ("GRU", {"linear_before_reset": 1}),
        ("RNN", {}),
        ("LSTM", {"direction": "bidirectional"}),
        ("GRU", {"direction": "reverse"}),
        ("LSTM", {"batch": 1}),
        ("GRU", {"lengths": True}),
    ],
)
def test_onnx_runtime_agrees(op: str, more: dict[str, Any], tmp_path: Path) -> None:
    """Groups of equal lengths, batches of one where baked, and lengths as a graph input: all as the oracle has it."""
    pytest.importorskip("onnxruntime")
    path, model, quantized = onnx_pair(tmp_path, head(op, **more), X4)
    data = {"x": X4, "lengths": LENGTHS4}
    got = run_onnxruntime(model, path, make_batch(model.inputs, data))
    want = run_oracle(model, {"x": X4}, LENGTHS4).outputs
    np.testing.assert_allclose(got["logits"], want["logits"], atol=2e-6, rtol=0)
    result = compare(model, quantized, data, onnx_path=path)
    check(result.onnxruntime["logits"], want["logits"], got["logits"], np.arange(6) < LENGTHS4[:, None])


def test_what_onnx_runtime_refuses_is_left_out(tmp_path: Path) -> None:
    """A graph with a baked number of steps: the first piece has it, the second has not."""
    pytest.importorskip("onnxruntime")
    path, model, quantized = onnx_pair(tmp_path, head("GRU", time=6), X4)
    x, labels = np.tile(X4, (14, 1, 1)), np.zeros(70, int)
    good = compare(model, quantized, {"x": x, "labels": labels}, onnx_path=path)
    assert good.onnxruntime_note == ""
    assert good.decisions is not None
    assert good.decisions.correct["onnxruntime"].total == 70
    data = {"x": x, "labels": labels, "lengths": np.repeat([6, 5], [64, 6])}
    result = compare(model, quantized, data, onnx_path=path)
    assert result.onnxruntime == {}
    assert "ONNX Runtime could not run" in result.onnxruntime_note
    assert result.decisions is not None
    assert set(result.decisions.correct) == {"float", "quantized"}
    assert result.decisions.correct["float"].total == 70
    assert "ONNX Runtime could not run" in text(result)
    assert strict(result)["onnxruntime_against_float64"] == {}
    without = compare(model, quantized, data)
    assert without.to_dict() | {"onnxruntime_note": result.onnxruntime_note} == result.to_dict()
