"""A layer sees the run, the conversion and the model around it through these protocols, the arguments of the methods of `qrnn.model.layer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn, Protocol

from qrnn.model.activation import Activation
from qrnn.model.parts import (
    AnyMatrix,
    FloatArray,
    GateFunction,
    IndexArray,
    Int8Array,
    Int16Array,
    Int32Array,
    Int64Array,
    Operand,
    QuantMatrix,
    TensorFormat,
)
from qrnn.model.time import TimeAxis


class Equations(Protocol):
    """One run of a float model on N sequences in float64, as an equation sees it."""

    @property
    def size(self) -> int:
        """Return the number of sequences N."""

    def over(self, tensor: str) -> TimeAxis:
        """Return the steps of a tensor over time: its arrays' number of steps, and how many steps of each sequence are valid."""

    def read(self, tensor: str) -> FloatArray:
        """Return a tensor, [N, T, F] or [N, F]."""

    def tokens(self, tensor: str) -> IndexArray:
        """Return a token input, [N, T] or [N]."""

    @property
    def states(self) -> Mapping[str, FloatArray]:
        """Return the values of those graph state inputs that were given, [N, F] each."""

    def operand(self, reader: str, values: FloatArray) -> FloatArray:
        """Return ``values`` as the matrix of ``reader`` reads them.

        Readers are called ``<layer>.x`` (of any layer with weights), ``<layer>[d].h`` and ``<layer>[d].hidden``.
        """

    def gate(self, name: str, argument: FloatArray, value: FloatArray) -> FloatArray:
        """Return the value of a scalar function at its argument, which is ``value`` unless something replaces the function.

        Functions are called by the name of the layer, or ``<layer>[d].<role>``.
        """

    def state(self, name: str, values: FloatArray) -> FloatArray:
        """Return a state after a step, ``<layer>[d].<state>``, as it is kept."""

    def write(self, tensor: str, values: FloatArray) -> None:
        """Set a tensor, [N, T, F] or [N, F]."""

    @property
    def is_observed(self) -> bool:
        """Return whether the run has an observer; without one, quantities inside layers need not be kept."""

    def observe(self, name: str, values: FloatArray, axis: TimeAxis) -> None:
        """Show a quantity inside a layer, [N, T, …] over the steps ``axis``, to the run's observer."""


class Reader(Protocol):
    """A layer that reads a tensor, as the layer that writes it sees it; see `qrnn.model.layer.Layer`."""

    @property
    def least_frac(self) -> int:
        """Return the least number of fraction bits of the input that is of use to the layer."""

    def wanted_frac(self, plan: Plan) -> tuple[int, str] | None:
        """Return the fraction bits that the layer wants its input to have and the name of its function; None where it has no such wish."""

    def needed_of(self, plan: Plan, tensor: str) -> float | None:
        """Return the largest magnitude of an input that the layer has to be given as it is; None for all values."""


class InputRanges(Protocol):
    """A scheme that says which functions' arguments have formats that follow from calibration."""

    def needs_input_range(self, activation: Activation) -> bool:
        """Return whether the format of a function's argument follows from calibration, not from the function."""


