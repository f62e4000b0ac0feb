"""The tensor formats of a conversion so far, and what the next ones are decided by: ranges, the scheme, and the limits of sums."""

from __future__ import annotations

from collections.abc import Mapping

from qrnn.model.float_model import Activation, FloatArray, FloatModel
from qrnn.model.parts import GateFunction, Int8Array, Operand, TensorFormat
from qrnn.quantization.calibrate import Ranges
from qrnn.quantization.gate_choice import parse_gates
from qrnn.quantization.gate_tables import gate_function
from qrnn.quantization.inputs import InputScheme
from qrnn.quantization.scheme import Scheme


class Formats:
    """The formats of one conversion: those decided so far, and what new ones are decided by; ``decisions`` says what and why."""

    def __init__(
        self, model: FloatModel, ranges: Ranges, scheme: Scheme, inputs: Mapping[str, InputScheme], reasons: list[str]
    ) -> None:
        self.model, self.ranges, self.scheme, self.input_schemes = model, ranges, scheme, inputs
        self.tensors: dict[str, TensorFormat] = {}
        self.fracs: dict[str, int] = {}  # tensors with a power-of-two scale
        self.decisions: list[str] = list(reasons)
        self.choices = parse_gates(scheme.gates)

    def gate_function(
        self, gate: str, activation: Activation, in_frac: int | None = None, clip: float | None = None
    ) -> GateFunction:
        """The function of a gate (or ``head``) by the scheme's choices; ``in_frac`` where `needs_input_range` asks for it."""
        chosen, choice = self.choices.resolve(gate, activation)
        return gate_function(chosen, choice, in_frac=in_frac, clip=clip)

    @property
    def _operand_limit(self) -> int:
        return 127 if self.scheme.activations == 8 else 32767

    def set_format(self, name: str, frac: int, features: int, has_time: bool, limit: int = 32767) -> None:
        """Tensor ``name`` is int16 with ``frac`` fraction bits."""
        self.fracs[name] = frac
        self.tensors[name] = TensorFormat(features, has_time, 16, (2.0**-frac,), limit)

    def operand(self, name: str, largest: float, row_sum: float) -> Operand:
        """How a matvec reads tensor ``name``: sources as they are, int16 tensors narrowed by the least shift that covers ``largest``."""
        if name not in self.fracs:
            return Operand(0, self.tensors[name].limit)
        return self.narrowing(self.fracs[name], largest, row_sum)

    def narrowing(self, frac: int, largest: float, row_sum: float) -> Operand:
        """How a matvec reads int16 values with ``frac`` fraction bits: by the least shift that covers ``largest``."""
        q = largest * 2.0**frac
        limit, shift = max(127, fitting_limit(self._operand_limit, row_sum)), 0
        # Up to limit + 1: the topmost values lose one unit to the clamp, where one more shift would cost every value a bit.
        while (limit + 1) * 2**shift < q and shift < 15:
            shift += 1
        return Operand(shift, limit)

    def unit(self, name: str, operand: Operand) -> FloatArray:
        """Real value of one operand unit of tensor ``name``, [1] or [F]."""
        return self.tensors[name].scales * 2.0**operand.shift

    def observed(self, name: str) -> float:
        """The largest magnitude of an int16 tensor that a matvec operand should cover, by the calibrator."""
        if name not in self.ranges.total:
            return 0.0
        return float(self.ranges.total[name].threshold(self.scheme.calibrator, self._operand_limit)[0])

    def note_shift(self, owner: str, pre_shift: Int8Array) -> None:
        """Say so where rows are computed coarser."""
        if pre_shift.any():
            self.decisions.append(
                f"{owner}: {int((pre_shift > 0).sum())} rows computed up to {int(pre_shift.max())} bits coarser, so that their sums fit 32 bits"
            )


def fitting_limit(limit: int, row_sum: float) -> int:
    """``limit``, or the next of its halves with which a row of that sum stays below 2^30; the other bit is for bias and left shift."""
    while row_sum * limit >= 2.0**30:
        limit >>= 1
    return limit
