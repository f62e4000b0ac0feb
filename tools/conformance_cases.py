"""The cases of docs/conformance.md: ONNX models of one recurrent node with their inputs and expected outputs.

`own_cases` need nothing but this file; `golden_cases` and `node_cases` read the vectors of other projects under a given folder.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Arrays = Mapping[str, Any]

OPERATORS = ("LSTM", "GRU", "RNN")
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ROLES = {"LSTM": ("gate", "candidate", "output"), "GRU": ("gate", "candidate"), "RNN": ("candidate",)}
DEFAULTS = {"gate": "Sigmoid", "candidate": "Tanh", "output": "Tanh"}
SLOTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
OUTPUTS = ("Y", "Y_h", "Y_c")
WEIGHTS = ("W", "R", "B", "P")
DIRECTIONS = ("forward", "reverse", "bidirectional")
OPSET = 17
"""The opset of the cases that are not about opsets. Every supported ONNX Runtime knows it, and newer ones are compared with it."""

NODE_RTOL, NODE_ATOL = 1e-3, 1e-7
"""Tolerances of ONNX's own node tests."""

N, T, I, H = 3, 6, 3, 4

PARAMETERS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "Relu": ((), ()),
    "Tanh": ((), ()),
    "Sigmoid": ((), ()),
    "Affine": ((0.7,), (0.1,)),
    "LeakyRelu": ((0.2,), ()),
    "ThresholdedRelu": ((0.1,), ()),
    "ScaledTanh": ((0.8,), (1.3,)),
    "HardSigmoid": ((0.3,), (0.4,)),
    "Elu": ((0.6,), ()),
    "Softsign": ((), ()),
    "Softplus": ((), ()),
}
"""The functions of ONNX with an alpha and a beta, where they take them, that are not the defaults."""


SPECIFIED: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "LeakyRelu": ((0.01,), ()),
    "ThresholdedRelu": ((1.0,), ()),
    "HardSigmoid": ((0.2,), (0.5,)),
    "Elu": ((1.0,), ()),
}
"""The defaults of the functions that have some: those of the ONNX operators, says the specification.

ONNX Runtime 1.31 takes 0 or next to it for ThresholdedRelu's, not 1; so it is given all of them written out.
"""


@dataclass(frozen=True)
class Case:
    """A model with inputs in the graph's order.

    ``expected`` holds its outputs; None stands for those of ONNX Runtime, which runs ``twin`` in place of a model that it refuses.
    ``fails`` is true for a model that must be refused. ``compared`` names the outputs that are compared and measured; empty, all are.
    """

    operator: str
    feature: str
    name: str
    model: onnx.ModelProto
    inputs: Arrays
    expected: Arrays | None = None
    fails: bool = False
    twin: Case | None = None
    compared: tuple[str, ...] = ()

    @property
    def axes(self) -> Mapping[str, tuple[int, ...]]:
        """For outputs whose axes are ordered otherwise than the twin's: the order of the twin's axes that is this case's."""
        layout = next((a.i for a in self.model.graph.node[0].attribute if a.name == "layout"), 0)
        return {"Y": (2, 0, 1, 3), "Y_h": (1, 0, 2), "Y_c": (1, 0, 2)} if layout else {}


