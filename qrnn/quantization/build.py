"""Build a quantized model from a float model and its ranges, recording each format decision with its reason."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from qrnn.errors import QuantizationError
from qrnn.model.activation import Activation
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.rescale import LARGEST_OFFSET, QuantRescale
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.parts import (
    AnyMatrix,
    FloatArray,
    GateFunction,
    Int8Array,
    Int32Array,
    Int64Array,
    QuantMatrix,
    QuantMatrix4,
    TensorFormat,
)
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.calibrate import Ranges
from qrnn.quantization.gate_choice import parse_gates
from qrnn.quantization.gate_tables import complement, exp_table, gate_function, needs_input_range
from qrnn.quantization.inputs import (
    feature_scales,
    input_format,
    input_span,
    largest_weights,
    offset_text,
    power_of_two_format,
    source_tensors,
    source_values,
)
from qrnn.quantization.matrix import (
    BIAS_LIMIT,
    bounded_rows,
    factor_parameters,
    largest_row_sum,
    quantize_matrix,
    quantize_matrix4,
    row_scales,
    rows_of_bias,
    short_multipliers,
)
from qrnn.quantization.scheme import AUTO, InputScheme, Scheme
from qrnn.quantization.source_values import Span
from qrnn.quantization.tensor_formats import TensorFormats, fitting_limit
from qrnn.quantization.widths import bits_of, check_operand

SomeMatrix = TypeVar("SomeMatrix", QuantMatrix, QuantMatrix4)

FINEST = 2.0**13
"""The most units of a copy for one of the tensor that is copied; `QuantRescale` has room for less than twice as many."""


class Builder(TensorFormats):
    """The state of one conversion: formats are decided in the order of the layers, and ``decisions`` says what was decided and why.

    It implements `qrnn.model.surroundings.Plan`, which the layers' quantization rules ask.
    """

    def __init__(
        self, model: FloatModel, ranges: Ranges, scheme: Scheme, inputs: Mapping[str, InputScheme], reasons: list[str]
    ) -> None:
        super().__init__(model, ranges, scheme)
        self.input_schemes = inputs
        self.decisions: list[str] = list(reasons)
        self._target = ""
        self.choices = parse_gates(scheme.gates)
        self._widths = dict(scheme.widths)
        self._copies: dict[str, QuantRescale] = {}  # by the tensor that is copied
        self._reads = {layer.name: layer.inputs for layer in model.layers}

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
        self._target = provenance.target
        for graph_input in self.model.inputs:
            if graph_input.kind == "tokens":
                self.tensors[graph_input.name] = TensorFormat(
                    1, graph_input.has_time, 32, (1.0,), graph_input.vocabulary - 1
                )
        self._sources = source_values(self.model, self.ranges)
        for name in source_tensors(self.model):
            self.tensors[name] = self._source_format(name)
        self._check_choices()
        layers: list[QuantLayer] = []
        for layer in self.model.layers:
            copied = self._copied_input(layer, layers)
            layers.append(copied.quantize(self))
        return QuantModel(
            name=self.model.name,
            inputs=self.model.inputs,
            layers=tuple(layers),
            outputs=self.model.outputs,
            tensors=self.tensors,
            one_step=self.model.one_step,
            provenance=replace(provenance, decisions=tuple(self.decisions)),
        )

    def _source_format(self, name: str) -> TensorFormat:
        """Return the format of a graph input or an embedding, and record it."""
        info, readers, chosen = self.model.tensors[name], self.readers(name), self.input_schemes[name]
        if self.is_output(name) or not all(reader.multiplies(name) for reader in readers):
            fmt, self.fracs[name] = power_of_two_format(
                float(self._sources[name].largest.max()), info.features, info.has_time
            )
            self.decide(
                f"{name}: int16 with {self.fracs[name]} fraction bits, because it is not read by matrix products alone"
            )
            return fmt
        _, fmt = self._matrix_format(name, chosen, readers)
        self.decide(f"{name}: input scheme {chosen}, |q| ≤ {fmt.limit}{offset_text(fmt)}")
        return fmt

    def _matrix_format(self, name: str, chosen: InputScheme, readers: Sequence[Layer]) -> tuple[Span, TensorFormat]:
        """Return the range of a source's values, and the format in which the matrices of ``readers`` read them."""
        info, bits = self.model.tensors[name], bits_of(chosen)
        offsets = all(reader.folds_offset for reader in readers)
        weights = largest_weights([w for reader in readers for w in reader.input_weights], info.features)
        span = input_span(self._sources[name], chosen, self.scheme.calibrator, offsets, weights)
        limit = 127
        if bits == 16:
            sums = [reader.input_row_sum(self, span.half) for reader in readers]
            limit = _widest_limit(name, [s for s in sums if s is not None])
        return span, input_format(span, info.features, info.has_time, bits, limit)

    def _copied_input(self, layer: Layer, layers: list[QuantLayer]) -> Layer:
        """Return ``layer``, reading a copy of its input where that is to be read with a scale for each feature.

        The layer that makes the copy is added to ``layers``; matrices that read the same tensor so share it.
        """
        if not layer.input_weights or layer.input not in self.fracs:
            return layer
        width = self.input_schemes.get(layer.input, self._widths.get(f"{layer.name}.x", ""))
        if not width.endswith("-per-feature"):
            return layer
        tensor = layer.input
        if tensor not in self._copies:
            taken = {*self.model.tensors, *(other.name for other in self.model.layers)}
            name = _free_name(f"{tensor}_per_feature", taken)
            copy = (self._narrow_copy if bits_of(width) == 8 else self._wide_copy)(name, tensor)
            self.tensors[name] = fmt = copy.written(self.model.tensors[tensor].has_time)
            self.decide(
                f"{name}: int{bits_of(width)} copy of {tensor} with a scale for each feature{offset_text(fmt)}, for the matrices that read it"
            )
            self._copies[tensor] = copy
            layers.append(copy)
        return replace(layer, input=self._copies[tensor].output)  # type: ignore[type-var]  # every kind is a dataclass

    def _narrow_copy(self, name: str, tensor: str) -> QuantRescale:
        """Return the layer that makes an int8 copy of an int16 tensor, with a scale for each feature."""
        frac = self.fracs[tensor]
        scales = feature_scales(self.model, self.ranges, tensor, self.scheme.calibrator)
        # A copy that is finer than the tensor would hold nothing more.
        return QuantRescale(name, tensor, name, frac, *factor_parameters(np.minimum(2.0**-frac / scales, 1.0)))

    def _wide_copy(self, name: str, tensor: str) -> QuantRescale:
        """Return the layer that makes an int16 copy of a source with a scale and an offset for each feature, as an input of 16 bits has."""
        frac, matrices = self.fracs[tensor], [reader for reader in self.readers(tensor) if reader.multiplies(tensor)]
        span, fmt = self._matrix_format(tensor, "16-per-feature", matrices)
        parameters = factor_parameters(np.minimum(2.0**-frac / fmt.scales_and_offsets[0], FINEST))
        made = QuantRescale(name, tensor, name, frac, *parameters, fmt.limit)
        offset = np.clip(np.round(span.centre / made.scales), -LARGEST_OFFSET, LARGEST_OFFSET).astype(np.int64)
        return replace(made, offset=tuple(offset.tolist())) if offset.any() else made

    def _check_choices(self) -> None:
        """Refuse a choice for a gate that the model does not have."""
        seen = {role for layer in self.model.layers for role in layer.roles}
        if unused := self.choices.unused(seen):
            raise QuantizationError(
                f"gates {self.scheme.gates!r}: the model has no {' and no '.join(unused)} gate; leave {'them' if len(unused) > 1 else 'it'} out"
            )

    # What the layers' rules ask (`qrnn.model.surroundings.Plan`)

    def width(self, layer: str, part: str) -> int:
        """Return the bits of a part of a layer, ``x``, ``h``, ``W`` or ``R``: its own, or the scheme's for all.

        QuantizationError for an operand that is wider than the scheme's ``widest_operand``.
        A source has one width for all matrices that read it.
        """
        if part in ("W", "R"):
            return int(self._widths.get(f"{layer}.{part}", self.scheme.matrix_bits))
        general = 8 if self.scheme.activations == AUTO else self.scheme.activations
        key = f"{layer}.{part}"
        value = str(self._widths.get(key, general))
        if part == "x":
            key, value = next(
                ((t, str(self.input_schemes[t])) for t in self._reads[layer] if t in self.input_schemes), (key, value)
            )
        check_operand(self._target, key, value, self.scheme.widest_operand)
        return bits_of(value)

    def readers(self, tensor: str) -> list[Layer]:
        """Return the layers that read a tensor."""
        return [layer for layer in self.model.layers if tensor in layer.inputs]

    def is_output(self, tensor: str) -> bool:
        """Return whether a graph output reads a tensor."""
        return any(tensor == part[0] for output in self.model.outputs for part in output.parts)

    def only_outputs_read(self, tensor: str) -> bool:
        """Return whether graph outputs read a tensor, itself or copied by layers that read nothing else, and no other layer does."""
        readers = self.readers(tensor)
        copied = all(
            reader.carries_offset and len(reader.inputs) == 1 and self.only_outputs_read(reader.output)
            for reader in readers
        )
        return copied and (bool(readers) or self.is_output(tensor))

    def decide(self, decision: str) -> None:
        """Record a decision and its reason."""
        self.decisions.append(decision)

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

    def row_scales(self, weight: FloatArray, bits: int = 8) -> FloatArray:
        """Return the real value of one integer weight of each row, [R]."""
        return row_scales(weight, np.zeros(len(weight)), bits)

    def pre_shift(
        self, owner: str, weight: FloatArray, bias: FloatArray, fracs: Int64Array, limit: int, bits: int = 8
    ) -> Int8Array:
        """Return by how many bits each row is computed coarser so that its sums fit 32 bits, [R]."""
        return bounded_rows(owner, weight, bias, fracs, limit, bits)

    def matrix(
        self, weight: FloatArray, bias: FloatArray, fracs: Int64Array, pre_shift: Int8Array, limit: int
    ) -> QuantMatrix:
        """Return a matrix of 8-bit weights whose results have ``fracs`` [R] fraction bits."""
        return self._with_multipliers(quantize_matrix(weight, bias, fracs, pre_shift, limit))

    def matrix_of(
        self, bits: int, weight: FloatArray, bias: FloatArray, fracs: Int64Array, pre_shift: Int8Array, limit: int
    ) -> AnyMatrix:
        """Return a matrix of weights of ``bits``, 8 or 4, whose results have ``fracs`` [R] fraction bits."""
        if bits == 8:
            return self.matrix(weight, bias, fracs, pre_shift, limit)
        return self._with_multipliers(quantize_matrix4(weight, bias, fracs, pre_shift, limit))

    def _with_multipliers(self, matrix: SomeMatrix) -> SomeMatrix:
        """Return a matrix whose multipliers have as many significant bits as the scheme says."""
        if self.scheme.multipliers == 31:
            return matrix
        return replace(matrix, multiplier=short_multipliers(matrix.multiplier))

    def largest_bias(self, weight: FloatArray, bits: int = 8) -> FloatArray:
        """Return the largest bias of each row, [R], for which its weights of ``bits`` keep their step."""
        return self.row_scales(weight, bits) * BIAS_LIMIT

    def note_bias(self, owner: str, weight: FloatArray, bias: FloatArray, bits: int = 8) -> None:
        """Record the rows whose bias, not their weights, sets their step, where there are any."""
        if len(rows := rows_of_bias(weight, bias, bits)):
            self.decide(
                f"{owner}: {len(rows)} rows have the step of their bias, not of their smaller weights (row {rows[0]}: |b| = "
                f"{abs(bias[rows[0]]):.4g})"
            )

    def note_shift(self, owner: str, pre_shift: Int8Array) -> None:
        """Record rows that are computed coarser, where there are any."""
        if pre_shift.any():
            self.decisions.append(
                f"{owner}: {int((pre_shift > 0).sum())} rows computed up to {int(pre_shift.max())} bits coarser, so that their sums fit 32 bits"
            )


def _free_name(name: str, taken: Collection[str]) -> str:
    """Return ``name``, or ``name`` with a number that makes it one of its own."""
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate not in taken)


def _widest_limit(name: str, row_sums: list[float]) -> int:
    """Return the largest 16-bit operand limit 2^k - 1 with which every reader's worst row still fits 31 bits."""
    limit = fitting_limit(32767, max([0.0, *row_sums]))
    if limit < 127:
        raise QuantizationError(
            f"{name}: rows of the layers that read it are too long for 32-bit sums; make these layers smaller, or convert with --input-scheme 8"
        )
    return limit
