"""One configuration that a search has tried."""

from __future__ import annotations

from dataclasses import dataclass

from qrnn.devices.measure import Needs
from qrnn.lab.evaluate import Record
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme


@dataclass
class Trial:
    """One configuration: its figures, and whether those of cost are measured (linked, counted) or estimated."""

    scheme: Scheme
    quantized: QuantModel
    figures: Record
    counted: bool = False
    needs: Needs | None = None
    training: Record | None = None
    """What its training came to, as in a sweep's record; None without one."""
    estimate: Needs | None = None
    """What the target needs by its cost model, whatever is known beside that."""
    built: bool = False
    built_needs: Needs | None = None
    """What the target needs as it was found by building, where that was tried (``built``)."""
    earlier: bool = False
    """Whether the trial was measured in an earlier search."""

    def __post_init__(self) -> None:
        self.estimate = self.estimate or self.needs
