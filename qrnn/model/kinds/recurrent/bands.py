"""What recurrent layers over bands, and for each band, have in common: the same weights serve B bands of I features each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from qrnn.model.layer_facts import LayerMatrix, PartSize, Weights, Written
from qrnn.model.parts import STATE_MAX, FloatArray, TensorFormat, require
from qrnn.model.surroundings import Checks

MOST_BANDS = 1 << 16
"""The most bands of a step."""

MOST_FEATURES = 1 << 24
"""The most features of a step of the output, and of the states."""

if TYPE_CHECKING:
    from qrnn.model.kinds.recurrent.layer import Recurrent
    from qrnn.model.kinds.recurrent.quantized_layer import QuantRecurrent
else:
    Recurrent = QuantRecurrent = object


class Banded(Recurrent):
    """A float layer whose columns multiply the features of a band, not those of a step, so that no scale of a feature folds into them."""

    folds_offset: ClassVar[bool] = False

    if TYPE_CHECKING:  # a dataclass's field
        bands: int

    @property
    def input_weights(self) -> tuple[FloatArray, ...]:
        """Return no matrices: none has a column for each feature of the input."""
        return ()

    def weights(self) -> tuple[Weights, ...]:
        """Return each direction's matrices, of which none reads the features of a step one by one."""
        return tuple(replace(found, reads="") for found in super().weights())

    def width_parts(self) -> dict[str, PartSize]:
        """Return the parts of a recurrent layer; a step multiplies by its matrices once for each band."""
        ih = sum(int(d.weight_ih.size) for d in self.directions)
        hh = sum(int(d.weight_hh.size) for d in self.directions if d.weight_hh is not None)
        projected = sum(int(d.projection.weight.size) for d in self.directions if d.projection is not None)
        found = {"x": PartSize(self.bands * ih, self.bands * self.input_size)}
        if hh or projected:
            read = self.bands * self.output_size * len(self.directions)
            found["h"] = PartSize(self.bands * (hh + projected), read)
        found["W"] = PartSize(self.bands * ih, ih)
        if hh:
            found["R"] = PartSize(self.bands * hh, hh)
        return found


class QuantBanded(QuantRecurrent):
    """An integer layer whose matrices read the features of a band."""

    folds_offset: ClassVar[bool] = False

    if TYPE_CHECKING:  # a dataclass's field
        bands: int

    def __post_init__(self) -> None:
        super().__post_init__()
        where, widest = f"layer {self.name}", max(self.input_size, len(self.directions) * self.hidden_size)
        require(not self.is_started, f"{where}: computed initial states in a layer that knows bands")
        require(1 <= self.bands <= MOST_BANDS, f"{where}: bands {self.bands} not in 1…{MOST_BANDS}")
        require(self.bands * widest <= MOST_FEATURES, f"{where}: {self.bands} bands of {widest} features")

    def check_bands(self, checks: Checks) -> None:
        """Refuse x and an output that have other features than those of all bands, and what no recurrent layer may have."""
        checks.expect(self.input, self.bands * self.input_size, True)
        checks.expect(self.output, self.bands * len(self.directions) * self.output_size, True)
        self.check_own(checks)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that h has its fraction bits in each tensor that it is written to, and c those of c."""
        h = Written(self.h_frac, STATE_MAX)
        cells: Any = {name: found for name, found in super().formats(tensors).items() if name in self.cells}
        return {**dict.fromkeys(self.outputs[:2], h), **cells}

    def matrices(self) -> tuple[LayerMatrix, ...]:
        """Return the matrices of a recurrent layer, by which each band multiplies."""
        return tuple(replace(found, times=self.bands * found.times) for found in super().matrices())
