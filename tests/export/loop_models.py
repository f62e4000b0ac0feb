"""Models whose layers have no C of their own, and runs of their loops in Python and in C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from backends.loop_kinds import QuantDifference, QuantPooled

from qrnn.arithmetic import CONTRACT
from qrnn.export.replay import Replayed
from qrnn.export.source import Exported
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.kinds.last_step import QuantLastStep
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel

I, H = 3, 4


PLAIN = SimpleNamespace(**{function.__name__: function for function in CONTRACT})
"""The functions of the contract by name, on Python's integers."""


PROVENANCE = Provenance("", 0, "", 0, 0, "", False, "", {})


def fmt(features: int, has_time: bool = True) -> TensorFormat:
    return TensorFormat(features, has_time, 16, (2.0**-12,), 32767)


def output(name: str, tensor: str, features: int, has_time: bool = True) -> GraphOutput:
    every = np.arange(features)
    return GraphOutput(name, (features,), has_time, ((tensor, every, every),))


def model_of(own: Sequence[QuantLayer], tensors: dict[str, TensorFormat], outputs: Sequence[GraphOutput]) -> QuantModel:
    x = GraphInput("x", "features", (I,), True)
    return QuantModel("m", (x,), tuple(own), tuple(outputs), {"x": fmt(I), **tensors}, False, PROVENANCE)


def pooled(name: str, source: str, target: str, stride: int, delay: int, columns: int = I) -> QuantPooled:
    rng = np.random.default_rng(len(name) + 7 * stride)
    weight = rng.integers(-127, 128, (H, columns)).astype(np.int8)
    bias = rng.integers(-500, 500, H).astype(np.int32)
    return QuantPooled(name, source, target, weight, bias, np.full(H, 1 << 29, np.int32), stride, delay)


def difference(name: str = "rows", source: str = "x", target: str = "d") -> QuantDifference:
    return QuantDifference(name, source, target, np.array([300, -200, 4000], np.int16), 12)


@dataclass
class Run:
    """A plain run of a model in Python: every tensor and every state, [1, …]."""

    tensors: dict[str, npt.NDArray[Any]]
    states: dict[tuple[str, int], npt.NDArray[Any]]


def plain_run(model: QuantModel, x: npt.NDArray[Any]) -> Run:
    """One sequence x [T, F], with its end, on Python's integers."""
    ran = Run({"x": x.astype(object)}, {})
    for layer in model.layers:
        read = ran.tensors[layer.inputs[0]]
        features = model.tensors[layer.output].features
        if isinstance(layer, QuantLastStep):
            ran.tensors[layer.output] = read[-1:] if len(read) else np.zeros((1, features), object)
        elif layer.by_rows:
            out = np.zeros((len(read), features), object)
            for found in layer.row_loops():
                values = (p.astype(object) if isinstance(p, np.ndarray) else p for p in found.parameters)
                found.make(PLAIN)(0, len(out), *values, *(ran.tensors[i] for i in found.inputs), out)
            ran.tensors[layer.output] = out
        else:
            ran.tensors[layer.output] = plain_steps(layer, read, features, ran)
    return ran


class WithDot:
    """The functions of the contract, and the product of a row of weights."""

    def __getattr__(self, name: str) -> Any:
        return getattr(PLAIN, name)

    @staticmethod
    def dot(weight: Any, r: int, x: Any, n: int) -> int:
        return sum(int(weight[r, k]) * x[n, k] for k in range(weight.shape[1]))


def plain_steps(layer: QuantLayer, x: npt.NDArray[Any], features: int, ran: Run) -> npt.NDArray[Any]:
    """The rows of a layer with a `step_loop`."""
    found = layer.step_loop()
    states = []
    for k, state in enumerate(layer.states()):
        own = np.zeros((1, *state.shape), object)
        for at, start in enumerate(state.starts):
            own[0, at] = start.value
        ran.states[layer.name, k] = own
        states.append(own)
    scratch = [np.full((1, *s.shape), 12345, object) for s in found.scratch]
    values = [p.astype(object) if isinstance(p, np.ndarray) else p for p in found.parameters]
    out, rows = np.zeros((1, 3 * len(x) + 9, features), object), 0
    step = found.make(WithDot())
    for t in [*range(len(x)), *([-1] * layer.steps_past_end)]:
        rows += step(0, t, rows, x[None], out, *states, *values, *scratch)
    return out[0, :rows]


def want(model: QuantModel, exported: Exported, sequences: Sequence[Any]) -> list[Replayed]:
    """What the C is to give."""
    found = []
    for inputs in sequences:
        ran = plain_run(model, inputs["x"])
        outputs = {}
        for o, port in zip(model.outputs, exported.outputs, strict=True):
            read = ran.tensors[o.parts[0][0]]
            outputs[port.name] = (read if port.has_time else read[0]).astype(np.int16)
        state = {f.name: ran.states[f.layer, f.array or 0][0].reshape(-1) for f in exported.compared_state}
        found.append(Replayed(outputs, state))
    return found
