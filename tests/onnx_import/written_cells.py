"""Draw recurrent cells and write them out in drawn ways: order of gates, matrices together or apart, Split or Slice, one step or many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .builders import GATES, Graph

HIDDEN_GATES = {"LSTM": "iofc", "GRU": "zrh", "RNN": "i"}
"""The gates in ONNX's order."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Spelling:
    """How a cell is written out."""

    op: str
    order: tuple[str, ...]
    """The order of the gates in the matrices."""
    features: int
    hidden: int
    cut: str
    """How gates are taken apart: split, slice, gather, or apart from the start."""
    product: str
    """gemm, matmul, or joined: [x, h] times one matrix."""
    biases: str
    """both, one, or none."""
    sigmoids: str
    """each gate's function by itself, or one of all gates that have the same."""
    kept: int
    """Which way h' = (1 - z) · n + z · h is written."""
    reset: int
    """linear_before_reset."""
    hard: str
    """How a hard gate is written; empty for Sigmoid."""
    swapped: bool
    """Operands of Add and Mul in the other order."""
    opset: int
    seed: int

    @property
    def weights(self) -> tuple[Array, Array, Array, Array]:
        """W [G·H, I], R [G·H, H], and the two biases [G·H], in ONNX's order; few bits, so that sums of them are exact, and none zero."""
        rng = np.random.default_rng(self.seed)
        rows = GATES[self.op] * self.hidden

        def drawn(*shape: int) -> Array:
            return (rng.integers(1, 97, size=shape) * rng.choice([-1, 1], size=shape) / 128).astype(np.float32)

        w, r, bx, bh = drawn(rows, self.features), drawn(rows, self.hidden), drawn(rows), drawn(rows)
        if self.biases != "both":
            bh[:] = 0
        if self.biases == "none":
            bx[:] = 0
        return w, r, bx, bh


@st.composite
def spellings(draw: st.DrawFn, ops: tuple[str, ...] = ("LSTM", "GRU", "RNN")) -> Spelling:
    """Draw a way to write a cell."""
    op = draw(st.sampled_from(ops))
    reset = draw(st.sampled_from([0, 1])) if op == "GRU" else 0
    return Spelling(
        op=op,
        order=tuple(draw(st.permutations(HIDDEN_GATES[op]))),
        features=draw(st.integers(1, 5)),
        hidden=draw(st.integers(1, 5)),
        cut=draw(st.sampled_from(["split", "slice", "gather", "apart"])),
        product=draw(st.sampled_from(["gemm", "matmul"] + (["joined"] if op != "GRU" else []))),
        biases=draw(st.sampled_from(["both", "one", "none"])),
        sigmoids=draw(st.sampled_from(["each", "together"])),
        kept=draw(st.integers(0, 4)),
        reset=reset,
        hard=draw(st.sampled_from(["", "", "op", "clip"])) if op != "RNN" else "",
        swapped=draw(st.booleans()),
        opset=draw(st.sampled_from([11, 14, 17])),
        seed=draw(st.integers(0, 1000)),
    )


