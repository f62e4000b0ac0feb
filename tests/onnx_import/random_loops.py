"""Draw graphs whose Loop or Scan runs a cell over time, each with the same network in recurrent nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from .builders import GATES, IR_VERSION

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

FEATURES, HIDDEN, CLASSES = 3, 4, 2


@dataclass
class Part:
    """Nodes and constants of a graph or of a body."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, op: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """Add a node, and return its first output."""
        names = list(outputs) or [f"{op.lower()}_{id(self) % 9973}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}/{names[0]}", **attributes))
        return names[0]

    def const(self, values: Any) -> str:
        """Add a constant, and return its name."""
        name = f"const_{id(self) % 9973}_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name


@dataclass(frozen=True)
class Drawn:
    """What a graph is like: the same network as a loop, and as nodes."""

    op: str
    linear_before_reset: int
    scan: bool
    backward: bool
    reverse_out: bool
    batch_first: bool
    by_slice: bool
    gemm: bool
    one_bias: bool
    split: bool
    order: tuple[int, ...]
    before: bool
    behind: bool
    given_state: bool
    counter: bool
    weights_carried: bool
    baked: bool
    seed: int


PLAIN = Drawn(
    op="GRU",
    linear_before_reset=1,
    scan=False,
    backward=False,
    reverse_out=False,
    batch_first=True,
    by_slice=False,
    gemm=True,
    one_bias=False,
    split=True,
    order=(0, 1, 2),
    before=True,
    behind=True,
    given_state=False,
    counter=False,
    weights_carried=False,
    baked=False,
    seed=3,
)
"""A GRU as PyTorch has it, in a Loop."""

FLAGS = (
    *("backward", "batch_first", "by_slice", "gemm", "one_bias", "split", "before", "behind", "given_state", "counter"),
    *("weights_carried", "baked"),
)
"""The fields of `Drawn` that are drawn by themselves."""


@st.composite
def networks(draw: st.DrawFn) -> Drawn:
    """Draw what a graph is like."""
    op = draw(st.sampled_from(["LSTM", "GRU", "RNN"]))
    scan = draw(st.booleans())
    flags = {name: draw(st.booleans()) for name in FLAGS}
    return Drawn(
        op=op,
        linear_before_reset=draw(st.integers(0, 1)),
        scan=scan,
        reverse_out=scan and draw(st.booleans()),
        order=tuple(draw(st.permutations(range(GATES[op])))),
        seed=draw(st.integers(0, 2**16)),
        **flags,
    )


class Weights:
    """The network's numbers."""

    def __init__(self, drawn: Drawn) -> None:
        rng = np.random.default_rng(drawn.seed)
        self.inner = 5 if drawn.before else FEATURES
        rows = GATES[drawn.op] * HIDDEN

        def random(*shape: int) -> Any:
            return rng.uniform(-0.9, 0.9, shape).astype(np.float32)

        self.w, self.r = random(rows, self.inner), random(rows, HIDDEN)
        self.wb, self.rb = random(rows), random(rows) * (not drawn.one_bias)
        self.first, self.first_b = random(FEATURES, 5), random(5)
        self.last, self.last_b = random(HIDDEN, CLASSES), random(CLASSES)


def finished(part: Part, drawn: Drawn, outputs: list[tuple[str, int]]) -> onnx.ModelProto:
    """Return a model of these nodes, with x, and with states where they are given."""
    steps: Any = 7 if drawn.baked else "t"
    lead = ["n", steps] if drawn.batch_first else [steps, "n"]
    inputs = [helper.make_tensor_value_info("x", FLOAT, [*lead, FEATURES])]
    if drawn.given_state:
        states = ["h_0", "c_0"] if drawn.op == "LSTM" else ["h_0"]
        inputs += [helper.make_tensor_value_info(name, FLOAT, ["n", HIDDEN]) for name in states]
    infos = [helper.make_tensor_value_info(name, FLOAT, [f"{name}_{k}" for k in range(rank)]) for name, rank in outputs]
    graph = helper.make_graph(part.nodes, "network", inputs, infos, part.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=IR_VERSION)


def outputs_of(drawn: Drawn) -> list[tuple[str, int]]:
    """The graph's outputs and their numbers of axes."""
    reversed_steps = drawn.backward != drawn.reverse_out
    steps = [] if reversed_steps else [("y", 3)]
    return [*steps, ("h_n", 2), *([("c_n", 2)] if drawn.op == "LSTM" else [])]


