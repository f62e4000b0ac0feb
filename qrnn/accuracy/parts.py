"""Put the parts of a quantized model, one by one, in the place of the float model's; `qrnn.accuracy.explain` ablates them.

Weights and biases are put into a float model as the real numbers that their integers stand for. Operands, states, gate functions and
tensors are rounded while the float64 oracle runs, as the contract rounds them (docs/arithmetic.md, sections 2 to 5). With all parts in
place the oracle computes what the integers do, but for the rounding of partial sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.equations.oracle import Substitutes
from qrnn.model.boundary import to_integers, to_reals
from qrnn.model.float_model import FloatModel
from qrnn.model.gate_values import gate_values
from qrnn.model.layer_facts import Part, StandIns
from qrnn.model.parts import FloatArray
from qrnn.model.quant_model import QuantModel


def model_parts(model: QuantModel) -> tuple[Part, ...]:
    """Return every part of ``model``, in the order of its layers."""
    return tuple(part for layer in model.layers for part in layer.integer_parts())


class Integers(Substitutes):
    """The ``parts`` of ``model`` that replace the float model's: substitutes for the oracle, and `weights` for the model that it runs."""

    def __init__(self, model: QuantModel, parts: Iterable[Part]) -> None:
        self.model, self.parts = model, frozenset(parts)
        self.stand_ins = StandIns()
        for layer in model.layers:
            own = layer.stand_ins(self.parts, model.tensors)
            self.stand_ins.operands |= own.operands
            self.stand_ins.functions |= own.functions
            self.stand_ins.states |= own.states
            self.stand_ins.tensors |= own.tensors

    # --- the oracle's side --------------------------------------------------------------------------------------------------------

    def tensor(self, name: str, values: FloatArray) -> FloatArray:
        """Return a tensor's values, rounded where the tensor is one of the parts."""
        if name not in self.stand_ins.tensors:
            return values
        fmt = self.model.tensors[name]
        scales, offsets = fmt.scales_and_offsets
        rounded: FloatArray = to_reals(to_integers(values, scales, fmt.limit, offsets), scales, offsets)
        return rounded

    def operand(self, reader: str, values: FloatArray) -> FloatArray:
        """Return a matrix operand's values, rounded where it is one of the parts."""
        if reader not in self.stand_ins.operands:
            return values
        unit, limit, zero = self.stand_ins.operands[reader]
        return _rounded(values - zero, unit, limit) + zero

    def gate(self, name: str, argument: FloatArray, value: FloatArray) -> FloatArray:
        """Return a gate's value, computed by its integer function where that is one of the parts."""
        if name not in self.stand_ins.functions:
            return value
        function, turned = self.stand_ins.functions[name]
        integers = np.clip(round_half_up(argument * 2.0**function.in_frac), -32768, 32767)
        values = gate_values(function, integers)
        return 1.0 - values if turned else values

    def state(self, name: str, values: FloatArray) -> FloatArray:
        """Return a state's values, rounded where the state is one of the parts."""
        if name not in self.stand_ins.states:
            return values
        frac, limit = self.stand_ins.states[name]
        unit: FloatArray = np.ldexp(1.0, -np.asarray(frac))
        return _rounded(values, unit, limit)

    # --- the model's side ---------------------------------------------------------------------------------------------------------

    def weights(self, real: FloatModel) -> FloatModel:
        """Return ``real`` with the weights and biases of the chosen parts."""
        by_name = {layer.name: layer for layer in self.model.layers}
        for layer in real.layers:
            for name in layer.complemented:  # the integers' function is 1 - f
                if name in self.stand_ins.functions:
                    self.stand_ins.functions[name] = self.stand_ins.functions[name][0], True
        layers = (by_name[layer.name].worth(layer, self.parts, self.model.tensors) for layer in real.layers)
        return replace(real, layers=tuple(layers))


def _rounded(values: FloatArray, unit: FloatArray | float, limit: int) -> FloatArray:
    result: FloatArray = to_integers(values, unit, limit) * unit
    return result
