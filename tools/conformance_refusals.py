"""The models around LSTM, GRU and RNN that the importer refuses by name, and the words of the refusals, for docs/conformance.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from conformance_cases import GATES, OPSET, OUTPUTS, WEIGHTS, H, I, N, T, activations, make_model
from onnx import TensorProto, helper, numpy_helper

from qrnn.errors import QrnnError
from qrnn.onnx_import import import_model


def refusal(model: onnx.ModelProto) -> str:
    """Return the kind of the error and its words; empty where the model is imported."""
    try:
        import_model(model, "case")
    except QrnnError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _arrays(op: str, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows = GATES[op] * H
    shapes = {"X": (T, N, I), "W": (1, rows, I), "R": (1, rows, H), "B": (1, 2 * rows)}
    return {name: (rng.random(shape) - 0.5).astype(np.float32) for name, shape in shapes.items()} | more


def _one(op: str, attributes: dict[str, Any], constants: tuple[str, ...] = (), **more: Any) -> Any:
    outputs = OUTPUTS if op == "LSTM" else OUTPUTS[:2]
    every = {"hidden_size": H, **attributes}
    return make_model(op, _arrays(op, **more), outputs, every, constants=(*WEIGHTS, *constants))


def _two(first_reads: str = "", second_reads: str = "") -> onnx.ModelProto:
    """Return two RNN nodes in a row, the second on the first one's Y, with sequence_lens by name."""
    arrays = _arrays("RNN")
    weights = [numpy_helper.from_array(arrays["W"], "W"), numpy_helper.from_array(arrays["R"], "R")]
    weights.append(numpy_helper.from_array(arrays["R"], "W2"))
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", "N", I])]
    inputs += [
        helper.make_tensor_value_info(name, TensorProto.INT32, ["N"])
        for name in dict.fromkeys((first_reads, second_reads))
        if name
    ]
    nodes = [
        helper.make_node("RNN", ["X", "W", "R", "", first_reads], ["Y1", "state"], name="first", hidden_size=H),
        helper.make_node("Squeeze", ["Y1", "axes"], ["sequence"], name="squeeze"),
        helper.make_node(
            "RNN",
            ["sequence", "W2", "R", "", second_reads],
            ["Y"],
            name="second",
            hidden_size=H,
        ),
    ]
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [f"Y_{k}" for k in range(4)])]
    graph = helper.make_graph(nodes, "case", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def refused_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield what is refused, in words, with a model of it."""
    states = np.arange(N * H, dtype=np.float32).reshape(1, N, H)
    yield (
        "constant sequence_lens that differ",
        _one("GRU", {}, constants=("sequence_lens",), sequence_lens=np.array([2, 4, 6], np.int32)),
    )
    yield "constant initial states that differ", _one("GRU", {}, constants=("initial_h",), initial_h=states)
    for function in ("Affine", "ScaledTanh"):
        yield (
            f"{function} without alpha and beta",
            _one("RNN", activations("RNN", {"candidate": function}, {})),
        )
    yield "a function that ONNX does not have", _one("RNN", {"activations": ["Swish"]})
    yield "too few functions", _one("LSTM", {"activations": ["Sigmoid", "Tanh"]})
    yield (
        "more alphas than functions take",
        _one("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.1, 0.2]}),
    )
    yield "a layout that ONNX does not have", _one("GRU", {"layout": 2})
    yield "a negative clip", _one("GRU", {"clip": -1.0})
    yield "an unknown direction", _one("GRU", {"direction": "sideways"})
    yield (
        "weights as graph inputs (`qrnn.onnx_backend` binds them)",
        make_model("RNN", _arrays("RNN"), OUTPUTS[:2], {"hidden_size": H}, weights_are_inputs=True),
    )
    yield "two inputs of sequence lengths", _two("lengths", "others")