def as_nodes(drawn: Drawn) -> onnx.ModelProto:
    """Return the network in recurrent nodes."""
    g, w = Part(), Weights(drawn)
    x = g.node("Transpose", ["x"], perm=[1, 0, 2]) if drawn.batch_first else "x"
    if drawn.before:
        x = g.node("Relu", [g.node("Add", [g.node("MatMul", [x, g.const(w.first)]), g.const(w.first_b)])])
    states = ["", ""]
    if drawn.given_state:
        states = [
            g.node("Unsqueeze", [name, g.const(np.array([0]))]) for name in ("h_0", "c_0")[: 1 + (drawn.op == "LSTM")]
        ]
    b = np.concatenate([w.wb, w.rb])[None]
    last = ["hidden", "cell"] if drawn.op == "LSTM" else ["hidden"]
    attributes = {"linear_before_reset": drawn.linear_before_reset} if drawn.op == "GRU" else {}
    inputs = [x, g.const(w.w[None]), g.const(w.r[None]), g.const(b), "", *states[: 2 if drawn.op == "LSTM" else 1]]
    g.node(
        drawn.op,
        inputs,
        "steps",
        *last,
        hidden_size=HIDDEN,
        direction="reverse" if drawn.backward else "forward",
        **attributes,
    )
    y = g.node("Squeeze", ["steps", g.const(np.array([1]))])
    if drawn.behind:
        y = g.node("Tanh", [g.node("Add", [g.node("MatMul", [y, g.const(w.last)]), g.const(w.last_b)])])
    g.node("Transpose", [y], "y", perm=[1, 0, 2]) if drawn.batch_first else g.node("Identity", [y], "y")
    for name, output in zip(last, ("h_n", "c_n"), strict=False):
        g.node("Squeeze", [name, g.const(np.array([0]))], output)
    return finished(g, drawn, outputs_of(drawn))


def dense(part: Part, drawn: Drawn, x: str, weight: str, bias: str) -> str:
    """Add x · weight + bias."""
    if drawn.gemm:
        return part.node("Gemm", [x, weight, bias])
    return part.node("Add", [part.node("MatMul", [x, weight]), bias])


def gates(part: Part, drawn: Drawn, value: str, count: int) -> list[str]:
    """Take the gates apart, which stand in the drawn order."""
    if count == 1:
        return [value]
    if drawn.split:
        names = [f"{value}_gate{k}" for k in range(count)]
        part.node("Split", [value, part.const(np.full(count, HIDDEN))], *names, axis=1)
    else:
        bounds = [
            (part.const(np.array([k * HIDDEN])), part.const(np.array([k * HIDDEN + HIDDEN]))) for k in range(count)
        ]
        names = [part.node("Slice", [value, *bound, part.const(np.array([1]))]) for bound in bounds]
    return [names[drawn.order.index(k)] for k in range(count)]


def cell(part: Part, drawn: Drawn, x: str, states: list[str], weights: dict[str, str]) -> list[str]:
    """Add one step of the cell, and return its new states."""
    h, count = states[0], GATES[drawn.op]
    a = dense(part, drawn, x, weights["w"], weights["wb"])
    b = part.node("MatMul", [h, weights["r"]]) if drawn.one_bias else dense(part, drawn, h, weights["r"], weights["rb"])
    if drawn.op == "RNN":
        return [part.node("Tanh", [part.node("Add", [a, b])])]
    if drawn.op == "LSTM":
        i, o, f, c = gates(part, drawn, part.node("Add", [a, b]), count)
        kept = part.node("Mul", [part.node("Sigmoid", [f]), states[1]])
        new = part.node("Add", [kept, part.node("Mul", [part.node("Sigmoid", [i]), part.node("Tanh", [c])])])
        return [part.node("Mul", [part.node("Sigmoid", [o]), part.node("Tanh", [new])]), new]
    ax, bx = gates(part, drawn, a, count), gates(part, drawn, b, count)
    z, r = (part.node("Sigmoid", [part.node("Add", [ax[k], bx[k]])]) for k in range(2))
    if drawn.linear_before_reset:
        inner = part.node("Mul", [r, bx[2]])
    else:
        inner = part.node("Add", [part.node("MatMul", [part.node("Mul", [r, h]), weights["rh"]]), weights["rbh"]])
    n = part.node("Tanh", [part.node("Add", [ax[2], inner])])
    rest = part.node("Mul", [part.node("Sub", [part.const(np.float32(1)), z]), n])
    return [part.node("Add", [rest, part.node("Mul", [z, h])])]


def ordered(drawn: Drawn, rows: Any) -> Any:
    """Put gates of ONNX's order into the drawn one."""
    return np.concatenate([np.split(rows, GATES[drawn.op])[k] for k in drawn.order])


