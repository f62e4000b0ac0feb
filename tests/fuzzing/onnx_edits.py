"""Edits of an ONNX model, each a function of a random generator and the model. Most keep it valid for protobuf and onnx.checker."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fuzzing import onnx_soup, onnx_values

Edit = Callable[[Random, onnx.ModelProto], None]

RECURRENT = ("LSTM", "GRU", "RNN")

EDITS: list[tuple[int, Edit]] = []
"""(weight, edit)"""


def edit(weight: int) -> Callable[[Edit], Edit]:
    """Register an edit, taken in proportion to its weight."""

    def register(function: Edit) -> Edit:
        EDITS.append((weight, function))
        return function

    return register


def opset_of(model: onnx.ModelProto) -> int:
    return next((int(o.version) for o in model.opset_import if o.domain == ""), 17)


def known_before(graph: onnx.GraphProto, k: int) -> list[str]:
    """Values that node ``k`` may read."""
    return [
        *(i.name for i in graph.input),
        *(t.name for t in graph.initializer),
        *(o for n in graph.node[:k] for o in n.output if o),
    ]


def some_node(rng: Random, graph: onnx.GraphProto, recurrent: float = 0.4) -> onnx.NodeProto | None:
    """A node, often a recurrent one."""
    if not graph.node:
        return None
    found = [n for n in graph.node if n.op_type in RECURRENT]
    return rng.choice(found) if found and rng.random() < recurrent else rng.choice(graph.node)


def constant(rng: Random, graph: onnx.GraphProto, array: Any) -> str:
    """The name of a new initializer."""
    name = f"k{rng.getrandbits(40)}"
    graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return name


def insert(graph: onnx.GraphProto, k: int, *nodes: onnx.NodeProto) -> None:
    """Put nodes before node ``k``."""
    rest = list(graph.node[k:])
    del graph.node[k:]
    graph.node.extend([*nodes, *rest])


@edit(8)
def attribute_value(rng: Random, model: onnx.ModelProto) -> None:
    node = some_node(rng, model.graph)
    if node is None or not node.attribute:
        return
    a = rng.choice(node.attribute)
    if a.type in (a.INTS, a.FLOATS, a.STRINGS) and rng.random() < 0.6:
        field: Any = {a.INTS: a.ints, a.FLOATS: a.floats, a.STRINGS: a.strings}[a.type]
        old = list(field)
        new = rng.choice([old[:-1], old + old[-1:], old[::-1], old * 2, old[1:] + old[:1]])
        del field[:]
        field.extend(new)
        return
    made = onnx_values.attribute(rng, a.name, a.type)
    if made is not None:
        a.CopyFrom(made)


@edit(8)
def attribute_added(rng: Random, model: onnx.ModelProto) -> None:
    """An optional attribute that the node's schema has, or one that it has not, or one without its value."""
    node = some_node(rng, model.graph, 0.7)
    found = node and onnx_soup.schema(node.op_type, opset_of(model))
    if node is None or not found:
        return
    if rng.random() < 0.1:
        node.attribute.append(helper.make_attribute(rng.choice(("foo", "layout", "axis", "axes", "clip")), 1))
        return
    present = {a.name for a in node.attribute}
    absent = [a for a in found.attributes.values() if a.name not in present]
    if absent:
        chosen = rng.choice(absent)
        made = onnx_values.attribute(rng, chosen.name, chosen.type)
        if made is not None:
            node.attribute.append(made)


@edit(3)
def attribute_removed(rng: Random, model: onnx.ModelProto) -> None:
    node = some_node(rng, model.graph)
    if node is not None and node.attribute:
        k = rng.randrange(len(node.attribute))
        if rng.random() < 0.7:
            del node.attribute[k]
        elif rng.random() < 0.5:
            node.attribute.append(node.attribute[k])
        else:
            node.attribute[k].type = rng.randrange(0, 15)


