"""The last steps of sequences on the CPU; `Engine.run` picks those of padded batches itself."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import SequenceCalls, StreamCalls
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model.kinds.last_step import QuantLastStep
from qrnn.model.quant_model import QuantModel


class LastStepRun(LayerRun):
    """See the module."""

    def __init__(self, layer: QuantLastStep, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer

    def share_tensors(self, tensors: dict[str, Any]) -> None:
        """Let outputs that one step makes the same be one array; see `LayerRun.share_tensors`."""
        tensors[self._layer.output] = tensors[self._layer.input]

    def stream_calls(self, walk: StreamCalls) -> list[Call]:
        """Return the calls of one step of streams; see `LayerRun.stream_calls`."""
        return []  # The one step is the last one.

    def sequence_calls(self, walk: SequenceCalls) -> list[Call]:
        """Return the calls of whole sequences; see `LayerRun.sequence_calls`."""
        ends = walk.tensors[self._layer.input], walk.tensors[self._layer.output]
        return [self.tasks.call("last_step", "last_step", walk.place(False), walk.steps[self._layer.input], *ends)]


RUN = LastStepRun
