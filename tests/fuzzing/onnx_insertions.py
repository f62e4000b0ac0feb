"""Edits that put nodes into an ONNX model: between two others, drawn from ONNX's schemas, or those of another model."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from fuzzing import onnx_soup, onnx_values
from fuzzing.onnx_corpus import corpus
from fuzzing.onnx_edits import constant, edit, insert, known_before, opset_of


@edit(14)
def between(rng: Random, model: onnx.ModelProto) -> None:
    """A standard node on an edge, which often changes nothing or the order of axes."""
    graph = model.graph
    places = [(k, j) for k, n in enumerate(graph.node) for j, i in enumerate(n.input) if i]
    if not places:
        return
    k, j = rng.choice(places)
    source, out, opset = graph.node[k].input[j], f"b{rng.getrandbits(40)}", opset_of(model)
    axes = [rng.choice((-1, 0, 1, 2))]

    def i64(*v: int) -> str:
        return constant(rng, graph, np.array(v, np.int64))

    def real(*shape: int) -> str:
        return constant(rng, graph, onnx_values.numbers(rng, shape))

    def make(op: str, *inputs: str, **attributes: Any) -> list[onnx.NodeProto]:
        return [helper.make_node(op, [source, *inputs], [out], **attributes)]

    choices: list[Callable[[], list[onnx.NodeProto]]] = [
        lambda: make("Identity"),
        lambda: make("Dropout"),
        lambda: make("Transpose", perm=rng.sample(range(3), 3)),
        lambda: make("Transpose"),
        lambda: make("Cast", to=rng.choice((1, 10, 11, 6, 7, 9, 3))),
        lambda: make("Reshape", i64(*rng.choice(((0, 0, -1), (-1,), (0, -1), (1, -1, 4), (-1, 1, 5), (0, 0, 5), (1, 1, -1, 5))))),
        lambda: make("Unsqueeze", axes=axes) if opset < 13 else make("Unsqueeze", i64(*axes)),
        lambda: make("Squeeze", axes=axes) if opset < 13 else make("Squeeze", i64(*axes)),
        lambda: make("Slice", i64(onnx_values.integer(rng)), i64(onnx_values.integer(rng)), i64(*axes), i64(rng.choice((1, 1, -1, 2)))),
        lambda: make("Gather", i64(*(rng.choice((0, 1, -1, 3)) for _ in range(rng.choice((1, 2, 5))))), axis=rng.choice((0, 1, 2, -1))),
        lambda: make("Concat", axis=rng.choice((0, -1))),
        lambda: make("Concat", source, axis=rng.choice((0, 1, 2, -1))),
        lambda: make("Expand", i64(*onnx_values.shape(rng))),
        lambda: make("Expand", i64(1)),
        lambda: make("Tile", i64(*onnx_values.shape(rng))),
        lambda: make("Flatten", axis=rng.choice((0, 1, 2, -1))),
        lambda: make(rng.choice(("Tanh", "Relu", "Sigmoid", "HardSigmoid", "LeakyRelu", "Elu", "Softsign", "Neg", "Abs", "Softplus"))),
        lambda: make("ThresholdedRelu", alpha=rng.choice((0.0, 0.3, 1.0))),
        lambda: make(rng.choice(("Add", "Mul", "Sub", "Div")), real(*onnx_values.shape(rng, rng.choice((0, 1, 1, 2))))),
        lambda: make(rng.choice(("Add", "Mul", "Sub", "Max")), source),
        lambda: make("MatMul", real(rng.choice((3, 4, 5)), rng.choice((3, 4, 5)))),
        lambda: make("Softmax", axis=rng.choice((-1, 0, 1, 2))),
        lambda: make("Pad", i64(*([0] * rng.choice((2, 4, 6)))), mode="constant"),
        lambda: make("Clip"),
        lambda: make("ReverseSequence", i64(3, 3), batch_axis=1, time_axis=0),
    ]  # fmt: skip
    made = rng.choice(choices)()
    insert(graph, k, *made)
    graph.node[k + len(made)].input[j] = out


@edit(8)
def soup(rng: Random, model: onnx.ModelProto) -> None:
    """One or several operators of any kind, read by a later node or as an output."""
    graph = model.graph
    for _ in range(rng.choice((1, 1, 2, 4))):
        k = rng.randint(0, len(graph.node))
        new: list[onnx.TensorProto] = []
        made = onnx_soup.node(rng, opset_of(model), known_before(graph, k), new)
        if made is None:
            continue
        graph.initializer.extend(new)
        insert(graph, k, made)
        later = [n for n in graph.node[k + 1 :] if n.input]
        if later and rng.random() < 0.7:
            node = rng.choice(later)
            node.input[rng.randrange(len(node.input))] = made.output[0]
        elif rng.random() < 0.5:
            graph.output.append(helper.make_tensor_value_info(made.output[0], TensorProto.FLOAT, ["a", "b", "c"]))


@edit(5)
def crossed(rng: Random, model: onnx.ModelProto) -> None:
    """The nodes of another model of the corpus behind this one."""
    other = onnx.ModelProto()
    other.ParseFromString(rng.choice(corpus()[:70])[1])
    prefix = f"o{rng.getrandbits(20)}_"
    graph, theirs = model.graph, other.graph
    made = known_before(graph, len(graph.node))
    inputs = {i.name for i in theirs.input}
    joined = {i: (rng.choice(made) if rng.random() < 0.6 and made else prefix + i) for i in sorted(inputs)}
    for value in theirs.input:
        if joined[value.name] == prefix + value.name:
            value.name = prefix + value.name
            graph.input.append(value)
    for tensor in theirs.initializer:
        tensor.name = prefix + tensor.name
    graph.initializer.extend(theirs.initializer)
    for node in theirs.node:
        node.input[:] = [joined.get(i, prefix + i) if i else "" for i in node.input]
        node.output[:] = [prefix + o if o else "" for o in node.output]
    graph.node.extend(theirs.node)
    for value in theirs.output:
        value.name = prefix + value.name
        graph.output.append(value)
