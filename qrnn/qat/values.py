"""What a backward pass knows of a forward pass: the numbers at which the equations are differentiated, and what was rounded or clamped.

`FloatValues` are those of a run of the float model itself, where nothing is rounded. `IntegerValues` are those of a run of its integer
model: each tensor, state and operand is the real number that its integers are worth, and so is each weight. A gradient passes a rounding as
if it were not there, and is 0 where a value was clamped (the straight-through estimate).
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np

from qrnn.accuracy.parts import Integers, model_parts
from qrnn.arithmetic.reals import round_half_up
from qrnn.backends.base import Trace
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.activation import Activation, activate
from qrnn.model.batch import Batch
from qrnn.model.boundary import beyond_range, dequantize_array, to_integers
from qrnn.model.float_model import FloatModel
from qrnn.model.gate_values import gate_values
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent import QuantRecurrent, Recurrent
from qrnn.model.kinds.recurrent.definition import GATE_ROLE
from qrnn.model.kinds.recurrent.equation import start_values
from qrnn.model.layer import Layer
from qrnn.model.parts import CELL_MAX, STATE_MAX, FloatArray, GateFunction
from qrnn.model.quant_model import QuantModel
from qrnn.qat.numbers import Functions, Passed, Projected, Reading, Steps
from qrnn.qat.slopes import integer_slopes, slope_of
from qrnn.quantization.gate_choice import GateChoices, parse_gates
from qrnn.running.session import Session


class Values(ABC):
    """One forward pass on a batch; ``model`` has the weights that it used, and the names and tensors of what was run."""

    model: FloatModel
    batch: Batch
    unwanted: frozenset[str] = frozenset()
    """The graph inputs whose gradients nobody asks for."""
    real: type[np.float32] | type[np.float64]
    """The type in which the derivatives of cells are computed."""

    def wants(self, tensor: str) -> bool:
        """Return whether the gradient of a tensor is asked for, by what is trained or by a caller."""
        return tensor not in self.unwanted

    @abstractmethod
    def tensor(self, layer: Layer, place: int) -> FloatArray:
        """Return the input number ``place`` of a layer, [N, T, F] or [N, F]."""

    @abstractmethod
    def reads(self, layer: Layer, place: int) -> Any:
        """Return the derivative of an input of a layer by the tensor that the float layer reads: 0 where a copy was clamped, or 1 for all."""

    @abstractmethod
    def written(self, tensor: str) -> Any:
        """Return 0 where a tensor was clamped as it was written, and 1 elsewhere, or 1 for all."""

    @abstractmethod
    def operand(self, reader: str, values: FloatArray) -> Passed:
        """Return ``values`` as a matrix reads them; see `qrnn.model.surroundings.Equations.operand`."""

    @abstractmethod
    def gate(self, name: str, argument: FloatArray, value: FloatArray) -> Passed:
        """Return a function's value at an argument that is not yet clipped; see `qrnn.model.surroundings.Equations.gate`."""

    @abstractmethod
    def state(self, name: str, values: FloatArray) -> Passed:
        """Return a state as it is kept; see `qrnn.model.surroundings.Equations.state`."""

    @abstractmethod
    def steps(self, layer: Recurrent, number: int) -> Steps:
        """Return what one direction of a layer did, for the sequences that its cell takes."""

    @abstractmethod
    def looked_up(self, layer: Recurrent, number: int, arguments: Any) -> Functions:
        """Return the gates at `Steps.arguments`; those of z such that h' = z·h + (1 - z)·n."""

    @abstractmethod
    def output(self, layer: Recurrent, number: int, c: Any) -> Functions:
        """Return the function of c, `Steps.c`, on its way to h."""

    @abstractmethod
    def starts(self, layer: Recurrent) -> list[tuple[FloatArray, FloatArray]]:
        """Return h [N', P] and c [N', H] of each direction before the first step, for the sequences that its cell takes."""

    def reading(self, layer: Recurrent, number: int) -> Reading:
        """Return how R reads h."""
        return Reading()

    def projected(self, layer: Recurrent, number: int) -> Projected:
        """Return how the state before a projection is rounded."""
        return Projected()

    def ends(self, layer: Recurrent, number: int) -> tuple[float, float]:
        """Return the magnitudes, in the units of `Steps`, from which on h, and c, was clamped."""
        return np.inf, np.inf


