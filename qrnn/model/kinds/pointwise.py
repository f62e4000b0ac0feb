"""Pointwise layers compute y = f(x), element by element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qrnn.arithmetic.fixedpoint import shift_right_round
from qrnn.errors import QuantizationError
from qrnn.model.activation import Activation, activate
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Chosen, Loop, Part, Reading, Rounding, RowLoop, StandIns, Written
from qrnn.model.parts import GateFunction, TensorFormat, pack_gates, require
from qrnn.model.surroundings import Checks, Equations, Plan

HOMOGENEOUS = ("relu", "leaky_relu")
"""These functions have f(s·x) = s·f(x) for every s > 0."""


@dataclass(frozen=True)
class Pointwise(Layer):
    """Compute y = activation(x), element by element."""

    name: str
    input: str
    output: str
    activation: Activation

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the one role ``head``."""
        return ("head",)

    @property
    def decides_by_half(self) -> bool:
        """Return whether the function is a sigmoid or a hard sigmoid."""
        return self.activation.kind in ("sigmoid", "hard_sigmoid")

    @property
    def homogeneous(self) -> bool:
        """Return whether the function is one of `HOMOGENEOUS`."""
        return self.activation.kind in HOMOGENEOUS

    def needed_of(self, plan: Plan, tensor: str) -> float | None:
        """Return the greatest value for ReLU, which is 0 for whatever is below 0."""
        greatest = plan.span(tensor)[1]
        return greatest if self.activation.kind == "relu" and greatest > 0.0 else None

    def equation(self, run: Equations) -> None:
        """Compute activation(x) in float64."""
        x = run.read(self.input)
        run.write(self.output, run.gate(self.name, x, activate(self.activation, x)))

    def wanted_frac(self, plan: Plan) -> tuple[int, str] | None:
        """Return the fraction bits that the integer function reads, and the function's name; None where calibration decides the bits."""
        if plan.needs_input_range(self.activation):
            return None
        return plan.gate_function("head", self.activation).in_frac, str(self.activation)

    def quantize(self, plan: Plan) -> QuantPointwise:
        """Make the integer function, and give the output the most fraction bits with which its values fit int16.

        Raises QuantizationError where no number of fraction bits from 0 does.
        """
        in_frac = plan.frac(self.input, self.name)
        function = plan.gate_function("head", self.activation, in_frac)
        low, high = function.bounds
        limit, out_frac = max(-low, high), function.out_frac
        if limit > 32767:  # a value of 1 in Q0.15, or another that needs 17 bits
            limit, out_frac = limit // 2, out_frac - 1
        if out_frac < 0:
            raise QuantizationError(
                f"layer {self.name!r}: values of {self.activation} up to {limit} do not fit int16; scale the network's values down"
            )
        plan.set_format(self.output, out_frac, limit)
        return QuantPointwise(self.name, self.input, self.output, function, in_frac, out_frac)


def pointwise_rows(contract: Any) -> Loop:
    """Return the loop that aligns x to the gate function's input format, and rounds the function's value to the output's format."""
    align16, evaluate, shift_right_round = contract.align16, contract.evaluate, contract.shift_right_round

    def rows(
        first: int, last: int, params: Any, tables: Any, in_frac: int, function_frac: int, shift: int, x: Any, out: Any
    ) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                argument = align16(x[m, k], in_frac, function_frac)
                out[m, k] = shift_right_round(evaluate(argument, params, tables, 0), shift)

    return rows


@dataclass(frozen=True)
class QuantPointwise(QuantLayer):
    """Compute y = round(gate(align16(x, in_frac, gate.in_frac)) / 2^(gate.out_frac - out_frac)), int16."""

    name: str
    input: str
    output: str
    function: GateFunction
    in_frac: int
    out_frac: int

    def __post_init__(self) -> None:
        shift = self.function.out_frac - self.out_frac
        require(self.function.bounds[1] >> max(shift, 0) <= 32767, f"layer {self.name}: output does not fit int16")
        require(
            0 <= self.out_frac <= self.function.out_frac,
            f"layer {self.name}: out_frac {self.out_frac} not in 0…{self.function.out_frac}, that of the function's output",
        )

    @property
    def limit(self) -> int:
        """Return the largest magnitude that the layer writes."""
        low, high = self.function.bounds
        return shift_right_round(max(-low, high), self.function.out_frac - self.out_frac)

    def check(self, checks: Checks) -> None:
        """Refuse in_frac outside 0…15, and an output of another shape than the input's."""
        if not 0 <= self.in_frac <= 15:
            checks.fail(f"in_frac {self.in_frac} out of 0…15")
        source = checks.tensors[self.input]
        checks.expect(self.output, source.features, source.has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return that the input is read as fixed-point with in_frac fraction bits."""
        return (Reading(self.input, self.in_frac),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output has out_frac fraction bits, within `limit`."""
        return {self.output: Written(self.out_frac, self.limit)}

    def functions(self) -> tuple[GateFunction, ...]:
        """Return the one gate function."""
        return (self.function,)

    def integer_parts(self) -> tuple[Part, ...]:
        """Return the gate function as the one part."""
        return (Part(self.name, "function"),)

    def stand_ins(self, chosen: Chosen, tensors: Mapping[str, TensorFormat]) -> StandIns:
        """Let the integer function, with its output kept as integers, stand in where it is chosen."""
        if Part(self.name, "function") not in chosen:
            return StandIns()
        return StandIns(functions={self.name: (self.function, False)}, tensors={self.output})

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which applies the gate function to every element."""
        params, tables = pack_gates((self.function,))
        formats = (self.in_frac, self.function.in_frac, self.function.out_frac - self.out_frac)
        return (RowLoop(pointwise_rows, (params, tables, *formats), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the rounding of the value, and the saturation of the function's argument."""
        return (Rounding(self.name, f"to {self.out_frac} bits", "argument, int16"),)
