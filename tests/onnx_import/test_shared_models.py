"""Every shared model imports with the expected layers and computes in float64 what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qrnn.accuracy.compare import compare
from qrnn.conversion import quantize
from qrnn.conversion.noise import ENOUGH_DB, TOLERANCE_DB
from qrnn.equations.oracle import run_oracle
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.add import Add
from qrnn.model.kinds.attention_pool import AttentionPool
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.embedding import Embedding
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.layer_norm import LayerNorm
from qrnn.model.kinds.magnitude import Magnitude
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.running import Running
from qrnn.onnx_import import load_onnx
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data

SHARED = Path(__file__).parents[3] / "shared"
MODELS = SHARED / "models"
pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="the shared models are not here")

FSDD = {
    "fsdd_lstm64": ["lstm"],
    "fsdd_gru64": ["gru"],
    "fsdd_gru64x2": ["gru", "gru"],
    "fsdd_bilstm64": ["lstm"],
    "fsdd_rnn64": ["rnn"],
    "fsdd_hardlstm64": ["lstm"],
    "fsdd_lstm64_dynamo": ["lstm"],
    "fsdd_gru64_dynamo": ["gru"],
}


def kinds(model: FloatModel) -> list[type]:
    return [type(layer) for layer in model.layers]


def runtime_session(path: Path) -> Any:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def runtime(path: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = runtime_session(path)
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


@pytest.mark.parametrize("name", FSDD)
def test_fsdd(name: str) -> None:
    path = MODELS / f"{name}.onnx"
    model = load_onnx(path)
    recurrent = [layer for layer in model.layers if isinstance(layer, Recurrent)]
    assert [layer.cell for layer in recurrent] == FSDD[name]
    assert [layer.hidden_size for layer in recurrent] == [64] * len(recurrent)
    assert kinds(model) == [Recurrent] * len(recurrent) + [Dense]
    assert [(i.kind, i.shape, i.has_time) for i in model.inputs] == [("features", (32,), True)]
    assert [(o.name, o.shape, o.has_time) for o in model.outputs] == [("logits", (10,), True)]
    batch = 1 if name.endswith("dynamo") else 3  # the newer exporter baked the batch
    x = np.random.default_rng(1).normal(size=(batch, 20, 32)).astype(np.float32)
    expected = runtime(path, {"x": x})["logits"]
    np.testing.assert_allclose(run_oracle(model, {"x": x}).outputs["logits"], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["fsdd_lnlstm", "fsdd_lnlstm_dynamo"])
def test_layer_norm_gelu_residual_and_prelu(name: str) -> None:
    """The GELU that is spelled out is one layer, and so is PRelu with one slope."""
    path = MODELS / "whole" / f"{name}.onnx"
    model = load_onnx(path)
    assert kinds(model) == [Dense, LayerNorm, Pointwise, Recurrent, Add, LayerNorm, Pointwise, Dense]
    functions = [layer.activation.kind for layer in model.layers if isinstance(layer, Pointwise)]
    assert functions == ["gelu", "leaky_relu"]
    x = 3 * np.random.default_rng(1).normal(size=(1, 20, 32)).astype(np.float32)  # the newer exporter baked both sizes
    expected = runtime(path, {"x": x})["logits"]
    np.testing.assert_allclose(run_oracle(model, {"x": x}).outputs["logits"], expected, atol=1e-5, rtol=0)


def test_mnist() -> None:
    path = MODELS / "thirdparty" / "mnist_gru128x2.onnx"
    model = load_onnx(path)
    assert kinds(model) == [Recurrent, Recurrent, LastStep, Dense]
    assert any("28 time steps" in note for note in model.notes)
    x = np.random.default_rng(1).uniform(size=(1, 28, 28)).astype(np.float32)
    name, expected = next(iter(runtime(path, {model.inputs[0].name: x}).items()))
    np.testing.assert_allclose(run_oracle(model, {model.inputs[0].name: x}).outputs[name], expected, atol=1e-5, rtol=0)


def test_sentence_split() -> None:
    path = MODELS / "thirdparty" / "sentence_split_bilstm.onnx"
    model = load_onnx(path)
    assert kinds(model) == [Embedding, Recurrent, Recurrent, Dense]
    assert (model.inputs[0].kind, model.inputs[0].shape, model.inputs[0].vocabulary) == ("tokens", (), 256)
    data = np.load(SHARED / "data" / "sentence_split_bilstm_io.npz")
    got = run_oracle(model, {"input": data["input"]}).outputs["output"]
    np.testing.assert_allclose(got, data["Add_26"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(got, runtime(path, {"input": data["input"]})["output"], atol=1e-5, rtol=0)


def test_dtln_runs_whole_sequences() -> None:
    path = MODELS / "thirdparty" / "dtln_model_1.onnx"
    model = load_onnx(path)
    assert model.one_step
    assert kinds(model) == [Recurrent, Recurrent, Dense, Pointwise]
    assert [(i.kind, i.shape, i.has_time) for i in model.inputs] == [
        ("features", (257,), True),
        ("state", (2, 128, 2), False),
    ]
    assert [(o.shape, o.has_time) for o in model.outputs] == [((257,), True), ((2, 128, 2), False)]
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 2, size=(1, 9, 257)).astype(np.float32)
    state = rng.uniform(-0.5, 0.5, size=(1, 2, 128, 2)).astype(np.float32)
    result = run_oracle(model, {"input_2": x, "input_3": state})
    steps = []
    for t in range(x.shape[1]):
        y, state = session.run(None, {"input_2": x[:, t : t + 1], "input_3": state})
        steps.append(y)
    np.testing.assert_allclose(result.outputs["activation_2"], np.concatenate(steps, axis=1), atol=1e-5, rtol=0)
    np.testing.assert_allclose(result.outputs["tf_op_layer_stack_2"], state, atol=1e-5, rtol=0)


OF_CLIPS: dict[str, list[type]] = {
    "fsdd_dsconv_gru": [Conv, Pointwise] * 4 + [Recurrent, Running, LastStep, Dense],
    "fsdd_attpool": [Recurrent, Dense, Pointwise, Dense, AttentionPool, LastStep, Dense],
}
"""Depthwise and pointwise convolutions, a GRU, and the mean of its steps; a bidirectional GRU, and the mean of its steps by attention."""


@pytest.mark.parametrize("name", OF_CLIPS)
def test_means_over_time(name: str) -> None:
    """At default settings: floor, decisions and accuracy."""
    path = MODELS / "whole" / f"{name}.onnx"
    model = load_onnx(path)
    assert kinds(model) == OF_CLIPS[name]
    with np.load(SHARED / "data" / "fsdd_logmel.npz") as d:
        clips = np.split(d["frames"].astype(np.float32), np.cumsum(d["lengths"])[:-1])
        training, tested = np.flatnonzero(~d["test"])[::20], np.flatnonzero(d["test"])
        lengths, labels = d["lengths"], d["labels"]
    chosen = [np.pad(clips[k], ((0, lengths[training].max() - lengths[k]), (0, 0))) for k in training]
    calibration = {"x": np.stack(chosen), "lengths": lengths[training]}
    made = quantize(model, calibration)
    found = compare(model, made, calibration)
    assert found.outputs["logits"].about_mean_db > min(found.floor["logits"].about_mean_db - TOLERANCE_DB, ENOUGH_DB)
    session, peer = Session(made), runtime_session(path)
    reals = np.concatenate([peer.run(["logits"], {"x": clips[k][None]})[0] for k in tested])
    integers = np.concatenate([session.run({"x": clips[k][None]}).outputs["logits"] for k in tested])
    one = clips[tested[0]][None]
    np.testing.assert_allclose(run_oracle(model, {"x": one}).outputs["logits"], reals[:1], atol=1e-4, rtol=0)
    assert (reals.argmax(axis=1) == integers.argmax(axis=1)).mean() >= 0.99
    right = [(values.argmax(axis=1) == labels[tested]).mean() for values in (reals, integers)]
    assert right[1] >= right[0] - 0.0035


def test_the_magnitude_of_silero_is_one_layer() -> None:
    """The nodes of its file from the spectrum's convolution to Sqrt, between other layers."""
    whole = onnx.load(MODELS / "thirdparty" / "silero_vad_v6_16k.onnx").graph
    made = {name: node for node in whole.node for name in node.output}
    (root,) = (node for node in whole.node if node.op_type == "Sqrt")
    wanted, waiting = {root.output[0]}, [root]
    while waiting:
        node = waiting.pop()
        for name in node.input:
            if name in made and name not in wanted and made[name].op_type != "Conv":
                wanted.add(name)
                waiting.append(made[name])
    nodes = [node for node in whole.node if wanted.intersection(node.output)]
    (spectrum,) = {i for node in nodes for i in node.input if i in made and made[i].op_type == "Conv"}
    assert [node.op_type for node in nodes].count("Pow") == 2
    g = Graph(opset=16)
    g.node("Transpose", [g.input("x", ["n", "t", 258])], [spectrum], perm=[0, 2, 1])
    g.nodes += nodes
    y = g.node("Transpose", [root.output[0]], perm=[2, 0, 1])
    g.node("Identity", [g.recurrent("GRU", y, 129, 5)[0]], ["out"])
    g.output("out", 4)
    model = agree(g.model(), {"x": data(2, 4, 258)})
    assert kinds(model) == [Magnitude, Recurrent]


