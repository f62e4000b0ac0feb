"""Measure the error of an integer gate function against the real function it stands for, over all 65536 inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.accuracy.pictures import fitted, png
from qrnn.arithmetic import gates as g
from qrnn.model.activation import Activation, activate
from qrnn.model.gate_values import gate_values
from qrnn.model.parts import FloatArray, GateFunction

KIND_NAMES = {g.ODD: "odd", g.RAMP: "ramp", g.TABLE: "table", g.THRESHOLD: "threshold"}
INPUTS = np.arange(-32768, 32768)
ABREAST = 5
"""The number of functions side by side in a picture."""


@dataclass(frozen=True)
class GateError:
    """A gate function at the real inputs ``x``: the ``values`` of the integer ``function`` and the ``true`` ones of ``activation``, clipped."""

    label: str
    activation: Activation
    function: GateFunction
    x: FloatArray
    values: FloatArray
    true: FloatArray

    @property
    def error(self) -> FloatArray:
        """Return the integer function's real values minus the real function's."""
        return self.values - self.true

    @property
    def monotone(self) -> bool:
        """Return whether the outputs never fall, or never rise."""
        steps = np.diff(self.values)
        return bool((steps >= 0).all() or (steps <= 0).all())

    @property
    def odd_symmetric(self) -> bool:
        """Return whether f(-x) + f(x) = 2 · f(0) in integers at every x but -32768."""
        return bool((self.values[32769:] + self.values[32767:0:-1] == 2 * self.values[32768]).all())

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, for JSON."""
        worst, f = int(np.abs(self.error).argmax()), self.function
        largest = float(abs(self.error[worst]))
        return {
            "label": self.label,
            "function": str(self.activation),
            "integer_function": f.name,
            "kind": KIND_NAMES[int(f.params[g.KIND])],
            "in_frac": f.in_frac,
            "out_frac": f.out_frac,
            "low": f.bounds[0],
            "high": f.bounds[1],
            "table_entries": int(f.table.size),
            "table_bytes": int(f.table.nbytes),
            "max_error": largest,
            "max_error_lsb": largest * 2.0**f.out_frac,
            "max_error_at": float(self.x[worst]),
            "monotone": self.monotone,
            "odd_symmetric": self.odd_symmetric,
        }


def measure(label: str, activation: Activation, function: GateFunction, clip: float | None = None) -> GateError:
    """Compare ``function`` at every int16 with ``activation`` at clamp(x, ±clip)."""
    x = INPUTS / 2.0**function.in_frac
    true = activate(activation, x if clip is None else np.clip(x, -clip, clip))
    return GateError(label, activation, function, x, gate_values(function, INPUTS), true)


def draw(found: list[GateError]) -> bytes:
    """Return a PNG with each function's curve above and its error in output LSB below, `ABREAST` functions side by side."""
    lines, columns = math.ceil(len(found) / ABREAST), min(len(found), ABREAST)

    def paint(figure: Any) -> None:
        axes = figure.subplots(2 * lines, columns, squeeze=False, height_ratios=[3, 2] * lines)
        titles = fitted(figure, [one.label for one in found], 9, 2.8)
        for k, (one, title) in enumerate(zip(found, titles, strict=True)):
            line, column = divmod(k, columns)
            _curve(axes[2 * line, column], axes[2 * line + 1, column], one)
            axes[2 * line, column].set_title(title, fontsize=9)
        for unused in range(len(found), lines * columns):
            for half in (0, 1):
                axes[2 * (unused // columns) + half, unused % columns].set_axis_off()

    return png(paint, 3.4 * columns, 5.5 * lines, [one.label for one in found])


def _curve(top: Any, bottom: Any, one: GateError) -> None:
    """Draw the function into the axes ``top`` and its error into ``bottom``."""
    top.plot(one.x, one.true, color="#bbbbbb", linewidth=3.0, label=str(one.activation))
    top.plot(one.x, one.values, color="#4477aa", linewidth=1.0, label=one.function.name)
    top.legend(fontsize=6)
    bottom.plot(one.x, one.error * 2.0**one.function.out_frac, color="#aa3377", linewidth=0.8)
    bottom.set_ylabel("error, LSB", fontsize=8)
    bottom.set_xlabel(f"x (one LSB of the output is 2^-{one.function.out_frac})", fontsize=8)
    bottom.sharex(top)
    top.tick_params(labelbottom=False)
    for axes in (top, bottom):
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
