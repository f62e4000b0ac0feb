"""The choices of a conversion: widths, gates, calibrator and the input's scheme."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from qrnn.errors import QuantizationError
from qrnn.quantization.gate_choice import DEFAULT_GATES, parse_gates
from qrnn.quantization.methods import parse_refine

CALIBRATORS = ("robust", "minmax", "percentile", "mse")

InputScheme = Literal["8", "8-per-feature", "16", "16-per-feature"]
"""Input schemes by their cost on a device: one byte or two for each value, with one scale or one for each feature, folded into W."""

INPUT_SCHEMES = (*get_args(InputScheme), "auto")


@dataclass(frozen=True)
class Scheme:
    """How a model is quantized.

    ``activations``: bits of the matrix operands of hidden tensors, 8 or 16. ``weights``: bits of the weights W and R of recurrent layers, 8
    or 4; all other weights have 8. ``gates``: the gate functions, as `qrnn.quantization.gate_choice.parse_gates` reads them.
    ``calibrator``: robust (the largest values but for rare outliers, `qrnn.quantization.outliers`), minmax, percentile (99.99) or mse.
    ``input``: bits of the graph inputs and embeddings, ``8`` or ``16`` with one scale, ``8-per-feature`` or ``16-per-feature`` with scales that
    are folded into the weights' columns and offsets folded into the biases, or ``auto``, chosen by measured calibration error. ``refine``:
    refinement methods that win accuracy back without training, names of `qrnn.quantization.methods.METHODS` separated by commas, ``all`` or
    ``none``.
    """

    activations: int = 8
    gates: str = DEFAULT_GATES
    calibrator: str = "robust"
    input: str = "auto"
    weights: int = 8
    refine: str = "none"

    def __post_init__(self) -> None:
        if type(self.activations) is not int or self.activations not in (8, 16):
            raise QuantizationError(f"activations={self.activations!r}, expected 8 or 16")
        if type(self.weights) is not int or self.weights not in (8, 4):
            raise QuantizationError(f"weights={self.weights!r}, expected 8 or 4")
        if self.calibrator not in CALIBRATORS:
            raise QuantizationError(f"calibrator={self.calibrator!r}, expected one of {', '.join(CALIBRATORS)}")
        if self.input not in INPUT_SCHEMES:
            raise QuantizationError(f"input={self.input!r}, expected one of {', '.join(INPUT_SCHEMES)}")
        if not isinstance(self.gates, str):
            raise QuantizationError(f"gates={self.gates!r}, expected text such as {DEFAULT_GATES}")
        parse_gates(self.gates)
        if not isinstance(self.refine, str):
            raise QuantizationError(f"refine={self.refine!r}, expected text such as rounding,bias")
        parse_refine(self.refine)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, for the model file; ``refine`` is left out where it is ``none``, as in files of older versions."""
        fields = asdict(self)
        if not self.methods:
            del fields["refine"]
        return fields

    @property
    def methods(self) -> tuple[str, ...]:
        """The refinement methods that ``refine`` names."""
        return parse_refine(self.refine)
