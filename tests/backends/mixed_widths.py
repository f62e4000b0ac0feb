"""Models whose layers mix the widths of operands and weights in every way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from qrnn import layers
from qrnn.backends import create_engine
from qrnn.conversion import quantize
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

MIXES = tuple(itertools.product(("8", "4"), ("8", "4"), ("8", "8-per-feature", "16"), ("8", "16")))
"""The widths of W, R, x and h."""

CELLS = ("lstm", "gru_after", "gru_before", "rnn")
"""The layers of a model, each of which reads the one before."""

MODELS = range(len(MIXES))
"""Each cell has another mix in every model."""

FIRST = MODELS[: len(MIXES) // len(CELLS)]
"""Models in which every mix occurs once."""


def mix_of(number: int, cell: str) -> tuple[str, str, str, str]:
    """Return the widths of W, R, x and h of the layer ``cell`` of a model."""
    return MIXES[(number + CELLS.index(cell) * len(FIRST)) % len(MIXES)]


def mixed_model(number: int, cells: Sequence[str] = CELLS, features: int = 5, hidden: int = 9) -> QuantModel:
    """Return one of `MODELS`, with layers of ``cells`` alone.

    Where ``number`` is odd, a Concat and a dense layer read x too, by which x is int16 and every matrix narrows it. Features have sizes of
    1 : 100, so that scales by feature differ.
    """
    random = np.random.default_rng(number)

    def draw(*shape: int) -> Any:
        return random.normal(size=shape) * 0.4

    x = source = layers.input("x", features)
    widths: dict[str, str] = {}
    for place, name in enumerate(cells):
        cell, _, way = name.partition("_")
        W, R, x_width, h_width = mix_of(number, name)
        gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
        weights = (draw(gates * hidden, source.features), draw(gates * hidden, hidden))
        more: dict[str, Any] = {"linear_before_reset": way == "after"} if way else {}
        layer = getattr(layers, cell)(source, *weights, *(draw(gates * hidden) for _ in range(2)), name=name, **more)
        widths |= {f"{name}.W": W, f"{name}.R": R, f"{name}.x" if place else "x": x_width, f"{name}.h": h_width}
        source = layer.output
    if number % 2:
        source = layers.concat(source, x, name="both")
        widths["head.x"] = MIXES[number][2]
        source = layers.dense(source, draw(3, source.features), draw(3), name="head")
    data = random.normal(size=(4, 12, features)) * np.logspace(0, -2, features)
    return quantize(layers.model("mixed", {"y": source}), {"x": data}, Scheme(widths=widths))


def run(model: QuantModel, lengths: tuple[int, ...], *how: Any) -> dict[str, Any]:
    """Return every tensor of a run on random integers, a third of them at the ends of their range, and the final states.

    ``how``: backend, threads, instruction set, tuning.
    """
    random, fmt = np.random.default_rng(0), model.tensors["x"]
    shape = len(lengths), max(lengths), fmt.features
    drawn = random.integers(-fmt.limit, fmt.limit + 1, shape)
    x = np.where(random.random(shape) < 1 / 3, np.sign(drawn) * fmt.limit, drawn).astype(np.int16)
    start = Session(model, "reference").initial_state(len(lengths)).layers
    tensors, final, _ = create_engine(how[0], model, *how[1:]).run({"x": x}, start, np.array(lengths))
    states = {f"{name} {k}": array for name, state in final.items() for k, array in enumerate(state)}
    return {**tensors, **states}
