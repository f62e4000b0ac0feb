"""What recurrent layers over bands, and for each band, have in common on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.kinds.recurrent import RecurrentRun
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model.kinds.recurrent.bands import QuantBanded
from qrnn.model.quant_model import QuantModel


class BandedRun(RecurrentRun):
    """A recurrent layer whose weights serve all bands of a step.

    Calls of streams and whole sequences are those of ``side_by_side``, the layer's own or one of several sequences side by side
    (`qrnn.backends.cpu.side_by_side`); padded batches, and what is looked into, go by the layer itself.
    """

    def __init__(
        self,
        layer: QuantBanded,
        together: QuantBanded,
        model: QuantModel,
        tasks: Tasks,
    ) -> None:
        super().__init__(layer, model, tasks)
        self._banded = layer
        self.side_by_side: RecurrentRun = self if together is layer else RecurrentRun(together, model, tasks)

    @property
    def step_macs(self) -> int:
        """Return the multiply-adds of a time step, over all bands and directions."""
        return self._banded.bands * super().step_macs

    @property
    def most_macs(self) -> int:
        """Return the multiply-adds of a time step of the largest direction."""
        return self._banded.bands * super().most_macs

    def ahead(self, runs: bool, stepped: bool) -> Iterator[Call]:
        """Yield the calls that have to be compiled ahead; see `LayerRun.ahead`."""
        yield from super().ahead(runs, stepped)
        if self.side_by_side is not self:
            yield from self.side_by_side.ahead(runs, stepped)
