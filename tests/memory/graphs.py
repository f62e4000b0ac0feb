"""Build graphs of one time step per call, and call ONNX Runtime on them once per step as a caller would."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx_import.builders import Graph, outputs_of
from onnx_import.running import Arrays, runtime

F, H = 4, 5

SHAPES = ("[n, F] axis 0", "[n, F] axis 1", "[n, 1, F]", "[1, n, F]", "[1, 1, F]", "[1, F]", "[n, 2, 2]")
"""What the graph's input looks like; the batch is n, or fixed at 1."""


def features(g: Graph, shape: str) -> str:
    """Add the graph input x of one step, and return it as X [1, n, F] of a recurrent node."""
    match shape:
        case "[n, F] axis 0":
            return g.axes_op("Unsqueeze", g.input("x", ["n", F]), [0])
        case "[n, F] axis 1":
            return g.node("Transpose", [g.axes_op("Unsqueeze", g.input("x", ["n", F]), [1])], perm=[1, 0, 2])
        case "[n, 1, F]":
            return g.node("Transpose", [g.input("x", ["n", 1, F])], perm=[1, 0, 2])
        case "[1, n, F]":
            return g.input("x", [1, "n", F])
        case "[1, 1, F]":
            return g.input("x", [1, 1, F])
        case "[1, F]":
            return g.axes_op("Unsqueeze", g.input("x", [1, F]), [0])
        case _:
            x = g.node("Reshape", [g.input("x", ["n", 2, 2]), g.const(np.array([0, F], dtype=np.int64))])
            return g.axes_op("Unsqueeze", x, [0])


def states(op: str, given: bool, name: str = "") -> list[str]:
    """Return the names of a node's state inputs; none unless ``given``."""
    return [f"state_{s}{name}" for s in ("hc" if op == "LSTM" else "h")] if given else []


def one_step(
    op: str,
    shape: str = "[n, F] axis 0",
    state_in: bool = False,
    state_out: bool = False,
    initial: bool = False,
    directions: int = 1,
    **more: Any,
) -> onnx.ModelProto:
    """Build x → recurrent → y [n, 3]; with ``initial``, the initial states are constants that are not zero."""
    g = Graph()
    x = features(g, shape)
    batch = 1 if shape in ("[1, 1, F]", "[1, F]") else "n"
    given = [g.input(s, [directions, batch, H]) for s in states(op, state_in)]
    if initial:
        constants = [g.random(directions, 1, H) for _ in states(op, True)]
        given = [_expanded(g, c, x, directions) for c in constants] if batch == "n" else constants
    names = outputs_of(op)
    h, c = ([*given, "", ""])[:2]
    g.recurrent(op, x, F, H, h=h, c=c, outputs=names, directions=directions, **more)
    y = g.node("Transpose", [names[0]], perm=[2, 0, 1, 3])
    y = g.node("Reshape", [y, g.const(np.array([-1 if batch == "n" else 1, directions * H], dtype=np.int64))])
    g.node("Gemm", [y, g.random(directions * H, 3)], ["y"])
    g.output("y", 2)
    if state_out:
        for name in names[1:]:
            g.output(name)
    return g.model()


def _expanded(g: Graph, state: str, x: str, directions: int) -> str:
    """Expand [D, 1, H] to [D, n, H], with n from X [1, n, F]."""
    n = g.node("Gather", [g.node("Shape", [x]), g.const(np.array([1], dtype=np.int64))], axis=0)
    sizes = [g.const(np.array([v], dtype=np.int64)) for v in (directions, H)]
    return g.node("Expand", [state, g.node("Concat", [sizes[0], n, sizes[1]], axis=0)])


def stacked(op: str, first: bool, second: bool) -> onnx.ModelProto:
    """Build two layers of one step; ``first`` and ``second`` say whether their states are inputs and outputs of the graph."""
    g = Graph()
    x = features(g, "[n, F] axis 0")
    for number, carried in enumerate((first, second)):
        given = [g.input(s, [1, "n", H]) for s in states(op, carried, name=str(number))]
        h, c = ([*given, "", ""])[:2]
        names = [f"{name}{number}" for name in outputs_of(op)]
        g.recurrent(op, x, F if number == 0 else H, H, name=f"rnn{number}", h=h, c=c, outputs=names)
        x = g.axes_op("Squeeze", names[0], [1])
        for name in names[1:] if carried else ():
            g.output(name)
    g.node("Gemm", [g.axes_op("Squeeze", x, [0]), g.random(H, 3)], ["y"])
    g.output("y", 2)
    return g.model()


def place(shape: str, row: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return rows [n, F] as the graph's own input."""
    match shape:
        case "[n, 1, F]":
            return row[:, None]
        case "[1, n, F]" | "[1, 1, F]":
            return row[None]
        case "[n, 2, 2]":
            return row.reshape(-1, 2, 2)
        case _:
            return row


def called(proto: onnx.ModelProto, shape: str, x: np.ndarray[Any, Any], begin: Arrays, carry: dict[str, str]) -> Any:
    """Return y [N, T, 3] of one call for each step of each sequence of x [N, T, F].

    ``begin`` holds the state inputs [D, N, H] of the first call. ``carry`` maps a state input to the output whose value the next call gets;
    the others keep what they had.
    """
    ys = []
    for n in range(len(x)):
        feeds = {name: value[:, n : n + 1] for name, value in begin.items()}
        steps = []
        for t in range(x.shape[1]):
            results = runtime(proto, {"x": place(shape, x[n : n + 1, t]), **feeds})
            steps.append(results["y"])
            feeds |= {name: results[output] for name, output in carry.items()}
        ys.append(np.concatenate(steps))
    return np.stack(ys)