def make_model(
    op: str,
    arrays: Arrays,
    outputs: Sequence[str],
    attributes: Mapping[str, Any],
    opset: int = OPSET,
    weights_are_inputs: bool = False,
    constants: Sequence[str] = WEIGHTS,
) -> onnx.ModelProto:
    """Return a model of one node that reads ``arrays`` by slot and writes ``outputs``; slots in neither are absent."""
    inputs, initializers = [], []
    for name, array in arrays.items():
        if name in constants and not weights_are_inputs:
            initializers.append(numpy_helper.from_array(array, name))
            continue
        dims = list(array.shape) if name in WEIGHTS else [f"{name}_{k}" for k in range(array.ndim)]
        if name in ("X", "initial_h", "initial_c"):
            dims[-1] = array.shape[-1]
        if name in ("initial_h", "initial_c"):
            axis = 1 if attributes.get("layout") else 0
            dims[axis] = array.shape[axis]
        inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), dims))
    given = [name if name in arrays else "" for name in SLOTS]
    written = [name if name in outputs else "" for name in OUTPUTS]
    node = helper.make_node(op, _trimmed(given), _trimmed(written), name="node", **attributes)
    declared = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_{k}" for k in range(4 if name == "Y" else 3)])
        for name in OUTPUTS
        if name in outputs
    ]
    graph = helper.make_graph([node], "case", inputs, declared, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _trimmed(names: list[str]) -> list[str]:
    while names and not names[-1]:
        names.pop()
    return names


# --- the project's own matrix -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """The properties that a case of the matrix varies."""

    attributes: Mapping[str, Any]
    slots: tuple[str, ...] = ("B",)
    lengths: tuple[int, ...] | None = None
    outputs: tuple[str, ...] = OUTPUTS
    opset: int = OPSET
    state_scale: float = 0.5
    x_scale: float = 1.0
    written_out: Mapping[str, Any] | None = None
    """What the twin has in place of ``attributes``."""


def own_case(op: str, feature: str, direction: str, shape: Shape) -> Case:
    """Return one case of the matrix; its arrays come from a seed of its name."""
    name = f"{op} {feature} {direction}"
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    D, G = (2 if direction == "bidirectional" else 1), GATES[op]

    def draw(*dims: int, scale: float) -> Any:
        return (rng.random(dims) * 2 * scale - scale).astype(np.float32)

    arrays: dict[str, Any] = {
        "X": draw(T, N, I, scale=shape.x_scale),
        "W": draw(D, G * H, I, scale=0.6),
        "R": draw(D, G * H, H, scale=0.6),
        "B": draw(D, 2 * G * H, scale=0.3),
        "sequence_lens": None if shape.lengths is None else np.array(shape.lengths, np.int32),
        "initial_h": draw(D, N, H, scale=shape.state_scale),
        "initial_c": draw(D, N, H, scale=shape.state_scale),
        "P": draw(D, 3 * H, scale=0.6),
    }
    kept = {"X", "W", "R", *shape.slots} | ({"sequence_lens"} if shape.lengths is not None else set())
    arrays = {slot: arrays[slot] for slot in SLOTS if slot in kept}
    outputs = shape.outputs if op == "LSTM" else tuple(o for o in shape.outputs if o != "Y_c")
    attributes: dict[str, Any] = {"hidden_size": H, **shape.attributes}
    if direction != "forward":
        attributes["direction"] = direction
    model = make_model(op, arrays, outputs, attributes, shape.opset)
    data = {slot: array for slot, array in arrays.items() if slot not in WEIGHTS}
    case = Case(op, feature, name, model, data)
    if attributes.pop("layout", 0):
        turned = {k: v.swapaxes(0, 1) if k in ("X", "initial_h", "initial_c") else v for k, v in arrays.items()}
        model = make_model(op, turned, outputs, {**attributes, "layout": 1}, shape.opset)
        return replace(
            case, model=model, inputs={k: turned[k] for k in data}, twin=_plain(op, arrays, outputs, attributes)
        )
    if shape.opset > OPSET or shape.written_out is not None:
        return replace(case, twin=_plain(op, arrays, outputs, attributes | dict(shape.written_out or {})))
    return case


def _plain(op: str, arrays: Arrays, outputs: Sequence[str], attributes: Mapping[str, Any]) -> Case:
    """Return the same network with layout 0 and an opset that ONNX Runtime knows."""
    data = {slot: array for slot, array in arrays.items() if slot not in WEIGHTS}
    return Case(op, "", "", make_model(op, arrays, outputs, attributes), data)


def own_cases() -> Iterator[Case]:
    """Yield every attribute, operator and direction."""
    for op in OPERATORS:
        for feature, shapes in _features(op):
            for direction in DIRECTIONS:
                for number, shape in enumerate(shapes):
                    case = own_case(op, feature, direction, _in_direction(shape, direction))
                    yield replace(case, name=f"{case.name} {number}") if len(shapes) > 1 else case
        yield _other_functions(op)


def _in_direction(shape: Shape, direction: str) -> Shape:
    """Repeat lists that are per direction for both."""
    if direction != "bidirectional" or "activations" not in shape.attributes:
        return shape
    twice, written = (
        {k: [*v, *v] if isinstance(v, list) else v for k, v in (attributes or {}).items()}
        for attributes in (shape.attributes, shape.written_out)
    )
    return replace(shape, attributes=twice, written_out=written or None)


def activations(op: str, chosen: Mapping[str, str], table: Mapping[str, Any] = PARAMETERS) -> dict[str, Any]:
    """Return the attributes for a function of each role in ``chosen``, with its alpha and beta of ``table``.

    The other roles have their defaults.
    """
    names = [chosen.get(role, DEFAULTS[role]) for role in ROLES[op]]
    result: dict[str, Any] = {"activations": names}
    for number, attribute in enumerate(("activation_alpha", "activation_beta")):
        values = [v for name in names for v in table.get(name, ((), ()))[number]]
        if values:
            result[attribute] = values
    return result


def _features(op: str) -> Iterator[tuple[str, list[Shape]]]:
    """Yield each row of the document with its cases, for each direction."""
    states = ("initial_h", "initial_c") if op == "LSTM" else ("initial_h",)
    every: tuple[str, ...] = ("B", *states)
    yield "no attribute", [Shape({})]
    for role in ROLES[op]:
        for function in PARAMETERS:
            yield f"{function} as {role}", [Shape(activations(op, {role: function}))]
    yield (
        "alpha and beta left out",
        [
            Shape(
                activations(op, {"candidate": f}, {}),
                x_scale=3.0,
                written_out=activations(op, {"candidate": f}, SPECIFIED),
            )
            for f in SPECIFIED
        ],
    )
    several = dict(zip(ROLES[op], ("HardSigmoid", "LeakyRelu", "ScaledTanh"), strict=False))
    yield "alpha and beta of several functions", [Shape(activations(op, several))]
    yield "clip", [Shape({"clip": clip}) for clip in (0.1, 0.5, 50.0, 9999.0)]
    yield "clip of unbounded functions", [Shape({**activations(op, {"candidate": "Relu"}), "clip": 0.4})]
    if op == "LSTM":
        yield "input_forget", [Shape({"input_forget": 1})]
        yield "peepholes", [Shape({}, ("B", "P"))]
        yield (
            "peepholes, clip and input_forget",
            [
                Shape({"clip": 0.4}, ("B", "P")),
                Shape({"input_forget": 1}, ("B", "P")),
                Shape({"input_forget": 1, "clip": 0.4}, ("B", "P", *states)),
            ],
        )
    if op == "GRU":
        yield "linear_before_reset", [Shape({"linear_before_reset": flag}) for flag in (0, 1)]
        yield "linear_before_reset without bias", [Shape({"linear_before_reset": 1}, ())]
        yield "linear_before_reset and clip", [Shape({"linear_before_reset": 1, "clip": 0.4})]
    yield (
        "layout",
        [
            Shape({"layout": 0}),
            Shape({"layout": 1}),
            Shape({"layout": 1}, every),
            Shape({"layout": 1}, every, (T, 2, 4)),
        ],
    )
    yield "sequence_lens, full", [Shape({}, lengths=(T, T, T))]
    yield "sequence_lens, short", [Shape({}, lengths=(2, T, 4)), Shape({}, every, (1, 3, 5))]
    yield (
        "sequence_lens, zero",
        [Shape({}, lengths=(T, 0, 2)), Shape({}, every, (0, 3, T)), Shape({}, every, (0, 0, 0))],
    )
    yield "initial states", [Shape({}, every), Shape({}, every, state_scale=2.0)]
    if op == "LSTM":
        yield "initial_h or initial_c alone", [Shape({}, ("B", state)) for state in states]
    yield "no bias", [Shape({}, ())]
    chosen = (("Y",), ("Y_h",), ("Y_c",), ("Y_h", "Y_c"), ("Y", "Y_c")) if op == "LSTM" else (("Y",), ("Y_h",))
    yield "some of the outputs", [Shape({}, every, outputs=names) for names in chosen]
    newest = int(onnx.defs.onnx_opset_version())
    yield "opsets 7, 8, 13, 14, 21, 22 and the newest", [Shape({}, opset=o) for o in (7, 8, 13, 14, 21, 22, newest)]


def _other_functions(op: str) -> Case:
    """Return a case whose functions, alphas and betas differ between the directions."""
    names = {"LSTM": ("Elu", "Affine", "Softsign"), "GRU": ("ThresholdedRelu", "Elu"), "RNN": ("LeakyRelu",)}[op]
    other = {"LSTM": ("HardSigmoid", "LeakyRelu", "Tanh"), "GRU": ("Softsign", "Affine"), "RNN": ("ScaledTanh",)}[op]
    first, second = (activations(op, dict(zip(ROLES[op], n, strict=True))) for n in (names, other))
    joined = {key: [*first.get(key, []), *second.get(key, [])] for key in (*first, *second)}
    return own_case(op, "other functions in each direction", "bidirectional", Shape(joined))


# --- the vectors of other projects ------------------------------------------------------------------------------------------------------


def golden_cases(shared: Path) -> Iterator[Case]:
    """Yield ONNX Runtime's operator tests, weights as graph inputs; a name's cases are numbered."""
    seen: dict[str, int] = {}
    for line in (shared / "vectors" / "ort_rnn_golden.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        arrays, outputs = (_read_tensors(entry[key]) for key in ("inputs", "outputs"))
        model = make_model(
            entry["op"], arrays, list(outputs), entry["attributes"], entry["opset"], weights_are_inputs=True
        )
        test = entry["test"]
        seen[test] = seen.get(test, 0) + 1
        fails = entry["expect"] != "success"
        yield Case(entry["op"], test, f"{test} {seen[test]}", model, arrays, outputs, fails)


def _read_tensors(entries: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    present = [e for e in entries if e]
    return {e["name"]: np.array(e["data"], e["dtype"]).reshape(e["shape"]) for e in present}


def node_cases(shared: Path) -> Iterator[Case]:
    """Yield ONNX's backend node tests as they are stored."""
    for folder in sorted((shared / "vectors" / "onnx_node").iterdir()):
        model = onnx.load(folder / "model.onnx")
        inputs, outputs = (
            {v.name: _read_pb(folder / "test_data_set_0" / f"{kind}_{k}.pb") for k, v in enumerate(values)}
            for kind, values in (("input", model.graph.input), ("output", model.graph.output))
        )
        yield Case(model.graph.node[0].op_type, folder.name, folder.name, model, inputs, outputs)


def _read_pb(path: Path) -> Any:
    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)