class Plan(InputRanges, Protocol):
    """One conversion, as the rule of a layer sees it: what was measured, what was decided so far, and what integers can hold."""

    def width(self, layer: str, part: str) -> int:
        """Return the bits of a part of a layer, as `Layer.width_parts` names them: 8 or 16 of ``x`` and ``h``, 8 or 4 of ``W`` and ``R``."""

    def readers(self, tensor: str) -> Sequence[Reader]:
        """Return the layers that read a tensor."""

    def is_output(self, tensor: str) -> bool:
        """Return whether a graph output reads a tensor."""

    def only_outputs_read(self, tensor: str) -> bool:
        """Return whether graph outputs read a tensor, itself or as a layer copies it to another one, and nothing else does."""

    def offset(self, tensor: str) -> tuple[int, ...]:
        """Return the offset of a tensor, or one for each feature; (0,) where it has none."""

    def span(self, tensor: str) -> tuple[float, float]:
        """Return the least and the greatest value that a tensor had in calibration."""

    def largest(self, quantity: str) -> float:
        """Return the largest magnitude that a tensor, or a quantity inside a layer, had in calibration."""

    def observed(self, quantity: str, bits: int) -> float:
        """Return the largest magnitude that a matrix operand of ``bits`` should cover, by the calibrator; 0 for what was not observed."""

    def decide(self, decision: str) -> None:
        """Record a decision and its reason."""

    def frac(self, tensor: str, layer: str) -> int:
        """Return the fraction bits of a fixed-point tensor that ``layer`` reads; QuantizationError where they are not in 0…15."""

    def begin_frac(self, tensor: str, layer: str) -> int:
        """Return the fraction bits of a tensor that ``layer`` reads, which may be one of int32 cells; QuantizationError as for `frac`."""

    def set_format(self, tensor: str, frac: int, limit: int = 32767, offset: tuple[int, ...] = (0,)) -> None:
        """Let a tensor be int16 with ``frac`` fraction bits, within ±limit, with an offset or one for each feature."""

    def set_cells(self, tensor: str, frac: int) -> None:
        """Let a tensor be int32 with ``frac`` fraction bits: cell states."""

    def copy_format(self, source: str, tensor: str) -> None:
        """Let a tensor have the format of the tensor ``source``."""

    def to_format(self, tensor: str, values: FloatArray) -> Int16Array:
        """Return real values as integers of a tensor's format."""

    def gate_function(
        self, role: str, activation: Activation, in_frac: int | None = None, clip: float | None = None
    ) -> GateFunction:
        """Return the integer function that the scheme chooses for a role (a gate, or ``head``).

        ``in_frac`` is given where `needs_input_range` asks for it. ``clip`` is the limit to which the argument is clamped, if there is one.
        """

    def complement(self, function: GateFunction) -> GateFunction:
        """Return the integer function 1 - f of the integer function f."""

    def exp_table(self) -> Int32Array:
        """Return the table of e^-d that a softmax reads."""

    def row_sum(self, weight: FloatArray, bits: int = 8) -> float:
        """Return the largest sum of a row's integer weights."""

    def row_scales(self, weight: FloatArray, bits: int = 8) -> FloatArray:
        """Return the real value of one integer weight of each row, [R]."""

    def operand(self, tensor: str, largest: float, row_sum: float, bits: int) -> Operand:
        """Return how a matrix with rows of that sum reads a tensor whose magnitudes reach ``largest``, in ``bits`` or as the tensor is."""

    def narrowing(self, frac: int, largest: float, row_sum: float, bits: int) -> Operand:
        """Return how a matrix reads int16 values with ``frac`` fraction bits in ``bits``: by the least shift that covers ``largest``."""

    def unit(self, tensor: str, operand: Operand) -> FloatArray:
        """Return the real value of one operand unit of a tensor, [1] or [F]."""

    def fold(self, tensor: str, weight: FloatArray) -> FloatArray:
        """Return weight [R, F] · (the real value of a tensor's offset), [R]: the matrix that reads the integers adds it to its bias."""

    def largest_bias(self, weight: FloatArray, bits: int = 8) -> FloatArray:
        """Return the largest bias of each row, [R], for which its weights of ``bits`` keep their step."""

    def note_bias(self, owner: str, weight: FloatArray, bias: FloatArray, bits: int = 8) -> None:
        """Record the rows whose bias, not their weights, sets their step, if there are any."""

    def pre_shift(
        self, owner: str, weight: FloatArray, bias: FloatArray, fracs: Int64Array, limit: int, bits: int = 8
    ) -> Int8Array:
        """Return by how many bits each row is computed coarser, [R], so that its sums fit 32 bits."""

    def note_shift(self, owner: str, pre_shift: Int8Array) -> None:
        """Record the rows that are computed coarser, if there are any."""

    def matrix(
        self, weight: FloatArray, bias: FloatArray, fracs: Int64Array, pre_shift: Int8Array, limit: int
    ) -> QuantMatrix:
        """Return a matrix of 8-bit weights whose results have ``fracs`` [R] fraction bits."""

    def matrix_of(
        self, bits: int, weight: FloatArray, bias: FloatArray, fracs: Int64Array, pre_shift: Int8Array, limit: int
    ) -> AnyMatrix:
        """Return a matrix of weights of ``bits``, 8 or 4, whose results have ``fracs`` [R] fraction bits."""


class Checks(Protocol):
    """The model around a layer, as its checks see it. Each method raises ModelFileError where something does not fit."""

    @property
    def tensors(self) -> Mapping[str, TensorFormat]:
        """Return the formats of all tensors."""

    def fail(self, problem: str) -> NoReturn:
        """Refuse the layer."""

    def expect(self, tensor: str, features: int, has_time: bool) -> None:
        """Refuse a tensor of another shape."""

    def vocabulary(self, tensor: str) -> int | None:
        """Return the vocabulary of a token input; None for any other tensor."""

    def state_features(self, source: str) -> int:
        """Return the features of a graph state input; 0 where there is none of that name."""

    def as_source(self, tensor: str) -> None:
        """Refuse a tensor whose format no graph input could have, and note those with scales that only matrix products can read."""
