"""Compare the gate functions of a quantized model with those of the float model, as curves for a plot and as figures."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from qrnn.accuracy.gate_errors import measure
from qrnn.model.activation import Activation
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.pointwise import Pointwise, QuantPointwise
from qrnn.model.kinds.recurrent import QuantRecurrent, Recurrent
from qrnn.model.kinds.recurrent.definition import GATE_ROLE
from qrnn.model.parts import GateFunction
from qrnn.model.quant_model import QuantModel

POINTS = 161
SPAN = 8.0
"""Curves are drawn over [-SPAN, SPAN], or as much of it as the gate's input holds."""


class _Use(NamedTuple):
    """One use of a gate function: its place in the model, the real function, the integer one, and the clip of the argument."""

    where: str
    activation: Activation
    function: GateFunction
    clip: float | None


def gate_curves(model: FloatModel, quantized: QuantModel) -> list[dict[str, Any]]:
    """Return one entry for each different function: where it is used, figures of its error over all 65536 inputs, and a curve.

    The error is against the float model's own function, so that of ``hard`` and ``step`` is what the replacement changes.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    originals = {layer.name: layer for layer in model.layers}
    for layer in quantized.layers:
        uses: list[_Use] = []
        original = originals.get(layer.name)
        if isinstance(layer, QuantRecurrent) and isinstance(original, Recurrent):
            for number, (d, f) in enumerate(zip(layer.directions, original.directions, strict=True)):
                where = layer.name if len(layer.directions) == 1 else f"{layer.name}[{number}]"
                uses += [
                    _Use(
                        f"{where}.{role}",
                        f.activations[GATE_ROLE[role]],
                        function,
                        original.clip if role != "output" else None,
                    )
                    for role, function in zip(layer.roles, d.gates, strict=True)
                ]
        elif isinstance(layer, QuantPointwise) and isinstance(original, Pointwise):
            uses.append(_Use(layer.name, original.activation, layer.function, None))
        for where, activation, function, clip in uses:
            key = (str(activation), clip, function.params.tobytes(), function.table.tobytes())
            if key in found:
                found[key]["where"].append(where)
                continue
            error = measure(where, activation, function, clip)
            half = min(SPAN, 32767 * 2.0**-function.in_frac)
            at = np.round(np.linspace(-half, half, POINTS) * 2.0**function.in_frac).astype(int) + 32768
            found[key] = {
                "where": [where],
                **{k: v for k, v in error.to_dict().items() if k != "label"},
                "x": [float(f"{v:.5g}") for v in error.x[at]],
                "true": [float(f"{v:.6g}") for v in error.true[at]],
                "integer": [float(f"{v:.6g}") for v in error.values[at]],
            }
    return list(found.values())
