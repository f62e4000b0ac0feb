"""Small ONNX files that ask for much, by name. Run as a program, it loads the files it is given and prints what that took."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from peak import peak

from qrnn.errors import QrnnError
from qrnn.onnx_import import load_onnx

from .builders import Graph

Build = Callable[[Graph, str], str]


def body(build: Build) -> onnx.ModelProto:
    """Build x → GRU → ``build`` of its output [T, N, 5] → out."""
    g = Graph(17)
    x = g.input("x", ["t", "n", 4])
    y = g.node("Squeeze", [g.recurrent("GRU", x, 4, 5)[0], g.const(np.array([1]))])
    g.node("Identity", [build(g, y)], ["out"])
    g.output("out")
    return g.model()


def filled(g: Graph, *shape: int, kind: int = TensorProto.FLOAT, value: int = 2) -> str:
    """Add a constant filled by ConstantOfShape."""
    name: str = g.node("ConstantOfShape", [g.const(np.array(shape))], value=helper.make_tensor("v", kind, [1], [value]))
    return name


def expanded(g: Graph, *shape: int) -> str:
    """Add a constant expanded by Expand."""
    name: str = g.node("Expand", [g.const(np.ones(1, np.float32)), g.const(np.array(shape))])
    return name


def added(make: Callable[[Graph], str]) -> Build:
    """Return y plus the largest element of what ``make`` makes."""
    return lambda g, y: str(g.node("Add", [y, g.node("ReduceMax", [make(g)])]))


def repeated(count: int, step: Build) -> Build:
    """Apply ``step`` ``count`` times."""

    def build(g: Graph, y: str) -> str:
        for _ in range(count):
            y = step(g, y)
        return y

    return build


def powers(g: Graph) -> str:
    one = g.const(np.float32(1.0))
    return repeated(500, lambda g, a: str(g.node("Pow", [a, one])))(g, filled(g, 1 << 22))


def empty_but_long(g: Graph) -> str:
    """Make [2^20, 2^20, 0], whose reduction has 2^40 elements."""
    nothing = g.node("Reshape", [filled(g, 1, 1, 0), g.const(np.array([1 << 20, 1 << 20, 0]))])
    return str(g.node("ReduceSum", [nothing, g.const(np.array([2]))]))


def grown(g: Graph, y: str) -> str:
    """Gather features again and again."""
    many = g.const(np.zeros(1 << 16, np.int64))
    y = g.node("Gather", [y, many], axis=2)
    for _ in range(2000):
        y = g.node("Gather", [y, many], axis=2)
    return str(g.node("Gather", [y, g.const(np.arange(5))], axis=2))


def wide_weights(g: Graph, y: str) -> str:
    """Add dense layers on five features of a tensor of 2^17."""
    wide = g.node("Tanh", [g.node("Gather", [y, g.const(np.zeros(1 << 17, np.int64))], axis=2)])
    for _ in range(100):
        part = g.node("Slice", [wide, g.const(np.array([0])), g.const(np.array([5])), g.const(np.array([2]))])
        y = g.node("Add", [y, g.node("MatMul", [part, g.random(5, 5)])])
    return y


def one_of_many(g: Graph, y: str) -> str:
    """Add a bias to one feature of a tensor of 2^18."""
    wide = g.node("Tanh", [g.node("Gather", [y, g.const(np.zeros(1 << 18, np.int64))], axis=2)])
    return str(g.node("Add", [g.node("Gather", [wide, g.const(np.array([3]))], axis=2), g.random(1)]))


def pieces(g: Graph, y: str) -> str:
    """Interleave the features of two tensors, so that each is a piece of its own."""
    both = g.node("Concat", [y, g.node("Tanh", [y])], axis=2)
    picks = g.const(np.tile([0, 5], 1 << 18))
    return str(g.node("Tanh", [g.node("Gather", [both, picks], axis=2)]))


def listed_sizes(g: Graph, y: str) -> str:
    return str(g.node("Reshape", [y, filled(g, 1 << 24, kind=TensorProto.INT64, value=1)]))


def symbols(g: Graph, y: str) -> str:
    """Make a list of 2^24 sizes that are not numbers."""
    size = g.node("Gather", [g.node("Shape", [y]), g.const(np.array([0]))])
    sizes = g.node("Expand", [size, g.const(np.array([1 << 24]))])
    return str(g.node("Reshape", [y, g.node("Mul", [sizes, g.const(np.array([1]))])]))


def text(g: Graph, y: str) -> str:
    """Make 2000 strings, each of which NumPy would hold in the room of the longest."""
    tensor = TensorProto(data_type=TensorProto.STRING, dims=[2001], string_data=[b"a" * 4_000_000] + [b""] * 2000)
    return str(g.node("Add", [y, g.node("Constant", [], value=tensor)]))


def inputs(count: int, features: int) -> onnx.ModelProto:
    g = Graph(17)
    joined = g.input("x", ["t", "n", 4])
    for k in range(count):
        one = g.node("Gather", [g.input(f"i{k}", ["t", "n", features]), g.const(np.array([0]))], axis=2)
        joined = g.node("Concat", [joined, one], axis=2)
    g.recurrent("GRU", joined, 4 + count, 2, outputs=["out"])
    g.output("out", 4)
    return g.model()


def lengths() -> onnx.ModelProto:
    g = Graph(17)
    given = filled(g, 1 << 22, kind=TensorProto.INT32, value=7)
    g.recurrent("GRU", g.input("x", [7, "n", 4]), 4, 2, lengths=given, outputs=["out"])
    g.output("out", 4)
    return g.model()


def functions(bodies: list[list[onnx.NodeProto]], calls: int = 1) -> onnx.ModelProto:
    """Build functions f0, f1, … from a to b, of which the last is called."""

    def build(g: Graph, y: str) -> str:
        for k in range(calls):
            g.nodes.append(helper.make_node(f"f{len(bodies) - 1}", [y], [f"call{k}"], domain="local"))
            y = f"call{k}"
        return y

    model = body(build)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model.opset_import.append(opsets[1])
    model.functions.extend(
        helper.make_function("local", f"f{k}", ["a"], ["b"], n, opsets) for k, n in enumerate(bodies)
    )
    return model


def call(k: int, source: str, result: str) -> onnx.NodeProto:
    return helper.make_node(f"f{k}", [source], [result], domain="local")


def nested(depth: int) -> onnx.ModelProto:
    """Build Ifs in Ifs, in messages that protobuf would refuse to parse."""
    model = body(lambda g, y: y)
    node = model.graph.node.add(op_type="If", input=["x"], output=["z"])
    for _ in range(depth):
        graph = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
        node = graph.node.add(op_type="If", input=["x"], output=["z"])
    return model


TANH = [helper.make_node("Tanh", ["a"], ["b"])]
LARGE = [
    helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.zeros(1 << 16, np.float32))),
    helper.make_node("Add", ["a", "c"], ["b"]),
]

REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "constants of 1 GiB": (
        lambda: body(added(lambda g: g.node("Max", [filled(g, 1 << 27) for _ in range(40)]))),
        "at most",
    ),
    "expanded constants of 1 GiB": (
        lambda: body(added(lambda g: g.node("Max", [expanded(g, 1 << 27) for _ in range(40)]))),
        "at most",
    ),
    "many constants of 64 MiB": (
        lambda: body(added(lambda g: g.node("Max", [filled(g, 1 << 23) for _ in range(40)]))),
        "at most",
    ),
    "Pow again and again": (lambda: body(added(powers)), "more work"),
    "a sum of many operands": (
        lambda: body(added(lambda g: g.node("Sum", [filled(g, 1 << 20)] * 20_000))),
        "more work",
    ),
    "products of matrices": (
        lambda: body(added(lambda g: repeated(99, lambda g, a: g.node("MatMul", [a, a]))(g, filled(g, 4096, 4096)))),
        "more work",
    ),
    "a product along nothing": (
        lambda: body(added(lambda g: g.node("MatMul", [filled(g, 1 << 20, 0), filled(g, 0, 1 << 20)]))),
        "at most",
    ),
    "an outer product": (
        lambda: body(added(lambda g: g.node("Mul", [filled(g, 1 << 20, 1), filled(g, 1 << 20)]))),
        "at most",
    ),
    "a sum of broadcasts": (
        lambda: body(added(lambda g: g.node("Sum", [filled(g, 1 << 16, 1, 1), filled(g, 1 << 16, 1), filled(g, 0)]))),
        "more work|at most",
    ),
    "an empty value": (lambda: body(added(empty_but_long)), "more work"),
    "Concat of one value": (
        lambda: body(added(lambda g: g.node("Concat", [filled(g, 1 << 20)] * 999, axis=0))),
        "at most",
    ),
    "Gather of rows": (
        lambda: body(added(lambda g: g.node("Gather", [filled(g, 1, 1 << 16), g.const(np.zeros(1 << 15, np.int64))]))),
        "at most",
    ),
    "Casts": (
        lambda: body(
            added(
                lambda g: repeated(99, lambda g, a: g.node("Cast", [g.node("Cast", [a], to=7)], to=1))(
                    g, filled(g, 1 << 20)
                )
            )
        ),
        "at most",
    ),
    "copies by Reshape": (
        lambda: body(
            added(
                lambda g: repeated(
                    99, lambda g, a: g.node("Reshape", [g.node("Transpose", [a]), g.const(np.array([1 << 10, -1]))])
                )(g, filled(g, 1 << 10, 1 << 12))
            )
        ),
        "at most",
    ),
    "features gathered again and again": (lambda: body(grown), "at most|more work"),
    "features of many inputs": (lambda: inputs(200, 1 << 20), "at most"),
    "weights over wide tensors": (lambda: body(wide_weights), "at most"),
    "alternating features": (lambda: body(pieces), "pieces"),
    "a shape of 2^24 axes": (lambda: body(listed_sizes), "axes"),
    "a list of symbols": (lambda: body(symbols), "makes a list of"),
    "lengths of 2^22 sequences": (lengths, "lists 4194304 values"),
    "strings": (lambda: body(text), "element type"),
    "a name of megabytes": (lambda: body(lambda g, y: g.node("Tanh", [y], ["n" * 5_000_000])), "a name of"),
    "functions that double": (
        lambda: functions([TANH, *([call(k, "a", "c"), call(k, "c", "b")] for k in range(26))]),
        "writing out every call",
    ),
    "functions that double without end": (
        lambda: functions([TANH, *([call(k, "a", "c"), call(k, "c", "b")] for k in range(60))]),
        "writing out every call",
    ),
    "functions that double and are not called": (
        lambda: functions([TANH, *([call(k, "a", "c"), call(k, "c", "b")] for k in range(26)), TANH]),
        "writing out every call",
    ),
    "a large function called often": (lambda: functions([LARGE], calls=5000), "writing out every call"),
    "a function that calls itself": (lambda: functions([[call(0, "a", "b")]]), "calls itself"),
    "functions that call each other": (lambda: functions([[call(1, "a", "b")], [call(0, "a", "b")]]), "calls itself"),
    "functions in functions": (lambda: functions([TANH, *([call(k, "a", "b")] for k in range(5000))]), "64 deep"),
    "many folded nodes": (
        lambda: body(added(lambda g: repeated(60_000, lambda g, a: g.node("Sqrt", [a]))(g, g.random(1)))),
        "more work",
    ),
    "many nodes": (lambda: body(repeated(120_000, lambda g, y: g.node("Identity", [y]))), "interpreting its nodes"),
    "many operators that are not supported": (
        lambda: body(repeated(30_000, lambda g, y: g.node("Hardmax", [y]))),
        "30000 nodes are not supported",
    ),
}
"""What asks for too much, and what the refusal says."""

LOADED: dict[str, Callable[[], onnx.ModelProto]] = {
    "a chain of Adds": lambda: body(repeated(20_000, lambda g, y: g.node("Add", [y, y]))),
    "a chain of biases": lambda: body(_biases),
    "one name for all": lambda: body(repeated(10_000, lambda g, y: g.node("Tanh", [y], name="same"))),
    "a chain of Identities": lambda: body(repeated(30_000, lambda g, y: g.node("Identity", [y]))),
    "one feature each": lambda: body(_one_each),
    "a bias on one of many": lambda: body(one_of_many),
    "states carried": lambda: _carried(2000),
    "one state given out often": lambda: _given_out(5000),
    "a chain of recurrent layers": lambda: _layers(2000),
    "functions that are called": lambda: functions(
        [TANH, *([call(k, "a", "c"), call(k, "c", "b")] for k in range(10))]
    ),
}
"""What is large but linear: it loads."""


def _biases(g: Graph, y: str) -> str:
    bias = g.random(5)
    return repeated(5_000, lambda g, y: str(g.node("Add", [y, bias])))(g, y)


def _one_each(g: Graph, y: str) -> str:
    picks = [g.const(np.array([k])) for k in range(5)]
    return str(
        g.node("Concat", [g.node("Tanh", [g.node("Gather", [y, picks[k % 5]], axis=2)]) for k in range(5000)], axis=2)
    )


def _carried(count: int) -> onnx.ModelProto:
    g = Graph(17)
    x = g.input("x", ["t", "n", 4])
    for k in range(count):
        g.recurrent("RNN", x, 4, 2, name=f"r{k}", h=g.input(f"h{k}", [1, "n", 2]), outputs=["", g.output(f"o{k}")])
    return g.model()


def _given_out(count: int) -> onnx.ModelProto:
    g = Graph(17)
    g.recurrent("RNN", g.input("x", ["t", "n", 4]), 4, 2, h=g.input("h", [1, "n", 2]), outputs=["", "last"])
    for k in range(count):
        g.node("Identity", ["last"], [g.output(f"o{k}")])
    return g.model()


def _layers(count: int) -> onnx.ModelProto:
    g = Graph(17)
    y, one = g.input("x", ["t", "n", 2]), g.const(np.array([1]))
    for k in range(count):
        y = g.node("Squeeze", [g.recurrent("RNN", y, 2, 2, name=f"r{k}")[0], one])
    g.node("Identity", [y], [g.output("out")])
    return g.model()


def main(paths: list[str]) -> None:
    """Print for each file what became of it, the CPU time, and the peak so far."""
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.RLIM_INFINITY))
    for path in paths:
        started = time.process_time()
        try:
            outcome: Any = len(load_onnx(path).layers)
        except QrnnError as error:
            outcome = f"{type(error).__name__}: {error}"
        print(json.dumps([outcome, time.process_time() - started, peak()]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
