"""Random graphs of small layers: branches, sums, concatenations, both directions, and outputs of several tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from qrnn import layers
from qrnn.errors import DataError, UnsupportedError
from qrnn.layers import Tensor
from qrnn.model.float_model import FloatModel

ERRORS = (DataError, UnsupportedError)
CELLS = {"lstm": 4, "gru": 3, "rnn": 1}


class Pool:
    """Tensors so far, and what makes more of them."""

    def __init__(self, draw: st.DrawFn, seed: int) -> None:
        self.draw, self.rng = draw, np.random.default_rng(seed)
        self.tensors: list[Tensor] = [layers.input("x", draw(st.integers(1, 6)))]
        if draw(st.booleans()):
            self.tensors.append(layers.input("profile", draw(st.integers(1, 4)), has_time=False))
        if draw(st.booleans()):
            tokens = layers.tokens("ids", 5)
            self.tensors.append(layers.embedding(tokens, self.drawn(5, draw(st.integers(1, 4)))))

    def drawn(self, *shape: int) -> np.ndarray[Any, Any]:
        return self.rng.normal(size=shape) * 0.7

    def pick(self, has_time: bool | None = None) -> Tensor:
        """The later a tensor came, the likelier."""
        found = [t for t in self.tensors if has_time in (None, t.has_time)]
        return found[-1 - min(self.draw(st.integers(0, 3)), len(found) - 1)]

    def recurrent(self) -> None:
        x, cell, H = self.pick(True), self.draw(st.sampled_from(sorted(CELLS))), self.draw(st.integers(1, 6))
        make, G = getattr(layers, cell), CELLS[cell]
        ways = self.draw(st.sampled_from([(False,), (False,), (True,), (False, True)]))
        made = [make(x, self.drawn(G * H, x.features), self.drawn(G * H, H), reverse=reverse) for reverse in ways]
        layer = made[0] if len(made) == 1 else layers.bidirectional(*made)
        self.tensors += [layer.h_n, *([layer.c_n] if cell == "lstm" else []), layer.output]

    def dense(self) -> None:
        x = self.pick()
        self.tensors.append(layers.dense(x, self.drawn(self.draw(st.integers(1, 6)), x.features)))

    def softmax(self) -> None:
        self.tensors.append(layers.softmax(self.pick()))

    def activation(self) -> None:
        self.tensors.append(layers.activation(self.pick(), self.draw(st.sampled_from(["relu", "tanh", "sigmoid"]))))

    def add(self) -> None:
        a = self.pick()
        alike = [t for t in self.tensors if (t.features, t.has_time) == (a.features, a.has_time)]
        self.tensors.append(layers.add(a, self.draw(st.sampled_from(alike))))

    def concat(self) -> None:
        a = self.pick()
        self.tensors.append(layers.concat(a, self.pick(a.has_time)))

    def last_step(self) -> None:
        self.tensors.append(layers.last_step(self.pick(True)))


@st.composite
def graphs(draw: st.DrawFn) -> FloatModel | None:
    """A model; None where the layers that were drawn make none."""
    pool = Pool(draw, draw(st.integers(0, 1 << 16)))
    steps = [pool.recurrent, pool.dense, pool.softmax, pool.activation, pool.add, pool.concat, pool.last_step]
    pool.recurrent()
    for step in draw(st.lists(st.sampled_from([pool.recurrent, *steps]), min_size=2, max_size=8)):
        try:
            step()
        except ERRORS:  # as a dense layer over cells' 32-bit states
            continue
    outputs = {}
    for number in range(draw(st.integers(1, 4))):
        first = pool.pick() if number else pool.tensors[-1]
        parts = tuple(pool.pick(first.has_time) for _ in range(draw(st.integers(0, 2))))
        outputs[f"y{number}"] = (first, *parts) if parts else first
    try:
        return layers.model("graph", outputs)
    except ERRORS:
        return None
