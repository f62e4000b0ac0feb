"""What recurrent layers over bands, and for each band, have in common on the CPU."""

from __future__ import annotations

from qrnn.backends.cpu.kinds.recurrent import RecurrentRun
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model.kinds.over_bands import QuantOverBands
from qrnn.model.kinds.per_band import QuantPerBand
from qrnn.model.quant_model import QuantModel


class BandedRun(RecurrentRun):
    """A recurrent layer whose weights serve all bands of a step."""

    def __init__(self, layer: QuantOverBands | QuantPerBand, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._banded = layer

    @property
    def step_macs(self) -> int:
        """Return the multiply-adds of a time step, over all bands and directions."""
        return self._banded.bands * super().step_macs

    @property
    def most_macs(self) -> int:
        """Return the multiply-adds of a time step of the largest direction."""
        return self._banded.bands * super().most_macs
