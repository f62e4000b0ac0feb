"""Nodes drawn from ONNX's own schemas: valid operators with valid attributes, on values of the graph."""

from __future__ import annotations

from functools import cache
from random import Random

import onnx
from onnx import defs, helper

from fuzzing import onnx_values as values

LIKELY = (
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Concat", "Slice", "Gather", "Split", "Expand", "Identity", "Cast", "Shape",
    "Flatten", "Dropout", "MatMul", "Gemm", "Add", "Mul", "Sub", "Div", "Sigmoid", "Tanh", "Relu", "HardSigmoid", "LeakyRelu", "Elu",
    "Softsign", "Softplus", "ThresholdedRelu", "Softmax", "Constant", "ConstantOfShape", "LSTM", "GRU", "RNN", "Where", "Equal", "Max",
    "Min", "Clip", "ReduceSum", "ReduceMean", "ReduceMax", "Pow", "Sqrt", "Range", "Tile", "Pad", "Size", "Sum", "Mod", "Not",
)  # fmt: skip
"""Operators that stand around recurrent nodes."""


@cache
def every_operator() -> tuple[str, ...]:
    """The names of all standard operators."""
    return tuple(sorted({s.name for s in defs.get_all_schemas() if s.domain == ""}))


def schema(op: str, opset: int) -> defs.OpSchema | None:
    """The schema of an operator in an opset; None where it has none."""
    try:
        return defs.get_schema(op, max(1, min(opset, defs.onnx_opset_version())), "")
    except Exception:  # noqa: BLE001  # onnx raises a type of its own that is no part of its interface
        return None


def node(rng: Random, opset: int, known: list[str], constant: list[onnx.TensorProto]) -> onnx.NodeProto | None:
    """A node that reads ``known`` values and new constants, which go to ``constant``."""
    op = rng.choice(LIKELY) if rng.random() < 0.8 else rng.choice(every_operator())
    found = schema(op, opset)
    if found is None or found.deprecated:
        return None
    most = min(found.max_input, found.min_input + 2, 8)
    count = rng.randint(min(found.min_input, most), most)
    inputs = []
    for k in range(count):
        if rng.random() < (0.6 if k else 0.15) or not known:
            made = values.tensor(rng, f"k{rng.getrandbits(40)}")
            constant.append(made)
            inputs.append(made.name)
        else:
            inputs.append("" if k >= found.min_input and rng.random() < 0.1 else rng.choice(known))
    outputs = [f"v{rng.getrandbits(40)}" for _ in range(max(1, min(found.min_output, 4)))]
    made_node = helper.make_node(op, inputs, outputs, name=rng.choice(("", f"n{rng.getrandbits(30)}")))
    for attribute in found.attributes.values():
        if attribute.required or rng.random() < 0.3:
            value = values.attribute(rng, attribute.name, attribute.type)
            if value is not None:
                made_node.attribute.append(value)
    return made_node
