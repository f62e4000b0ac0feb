"""Edits that make a small file ask for much: long chains, doubling constants and functions, deep nesting, huge sizes."""

from __future__ import annotations

from random import Random

import numpy as np
import onnx
from onnx import TensorProto, helper

from fuzzing import onnx_values
from fuzzing.onnx_edits import constant, edit, insert, opset_of


@edit(1)
def doubled(rng: Random, model: onnx.ModelProto) -> None:
    """A constant joined with itself again and again, or multiplied, or expanded, on the way to a weight."""
    graph = model.graph
    name = constant(rng, graph, onnx_values.numbers(rng, (4, 4)))
    nodes = []
    op = rng.choice(("Concat", "Concat", "Add", "Expand", "Tile", "MatMul", "Sum"))
    for k in range(rng.choice((8, 20, 26, 40))):
        out = f"dd{k}_{rng.getrandbits(30)}"
        if op in ("Expand", "Tile"):
            shape = constant(rng, graph, np.array([4 << min(k, 40), 4] if op == "Expand" else [2, 1], np.int64))
            nodes.append(helper.make_node(op, [name, shape], [out]))
        else:
            nodes.append(helper.make_node(op, [name, name], [out], **({"axis": 0} if op == "Concat" else {})))
        name = out
    insert(graph, 0, *nodes)
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["a", "b", "c"]))


@edit(2)
def huge(rng: Random, model: onnx.ModelProto) -> None:
    """A small constant that names a large shape: on ConstantOfShape, Expand, Tile, Pad, Range, Slice, Gather, Reshape, OneHot."""
    graph = model.graph
    n = rng.choice((1 << 16, 1 << 20, 1 << 27, 1 << 31, 1 << 40, (1 << 63) - 1))
    rank = rng.choice((1, 2, 3))
    shape = constant(rng, graph, np.array([n] + [rng.choice((1, 5, n)) for _ in range(rank - 1)], np.int64))
    value = constant(rng, graph, np.ones([1] * rank, np.float32))
    out = f"h{rng.getrandbits(40)}"
    op = rng.choice(("ConstantOfShape", "Expand", "Tile", "Range", "Gather", "Pad", "Reshape", "Concat"))
    match op:
        case "ConstantOfShape":
            node = helper.make_node(op, [shape], [out])
        case "Range":
            ends = [constant(rng, graph, np.int64(v)) for v in (0, n, 1)]
            node = helper.make_node(op, ends, [out])
        case "Gather":
            many = constant(rng, graph, np.zeros((rng.choice((3, 30_000)),), np.int64))
            big = constant(rng, graph, np.zeros((3, rng.choice((2, 30_000))), np.float32))
            node = helper.make_node(op, [big, many], [out])
        case "Pad":
            ends_both = constant(rng, graph, np.array([0] * rank + [n] * rank, np.int64))
            node = helper.make_node(op, [value, ends_both], [out])
        case "Concat":
            big = constant(rng, graph, np.zeros((3, rng.choice((2, 30_000))), np.float32))
            node = helper.make_node(op, [big] * rng.choice((2, 3000)), [out], axis=0)
        case _:
            node = helper.make_node(op, [value, shape], [out])
    insert(graph, 0, node)
    places = [(k, j) for k, n in enumerate(graph.node) for j, i in enumerate(n.input) if i and k]
    if places and rng.random() < 0.7:
        k, j = rng.choice(places)
        graph.node[k].input[j] = out
    else:
        graph.output.append(helper.make_tensor_value_info(out, TensorProto.FLOAT, ["a", "b", "c"]))


