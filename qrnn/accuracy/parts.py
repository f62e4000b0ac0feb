"""The parts of a quantized model that can be put, one by one, in the place of the float model's: what `qrnn.accuracy.explain` ablates.

Weights and biases are put into a float model as the real numbers that their integers are worth; operands, states, gate functions and
tensors are rounded while the float64 oracle runs, as the contract rounds them (docs/arithmetic.md, sections 2 to 5). With all parts in
place the oracle computes what the integers do, but for the rounding of partial sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qrnn.equations.oracle import Substitutes
from qrnn.model.float_model import FloatModel
from qrnn.model.gate_values import gate_values
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.concat import QuantConcat
from qrnn.model.kinds.dense import Dense, QuantDense
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.kinds.recurrent import QuantRecurrent, Recurrent
from qrnn.model.kinds.recurrent.definition import Direction
from qrnn.model.kinds.recurrent.quantized import QuantDirection
from qrnn.model.kinds.softmax import QuantSoftmax
from qrnn.model.layer import Layer, row_scale
from qrnn.model.parts import FloatArray, GateFunction, Operand
from qrnn.model.quant_model import QuantModel


@dataclass(frozen=True)
class Part:
    """One thing that is an integer in the quantized model.

    ``where``: the layer, with the direction's number for what is a direction's own. ``kind``: ``input weights``, ``recurrent weights``,
    ``biases``, ``gate function`` (each of one ``gate``), ``peepholes``, ``projection``, ``x operand``, ``h operand``, ``h state``, ``c state``;
    ``weights`` and ``biases`` of a dense layer, ``function`` of a pointwise one, ``output`` of either.
    """

    where: str
    kind: str
    gate: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.gate + ', ' if self.gate else ''}{self.kind}"


def model_parts(model: QuantModel) -> Iterator[Part]:
    """Every part of ``model``, in the order of its layers."""
    for layer in model.layers:
        if isinstance(layer, QuantRecurrent):
            yield Part(layer.name, "x operand")
            for number, d in enumerate(layer.directions):
                yield from _direction_parts(layer, f"{layer.name}[{number}]", d)
        elif isinstance(layer, QuantDense):
            for kind in ("weights", "biases", "x operand", "output"):
                yield Part(layer.name, kind)
        elif isinstance(layer, QuantPointwise):
            yield Part(layer.name, "function")
        elif isinstance(layer, QuantAdd | QuantConcat | QuantSoftmax):
            yield Part(layer.name, "output")


def _direction_parts(layer: QuantRecurrent, key: str, d: QuantDirection) -> Iterator[Part]:
    for kind in ("input weights", "recurrent weights", "biases"):
        for gate in layer.gates:
            yield Part(key, kind, gate)
    for role in layer.roles:
        yield Part(key, "gate function", role)
    if d.peephole is not None:
        yield Part(key, "peepholes")
    if d.projection is not None:
        yield Part(key, "projection")
    yield Part(key, "h operand")
    yield Part(key, "h state")
    if layer.cell == "lstm":
        yield Part(key, "c state")


class Integers(Substitutes):
    """``parts`` of ``model`` in the place of the float model's: the oracle's substitutes, and `weights` for the model that it runs."""

    def __init__(self, model: QuantModel, parts: Iterable[Part]) -> None:
        self.model, self.parts = model, frozenset(parts)
        self._operands: dict[str, tuple[FloatArray, int]] = {}
        self._functions: dict[str, tuple[GateFunction, bool]] = {}
        self._states: dict[str, tuple[int, int]] = {}
        self._tensors: dict[str, tuple[float, int]] = {}
        for layer in model.layers:
            if isinstance(layer, QuantRecurrent):
                self._add_operand(f"{layer.name}.x", Part(layer.name, "x operand"), layer.input, layer.x_operand)
                for number, d in enumerate(layer.directions):
                    self._add_direction(layer, f"{layer.name}[{number}]", d)
            elif isinstance(layer, QuantDense):
                self._add_operand(f"{layer.name}.x", Part(layer.name, "x operand"), layer.input, layer.operand)
            elif isinstance(layer, QuantPointwise) and Part(layer.name, "function") in self.parts:
                self._functions[layer.name] = layer.function, False
                self._add_tensor(layer.output)
            if Part(layer.name, "output") in self.parts:
                self._add_tensor(layer.output)

    def _add_tensor(self, name: str) -> None:
        fmt = self.model.tensors[name]
        self._tensors[name] = float(fmt.scales[0]), fmt.limit

    def _add_operand(self, reader: str, part: Part, tensor: str, operand: Operand) -> None:
        if part in self.parts:
            self._operands[reader] = self.model.tensors[tensor].scales * 2.0**operand.shift, operand.limit

    def _add_direction(self, layer: QuantRecurrent, key: str, d: QuantDirection) -> None:
        for role, function in zip(layer.roles, d.gates, strict=True):
            if Part(key, "gate function", role) in self.parts:
                self._functions[f"{key}.{role}"] = function, False
        hidden_frac = layer.h_frac
        if d.projection is not None and Part(key, "projection") in self.parts:
            p = d.projection
            self._operands[f"{key}.hidden"] = np.array([2.0 ** (p.operand.shift - p.hidden_frac)]), p.operand.limit
            self._states[f"{key}.hidden"] = p.hidden_frac, 32767
            if p.function is not None:
                self._functions[f"{key}.s"] = p.function, False
        if Part(key, "h operand") in self.parts:
            unit = np.array([2.0 ** (layer.h_operand.shift - hidden_frac)])
            self._operands[f"{key}.h"] = unit, layer.h_operand.limit
        if Part(key, "h state") in self.parts:
            self._states[f"{key}.h"] = hidden_frac, 32767
        if Part(key, "c state") in self.parts:
            self._states[f"{key}.c"] = layer.c_frac, (1 << 31) - 1

    # --- the oracle's side --------------------------------------------------------------------------------------------------------

    def tensor(self, name: str, values: FloatArray) -> FloatArray:
        if name not in self._tensors:
            return values
        scale, limit = self._tensors[name]
        return _rounded(values, scale, limit)

    def operand(self, reader: str, values: FloatArray) -> FloatArray:
        if reader not in self._operands:
            return values
        unit, limit = self._operands[reader]
        return _rounded(values, unit, limit)

    def gate(self, name: str, argument: FloatArray, value: FloatArray) -> FloatArray:
        if name not in self._functions:
            return value
        function, turned = self._functions[name]
        integers = np.clip(np.floor(argument * 2.0**function.in_frac + 0.5), -32768, 32767)
        values = gate_values(function, integers)
        return 1.0 - values if turned else values

    def state(self, name: str, values: FloatArray) -> FloatArray:
        if name not in self._states:
            return values
        frac, limit = self._states[name]
        return _rounded(values, 2.0**-frac, limit)

    # --- the model's side ---------------------------------------------------------------------------------------------------------

    def weights(self, real: FloatModel) -> FloatModel:
        """``real`` with the chosen weights and biases of the integers."""
        by_name = {layer.name: layer for layer in self.model.layers}
        return replace(real, layers=tuple(self._layer(layer, by_name[layer.name]) for layer in real.layers))

    def _layer(self, real: Layer, layer: Any) -> Layer:
        if isinstance(real, Dense) and isinstance(layer, QuantDense):
            fracs = np.full(len(layer.pre_shift), layer.out_frac, np.int64)
            scale = row_scale(layer.matrix, layer.pre_shift, fracs)
            if Part(layer.name, "weights") in self.parts:
                unit = self.model.tensors[layer.input].scales * 2.0**layer.operand.shift
                real = replace(real, weight=layer.matrix.weight * scale[:, None] / unit)
            if Part(layer.name, "biases") in self.parts:
                real = replace(real, bias=layer.matrix.bias * scale)
        elif isinstance(real, Recurrent) and isinstance(layer, QuantRecurrent):
            if not real.update_keeps:
                for name in [n for n in self._functions if n.startswith(f"{real.name}[") and n.endswith(".z")]:
                    self._functions[name] = self._functions[name][0], True  # the integers' z is 1 - z
            unit = self.model.tensors[layer.input].scales * 2.0**layer.x_operand.shift
            directions = zip(real.directions, layer.directions, strict=True)
            real = replace(
                real,
                directions=tuple(
                    self._direction(layer, f"{layer.name}[{number}]", r, d, unit)
                    for number, (r, d) in enumerate(directions)
                ),
            )
        return real

    def _direction(
        self, layer: QuantRecurrent, key: str, real: Direction, d: QuantDirection, unit: FloatArray
    ) -> Direction:
        H = layer.hidden_size
        fracs = np.repeat([f.in_frac for f in d.gates[: len(layer.gates)]], H).astype(np.int64)
        scale_ih, scale_hh = (row_scale(m, d.pre_shift, fracs) for m in (d.ih, d.hh))
        integers: dict[str, FloatArray] = {
            "weight_ih": d.ih.weight * scale_ih[:, None] / unit,
            "weight_hh": d.hh.weight * scale_hh[:, None] * 2.0 ** (layer.h_frac - layer.h_operand.shift),
            "bias_ih": d.ih.bias * scale_ih,
            "bias_hh": d.hh.bias * scale_hh,
        }
        kinds = {"weight_ih": "input weights", "weight_hh": "recurrent weights"}
        arrays = {name: getattr(real, name).copy() for name in integers}
        for name, values in integers.items():
            for block, gate in enumerate(layer.gates):
                if Part(key, kinds.get(name, "biases"), gate) in self.parts:
                    rows = slice(block * H, (block + 1) * H)
                    arrays[name][rows] = values[rows]
        result = replace(real, **arrays)
        if d.peephole is not None and Part(key, "peepholes") in self.parts:
            worth = 2.0 ** (layer.c_frac - d.peephole.shift.astype(np.float64) - fracs + d.pre_shift)
            result = replace(result, peephole=d.peephole.weight * worth)
        if d.projection is not None and real.projection is not None and Part(key, "projection") in self.parts:
            p = d.projection
            scale = row_scale(p.matrix, p.pre_shift, np.full(len(p.pre_shift), p.in_frac, np.int64))
            per_unit = 2.0 ** (p.hidden_frac - p.operand.shift)
            result = replace(
                result,
                projection=replace(
                    real.projection, weight=p.matrix.weight * scale[:, None] * per_unit, bias=p.matrix.bias * scale
                ),
            )
        return result


def _rounded(values: FloatArray, unit: FloatArray | float, limit: int) -> FloatArray:
    result: FloatArray = np.clip(np.floor(values / unit + 0.5), -limit, limit) * unit
    return result
