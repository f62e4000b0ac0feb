"""Build a quantized model from a float model and its ranges, recording each format decision with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qrnn.errors import QuantizationError
from qrnn.model.activation import Activation
from qrnn.model.boundary import quantize_array
from qrnn.model.float_model import FloatModel
from qrnn.model.layer import Layer
from qrnn.model.parts import (
    CELL_MAX,
    AnyMatrix,
    FloatArray,
    GateFunction,
    Int8Array,
    Int16Array,
    Int32Array,
    Int64Array,
    Operand,
    QuantMatrix,
    TensorFormat,
)
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.calibrate import Ranges
from qrnn.quantization.gate_choice import parse_gates
from qrnn.quantization.gate_tables import complement, exp_table, gate_function, needs_input_range
from qrnn.quantization.inputs import (
    input_format,
    power_of_two_format,
    source_histograms,
    source_tensors,
)
from qrnn.quantization.matrix import bounded_rows, largest_row_sum, quantize_matrix, quantize_matrix4, row_scales
from qrnn.quantization.scheme import InputScheme, Scheme


class Builder:
    """The state of one conversion: formats are decided in the order of the layers, and ``decisions`` says what was decided and why.

    It implements `qrnn.model.surroundings.Plan`, which the layers' quantization rules ask.
    """

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
        """Return the integer function of a gate (or ``head``) by the scheme's choices.

        ``in_frac`` is needed where `needs_input_range` says so.
        """
        chosen, choice = self.choices.resolve(gate, activation)
        return gate_function(chosen, choice, in_frac=in_frac, clip=clip)

    def build(self, provenance: Provenance) -> QuantModel:
        """Return the quantized model; QuantizationError names the layer that does not fit."""
        for graph_input in self.model.inputs:
            if graph_input.kind == "tokens":
                self.tensors[graph_input.name] = TensorFormat(
                    1, graph_input.has_time, 32, (1.0,), graph_input.vocabulary - 1
                )
        histograms = source_histograms(self.model, self.ranges)
        for name in source_tensors(self.model):
            info = self.model.tensors[name]
            sums = [reader.input_row_sum(self) for reader in self.readers(name)]
            if None not in sums and not self.is_output(name):
                limit = _widest_limit(name, [s for s in sums if s is not None])
                chosen = self.input_schemes[name]
                fmt = input_format(
                    histograms[name], info.features, info.has_time, chosen, self.scheme.calibrator, limit
                )
                self.decisions.append(f"{name}: input scheme {chosen}, |q| ≤ {fmt.limit}")
            else:
                fmt, frac = power_of_two_format(float(histograms[name][0].largest[0]), info.features, info.has_time)
                self.fracs[name] = frac
                self.decisions.append(
                    f"{name}: int16 with {frac} fraction bits, because it is not read by matrix products alone"
                )
            self.tensors[name] = fmt
        self._check_choices()
        layers = tuple(layer.quantize(self) for layer in self.model.layers)
        return QuantModel(
            name=self.model.name,
            inputs=self.model.inputs,
            layers=layers,
            outputs=self.model.outputs,
            tensors=self.tensors,
            one_step=self.model.one_step,
            provenance=replace(provenance, decisions=tuple(self.decisions)),
        )

    def _check_choices(self) -> None:
        """Refuse a choice for a gate that the model does not have."""
        seen = {role for layer in self.model.layers for role in layer.roles}
        if unused := self.choices.unused(seen):
            raise QuantizationError(
                f"gates {self.scheme.gates!r}: the model has no {' and no '.join(unused)} gate; leave {'them' if len(unused) > 1 else 'it'} out"
            )

    @property
    def _operand_limit(self) -> int:
        return 127 if self.scheme.activations == 8 else 32767

    # What the layers' rules ask (`qrnn.model.surroundings.Plan`)

    @property
    def weight_bits(self) -> int:
        """The width of recurrent layers' weights, 8 or 4."""
        return self.scheme.weights

    def readers(self, tensor: str) -> list[Layer]:
        """Return the layers that read a tensor."""
        return [layer for layer in self.model.layers if tensor in layer.inputs]

    def is_output(self, tensor: str) -> bool:
        """Return whether a graph output reads a tensor."""
        return any(tensor == part[0] for output in self.model.outputs for part in output.parts)

    def largest(self, quantity: str) -> float:
        """Return the largest magnitude that a tensor, or a quantity inside a layer, had in calibration."""
        return self.ranges.largest(quantity)

    def observed(self, quantity: str) -> float:
        """Return the largest magnitude that a matrix operand should cover, by the calibrator; 0 for what was not observed."""
        if quantity not in self.ranges.total:
            return 0.0
        return float(self.ranges.total[quantity].threshold(self.scheme.calibrator, self._operand_limit)[0])

    def decide(self, decision: str) -> None:
        """Record a decision and its reason."""
        self.decisions.append(decision)

    def frac(self, tensor: str, layer: str) -> int:
        """Return the fraction bits of a fixed-point tensor that ``layer`` reads; QuantizationError where they are not in 0…15."""
        if not 0 <= self.fracs[tensor] <= 15:
            raise QuantizationError(
                f"layer {layer!r}: its input {tensor!r} needs {self.fracs[tensor]} fraction bits, expected 0…15"
            )
        return self.fracs[tensor]

    def set_format(self, tensor: str, frac: int, limit: int = 32767) -> None:
        """Set a tensor's format to int16 with ``frac`` fraction bits, within ±limit."""
        info = self.model.tensors[tensor]
        self.fracs[tensor] = frac
        self.tensors[tensor] = TensorFormat(info.features, info.has_time, 16, (2.0**-frac,), limit)

    def set_cells(self, tensor: str, frac: int) -> None:
        """Set a tensor's format to int32 with ``frac`` fraction bits, for cell states, which only graph outputs read."""
        info = self.model.tensors[tensor]
        self.tensors[tensor] = TensorFormat(info.features, info.has_time, 32, (2.0**-frac,), CELL_MAX)

    def copy_format(self, source: str, tensor: str) -> None:
        """Give a tensor the format of another one."""
        info = self.model.tensors[tensor]
        self.tensors[tensor] = replace(self.tensors[source], features=info.features, has_time=info.has_time)
        if source in self.fracs:
            self.fracs[tensor] = self.fracs[source]

    def to_format(self, tensor: str, values: FloatArray) -> Int16Array:
        """Return real values as integers of a tensor's format."""
        return quantize_array(values, self.tensors[tensor])

    def needs_input_range(self, activation: Activation) -> bool:
        """Return whether a function needs an input range from calibration."""
        return needs_input_range(activation)

    def complement(self, function: GateFunction) -> GateFunction:
        """Return the integer function 1 - f."""
        return complement(function)

    def exp_table(self) -> Int32Array:
        """Return the table of e^-d that a softmax reads."""
        return exp_table()

    def row_sum(self, weight: FloatArray, bits: int = 8) -> float:
        """Return the largest sum of magnitudes of a row's integer weights."""
        return largest_row_sum(weight, bits)

    def row_scales(self, weight: FloatArray) -> FloatArray:
        """Return the real value of one integer weight of each row, [R]."""
        return row_scales(weight, np.zeros(len(weight)))

    def pre_shift(
        self, owner: str, weight: FloatArray, bias: FloatArray, fracs: Int64Array, limit: int, bits: int = 8
    ) -> Int8Array:
        """Return by how many bits each row is computed coarser so that its sums fit 32 bits, [R]."""
        return bounded_rows(owner, weight, bias, fracs, limit, bits)

    def matrix(
        self, weight: FloatArray, bias: FloatArray, fracs: Int64Array, pre_shift: Int8Array, limit: int
    ) -> QuantMatrix:
        """Return a matrix of 8-bit weights whose results have ``fracs`` [R] fraction bits."""
        return quantize_matrix(weight, bias, fracs, pre_shift, limit)

    def recurrent_matrix(
        self, weight: FloatArray, bias: FloatArray, fracs: Int64Array, pre_shift: Int8Array, limit: int
    ) -> AnyMatrix:
        """Return a matrix of `weight_bits` weights whose results have ``fracs`` [R] fraction bits."""
        make = quantize_matrix if self.weight_bits == 8 else quantize_matrix4
        return make(weight, bias, fracs, pre_shift, limit)

    def operand(self, name: str, largest: float, row_sum: float) -> Operand:
        """Return how a matrix reads tensor ``name``.

        A source is read as it is; an int16 tensor is narrowed by the least shift that covers ``largest``.
        """
        if name not in self.fracs:
            return Operand(0, self.tensors[name].limit)
        return self.narrowing(self.fracs[name], largest, row_sum)

    def narrowing(self, frac: int, largest: float, row_sum: float) -> Operand:
        """Return how a matrix reads int16 values with ``frac`` fraction bits: narrowed by the least shift that covers ``largest``."""
        q = largest * 2.0**frac
        limit, shift = max(127, _fitting_limit(self._operand_limit, row_sum)), 0
        # Up to limit + 1: the topmost values lose one unit to the clamp, where one more shift would cost every value a bit.
        while (limit + 1) * 2**shift < q and shift < 15:
            shift += 1
        return Operand(shift, limit)

    def unit(self, name: str, operand: Operand) -> FloatArray:
        """Return the real value of one operand unit of tensor ``name``, [1] or [F]."""
        return self.tensors[name].scales * 2.0**operand.shift

    def note_shift(self, owner: str, pre_shift: Int8Array) -> None:
        """Record rows that are computed coarser, where there are any."""
        if pre_shift.any():
            self.decisions.append(
                f"{owner}: {int((pre_shift > 0).sum())} rows computed up to {int(pre_shift.max())} bits coarser, so that their sums fit 32 bits"
            )


def _widest_limit(name: str, row_sums: list[float]) -> int:
    """Return the largest 16-bit operand limit 2^k - 1 with which every reader's worst row still fits 31 bits."""
    limit = _fitting_limit(32767, max([0.0, *row_sums]))
    if limit < 127:
        raise QuantizationError(f"{name}: rows of the layers that read it are too long for 32-bit sums")
    return limit


def _fitting_limit(limit: int, row_sum: float) -> int:
    """Halve ``limit`` until a row of that sum stays below 2^30; one more bit is kept for the bias and the left shift."""
    while row_sum * limit >= 2.0**30:
        limit >>= 1
    return limit