@edit(10)
def initializer(rng: Random, model: onnx.ModelProto) -> None:
    if model.graph.initializer:
        onnx_values.edit_tensor(rng, rng.choice(model.graph.initializer))


@edit(4)
def renamed(rng: Random, model: onnx.ModelProto) -> None:
    """A value's name everywhere, or in one place only; a node's name."""
    graph = model.graph
    new = rng.choice(onnx_values.NAMES)
    node = some_node(rng, graph)
    if node is None:
        return
    if rng.random() < 0.3:
        node.name = new
        return
    names = [n for n in (*node.input, *node.output) if n]
    if not names:
        return
    old = rng.choice(names)
    if rng.random() < 0.2:
        place: Any = node.input if old in list(node.input) else node.output
        place[list(place).index(old)] = new
        return
    for other in graph.node:
        other.input[:] = [new if i == old else i for i in other.input]
        other.output[:] = [new if o == old else o for o in other.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        if value.name == old:
            value.name = new


@edit(8)
def rewired(rng: Random, model: onnx.ModelProto) -> None:
    """An input of a node becomes another value, mostly one that stands before it."""
    graph = model.graph
    if not graph.node:
        return
    k = rng.randrange(len(graph.node))
    node = graph.node[k]
    known = known_before(graph, k if rng.random() < 0.95 else len(graph.node))
    if not known:
        return
    if node.input and rng.random() < 0.7:
        node.input[rng.randrange(len(node.input))] = rng.choice(known)
    elif rng.random() < 0.5:
        node.input.append(rng.choice(known))
    elif node.input:
        del node.input[-1]


@edit(3)
def duplicated(rng: Random, model: onnx.ModelProto) -> None:
    """A node a second time, one of its readers changed over."""
    graph = model.graph
    if not graph.node:
        return
    k = rng.randrange(len(graph.node))
    twin = onnx.NodeProto()
    twin.CopyFrom(graph.node[k])
    names = {o: f"d{rng.getrandbits(40)}" for o in twin.output if o}
    twin.output[:] = [names.get(o, o) for o in twin.output]
    twin.name = rng.choice((twin.name, "", "twin"))
    insert(graph, k + 1, twin)
    for node in graph.node[k + 2 :]:
        if rng.random() < 0.5:
            node.input[:] = [names.get(i, i) for i in node.input]


@edit(4)
def removed(rng: Random, model: onnx.ModelProto) -> None:
    """A node away, its readers given what it read."""
    graph = model.graph
    if len(graph.node) < 2:
        return
    k = rng.randrange(len(graph.node))
    gone = graph.node[k]
    source = next((i for i in gone.input if i), "")
    outputs = list(gone.output)
    if any(o.name in outputs for o in graph.output):
        return
    del graph.node[k]
    for node in graph.node:
        node.input[:] = [source if i in outputs else i for i in node.input]


@edit(6)
def operator(rng: Random, model: onnx.ModelProto) -> None:
    """Another operator in a node's place, sometimes of another domain."""
    node = some_node(rng, model.graph)
    if node is None:
        return
    if rng.random() < 0.1:
        node.domain = rng.choice(("ai.onnx", "com.microsoft", "local", "ai.onnx.ml"))
        return
    node.op_type = rng.choice(onnx_soup.LIKELY)
    found = onnx_soup.schema(node.op_type, opset_of(model))
    if found and rng.random() < 0.9:  # keep what the new operator knows
        kept = [a for a in node.attribute if a.name in found.attributes]
        del node.attribute[:]
        node.attribute.extend(kept)
        while len(node.input) > found.max_input:
            del node.input[-1]
        while len(node.input) < found.min_input and node.input:
            node.input.append(constant(rng, model.graph, onnx_values.numbers(rng, onnx_values.shape(rng))))
        while len(node.output) > max(found.max_output, 1):
            del node.output[-1]


@edit(4)
def opset(rng: Random, model: onnx.ModelProto) -> None:
    newest = onnx.defs.onnx_opset_version()
    if not model.opset_import or rng.random() < 0.8:
        version = rng.randint(7, newest) if rng.random() < 0.8 else rng.choice((0, -1, 1, 6, newest + 1, 1 << 40))
        if model.opset_import:
            model.opset_import[0].version = version
    elif rng.random() < 0.7:
        model.opset_import.add(
            domain=rng.choice(("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "local")), version=rng.randint(1, 20)
        )
    else:
        del model.opset_import[0]


@edit(7)
def initial_state(rng: Random, model: onnx.ModelProto) -> None:
    """Another initial state: constants of a fitting or other shape, an expanded one, a graph input."""
    graph = model.graph
    places = [(k, n) for k, n in enumerate(graph.node) if n.op_type in RECURRENT]
    if not places:
        return
    k, node = rng.choice(places)
    slot = rng.choice((5, 6)) if node.op_type == "LSTM" else 5
    hidden = next((int(a.i) for a in node.attribute if a.name == "hidden_size"), 5) % 64
    directions = 2 if any(a.s == b"bidirectional" for a in node.attribute) else 1
    while len(node.input) <= slot:
        node.input.append("")
    how = rng.randrange(6)
    if how == 0:
        node.input[slot] = ""
    elif how == 1:
        node.input[slot] = constant(
            rng, graph, onnx_values.numbers(rng, (directions, rng.choice((1, 1, 2, 3)), hidden))
        )
    elif how == 2:
        name = f"s{rng.getrandbits(40)}"
        graph.input.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [directions, rng.choice(("n", 1)), hidden])
        )
        node.input[slot] = name
    elif how == 3:
        out, shape = (
            f"s{rng.getrandbits(40)}",
            constant(rng, graph, np.array([directions, rng.choice((1, 3)), hidden], np.int64)),
        )
        insert(
            graph,
            k,
            helper.make_node(
                "ConstantOfShape", [shape], [out], value=helper.make_tensor("v", 1, [1], [real_or_zero(rng)])
            ),
        )
        node.input[slot] = out
    elif how == 4:
        known = known_before(graph, k)
        node.input[slot] = rng.choice(known) if known else ""
    else:
        out, shape = (
            f"s{rng.getrandbits(40)}",
            constant(rng, graph, np.array([directions, rng.choice((1, 3)), hidden], np.int64)),
        )
        value = constant(rng, graph, onnx_values.numbers(rng, (directions, 1, hidden)))
        insert(graph, k, helper.make_node("Expand", [value, shape], [out]))
        node.input[slot] = out


def real_or_zero(rng: Random) -> float:
    return rng.choice((0.0, 0.0, 0.5, -1.0))


@edit(5)
def lengths(rng: Random, model: onnx.ModelProto) -> None:
    """Another sequence_lens: a graph input of some type, constants, a computed value."""
    graph = model.graph
    places = [(k, n) for k, n in enumerate(graph.node) if n.op_type in RECURRENT]
    if not places:
        return
    k, node = rng.choice(places)
    while len(node.input) < 5:
        node.input.append("")
    how = rng.randrange(4)
    if how == 0:
        name = f"l{rng.getrandbits(40)}"
        kind = rng.choice((TensorProto.INT32, TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT))
        graph.input.append(helper.make_tensor_value_info(name, kind, [rng.choice(("n", 1, 3))]))
        node.input[4] = name
    elif how == 1:
        count = rng.choice((1, 2, 3))
        node.input[4] = constant(
            rng, graph, np.array([integer_length(rng)] * count, rng.choice((np.int32, np.int32, np.int64)))
        )
    elif how == 2:
        node.input[4] = rng.choice(known_before(graph, k) or [""])
    else:
        node.input[4] = ""


def integer_length(rng: Random) -> int:
    return rng.choice((0, 1, 2, 4, 6, 100, -1))


@edit(5)
def interface(rng: Random, model: onnx.ModelProto) -> None:
    """Shapes, types, order and number of the graph's inputs and outputs."""
    graph = model.graph
    values: Any = graph.input if rng.random() < 0.6 else graph.output
    if not values:
        return
    value = rng.choice(values)
    kind = value.type.tensor_type
    how = rng.randrange(8)
    if how <= 2 and kind.shape.dim:
        dim = rng.choice(kind.shape.dim)
        if rng.random() < 0.5:
            dim.dim_value = rng.choice((1, 1, 2, 3, 4, 5, 6)) if rng.random() < 0.8 else onnx_values.integer(rng)
        elif rng.random() < 0.5:
            dim.dim_param = rng.choice(("n", "t", "", "batch"))
        else:
            dim.Clear()
    elif how == 3:
        kind.elem_type = rng.choice((1, 11, 10, 6, 7, 16, 9, 8))
    elif how == 4:
        if rng.random() < 0.5 and kind.shape.dim:
            del kind.shape.dim[rng.randrange(len(kind.shape.dim))]
        else:
            kind.shape.dim.add().dim_value = rng.choice((1, 2, 4))
    elif how == 5:
        made = [o for n in graph.node for o in n.output if o]
        if made:
            graph.output.append(helper.make_tensor_value_info(rng.choice(made), TensorProto.FLOAT, ["a", "b", "c"]))
            if rng.random() < 0.5:
                del graph.output[0]
    elif how == 6:
        value.type.Clear() if rng.random() < 0.3 else kind.ClearField("shape")
    else:
        copies = list(values)[::-1]
        del values[:]
        values.extend(copies)


@edit(5)
def constant_or_input(rng: Random, model: onnx.ModelProto) -> None:
    """An initializer becomes an input, is declared as one too, or becomes a Constant node; an input becomes an initializer."""
    graph = model.graph
    how = rng.randrange(5)
    if how <= 2 and graph.initializer:
        k = rng.randrange(len(graph.initializer))
        tensor = graph.initializer[k]
        if how == 0:
            insert(graph, 0, helper.make_node("Constant", [], [tensor.name], value=tensor))
            del graph.initializer[k]
            return
        graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type or 1, list(tensor.dims)))
        if how == 1:
            del graph.initializer[k]
    elif how == 3 and graph.input:
        k = rng.randrange(len(graph.input))
        dims = [d.dim_value if 0 < d.dim_value < 10 else 3 for d in graph.input[k].type.tensor_type.shape.dim]
        graph.initializer.append(numpy_helper.from_array(onnx_values.numbers(rng, tuple(dims)), graph.input[k].name))
        if rng.random() < 0.7:
            del graph.input[k]
    elif graph.initializer and rng.random() < 0.2:
        t = rng.choice(graph.initializer)
        sparse = graph.sparse_initializer.add()
        sparse.values.CopyFrom(helper.make_tensor(f"sp{rng.getrandbits(20)}", 1, [1], [1.0]))
        sparse.indices.CopyFrom(helper.make_tensor("", 7, [1], [0]))
        sparse.dims.extend(t.dims or [1])


@edit(2)
def metadata(rng: Random, model: onnx.ModelProto) -> None:
    """What a reader may ignore, and what it must not."""
    how = rng.randrange(7)
    if how == 0:
        model.ir_version = rng.choice((0, 1, 2, 3, 4, 7, 10, 13, 99, 1 << 40))
    elif how == 1:
        model.metadata_props.add(key="a", value="b" * rng.choice((1, 1000)))
    elif how == 2:
        model.graph.value_info.append(helper.make_tensor_value_info("x", TensorProto.INT8, [9]))
    elif how == 3:
        model.training_info.add().algorithm.name = "t"
    elif how == 4:
        model.graph.doc_string, model.producer_name = "d" * 1000, "\x1b[31m"
    elif how == 5:
        model.graph.name = rng.choice(onnx_values.NAMES)
    else:
        for node in model.graph.node:
            node.name = "same"