class FloatValues(Values):
    """The values of a float model's own run: gradients of the float64 equations, with nothing rounded."""

    real = np.float64

    def __init__(self, model: FloatModel, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.seen: dict[str, FloatArray] = {}
        self.result = run_oracle_batch(model, batch, lambda name, values, _: self.seen.__setitem__(name, values))

    def tensor(self, layer: Layer, place: int) -> FloatArray:
        """Return an input of a layer."""
        return self.result.tensors[layer.inputs[place]]

    def reads(self, layer: Layer, place: int) -> Any:
        """Return 1: nothing is copied."""
        return 1.0

    def written(self, tensor: str) -> Any:
        """Return 1: nothing is clamped."""
        return 1.0

    def operand(self, reader: str, values: FloatArray) -> Passed:
        """Return the values themselves."""
        return Passed(values, 1.0)

    def gate(self, name: str, argument: FloatArray, value: FloatArray) -> Passed:
        """Return the function's own value and derivative."""
        activation, clip = self._functions[name]
        return Passed(value, slope_of(activation, argument, clip))

    def state(self, name: str, values: FloatArray) -> Passed:
        """Return the values themselves."""
        return Passed(values, 1.0)

    def steps(self, layer: Recurrent, number: int) -> Steps:
        """Return what the run showed."""
        key = layer.keys[number]
        h = self.seen[f"{key}.h"]
        arguments = np.concatenate([self.seen[f"{key}.pre_{gate}"] for gate in layer.gates], axis=-1)
        return Steps(arguments, h, self.seen.get(f"{key}.c", np.zeros((*h.shape[:2], 0))))

    def looked_up(self, layer: Recurrent, number: int, arguments: Any) -> Functions:
        """Return the functions' own values and derivatives."""
        blocks = np.split(arguments, len(layer.gates), axis=-1)
        found = []
        for gate, x in zip(layer.gates, blocks, strict=True):
            own = self._function(f"{layer.keys[number]}.{gate}", x)
            turned = gate == "z" and not layer.update_keeps
            found.append(np.stack([1.0 - own.values, -own.slope] if turned else own, axis=-1))
        return Functions(np.concatenate(found, axis=-2), _NO_TABLES)

    def output(self, layer: Recurrent, number: int, c: Any) -> Functions:
        """Return the function's own value and derivative."""
        if "output" not in layer.roles:
            return Functions(np.zeros((*c.shape, 2)), _NO_TABLES)
        return Functions(np.stack(self._function(f"{layer.keys[number]}.output", c), axis=-1), _NO_TABLES)

    def _function(self, name: str, argument: FloatArray) -> Passed:
        activation, clip = self._functions[name]
        clipped = argument if clip is None else np.clip(argument, -clip, clip)
        return Passed(activate(activation, clipped), slope_of(activation, argument, clip))

    def starts(self, layer: Recurrent) -> list[tuple[FloatArray, FloatArray]]:
        """Return the initial states of the run."""
        axis, size = self.batch.along(self.model.length_rules[layer.input]), self.batch.size
        found = start_values(layer, size, self.batch.states, lambda name: self.result.tensors[name])
        group = layer.grouping
        return [(group.starts(h, axis), group.starts(np.zeros((size, 0)) if c is None else c, axis)) for h, c in found]

    @cached_property
    def _functions(self) -> dict[str, tuple[Activation, float | None]]:
        return functions_of(self.model, GateChoices())


class IntegerValues(Values):
    """The values of a run of ``quantized`` on a batch; ``float_model`` has the layers that it was made of."""

    real = np.float32

    def __init__(
        self, float_model: FloatModel, quantized: QuantModel, session: Session, batch: Batch, traced: bool
    ) -> None:
        self.batch, self.quantized = batch, quantized
        self._substitutes = Integers(quantized, model_parts(quantized))
        self._float_model = float_model
        self._trace = Trace() if traced else None
        state = session.initial_state(batch.size, batch.states)
        self.result, self.integers = session.run_batch(batch, state, self._trace)
        self._begun = state.layers
        self._layers = {layer.name: layer for layer in quantized.layers}
        self._real: dict[str, FloatArray] = {}

    @cached_property
    def model(self) -> FloatModel:  # type: ignore[override]
        """Return the float model whose weights are the real numbers that the integers are worth."""
        return self._substitutes.weights(self._float_model)

    @cached_property
    def _functions(self) -> dict[str, tuple[Activation, float | None]]:
        return functions_of(self._float_model, parse_gates(str(self.quantized.provenance.scheme["gates"])))

    def tensor(self, layer: Layer, place: int) -> FloatArray:
        """Return what the integers of an input are worth; it has the steps of the batch's time axis, zero where there are none."""
        name = self._layers[layer.name].inputs[place]
        if name not in self._real:
            worth = dequantize_array(self.integers[name], self.quantized.tensors[name])
            if worth.ndim == 3 and worth.shape[1] < (steps := self._axis_steps(name)):
                worth = np.pad(worth, ((0, 0), (0, steps - worth.shape[1]), (0, 0)))
            self._real[name] = worth
        return self._real[name]

    def _axis_steps(self, tensor: str) -> int:
        return self.batch.along(self.quantized.length_rules[tensor]).steps

    def reads(self, layer: Layer, place: int) -> Any:
        """Return 0 where the copy that the integer layer reads was clamped; 1 where it reads the tensor itself."""
        name = self._layers[layer.name].inputs[place]
        return 1.0 if name == layer.inputs[place] else self._within(name)

    def _within(self, name: str) -> Any:
        return np.abs(self.integers[name].astype(np.int32)) < self.quantized.tensors[name].limit

    def written(self, tensor: str) -> Any:
        """Return 0 where the integers of a layer's output lie at an end of int16, or where an input is beyond its calibrated range."""
        if tensor in self.batch.features:
            return ~beyond_range(self.batch.features[tensor], self.quantized.tensors[tensor])
        found = self._within(tensor)
        if found.ndim == 3 and found.shape[1] < (steps := self._axis_steps(tensor)):
            found = np.pad(found, ((0, 0), (0, steps - found.shape[1]), (0, 0)))
        return found

    def operand(self, reader: str, values: FloatArray) -> Passed:
        """Return the values as integers of the operand are worth."""
        found = self._substitutes.stand_ins.operands.get(reader)
        if found is None or reader in self._read_as_they_are:
            return Passed(values, 1.0)
        unit, limit, zero = found
        return _rounded(values - zero, unit, limit, zero)

    @cached_property
    def _read_as_they_are(self) -> frozenset[str]:
        """Return the inputs of recurrent layers whose integers are the operands themselves."""
        return frozenset(
            f"{layer.name}.x"
            for layer in self.quantized.recurrent_layers
            if not layer.x_operand.shift and self.quantized.tensors[layer.input].limit <= layer.x_operand.limit
        )

    def gate(self, name: str, argument: FloatArray, value: FloatArray) -> Passed:
        """Return the value of the integer function and the derivative of what it stands for, at the argument as an int16."""
        found = self._substitutes.stand_ins.functions.get(name)
        activation, clip = self._functions[name]
        if found is None:
            return Passed(value, slope_of(activation, argument, clip))
        function, turned = found
        integers = np.clip(round_half_up(argument * 2.0**function.in_frac), -32768, 32767).astype(np.int64)
        values = gate_values(function, integers)
        slopes = integer_slopes(activation, function.in_frac, clip)[integers + 32768]
        return Passed(1.0 - values if turned else values, slopes)

    def state(self, name: str, values: FloatArray) -> Passed:
        """Return the state as its integers are worth."""
        found = self._substitutes.stand_ins.states.get(name)
        if found is None:
            return Passed(values, 1.0)
        frac, limit = found
        return _rounded(values, np.ldexp(1.0, -np.asarray(frac)), limit, 0.0)

    def _recurrent(self, layer: Recurrent) -> QuantRecurrent:
        found = self._layers[layer.name]
        assert isinstance(found, QuantRecurrent)
        return found

    def steps(self, layer: Recurrent, number: int) -> Steps:
        """Return the trace of a direction, in integers."""
        assert self._trace is not None, "the run kept nothing"
        made, key, arrays = self._recurrent(layer), layer.keys[number], self._trace.arrays
        arguments, h = arrays[f"{key}.pre"], arrays[f"{key}.h"]
        c = arrays[f"{key}.c"] if made.has_cell_state else np.zeros((*h.shape[:2], 0), np.int32)
        axis = made.grouping.axis(self.batch.along(self.quantized.length_rules[made.input]))
        if (more := axis.steps - h.shape[1]) > 0:
            arguments, h, c = (np.pad(array, ((0, 0), (0, more), (0, 0))) for array in (arguments, h, c))
        return Steps(arguments, h, c, 2.0**-made.h_frac, 2.0**-made.c_frac)

    def looked_up(self, layer: Recurrent, number: int, arguments: Any) -> Functions:
        """Return the gates by their int16 arguments."""
        return Functions(arguments, self._tables(layer, number, layer.gates))

    def output(self, layer: Recurrent, number: int, c: Any) -> Functions:
        """Return the function of c by its argument."""
        return Functions(c, self._tables(layer, number, ("output",)) if "output" in layer.roles else _NO_TABLES32)

    def _tables(self, layer: Recurrent, number: int, roles: tuple[str, ...]) -> Any:
        made, key = self._recurrent(layer), layer.keys[number]
        named = []
        for role in roles:
            function = made.directions[number].gates[made.roles.index(role)]
            turned = role == "z" and not layer.update_keeps
            named.append(
                (function.params.tobytes(), function.table.tobytes(), turned, *self._functions[f"{key}.{role}"])
            )
        return function_tables(tuple(named))

    def reading(self, layer: Recurrent, number: int) -> Reading:
        """Return how R reads the integers of h."""
        made = self._recurrent(layer)
        operand, unit = made.h_operand, 2.0 ** (made.h_operand.shift - made.h_frac)
        shift = made.shifts(made.directions[number]).argument if made.has_cell_state else 0
        return Reading(operand.shift, operand.limit, unit, unit, shift)

    def projected(self, layer: Recurrent, number: int) -> Projected:
        """Return the formats of the state before a projection."""
        p = self._recurrent(layer).directions[number].projection
        if p is None:
            return Projected()
        step = 2.0 ** (p.operand.shift - p.hidden_frac)
        return Projected(2.0**-p.hidden_frac, float(STATE_MAX), step, float(p.operand.limit))

    def starts(self, layer: Recurrent) -> list[tuple[FloatArray, FloatArray]]:
        """Return what the integers of the initial states are worth."""
        made, axis = self._recurrent(layer), self.batch.along(self.quantized.length_rules[layer.input])
        h, c = made.starts(self._begun, self.integers, axis)[:2]
        of_h, of_c = np.ldexp(h.astype(np.float64), -made.h_frac), np.ldexp(c.astype(np.float64), -made.c_frac)
        return [(of_h[:, k], of_c[:, k]) for k in range(len(made.directions))]

    def ends(self, layer: Recurrent, number: int) -> tuple[float, float]:
        """Return the ends of the integers of h and c; h that its functions bound is never clamped."""
        made = self._recurrent(layer)
        bounded = made.h_frac == 15 and made.directions[number].projection is None
        return np.inf if bounded else float(STATE_MAX), float(CELL_MAX)


@functools.lru_cache(maxsize=32)
def function_tables(named: tuple[tuple[bytes, bytes, bool, Activation, float | None], ...]) -> Any:
    """Return the values of integer functions and the derivatives of what they stand for, at every int16, [functions, 65536, 2] float32.

    Each is named by its parameters, its table, whether it computes 1 - f for f, and f with the limit of its argument.
    """
    found = np.empty((len(named), 1 << 16, 2), np.float32)
    for own, (params, table, turned, activation, clip) in zip(found, named, strict=True):
        function = GateFunction("", np.frombuffer(params, np.int64), np.frombuffer(table, np.int32))
        slopes = integer_slopes(activation, function.in_frac, clip)
        own[:, 0] = gate_values(function, np.arange(-32768, 32768))
        own[:, 1] = -slopes if turned else slopes
    return found


_NO_TABLES, _NO_TABLES32 = np.zeros((0, 0, 2)), np.zeros((0, 0, 2), np.float32)


def _rounded(values: FloatArray, unit: Any, limit: int, zero: Any) -> Passed:
    return Passed(to_integers(values, unit, limit) * unit + zero, np.abs(values) < (limit + 0.5) * unit)


def functions_of(model: FloatModel, choices: GateChoices) -> dict[str, tuple[Activation, float | None]]:
    """Return the function that each scalar function of the model runs as, and the limit of its argument, by its name."""
    found: dict[str, tuple[Activation, float | None]] = {}
    for layer in model.layers:
        if isinstance(layer, Pointwise):
            found[layer.name] = choices.resolve("head", layer.activation)[0], None
        if not isinstance(layer, Recurrent):
            continue
        for key, d in zip(layer.keys, layer.directions, strict=True):
            for role in layer.roles:
                chosen = choices.resolve(role, d.activations[GATE_ROLE[role]])[0]
                found[f"{key}.{role}"] = chosen, None if role == "output" else layer.clip
            if d.projection is not None and isinstance(d.projection.function, Activation):
                found[f"{key}.s"] = choices.resolve("head", d.projection.function)[0], None
    return found
