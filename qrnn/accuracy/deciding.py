"""Which graph output of a model decides something, and by what rule."""

from __future__ import annotations

from qrnn.model.float_model import FloatModel, GraphOutput


def deciding_output(model: FloatModel) -> GraphOutput | None:
    """Return the first output that decides something, which an output made of recurrent states does not; None where all are states."""
    states = {tensor for layer in model.recurrent_layers for tensor in layer.outputs}
    return next((o for o in model.outputs if not {name for name, _, _ in o.parts} & states), None)


def threshold_of(model: FloatModel, output: GraphOutput) -> float | None:
    """Return the value above which a feature says yes: 0.5 for sigmoids, 0 for a single feature; None where the largest feature decides."""
    halves = {layer.output for layer in model.layers if layer.decides_by_half}
    if {name for name, _, _ in output.parts} <= halves:
        return 0.5
    return 0.0 if output.features == 1 else None
