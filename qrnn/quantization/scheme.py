"""The choices of a conversion: widths, gates, calibrator and the input's scheme."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from qrnn.errors import QuantizationError
from qrnn.quantization.gate_choice import DEFAULT_GATES, parse_gates
from qrnn.quantization.methods import DEFAULT, parse_refine
from qrnn.quantization.widths import Widths, parse_widths

CALIBRATORS = ("robust", "minmax", "percentile", "mse")

InputScheme = Literal["8", "8-per-feature", "16", "16-per-feature"]
"""Input schemes by their cost on a device: one byte or two for each value, with one scale or one for each feature, folded into W."""

INPUT_SCHEMES = (*get_args(InputScheme), "auto")

AUTO = "auto"
"""The value of ``activations`` and ``weights`` for widths that the conversion chooses."""


@dataclass(frozen=True)
class Scheme:
    """How a model is quantized.

    ``activations``: bits of the matrix operands of hidden tensors, 8 or 16, or ``auto``, chosen by the conversion. ``weights``: bits of the
    weights W and R of recurrent layers and of the weights of convolutions (`qrnn.model.kinds.conv.eight_bits_for` says of which not), 8 or 4;
    all other weights have 8. With 16, all but those of recurrent layers have about 16, as two matrices of 8
    (`qrnn.quantization.fine_weights`), and those of recurrent layers 8; ``auto`` is 16 where the floor of 8 is low and that of 16 higher
    (`qrnn.conversion.weights`), else 8. ``gates``: the gate functions, as `qrnn.quantization.gate_choice.parse_gates` reads them.
    ``calibrator``: robust (the largest values but for rare outliers, `qrnn.quantization.outliers`), minmax, percentile (99.99) or mse.
    ``input``: bits of the graph inputs and embeddings, ``8`` or ``16`` with one scale, ``8-per-feature`` or ``16-per-feature`` with scales that
    are folded into the weights' columns and offsets folded into the biases, or ``auto``, chosen by measured calibration error. ``refine``:
    refinement methods that win accuracy back without training, names of `qrnn.quantization.methods.METHODS` separated by commas, ``all``,
    ``none``, or ``default``: nothing for weights of eight bits, ``channels,rounding,bias`` for 16, and ``rounding,bias`` for four, together
    with eight bits for the W of a layer in which it is small (`qrnn.quantization.choices.resolved`). ``widths``: the width of single tensors,
    operands and matrices, by keys such as ``lstm.h``, as `qrnn.quantization.widths` lists them; text, a mapping or pairs. What is not named
    there follows ``activations``, ``input`` and ``weights``. ``widest_operand``: the most bits that any operand may have, 16 or 8; a target
    sets it where the device has no products of 16 bits. ``multipliers``: the significant bits of the multipliers of a matrix, 31 or 16; 16
    take half of the flash and less time where a processor multiplies to 32 bits alone, and a target sets them there.
    """

    activations: int | str = 8
    gates: str = DEFAULT_GATES
    calibrator: str = "robust"
    input: str = "auto"
    weights: int | str = 8
    refine: str = DEFAULT
    widths: Widths = ()
    widest_operand: int = 16
    multipliers: int = 31

    def __post_init__(self) -> None:
        if self.activations != AUTO and (type(self.activations) is not int or self.activations not in (8, 16)):
            raise QuantizationError(f"activations={self.activations!r}, expected 8, 16 or {AUTO}")
        if self.weights != AUTO and (type(self.weights) is not int or self.weights not in (16, 8, 4)):
            raise QuantizationError(f"weights={self.weights!r}, expected 16, 8, 4 or {AUTO}")
        if type(self.widest_operand) is not int or self.widest_operand not in (8, 16):
            raise QuantizationError(f"widest_operand={self.widest_operand!r}, expected 8 or 16")
        if type(self.multipliers) is not int or self.multipliers not in (16, 31):
            raise QuantizationError(f"multipliers={self.multipliers!r}, expected 16 or 31")
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
        object.__setattr__(self, "widths", parse_widths(self.widths))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, for the model file.

        ``refine`` is left out where it is ``default``, and where it is ``none`` for weights of eight bits; ``widths`` where there are none; and
        ``widest_operand`` where it is 16 and ``multipliers`` where they have 31 bits, as in files of older versions.
        """
        fields = asdict(self)
        fields["widths"] = dict(self.widths)
        if not self.widths:
            del fields["widths"]
        if self.widest_operand == 16:
            del fields["widest_operand"]
        if self.multipliers == 31:
            del fields["multipliers"]
        if self.refine == DEFAULT or (self.weights in (8, AUTO) and not self.methods):
            del fields["refine"]
        return fields

    @property
    def matrix_bits(self) -> int:
        """Return the bits of the weights of recurrent layers, and of each matrix of a convolution, that ``widths`` does not name."""
        return 4 if self.weights == 4 else 8

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the refinement methods that ``refine`` names."""
        return parse_refine(self.refine)
