"""Running sums and means on the CPU: whole sequences by loops of their own, steps of streams by the layer's definition, as extremes are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.defined import DefinedSteps
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.sequence_loops import SequenceLoop
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model.kinds.running import QuantRunning
from qrnn.model.parts import Int64Array
from qrnn.model.quant_model import QuantModel


class RunningSumRun(SequenceLoop):
    """See the module."""

    ARRAYS = 8

    def __init__(self, layer: QuantRunning, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        mean = int(layer.function == "mean")
        self._numbers = (layer.count, layer.inner, mean, *layer.shifts, layer.most_steps or 0)
        self._features = layer.features
        self._elements = layer.features * layer.count

    @property
    def _work(self) -> int:
        return self._elements

    def _call(self, place: Int64Array, arrays: Sequence[Any], last_alone: bool) -> Call:
        scratch = (np.zeros(self._features, np.int64) for _ in range(2))
        return self.tasks.call("running", "add_up", place, last_alone, *self._numbers, *arrays, *scratch)


def RUN(layer: QuantRunning, model: QuantModel, tasks: Tasks) -> LayerRun:  # noqa: N802  # Every module of this folder has this name.
    """Return the run of a layer: sums and means have loops of their own."""
    return (DefinedSteps if layer.compares else RunningSumRun)(layer, model, tasks)