def test_no_concat_where_one_tensor_is_read() -> None:
    for path in sorted(MODELS.glob("*.onnx")):
        assert not any(isinstance(layer, Concat) for layer in load_onnx(path).layers)


def test_a_scripted_loop_of_cells() -> None:
    """Dense and Relu before an LSTM written out in the body of a Loop: the same decisions as in float."""
    path = MODELS / "whole" / "fsdd_deploop_script.onnx"
    model = load_onnx(path)
    assert kinds(model) == [Dense, Pointwise, Recurrent, Dense]
    with np.load(SHARED / "data" / "fsdd_logmel.npz") as d:
        clips = np.split(d["frames"].astype(np.float32), np.cumsum(d["lengths"])[:-1])
        training, tested = np.flatnonzero(~d["test"])[::20], np.flatnonzero(d["test"])
    x = np.stack([clip[np.round(np.linspace(0, len(clip) - 1, 20)).astype(int)] for clip in clips])
    reals = runtime_session(path).run(["logits"], {"x": x[tested]})[0]
    np.testing.assert_allclose(run_oracle(model, {"x": x[tested]}).outputs["logits"], reals, atol=1e-4, rtol=0)
    integers = Session(quantize(model, {"x": x[training]}, Scheme(input="8"))).run({"x": x[tested]}).outputs["logits"]
    assert (reals.argmax(axis=1) == integers.argmax(axis=1)).mean() >= 0.99


def test_a_loop_of_keras() -> None:
    """A GRU that tf2onnx exports as a Loop, between Dense layers."""
    folder = SHARED / "cases" / "keras"
    path = folder / "02_keras_gru_softmax_m.onnx"
    if not path.is_file():
        pytest.skip("the shared cases are not here")
    model = load_onnx(path)
    x = np.load(folder / "02_keras_gru_softmax_test.npz")["keras_tensor"]
    assert sum(isinstance(layer, Recurrent) for layer in model.layers) == 1
    want = runtime_session(path).run(None, {"keras_tensor": x})[0]
    np.testing.assert_allclose(run_oracle(model, {"keras_tensor": x}).outputs["Identity:0"], want, atol=1e-5, rtol=0)