@edit(1)
def long_chain(rng: Random, model: onnx.ModelProto) -> None:
    """Hundreds of nodes, inputs, outputs or initializers."""
    graph = model.graph
    count = rng.choice((100, 400, 1500))
    outputs = [o for n in graph.node for o in n.output if o]
    if not outputs:
        return
    last = rng.choice(outputs)
    how = rng.randrange(6)
    if how == 0:
        for k in range(count):
            graph.node.append(helper.make_node(rng.choice(("Identity", "Tanh", "Dropout")), [last], [f"z{k}"]))
            last = f"z{k}"
        graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, ["a", "b", "c"]))
    elif how == 1:
        for k in range(count):
            graph.node.append(helper.make_node(rng.choice(("Identity", "Relu")), [last], [f"z{k}"]))
            graph.output.append(helper.make_tensor_value_info(f"z{k}", TensorProto.FLOAT, ["a", "b", "c"]))
    elif how == 2:
        graph.node.append(helper.make_node("Concat", [last] * count, ["z"], axis=-1))
        graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["a", "b", "c"]))
    elif how == 3:
        for k in range(count):
            graph.input.append(helper.make_tensor_value_info(f"i{k}", TensorProto.FLOAT, ["n", 3]))
    elif how == 4:
        for _ in range(count):
            constant(rng, graph, np.float32(0))
    else:
        bias = constant(rng, graph, np.ones(1, np.float32))
        for k in range(count):
            graph.node.append(helper.make_node("Add", [last, bias], [f"z{k}"]))
            last = f"z{k}"
        graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, ["a", "b", "c"]))


@edit(2)
def functions(rng: Random, model: onnx.ModelProto) -> None:
    """A node moved into a function; functions that call each other twice, so that they double; functions that call themselves."""
    graph = model.graph
    if not graph.node:
        return
    opset = helper.make_opsetid("", opset_of(model))
    model.opset_import.append(helper.make_opsetid("f", 1))
    own = helper.make_opsetid("f", 1)
    k = rng.randrange(len(graph.node))
    how = rng.randrange(4)
    if how == 0:
        node = onnx.NodeProto()
        node.CopyFrom(graph.node[k])
        inputs, outputs = list(dict.fromkeys(i for i in node.input if i)), [o for o in node.output if o]
        model.functions.append(helper.make_function("f", "F", inputs, outputs, [node], [opset]))
        graph.node[k].CopyFrom(helper.make_node("F", inputs, outputs, domain="f"))
        return
    depth = rng.choice((2, 6, 12, 24, 40)) if how == 1 else 1
    for d in range(depth):
        inner = "Tanh" if d == depth - 1 else f"F{d + 1}"
        domain = "" if d == depth - 1 else "f"
        if how == 2:
            inner, domain = "F0", "f"
        nodes = [
            helper.make_node(inner, ["a"], ["b"], domain=domain),
            helper.make_node(inner, ["b"], ["c"], domain=domain),
        ]
        model.functions.append(helper.make_function("f", f"F{d}", ["a"], ["c"], nodes, [opset, own]))
    source = next((o for o in graph.node[k].output if o), None)
    if source:
        graph.node.append(helper.make_node("F0", [source], ["called"], domain="f"))
        graph.output.append(helper.make_tensor_value_info("called", TensorProto.FLOAT, ["a", "b", "c"]))


@edit(2)
def nested(rng: Random, model: onnx.ModelProto) -> None:
    """A node in the branches of an If, or many of them inside each other; Loop and Scan."""
    graph = model.graph
    if not graph.node:
        return
    if rng.random() < 0.2:
        inner = onnx_values.subgraph(rng)
        for d in range(rng.choice((3, 20, 60, 200))):
            cond = helper.make_node(
                "Constant", [], [f"c{d}"], value=helper.make_tensor("", TensorProto.BOOL, [], [True])
            )
            node = helper.make_node("If", [f"c{d}"], [f"r{d}"], then_branch=inner, else_branch=inner)
            if inner.ByteSize() > 20_000:
                break
            inner = helper.make_graph(
                [cond, node], f"g{d}", [], [helper.make_tensor_value_info(f"r{d}", 1, ["a", "b", "c"])]
            )
        graph.node.extend(inner.node)
        return
    k = rng.randrange(len(graph.node))
    node = onnx.NodeProto()
    node.CopyFrom(graph.node[k])
    outputs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["a", "b", "c"]) for o in node.output if o]
    body = helper.make_graph([node], "body", [], outputs)
    names = [f"w{rng.getrandbits(30)}" for _ in outputs]
    yes = constant(rng, graph, np.array(True))
    graph.node[k].CopyFrom(helper.make_node("If", [yes], names, then_branch=body, else_branch=body))
    renamed = dict(zip((o.name for o in outputs), names, strict=True))
    for later in graph.node[k + 1 :]:
        later.input[:] = [renamed.get(i, i) for i in later.input]
