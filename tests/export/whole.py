"""Random models that need whole sequences: windows, joins of tensors of which one comes later, and layers that run backwards."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from export.building import quantized
from export.windows import SCHEMES, convolution, pool, windows
from qrnn import layers
from qrnn.export.whole_flow import why_whole
from qrnn.layers import Tensor
from qrnn.model.quant_model import QuantModel
from qrnn.model.window import Window

CALIBRATED = 100
"""The steps of a sequence for calibration: some come out of all layers."""

CELLS = {"lstm": 4, "gru": 3, "rnn": 1}


class Builder:
    """The tensor so far, whose rows may be fewer than the steps, and what comes after it."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self.rng = draw, np.random.default_rng(draw(st.integers(0, 1 << 16)))
        self.t: Tensor = layers.input("x", draw(st.integers(1, 6)))
        self.ends: list[Tensor] = []

    def drawn(self, *shape: int) -> np.ndarray[Any, Any]:
        return self.rng.normal(size=shape) * 0.7

    def conv(self, rows: int, taps: int, padding: tuple[int, int], stride: int = 1) -> Tensor:
        return layers.conv(self.t, self.drawn(rows, self.t.features, taps), stride=stride, padding=padding)

    def window(self) -> None:
        if self.draw(st.booleans()):
            self.t, *_ = convolution(self.draw, self.rng, self.t, 1, 1)
        else:
            self.t, *_ = pool(self.draw, self.t, 1, 1)

    def average(self) -> None:
        self.t = layers.average_pool(self.t, self.draw(windows()))

    def residual(self) -> None:
        """A sum of the tensor and a convolution of it that looks ahead by any of its steps."""
        taps = self.draw(st.integers(2, 4))
        after = self.draw(st.integers(0, taps - 1))
        self.t = layers.add(self.t, self.conv(self.t.features, taps, (taps - 1 - after, after)))

    def strided_residual(self) -> None:
        """Two ways to half the steps."""
        rows = self.draw(st.integers(1, 5))
        self.t = layers.add(self.conv(rows, 3, (1, 1), 2), self.conv(rows, 1, (0, 0), 2))

    def branches(self) -> None:
        """Convolutions of several sizes side by side, and a pool."""
        found = [self.conv(self.draw(st.integers(1, 3)), taps, (taps // 2, taps // 2)) for taps in (1, 3, 5)]
        found.append(layers.max_pool(self.t, Window(3, before=1, after=1)))
        self.t = layers.concat(*(found[k] for k in self.draw(st.permutations(range(4)))[:3]))

    def recurrent(self) -> None:
        cell, hidden = self.draw(st.sampled_from(sorted(CELLS))), self.draw(st.integers(1, 5))
        make, gates = getattr(layers, cell), CELLS[cell]
        ways = self.draw(st.sampled_from([(False,), (True,), (False, True)]))
        start = {"h_0": self.rng.uniform(-1, 1, hidden)} if self.draw(st.booleans()) else {}
        made = [
            make(self.t, self.drawn(gates * hidden, self.t.features), self.drawn(gates * hidden, hidden), reverse=way, **start)
            for way in ways
        ]  # fmt: skip
        layer = made[0] if len(made) == 1 else layers.bidirectional(*made)
        self.ends += [layer.h_n, *([layer.c_n] if cell == "lstm" else [])]
        self.t = layer.output

    def other(self) -> None:
        kind = self.draw(st.sampled_from(["dense", "relu", "skip", "running", "delay", "last"]))
        if kind == "dense":
            self.t = layers.dense(self.t, self.drawn(self.draw(st.integers(1, 6)), self.t.features))
        elif kind == "relu":
            self.t = layers.activation(self.t, "relu")
        elif kind == "skip":
            self.t = layers.add(self.t, layers.activation(self.t, "tanh"))
        elif kind == "running":
            self.t = layers.running(self.t, self.draw(st.sampled_from(["mean", "max"])))
        elif kind == "delay":
            self.t = layers.delay(self.t, [0, self.draw(st.integers(1, 3))])
        else:
            self.ends.append(layers.last_step(self.t))


@st.composite
def models(draw: st.DrawFn) -> QuantModel:
    """A quantized model of two to five parts, of which the first has windows.

    One more part runs backwards where the model could do without whole sequences.
    """
    made = Builder(draw)
    parts = [made.window, made.average, made.residual, made.strided_residual, made.branches, made.recurrent, made.other]
    first = draw(st.sampled_from(parts[:5]))
    for part in (first, *draw(st.lists(st.sampled_from(parts), min_size=1, max_size=4))):
        part()
    scheme = draw(st.sampled_from(SCHEMES))
    model = quantized(layers.model("whole", _outputs(draw, made)), scheme, steps=CALIBRATED)
    if why_whole(model) is None:
        reverse = [
            layers.gru(made.t, made.drawn(9, made.t.features), made.drawn(9, 3), reverse=way) for way in (False, True)
        ]
        both = layers.bidirectional(*reverse)
        made.t = both.output
        made.ends.append(both.h_n)
        model = quantized(layers.model("whole", _outputs(draw, made)), scheme, steps=CALIBRATED)
    return model


def _outputs(draw: st.DrawFn, made: Builder) -> dict[str, Any]:
    """Outputs over time and without; with neither drawn, the former."""
    found: dict[str, Any] = {f"end{k}": end for k, end in enumerate(made.ends) if draw(st.booleans())}
    if not found or draw(st.booleans()):
        found["y"] = (made.t, made.t) if draw(st.booleans()) else made.t
    return found
