"""The networks and data of tools/bench_peers.py: the same weights and inputs for every runtime, and the float64 oracle's answer to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

import qrnn
from qrnn import layers
from qrnn.model.parts import FloatArray

Cell = Literal["lstm", "gru"]
Float32Array = npt.NDArray[np.float32]

SCHEME = qrnn.Scheme(input="8")
"""The default but for the input, which the default chooses by error, and may choose wider than the peers' 8 bits."""

CALIBRATION_SEQUENCES, CALIBRATION_STEPS = 8, 64

SPREAD = 0.25
"""The spread of the biases."""

GATES = {"lstm": 4, "gru": 3}
ONNX_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""i, f, g, o to i, o, f, c; r, z, n to z, r, h."""


@dataclass(frozen=True)
class Case:
    """One row: a layer of ``hidden`` units on as many inputs, with whole sequences of ``steps``, or with ``streaming`` one step per call."""

    cell: Cell
    hidden: int
    batch: int
    steps: int = 100
    streaming: bool = False

    @property
    def label(self) -> str:
        """The layer in words, for tables."""
        return f"{self.cell.upper()} {self.hidden}"

    @property
    def name(self) -> str:
        """The label, and how the layer is run."""
        return f"{self.label}, {'streaming' if self.streaming else f'batch {self.batch}'}"

    @property
    def matrix_bytes(self) -> int:
        """The bytes of each of W and R at 8 bits, which is also the number of their elements."""
        return GATES[self.cell] * self.hidden * self.hidden

    @property
    def step_macs(self) -> int:
        """The multiply-adds of a step of all sequences."""
        return 2 * self.matrix_bytes * self.batch


@dataclass(frozen=True)
class Network:
    """The weights weight_ih, weight_hh [G·H, H], bias_ih, bias_hh [G·H], gates in qrnn's and PyTorch's order; and the quantized model."""

    arrays: tuple[Float32Array, Float32Array, Float32Array, Float32Array]
    model: Any
    quantized: Any


@dataclass(frozen=True)
class Work:
    """A case with its network, its inputs x [N, T, H], and the answer expected from a runtime, y [N, T, H] by the float64 oracle."""

    case: Case
    network: Network
    x: Float32Array
    want: FloatArray


@cache
def network(cell: Cell, hidden: int) -> Network:
    """Return random weights of trained networks' sizes: preactivations of about unit variance, a forget gate biased open, no chaos."""
    rng = np.random.default_rng([hidden, GATES[cell]])
    rows = GATES[cell] * hidden
    weights = [(rng.normal(size=(rows, hidden)) / np.sqrt(hidden)).astype(np.float32) for _ in range(2)]
    biases = [(SPREAD * rng.normal(size=rows)).astype(np.float32) for _ in range(2)]
    if cell == "lstm":
        biases[0][hidden : 2 * hidden] += 1.0
    arrays = (weights[0], weights[1], biases[0], biases[1])
    x = layers.input("x", features=hidden)
    layer = layers.lstm(x, *arrays) if cell == "lstm" else layers.gru(x, *arrays)
    model = layers.model(cell, outputs={"y": layer.output})
    calibration = inputs(hidden, CALIBRATION_SEQUENCES, CALIBRATION_STEPS, seed=1)
    return Network(arrays, model, qrnn.quantize(model, {"x": calibration}, SCHEME))


def inputs(features: int, sequences: int, steps: int, seed: int) -> Float32Array:
    """Return [N, T, F]: noise of unit variance that changes slowly, as frames of a signal do."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(sequences, steps, features))
    for t in range(1, steps):
        x[:, t] = 0.8 * x[:, t - 1] + 0.6 * x[:, t]
    return x.astype(np.float32)


def work(case: Case) -> Work:
    """Make a case's inputs and the oracle's answer."""
    made = network(case.cell, case.hidden)
    x = inputs(case.hidden, case.batch, case.steps, seed=2)
    return Work(case, made, x, qrnn.run_oracle(made.model, {"x": x}).outputs["y"])


def onnx_model(work: Work) -> onnx.ModelProto:
    """Return the network as ONNX: x [T, N, H], h_0 and c_0 [1, N, H] → Y [T, 1, N, H], Y_h and Y_c [1, N, H].

    T is 1 when streaming. Shapes are fixed.
    """
    case = work.case
    cell, H, N, T = case.cell, case.hidden, case.batch, 1 if case.streaming else case.steps
    weight_ih, weight_hh, bias_ih, bias_hh = (
        a.reshape(GATES[cell], H, *a.shape[1:])[list(ONNX_ORDER[cell])].reshape(1, *a.shape)
        for a in work.network.arrays
    )
    constants = {"W": weight_ih, "R": weight_hh, "B": np.concatenate([bias_ih, bias_hh], axis=1)}
    states = state_names(case)
    shapes = {"x": [T, N, H], **{name: [1, N, H] for name, _ in states}}
    results = {"Y": [T, 1, N, H], **{name: [1, N, H] for _, name in states}}
    attributes = {"linear_before_reset": 1} if cell == "gru" else {}
    names = [*("x", "W", "R", "B", ""), *(name for name, _ in states)]
    node = helper.make_node(cell.upper(), names, list(results), hidden_size=H, **attributes)
    graph = helper.make_graph(
        [node],
        cell,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in results.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def state_names(case: Case) -> list[tuple[str, str]]:
    """Return the graph input and output of each state."""
    return [("h_0", "Y_h"), ("c_0", "Y_c")] if case.cell == "lstm" else [("h_0", "Y_h")]
