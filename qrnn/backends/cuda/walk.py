"""A model's layers over tensors that stay on the device from the first to the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from qrnn.backends.base import LayerState, Trace
from qrnn.backends.cuda import heads
from qrnn.backends.cuda.choice import Choice, choose_plan
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.kinds import ProductKind
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.recurrent import Lengths, Traces, multiply_inputs, ones, run_direction, zeros
from qrnn.backends.cuda.tuning import Tuning
from qrnn.backends.cuda.weights import DirectionWeights, ProductWeights, upload
from qrnn.backends.cuda.work import device_array
from qrnn.model.float_model import GraphOutput
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.concat import QuantConcat
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.embedding import QuantEmbedding
from qrnn.model.kinds.last_step import QuantLastStep
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.softmax import QuantSoftmax
from qrnn.model.parts import pack_gates
from qrnn.model.quant_model import QuantModel


class HostCopies(Mapping[str, Any]):
    """Tensors on the device as arrays on the host, each copied when it is first read."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors, self._copies = tensors, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._copies:
            self._copies[name] = self._tensors[name].copy_to_host()
        return self._copies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def rows(x: Any) -> Any:
    """[..., F] as [M, F]."""
    return x.reshape(x.size // x.shape[len(x.shape) - 1], x.shape[len(x.shape) - 1])


def flat(x: Any) -> Any:
    """As one axis."""
    return x.reshape(x.size)


def copied(state: Any) -> Any:
    """A copy of a state [N, D, F]."""
    N, D, F = state.shape
    out = device_array((N, D, F), state.dtype)
    for_each(heads.copy_columns, N * D * F, state.reshape(N, D * F), 0, out.reshape(N, D * F), 0, D * F)
    return out


def _repeated(state: Any, times: int) -> Any:
    """[N, D, F] → [N · times, D, F], each row so many times in turn."""
    N, D, F = state.shape
    out = device_array((N, times * D * F), state.dtype)
    for k in range(times):
        for_each(heads.copy_columns, N * D * F, state.reshape(N, D * F), 0, out, k * D * F, D * F)
    return out.reshape(N * times, D, F)


class DeviceModel:
    """A model's parameters on the device, and its layers as functions of device arrays. Holds no state between calls."""

    def __init__(self, model: QuantModel, device: Device, tuning: Tuning) -> None:
        self.model, self.device, self.tuning = model, device, tuning
        self.directions = {
            (layer.name, number): DirectionWeights(layer, number)
            for layer in model.recurrent_layers
            for number in range(len(layer.directions))
        }
        self._parameters: dict[Any, Any] = {}
        for layer in model.layers:
            match layer:
                case QuantDense():
                    self._parameters[layer.name] = ProductWeights(layer.matrix, layer.pre_shift, layer.operand)
                case QuantPointwise():
                    self._parameters[layer.name] = tuple(upload(v) for v in pack_gates((layer.function,)))
                case QuantSoftmax() | QuantEmbedding():
                    self._parameters[layer.name] = upload(layer.table)
                case QuantConcat():
                    self._parameters[layer.name] = tuple(upload(part.indices) for part in layer.parts)

    def scales(self, name: str) -> Any:
        """A tensor's scales, [1] or [F] float64."""
        return self._uploaded(("scales", name), lambda: self.model.tensors[name].scales)

    def places(self, output: GraphOutput, number: int) -> tuple[Any, Any]:
        """Indices and positions of a part of a graph output."""
        _, indices, positions = output.parts[number]
        key = (output.name, number)
        return self._uploaded(("indices", *key), lambda: indices), self._uploaded(
            ("positions", *key), lambda: positions
        )

    def _uploaded(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._parameters:
            self._parameters[key] = upload(make())
        return self._parameters[key]

    def choice(self, w: DirectionWeights, batch: int, traced: bool = False) -> Choice:
        """What runs a direction, and why."""
        if traced:
            return Choice(None, "only it writes traces")
        if not w.fused:
            return Choice(None, w.not_fused)
        return choose_plan(w.layout, batch, self.device, self.tuning)

    def recurrent(
        self,
        layer: QuantRecurrent,
        x: Any,
        state: LayerState,
        lengths: Lengths,
        trace: Trace | None,
        in_place: bool = False,
    ) -> tuple[Any, tuple[Any, Any]]:
        """x [N, T, I] → Y [N, T, D·P] and the final state, which with ``in_place`` replaces ``state``, and else leaves it alone."""
        N, T = x.shape[0], x.shape[1]
        D, P, C = len(layer.directions), layer.output_size, layer.cell_size
        y = zeros((N, T, D * P), np.int16)
        h_n, c_n = state if in_place else (copied(state[0]), copied(state[1]))
        steps = T if trace is not None else 0
        for number in range(D):
            w = self.directions[layer.name, number]
            if D == 1:
                h, c = h_n.reshape(N, P), c_n.reshape(N, C)
            else:
                h, c = device_array((N, P), np.int16), device_array((N, C), np.int32)
                for_each(heads.copy_columns, N * P, h_n.reshape(N, D * P), number * P, h, 0, P)
                for_each(heads.copy_columns, N * C, c_n.reshape(N, D * C), number * C, c, 0, C)
            traces = Traces(zeros((N, steps, w.size), np.int16), zeros((N, steps, C), np.int32))
            plan = self.choice(w, N, trace is not None).plan
            run_direction(w, plan, x, h, c, lengths, y, number * P, traces, self.device.capability, self.tuning)
            if D > 1:
                for_each(heads.copy_columns, N * P, h, 0, h_n.reshape(N, D * P), number * P, P)
                for_each(heads.copy_columns, N * C, c, 0, c_n.reshape(N, D * C), number * C, C)
            if trace is not None:
                key = f"{layer.name}[{number}]"
                trace.arrays[f"{key}.pre"], trace.arrays[f"{key}.c"] = (
                    traces.pre.copy_to_host(),
                    traces.c.copy_to_host(),
                )
        if trace is not None:
            whole = y.copy_to_host()
            for number in range(D):
                trace.arrays[f"{layer.name}[{number}].h"] = whole[:, :, number * P : (number + 1) * P].copy()
        return y, (h_n, c_n)

    def _forgetful(
        self, layer: QuantRecurrent, x: Any, state: LayerState, lengths: Lengths, trace: Trace | None
    ) -> tuple[Any, tuple[Any, Any]]:
        """See `qrnn.backends.base.Engine._forgetful`."""
        N, T = x.shape[0], x.shape[1]
        if T == 1:
            return self.recurrent(layer, x, state, lengths, trace)
        own = Trace()
        real = (np.arange(T) < lengths.device.copy_to_host()[:, None]).reshape(-1)
        y, after = self.recurrent(
            layer,
            x.reshape(N * T, 1, x.shape[2]),
            (_repeated(state[0], T), _repeated(state[1], T)),
            Lengths.of(real.astype(np.int64)),
            None if trace is None else own,
        )
        if trace is not None:
            trace.arrays.update({name: a.reshape(N, T, a.shape[-1]) for name, a in own.arrays.items()})
        last = []
        for values in after:
            D, F = values.shape[1], values.shape[2]
            out = device_array((N, D * F), values.dtype)
            for_each(heads.last_step, out.size, lengths.device, values.reshape(N, T, D * F), out)
            last.append(out.reshape(N, D, F))
        return y.reshape(N, T, y.shape[2]), (last[0], last[1])

    def dense(self, layer: QuantDense, x: Any) -> Any:
        """x [M, K] → [M, R]: rows as sequences of one step."""
        w = self._parameters[layer.name]
        M = x.shape[0]
        kind = ProductKind(w.planes, True, self.device.capability)
        return multiply_inputs(w, x.reshape(M, 1, x.shape[1]), ones(M), False, 0, 1, kind, self.tuning)

    def pointwise(self, layer: QuantPointwise, x: Any) -> Any:
        """Of the same shape."""
        out = device_array(x.shape, np.int16)
        parameters = self._parameters[layer.name]
        shift = layer.function.out_frac - layer.out_frac
        for_each(heads.pointwise, x.size, *parameters, layer.in_frac, shift, flat(x), flat(out))
        return out

    def softmax(self, layer: QuantSoftmax, x: Any) -> Any:
        """x [M, F] → [M, F]."""
        out = device_array(x.shape, np.int16)
        for_each(heads.softmax, x.shape[0], self._parameters[layer.name], layer.in_frac, x, out)
        return out

    def add(self, layer: QuantAdd, a: Any, b: Any) -> Any:
        """Of the same shape."""
        out = device_array(a.shape, np.int16)
        for_each(heads.add, a.size, *layer.shifts, flat(a), flat(b), flat(out))
        return out

    def align(self, x: Any, indices: Any, from_frac: int, to_frac: int, out: Any, column: int) -> None:
        """Features ``indices`` of x [M, F] into out [M, …] from ``column`` on."""
        count = x.shape[0] * indices.shape[0]
        for_each(heads.align_part, count, from_frac, to_frac, indices, x, column, out)

    def run(
        self,
        inputs: Mapping[str, Any],
        states: Mapping[str, LayerState],
        lengths: Lengths,
        trace: Trace | None,
        in_place: bool = False,
    ) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
        """Every tensor, and every recurrent layer's final state; ``inputs``: int16, or int64 tokens.

        With ``in_place`` the final states are in the arrays of ``states``.
        """
        tensors = {name: value for name, value in inputs.items() if value.dtype == np.int16}
        final: dict[str, tuple[Any, Any]] = {}
        for layer in self.model.layers:
            match layer:
                case QuantRecurrent():
                    x, state = tensors[layer.input], states[layer.name]
                    if layer.memory:
                        y, (h, c) = self.recurrent(layer, x, state, lengths, trace, in_place)
                    else:
                        y, (h, c) = self._forgetful(layer, x, state, lengths, trace)
                    tensors[layer.output] = y
                    tensors[layer.h_n] = self._of_steps(h, lengths)
                    if layer.c_n is not None:
                        tensors[layer.c_n] = self._of_steps(c, lengths)
                    final[layer.name] = (h, c) if layer.memory else states[layer.name]
                case QuantDense():
                    x = tensors[layer.input]
                    tensors[layer.output] = self.dense(layer, rows(x)).reshape(
                        *x.shape[: len(x.shape) - 1], layer.matrix.weight.shape[0]
                    )
                case QuantPointwise():
                    tensors[layer.output] = self.pointwise(layer, tensors[layer.input])
                case QuantSoftmax():
                    x = tensors[layer.input]
                    tensors[layer.output] = self.softmax(layer, rows(x)).reshape(*x.shape)
                case QuantEmbedding():
                    tokens, features = inputs[layer.input], layer.table.shape[1]
                    out = device_array((tokens.size, features), np.int16)
                    for_each(heads.embedding, out.size, self._parameters[layer.name], flat(tokens), out)
                    tensors[layer.output] = out.reshape(*tokens.shape, features)
                case QuantLastStep():
                    x = tensors[layer.input]
                    out = device_array((x.shape[0], x.shape[2]), np.int16)
                    for_each(heads.last_step, out.size, lengths.device, x, out)
                    tensors[layer.output] = out
                case QuantAdd():
                    tensors[layer.output] = self.add(layer, tensors[layer.left], tensors[layer.right])
                case QuantConcat():
                    tensors[layer.output] = self._concat(layer, tensors)
        return tensors, final

    def _concat(self, layer: QuantConcat, tensors: Mapping[str, Any]) -> Any:
        first = tensors[layer.parts[0].tensor]
        lead, column = first.shape[: len(first.shape) - 1], 0
        out = device_array((rows(first).shape[0], sum(len(part.indices) for part in layer.parts)), np.int16)
        for part, indices in zip(layer.parts, self._parameters[layer.name], strict=True):
            self.align(rows(tensors[part.tensor]), indices, part.in_frac, layer.out_frac, out, column)
            column += len(part.indices)
        return out.reshape(*lead, out.shape[1])

    def _of_steps(self, state: Any, lengths: Lengths) -> Any:
        """A final state [N, D, F] as a graph reads it, [N, D·F]: zero for sequences of no steps."""
        N = state.shape[0]
        given = state.reshape(N, state.size // N)
        if lengths.shortest > 0:
            return given
        out = device_array(given.shape, state.dtype)
        for_each(heads.zero_empty, out.size, lengths.device, given, out)
        return out
