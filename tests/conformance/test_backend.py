"""`qrnn.onnx_backend`: what a caller of ONNX's backend interface sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from conformance_cases import OUTPUTS, Shape, make_model, own_case
from onnx import TensorProto, helper
from onnx_import.builders import Graph, head

import qrnn
from qrnn import onnx_backend
from qrnn.errors import BackendError, DataError, ModelFileError, UnsupportedError
from qrnn.onnx_backend import QrnnBackend, prepare, weight_inputs

RNG = np.random.default_rng(7)


def draw(*shape: int) -> Any:
    return RNG.uniform(-0.6, 0.6, shape).astype(np.float32)


def gru(weights_are_inputs: bool, **attributes: Any) -> tuple[onnx.ModelProto, dict[str, Any]]:
    arrays = {"X": draw(5, 2, 3), "W": draw(1, 12, 3), "R": draw(1, 12, 4), "initial_h": draw(1, 2, 4)}
    model = make_model(
        "GRU", arrays, OUTPUTS[:2], {"hidden_size": 4, **attributes}, weights_are_inputs=weights_are_inputs
    )
    return model, arrays


def test_weights_as_inputs_are_those_of_the_run() -> None:
    """Weights as inputs give what initializers give, as lists and as mappings; equal weights are imported once."""
    bound, arrays = gru(weights_are_inputs=True)
    rep = prepare(bound)
    y, y_h = rep.run(list(arrays.values()))
    assert y.shape == (5, 1, 2, 4)
    assert y_h.shape == (1, 2, 4)
    assert y.dtype == y_h.dtype == np.float32
    np.testing.assert_array_equal(rep.run(arrays)[0], y)
    assert rep.bind(arrays).model is rep.bind(dict(arrays)).model
    plain = make_model("GRU", arrays, OUTPUTS[:2], {"hidden_size": 4})
    np.testing.assert_array_equal(prepare(plain).run([arrays["X"], arrays["initial_h"]])[0], y)
    other = arrays | {"W": -arrays["W"]}
    assert rep.bind(other).model is not rep.bind(arrays).model
    assert np.abs(rep.run(other)[0] - y).max() > 0.05
    np.testing.assert_array_equal(rep.run(arrays)[0], y)


def test_initial_states_may_be_left_out_of_a_mapping() -> None:
    model, arrays = gru(weights_are_inputs=False)
    rep = prepare(model)
    zero = rep.run({"X": arrays["X"], "initial_h": np.zeros((1, 2, 4), np.float32)})
    np.testing.assert_array_equal(rep.run({"X": arrays["X"]})[0], zero[0])


@pytest.mark.parametrize("engine", ["reference", "cpu"])
def test_integer_engines(engine: str) -> None:
    """Near float and not float; both the same."""
    model, arrays = gru(weights_are_inputs=True)
    want = prepare(model).run(arrays)
    got = prepare(model, engine=engine).run(arrays)
    for a, b in zip(want, got, strict=True):
        assert a.shape == b.shape
        assert b.dtype == np.float32
        assert 0 < np.abs(a - b).max() < 0.02
    for a, b in zip(got, prepare(model, engine="reference").run(arrays), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_scheme_is_the_callers() -> None:
    model, arrays = gru(weights_are_inputs=True)
    want = prepare(model).run(arrays)[0]
    errors = [
        np.abs(prepare(model, engine="cpu", scheme=qrnn.Scheme(activations=bits)).run(arrays)[0] - want).max()
        for bits in (8, 16)
    ]
    assert errors[1] < errors[0]


def test_sequences_of_no_steps_run_on_integers() -> None:
    """Ranges then come from their padding; the outputs are zero."""
    case = own_case("LSTM", "no steps", "bidirectional", Shape({}, lengths=(0, 0, 0)))
    for output in prepare(case.model, engine="cpu").run(case.inputs):
        assert not output.any()


def test_run_node() -> None:
    """Absent inputs are not given; names may repeat; an operator version may be named."""
    node = helper.make_node("RNN", ["X", "W", "R", "", "", "H"], ["", "Y_h"], hidden_size=4)
    x, w, r, h = draw(6, 3, 2), draw(1, 4, 2), draw(1, 4, 4), draw(1, 3, 4)
    (y_h,) = onnx_backend.run_node(node, [x, w, r, h])
    state = h[0].astype(np.float64)
    for step in x:
        state = np.tanh(step @ w[0].T + state @ r[0].T)
    np.testing.assert_allclose(y_h[0], state, atol=1e-6)
    (named,) = QrnnBackend.run_node(node, {"X": x, "W": w, "R": r, "H": h}, opset_version=7)
    np.testing.assert_array_equal(named, y_h)
    single = onnx_backend.run_node(node, [x[:1, :1], w, r, h[:, :1]])[0]
    np.testing.assert_allclose(single[0, 0], np.tanh(w[0] @ x[0, 0] + r[0] @ h[0, 0]), atol=1e-6)
    with pytest.raises(DataError, match="3 arrays are given, expected 4"):
        onnx_backend.run_node(node, [x, w, r])


def test_run_node_reverse_of_one_step() -> None:
    """One step with a state input is not taken for a graph that is called step by step, which could not run in reverse."""
    node = helper.make_node("RNN", ["X", "W", "R", "", "", "H"], ["Y"], hidden_size=4, direction="bidirectional")
    x, w, r, h = draw(1, 1, 2), draw(2, 4, 2), draw(2, 4, 4), draw(2, 1, 4)
    (y,) = onnx_backend.run_node(node, [x, w, r, h])
    want = [np.tanh(w[d] @ x[0, 0] + r[d] @ h[d, 0]) for d in range(2)]
    np.testing.assert_allclose(y[0, :, 0], want, atol=1e-6)


def test_layout_of_the_graph() -> None:
    """[N, T, F] in and out, with a Gemm head and its weights as inputs."""
    model = head("LSTM")
    rep = prepare(model)
    x = draw(3, 7, 4)
    (logits,) = rep.run(x)
    want = qrnn.equations.oracle.run_oracle(rep.bind([x]).model, {"x": x}).outputs["logits"]
    assert logits.shape == (3, 7, 3)
    np.testing.assert_allclose(logits, want, atol=1e-6)


def dense_head() -> tuple[onnx.ModelProto, list[Any]]:
    """RNN → last state → Gemm with weight and bias as inputs, the weight transposed by a node of its own."""
    g = Graph()
    x, w, c = g.input("x", ["T", "N", 3]), g.input("weight", [2, 4]), g.input("bias", [2])
    h = g.recurrent("RNN", x, 3, 4)[1]
    turned = g.node("Transpose", [w], perm=[1, 0])
    g.node("Gemm", [g.axes_op("Squeeze", h, [0]), turned, c], ["out"])
    g.output("out", 2)
    return g.model(), [draw(5, 2, 3), draw(2, 4), draw(2)]


def test_dense_weights_as_inputs() -> None:
    model, inputs = dense_head()
    assert weight_inputs(model.graph) == {"weight", "bias"}
    (out,) = onnx_backend.run_model(model, inputs)
    (zero,) = onnx_backend.run_model(model, [*inputs[:2], np.zeros(2, np.float32)])
    np.testing.assert_allclose(out - zero, np.tile(inputs[2], (2, 1)), atol=1e-6)


def test_output_types_are_the_graphs() -> None:
    model, arrays = gru(weights_are_inputs=False)
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.DOUBLE
    y, y_h = prepare(model).run([arrays["X"], arrays["initial_h"]])
    assert (y.dtype, y_h.dtype) == (np.float32, np.float64)


def test_the_model_given_is_left_as_it_is() -> None:
    model, arrays = gru(weights_are_inputs=True)
    before = model.SerializeToString(deterministic=True)
    prepare(model).run(arrays)
    assert model.SerializeToString(deterministic=True) == before


# --- refusals --------------------------------------------------------------------------------------------------------------------------


def test_unsupported_models() -> None:
    """Refused before the first run, with weights as inputs too."""
    for weights_are_inputs in (False, True):
        model, _ = gru(weights_are_inputs, activations=["Sigmoid", "Swish"])
        assert not onnx_backend.is_compatible(model)
        with pytest.raises((UnsupportedError, ModelFileError), match="Swish"):
            prepare(model)
        assert onnx_backend.is_compatible(gru(weights_are_inputs)[0])


def test_no_recurrent_node() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(UnsupportedError, match="no recurrent node"):
        onnx_backend.run_node(node, [draw(2, 3)])


def test_weights_of_unknown_shape_are_looked_at_when_given() -> None:
    model, arrays = gru(weights_are_inputs=True)
    for value in model.graph.input:
        if value.name == "W":
            value.type.tensor_type.shape.dim[1].dim_param = "rows"
    rep = prepare(model)
    assert rep.run(arrays)[0].shape == (5, 1, 2, 4)
    with pytest.raises(ModelFileError, match="W has shape"):
        rep.run(arrays | {"W": draw(1, 11, 3)})


def test_device_and_engine() -> None:
    model, _ = gru(weights_are_inputs=False)
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA")
    assert not onnx_backend.is_compatible(model, "CUDA")
    with pytest.raises(BackendError, match="device 'CUDA'"):
        prepare(model, "CUDA")
    with pytest.raises(BackendError, match="engine 'gpu' is unknown; expected one of float, cpu, cuda, reference"):
        prepare(model, engine="gpu")


def test_inputs_that_do_not_fit() -> None:
    model, arrays = gru(weights_are_inputs=True)
    rep = prepare(model)
    with pytest.raises(DataError, match="3 arrays are given, expected 4"):
        rep.run(list(arrays.values())[:3])
    with pytest.raises(DataError, match="array 'Z' is not an input"):
        rep.run(arrays | {"Z": draw(1)})
    with pytest.raises(DataError, match="input 'R' is missing"):
        rep.run({name: arrays[name] for name in ("X", "W")})
    with pytest.raises(DataError, match=r"input 'X' has shape \[5, 2\]"):
        rep.run(arrays | {"X": draw(5, 2)})
    with pytest.raises(DataError, match="has 3 sequences"):
        rep.run(arrays | {"initial_h": draw(1, 3, 4)})
