"""What a backward pass knows of a forward pass: the numbers at which the equations are differentiated, and what was rounded or clamped.

`FloatValues` are those of a run of the float model itself, where nothing is rounded. `IntegerValues` are those of a run of its integer
model: each tensor, state and operand is the real number that its integers are worth, and so is each weight. A gradient passes a rounding as
if it were not there, and is 0 where a value was clamped (the straight-through estimate).
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, NamedTuple

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
from qrnn.qat.retrace import can_retrace, read_by, retraced
from qrnn.qat.slopes import integer_slopes, slope_of
from qrnn.qat.spreading import spread
from qrnn.quantization.gate_choice import GateChoices, parse_gates
from qrnn.running.session import Session


class Passed(NamedTuple):
    """Numbers after a function, and the derivative of that function by its argument, or a number for all."""

    values: FloatArray
    slope: Any


class Steps(NamedTuple):
    """What one direction did at every step, in time order: arguments of gates [N, T, G·H], h [N, T, P], and c [N, T, H] or [N, T, 0]."""

    arguments: Any
    h: FloatArray
    c: FloatArray


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
    def gates(self, layer: Recurrent, number: int, arguments: Any) -> Passed:
        """Return the gates' values and derivatives at `Steps.arguments`."""

    @abstractmethod
    def output(self, layer: Recurrent, number: int, c: FloatArray) -> Passed:
        """Return the value and the derivative of the function of c on its way to h."""

    @abstractmethod
    def starts(self, layer: Recurrent) -> list[tuple[FloatArray, FloatArray]]:
        """Return h [N', P] and c [N', H] of each direction before the first step, for the sequences that its cell takes."""

    def recurrent_operand(self, layer: Recurrent, number: int, before: FloatArray) -> Passed:
        """Return h before each step, in the order of processing, as R reads it."""
        return self.operand(f"{layer.keys[number]}.h", before)

    @abstractmethod
    def clamped(self, layer: Recurrent, number: int, steps: Steps) -> tuple[Any, Any]:
        """Return 0 where h, and where c, was clamped after a step, and 1 elsewhere, or 1 for all."""


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

    def gates(self, layer: Recurrent, number: int, arguments: Any) -> Passed:
        """Return the functions' own values and derivatives."""
        blocks = np.split(arguments, len(layer.gates), axis=-1)
        found = [self._function(f"{layer.keys[number]}.{gate}", x) for gate, x in zip(layer.gates, blocks, strict=True)]
        return Passed(*(np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True)))

    def output(self, layer: Recurrent, number: int, c: FloatArray) -> Passed:
        """Return the function's own value and derivative."""
        return self._function(f"{layer.keys[number]}.output", c)

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

    def clamped(self, layer: Recurrent, number: int, steps: Steps) -> tuple[Any, Any]:
        """Return 1: nothing is clamped."""
        return 1.0, 1.0

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
        again = all(can_retrace(layer) for layer in quantized.recurrent_layers)
        self._trace = Trace() if traced and not again else None
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
        if found is None:
            return Passed(values, 1.0)
        unit, limit, zero = found
        return _rounded(values - zero, unit, limit, zero)

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

    def recurrent_operand(self, layer: Recurrent, number: int, before: FloatArray) -> Passed:
        """Return h as its integers, narrowed to the operand, are worth; ``before`` is exact, and so are its integers."""
        made = self._recurrent(layer)
        integers = (before * self.real(2.0**made.h_frac)).astype(np.int16)
        unit = 2.0 ** (made.h_operand.shift - made.h_frac)
        return Passed(*read_by(integers, made.h_operand, unit, self.real))

    def _recurrent(self, layer: Recurrent) -> QuantRecurrent:
        found = self._layers[layer.name]
        assert isinstance(found, QuantRecurrent)
        return found

    def steps(self, layer: Recurrent, number: int) -> Steps:
        """Return the trace of a direction: arguments as int16, the states as their integers are worth."""
        made, key = self._recurrent(layer), layer.keys[number]
        if self._trace is not None:
            arrays = self._trace.arrays
            arguments, h = arrays[f"{key}.pre"], arrays[f"{key}.h"]
            c = arrays[f"{key}.c"] if made.has_cell_state else np.zeros((*h.shape[:2], 0), np.int32)
        else:
            arguments, h, c = self._retraced(made, number)
        worth: Any = h.astype(self.real) * self.real(2.0**-made.h_frac)
        cells: Any = c.astype(self.real) * self.real(2.0**-made.c_frac)
        return Steps(arguments, worth, cells)

    def _retraced(self, made: QuantRecurrent, number: int) -> tuple[Any, Any, Any]:
        """Return the arguments of the gates, h and c of a direction, computed again of what the layer read and wrote."""
        axis, group, P = self.batch.along(self.quantized.length_rules[made.input]), made.grouping, made.output_size
        y = group.apart(self.integers[made.output])[:, :, number * P : (number + 1) * P]
        x = group.apart(self.integers[made.input])
        steps = min(x.shape[1], y.shape[1])
        begun = [state[:, number] for state in made.starts(self._begun, self.integers, axis)[:2]]
        lengths = np.ascontiguousarray(group.axis(axis).lengths)
        found = retraced(made, number, x[:, :steps], y[:, :steps], (begun[0], begun[1]), lengths)
        return found[0], np.ascontiguousarray(y[:, :steps]), found[1]

    def gates(self, layer: Recurrent, number: int, arguments: Any) -> Passed:
        """Return the gates' values and derivatives, looked up by their int16 arguments."""
        return self._looked_up(layer, number, layer.gates, arguments)

    def output(self, layer: Recurrent, number: int, c: FloatArray) -> Passed:
        """Return the value and the derivative of the function of c, looked up by c as an int16."""
        function = self._recurrent(layer).directions[number].gates[-1]
        integers = np.clip(round_half_up(c * self.real(2.0**function.in_frac)), -32768, 32767).astype(np.int16)
        return self._looked_up(layer, number, ("output",), integers)

    def _looked_up(self, layer: Recurrent, number: int, roles: tuple[str, ...], arguments: Any) -> Passed:
        from qrnn.qat.kernels import look_up

        made, key = self._recurrent(layer), layer.keys[number]
        values, slopes = [], []
        for role in roles:
            function = made.directions[number].gates[made.roles.index(role)]
            activation, clip = self._functions[f"{key}.{role}"]
            turned = role == "z" and not layer.update_keeps
            value, slope = function_tables(
                function.params.tobytes(), function.table.tobytes(), turned, activation, clip
            )
            values.append(value)
            slopes.append(slope)
        flat = np.ascontiguousarray(arguments.reshape(-1, arguments.shape[-1]))
        out, out_slopes = np.empty(flat.shape, self.real), np.empty(flat.shape, self.real)
        units = flat.shape[1] // len(roles)
        spread(
            lambda first, last: look_up(first, last, flat, units, tuple(values), tuple(slopes), out, out_slopes),
            len(flat),
        )
        return Passed(out.reshape(arguments.shape), out_slopes.reshape(arguments.shape))

    def starts(self, layer: Recurrent) -> list[tuple[FloatArray, FloatArray]]:
        """Return what the integers of the initial states are worth."""
        made, axis = self._recurrent(layer), self.batch.along(self.quantized.length_rules[layer.input])
        h, c = made.starts(self._begun, self.integers, axis)[:2]
        of_h, of_c = np.ldexp(h.astype(np.float64), -made.h_frac), np.ldexp(c.astype(np.float64), -made.c_frac)
        return [(of_h[:, k], of_c[:, k]) for k in range(len(made.directions))]

    def clamped(self, layer: Recurrent, number: int, steps: Steps) -> tuple[Any, Any]:
        """Return 0 where h or c lies at the end of its integers; h that its functions bound is never clamped."""
        made = self._recurrent(layer)
        bounded = made.h_frac == 15 and made.directions[number].projection is None
        h = 1.0 if bounded else np.abs(steps.h) < STATE_MAX * 2.0**-made.h_frac
        c = np.abs(steps.c) < np.float32(CELL_MAX) * 2.0**-made.c_frac if made.has_cell_state else 1.0
        return h, c


@functools.lru_cache(maxsize=64)
def function_tables(
    params: bytes, table: bytes, turned: bool, activation: Activation, clip: float | None
) -> tuple[Any, Any]:
    """Return the values of an integer function and the derivatives of what it stands for, at every int16, float32.

    With ``turned``, the integers compute 1 - f, and the values are those of f.
    """
    function = GateFunction("", np.frombuffer(params, np.int64), np.frombuffer(table, np.int32))
    values = gate_values(function, np.arange(-32768, 32768))
    slopes = integer_slopes(activation, function.in_frac, clip)
    return (1.0 - values if turned else values).astype(np.float32), slopes.astype(np.float32)


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