class Body:
    """Writes steps of one cell, whose weights are constants of the graph."""

    def __init__(self, g: Graph, spelling: Spelling, changed: str = "") -> None:
        self.g, self.s, self.changed = g, spelling, changed
        w, r, bx, bh = spelling.weights
        file = HIDDEN_GATES[spelling.op]
        rows = np.concatenate([np.arange(spelling.hidden) + file.index(k) * spelling.hidden for k in spelling.order])
        self.w, self.r, self.bx, self.bh = w[rows], r[rows], bx[rows], bh[rows]
        self._shared: dict[str, str] = {}

    def const(self, name: str, make: Callable[[], Any]) -> str:
        """Return a constant, made once."""
        if name not in self._shared:
            self._shared[name] = self.g.const(make())
        return self._shared[name]

    def two(self, op: str, a: str, b: str) -> str:
        """Add or multiply, in either order."""
        return str(self.g.node(op, [b, a] if self.s.swapped and op != "Sub" else [a, b]))

    def rows(self, gates: str) -> Array:
        """Return the rows of some gates."""
        size = self.s.hidden
        return np.concatenate([np.arange(size) + self.s.order.index(k) * size for k in gates])

    def linear(self, name: str, value: str, weight: Array, bias: Array | None) -> str:
        """Multiply by a matrix [n, m] and add a bias."""
        if self.s.product == "gemm":
            inputs = [value, self.const(f"{name}.w", lambda: weight)]
            return str(
                self.g.node(
                    "Gemm", [*inputs, *([self.const(f"{name}.b", lambda: bias)] if bias is not None else [])], transB=1
                )
            )
        made = self.g.node("MatMul", [value, self.const(f"{name}.w", lambda: np.ascontiguousarray(weight.T))])
        return made if bias is None else self.two("Add", made, self.const(f"{name}.b", lambda: bias))

    def cut(self, value: str, gates: str) -> dict[str, str]:
        """Take gates apart that stand behind each other."""
        g, size = self.g, self.s.hidden
        if len(gates) == 1:
            return {gates: value}
        if self.s.cut == "slice":
            return {k: g.slice(value, [n * size], [(n + 1) * size], [1]) for n, k in enumerate(gates)}
        if self.s.cut == "gather":
            return {
                k: g.node(
                    "Gather", [value, self.const(f"at{n}", lambda n=n: np.arange(n * size, (n + 1) * size))], axis=1
                )
                for n, k in enumerate(gates)
            }
        sizes = [size] * len(gates)
        if g.opset < 13:
            parts = g.node("Split", [value], len(gates), axis=1, split=sizes)
        else:
            parts = g.node(
                "Split", [value, self.const(f"sizes{len(gates)}", lambda: np.array(sizes))], len(gates), axis=1
            )
        return dict(zip(gates, parts, strict=True))

    def gates(self, x: str, h: str, names: str) -> dict[str, str]:
        """Return the arguments W·x + R·h + b of gates."""
        groups = list(names) if self.s.cut == "apart" else [names]
        found: dict[str, str] = {}
        for group in groups:
            rows = self.rows(group)
            w, r, bx, bh = self.w[rows], self.r[rows], self.bx[rows], self.bh[rows]
            if self.s.product == "joined":
                both = self.g.node("Concat", [x, h], axis=1)
                made = self.linear(f"{group}.xh", both, np.concatenate([w, r], 1), bx + bh)
            else:
                one = None if self.s.biases == "none" else bx
                a = self.linear(f"{group}.x", x, w, one)
                b = self.linear(f"{group}.h", h, r, bh if self.s.biases == "both" else None)
                made = self.two("Add", a, b)
            found |= self.cut(made, group)
        return found

    def gate(self, value: str) -> str:
        """Apply a gate's function."""
        g = self.g
        if self.s.hard == "op":
            return str(g.node("HardSigmoid", [value], alpha=0.25, beta=0.5))
        if self.s.hard == "clip":
            value = self.two("Mul", value, self.const("quarter", lambda: np.float32(0.25)))
            value = self.two("Add", value, self.const("half", lambda: np.float32(0.5)))
            low, high = (self.const(str(v), lambda v=v: np.float32(v)) for v in (0, 1))
            return str(g.node("Clip", [value, low, high]))
        return str(g.node("Sigmoid", [value]))

    def functions(self, values: dict[str, str], names: str) -> dict[str, str]:
        """Apply the function of gates, to each or to all of them at once."""
        if self.s.sigmoids == "each" or len(names) == 1:
            return {k: self.gate(values[k]) for k in names}
        return self.cut(self.gate(self.g.node("Concat", [values[k] for k in names], axis=1)), names)

    def step(self, x: str, h: str, c: str = "") -> tuple[str, str]:
        """Return the next h and c."""
        if self.s.op == "RNN":
            return str(self.g.node("Tanh", [self.gates(x, h, "".join(self.s.order))["i"]])), ""
        return self.lstm(x, h, c) if self.s.op == "LSTM" else (self.gru(x, h), "")

    def lstm(self, x: str, h: str, c: str) -> tuple[str, str]:
        """Write c' = f · c + i · g and h' = o · tanh(c')."""
        g, order = self.g, "".join(self.s.order)
        values = self.gates(x, h, order)
        made = self.functions(values, order.replace("c", ""))
        candidate = g.node("Relu" if self.changed == "function" else "Tanh", [values["c"]])
        kept, new = self.two("Mul", made["f"], c), self.two("Mul", made["i"], candidate)
        if self.changed == "sign":
            c = str(g.node("Sub", [kept, new]))
        elif self.changed == "missing":
            c = self.two("Add", c, new)
        elif self.changed == "order":
            c = self.two("Add", self.two("Mul", made["i"], c), self.two("Mul", made["i"], candidate))
        else:
            c = self.two("Add", kept, new)
        if self.changed == "gate":
            made["o"] = str(g.node("Tanh", [values["o"]]))
        return self.two("Mul", made["o"], g.node("Tanh", [c])), c

    def gru(self, x: str, h: str) -> str:
        """Write h' = (1 - z) · n + z · h in one of five ways."""
        g, size = self.g, self.s.hidden
        order = "".join(self.s.order)
        if self.s.reset and self.s.cut != "apart":
            one = None if self.s.biases == "none" else self.bx
            a = self.cut(self.linear("x", x, self.w, one), order)
            b = self.cut(self.linear("h", h, self.r, self.bh if self.s.biases == "both" else None), order)
            made = self.functions({k: self.two("Add", a[k], b[k]) for k in "zr"}, "zr")
            argument = self.two("Add", a["h"], self.two("Mul", made["r"], b["h"]))
        else:
            made = self.functions(self.gates(x, h, order.replace("h", "")), "zr")
            rows = self.rows("h")
            w, r, bx, bh = self.w[rows], self.r[rows], self.bx[rows], self.bh[rows]
            a = self.linear("h.x", x, w, None if self.s.biases == "none" else bx)
            inner = bh if self.s.biases == "both" else None
            if self.s.reset:
                b = self.two("Mul", made["r"], self.linear("h.h", h, r, inner))
            else:
                b = self.linear("h.h", self.two("Mul", made["r"], h), r, inner)
            argument = self.two("Add", a, b)
        n = g.node("Sigmoid" if self.changed == "function" else "Tanh", [argument])
        z = g.node("Tanh", [made["z"]]) if self.changed == "gate" else made["z"]
        one = self.const("one", lambda: np.ones(1 if size % 2 else (), np.float32))
        if self.changed == "sign":
            return str(g.node("Sub", [self.two("Mul", z, h), self.two("Mul", g.node("Sub", [one, z]), n)]))
        if self.changed == "missing":
            return self.two("Add", n, self.two("Mul", z, h))
        if self.changed == "order":
            return self.two("Add", self.two("Mul", z, n), self.two("Mul", z, h))
        ways: list[Callable[[], str]] = [
            lambda: self.two("Add", self.two("Mul", g.node("Sub", [one, z]), n), self.two("Mul", z, h)),
            lambda: self.two("Add", self.two("Mul", g.node("Sub", [h, n]), z), n),
            lambda: str(g.node("Sub", [self.two("Add", self.two("Mul", z, h), n), self.two("Mul", n, z)])),
            lambda: str(g.node("Sub", [h, self.two("Mul", g.node("Sub", [one, z]), g.node("Sub", [h, n]))])),
            lambda: self.two("Add", n, self.two("Mul", z, self.two("Add", h, g.node("Neg", [n])))),
        ]
        return ways[self.s.kept]()