def as_loop(drawn: Drawn, change: str = "") -> onnx.ModelProto:
    """Return the network as a Loop or a Scan; ``change`` changes its equation."""
    g, body, w = Part(), Part(), Weights(drawn)
    arrays = {
        "w": ordered(drawn, w.w).T,
        "r": ordered(drawn, w.r).T,
        "wb": ordered(drawn, w.wb),
        "rb": ordered(drawn, w.rb),
    }
    arrays |= {"rh": w.r[-HIDDEN:].T, "rbh": w.rb[-HIDDEN:]}
    weights = {name: g.const(np.ascontiguousarray(array)) for name, array in arrays.items()}
    time = 1 if drawn.batch_first else 0
    lstm = drawn.op == "LSTM"
    if drawn.given_state:
        first = ["h_0", "c_0"][: 1 + lstm]
    else:
        shape = g.node("Shape", ["x"])
        batch = g.node("Gather", [shape, g.const(np.array([1 - time]))])
        first = [g.node("ConstantOfShape", [g.node("Concat", [batch, g.const(np.array([HIDDEN]))], axis=0)])] * (
            1 + lstm
        )
    states = ["h", "c"][: 1 + lstm]
    carried, after, begins = [], [], []
    if drawn.weights_carried:
        for name in ("w", "r"):
            carried.append(helper.make_tensor_value_info(f"inner_{name}", FLOAT, arrays[name].shape))
            after.append(helper.make_tensor_value_info(f"inner_{name}_out", FLOAT, arrays[name].shape))
            begins.append(weights[name])
            body.node("Identity", [f"inner_{name}"], f"inner_{name}_out")
            weights[name] = f"inner_{name}"
    count = g.node(
        "Squeeze", [g.node("Gather", [g.node("Shape", ["x"]), g.const(np.array([time]))]), g.const(np.array([0]))]
    )
    x = read(g, body, drawn, count, time)
    if drawn.before:
        x = body.node("Relu", [dense(body, drawn, x, g.const(w.first), g.const(w.first_b))])
    new = cell(body, drawn, x, states, weights)
    if change == "decay":
        new[0] = body.node("Mul", [new[0], body.const(np.float32(0.9))])
    elif change == "skip":
        new[0] = body.node("Add", [new[0], states[0]])
    elif change == "old":
        new = [*states]
    y = states[0] if change == "late" else new[0]
    if drawn.behind:
        y = body.node("Tanh", [dense(body, drawn, y, g.const(w.last), g.const(w.last_b))])
    info = helper.make_tensor_value_info
    carried += [info(name, FLOAT, None) for name in states]
    for name, value in zip(states, new, strict=True):
        body.node("Identity", [value], f"{name}_out")
    after += [info(f"{name}_out", FLOAT, None) for name in states]
    begins += first
    body.node("Identity", [y], "y_out")
    last = ["h_n", "c_n"][: 1 + lstm]
    unused = [f"unused_{k}" for k in range(len(begins) - len(first))]
    if drawn.scan:
        graph = helper.make_graph(
            body.nodes,
            "body",
            [*carried, info("x_t", FLOAT, None)],
            [*after, info("y_out", FLOAT, None)],
            body.constants,
        )
        g.node(
            "Scan", [*begins, "x"], *unused, *last, "ys", body=graph, num_scan_inputs=1, scan_input_axes=[time],
            scan_input_directions=[int(drawn.backward)], scan_output_axes=[time], scan_output_directions=[int(drawn.reverse_out)],
        )  # fmt: skip
        y = "ys"
    else:
        body.node("Identity", ["more"], "goes_on")
        counters = ["counter"] if drawn.counter else []
        counter = [info("counter", INT64, [])] if counters else []
        graph = helper.make_graph(
            body.nodes,
            "body",
            [info("i", INT64, []), info("more", BOOL, []), *counter, *carried],
            [
                info("goes_on", BOOL, []),
                *([info("counter_out", INT64, [])] if counters else []),
                *after,
                info("y_out", FLOAT, None),
            ],
            body.constants,
        )
        start = [g.const(np.int64(0))] if counters else []
        g.node(
            "Loop",
            [count, g.const(np.array(True)), *start, *begins],
            *["unused_i"][: len(start)],
            *unused,
            *last,
            "ys",
            body=graph,
        )
        y = g.node("Transpose", ["ys"], perm=[1, 0, 2]) if drawn.batch_first else "ys"
    if change != "unread":
        g.node("Identity", [y], "y")
    return finished(g, drawn, outputs_of(drawn) if not change else [*outputs_of(drawn)])


def read(g: Part, body: Part, drawn: Drawn, count: str, time: int) -> str:
    """Read the step of this iteration in the body."""
    if drawn.scan:
        return "x_t"
    i = "i"
    if drawn.counter:
        body.node("Add", ["counter", body.const(np.int64(1))], "counter_out")
        i = "counter"
    if drawn.backward:
        i = body.node("Sub", [g.node("Sub", [count, g.const(np.int64(1))]), i])
    if not drawn.by_slice:
        return body.node("Gather", ["x", i], axis=time)
    zero = body.const(np.array([0]))
    start = body.node("Unsqueeze", [i, zero])
    end = body.node("Add", [start, body.const(np.array([1]))])
    axis = body.const(np.array([time]))
    return body.node("Squeeze", [body.node("Slice", ["x", start, end, axis]), axis])
