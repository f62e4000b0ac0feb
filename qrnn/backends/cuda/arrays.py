"""Users' arrays on the device are read where they lie and checked there, and outputs are left there.

Objects with the CUDA array interface (PyTorch, CuPy, Numba) or DLPack (JAX and others) are taken; arrays of the host among them are copied
to the device. Outputs are Numba's device arrays, of the type that the host's would have, which have the CUDA array interface:
`torch.as_tensor(y, device="cuda")` and `cupy.asarray(y)` read them without a copy. All work is on the default stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda

from qrnn.backends.base import DeviceResult, LayerState, every_length
from qrnn.backends.cuda import elements
from qrnn.backends.cuda.device_layer import Run, State, StateLimit
from qrnn.backends.cuda.filled import first_steps, zeros
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.walk import DeviceModel
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array, rows
from qrnn.errors import DataError
from qrnn.model.batch import check_fits, check_names, with_time_axis
from qrnn.model.float_model import GraphInput
from qrnn.model.given_lengths import checked_axes, lengths_by_axis, lengths_in, time_axes
from qrnn.model.parts import FloatArray
from qrnn.model.real_types import real_names, type_of_inputs
from qrnn.model.user_values import as_array, on_cuda_device, real_values, token_values

DLPACK_LEGACY_STREAM = 1
"""DLPack's number of the legacy default stream, on which this backend works: the producer's work is awaited there."""


def on_device(where: str, value: Any) -> Any:
    """Return ``value`` as an array of Numba's on the device: itself or a view where it is on the device, else a copy."""
    if not on_cuda_device(value):
        return upload(as_array(where, value))
    if getattr(value, "__cuda_ndarray__", False):
        found = value
    elif hasattr(value, "__cuda_array_interface__"):
        if value.__cuda_array_interface__.get("mask") is not None:
            raise DataError(
                f"{where}: an array with a mask, which would be lost; give its values, and lengths for padding"
            )
        found = cuda.as_cuda_array(value)
    else:
        found = _from_dlpack(value)
    if not found.dtype.isnative:
        raise DataError(f"{where}: type {found.dtype} of the other byte order on the device; convert it on the host")
    if not found.is_c_contiguous():
        raise DataError(
            f"{where}: strides {list(found.strides)} of an array on the device; make it contiguous (row-major)"
        )
    return found


def _from_dlpack(value: Any) -> Any:
    from cuda.core.utils import StridedMemoryView

    view = StridedMemoryView.from_dlpack(value, stream_ptr=DLPACK_LEGACY_STREAM)
    strides = None if view.strides is None else tuple(s * view.dtype.itemsize for s in view.strides)
    description = {
        "shape": tuple(view.shape),
        "strides": strides,
        "typestr": view.dtype.str,
        "data": (int(view.ptr), False),
        "version": 3,
    }
    return cuda.from_cuda_array_interface(description, owner=view)


def on_host(where: str, value: Any) -> Any:
    """Return ``value`` as NumPy's array."""
    return on_device(where, value).copy_to_host() if on_cuda_device(value) else value


def run_arrays(
    model: DeviceModel,
    inputs: Mapping[str, Any],
    lengths: Any,
    begin: Callable[[int, Mapping[str, FloatArray]], Mapping[str, LayerState]],
    one_step: bool,
    end: bool,
    real: str | None = None,
) -> DeviceResult:
    """See `qrnn.backends.base.Engine.run_on_device`."""
    graph_inputs = model.model.inputs
    check_names(graph_inputs, inputs)
    inputs, without = with_time_axis(
        graph_inputs, inputs, lambda where, v: on_device(where, v) if on_cuda_device(v) else as_array(where, v)
    )
    kind = real or type_of_inputs(
        real_names(graph_inputs), {name: on_device(name, v) if on_cuda_device(v) else v for name, v in inputs.items()}
    )
    given: dict[str, Any] = {}
    states: dict[str, FloatArray] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    counts = lengths_by_axis(time_axes(graph_inputs), lengths_in(graph_inputs, inputs) if lengths is None else lengths)
    for graph_input in graph_inputs:
        name = graph_input.name
        if graph_input.kind == "lengths":
            counts[graph_input.axis] = inputs.get(name, counts[graph_input.axis])
        elif graph_input.kind == "state":
            if name in inputs:
                states[name], sizes[name] = _state(graph_input, inputs[name])
        else:
            given[name], sizes[name] = _values(graph_input, inputs[name], one_step)
    axes = checked_axes(graph_inputs, sizes, {axis: on_host("lengths", given) for axis, given in counts.items()})
    count = len(next(iter(axes.values())).lengths)
    on_axis = {axis: Lengths.of(found.lengths) for axis, found in axes.items()}
    known = {i.name: on_axis[i.axis] for i in graph_inputs if i.has_time and i.name in given}
    start = {
        name: tuple(on_device(f"state of layer {name!r}", part) for part in state)
        for name, state in begin(count, states).items()
    }
    integers = _integers(model, given, start)
    run = model.run(integers, start, known, end=end)
    came: Any = {name: found.known().host for name, found in run.lengths.items()}
    ones = {i.name: np.ones(count, np.int64) for i in graph_inputs if not i.has_time}
    final: Any = run.final
    return DeviceResult(
        outputs_of(model, run, one_step or without, kind), final, every_length(model.model, ones | came)
    )


def _values(graph_input: GraphInput, value: Any, one_step: bool) -> tuple[Any, tuple[int, ...]]:
    """Return an input's values on the device, still to be checked there, and its size [N] or [N, T].

    An array of the host is checked on the host, and goes to the device in a type that the kernels read.
    """
    where, kind = f"input {graph_input.name!r}", np.integer if graph_input.kind == "tokens" else np.floating
    if on_cuda_device(value):
        array = _with_time(graph_input, on_device(where, value), one_step)
        return array, check_fits(graph_input, array, kind)
    array = as_array(where, value)
    if one_step and graph_input.has_time and array.ndim:
        array = array[:, None]
    size = check_fits(graph_input, array, kind)
    is_token = graph_input.kind == "tokens"
    checked = token_values(where, array, graph_input.vocabulary) if is_token else real_values(where, array)
    return upload(checked), size


def _with_time(graph_input: GraphInput, array: Any, one_step: bool) -> Any:
    """Return [N, …] as [N, 1, …] where an input over time is given a single step."""
    shape = tuple(array.shape)
    return array.reshape(shape[0], 1, *shape[1:]) if one_step and graph_input.has_time and shape else array


def _state(graph_input: GraphInput, value: Any) -> tuple[FloatArray, tuple[int, ...]]:
    """Return a graph state input, which is small, as the host's array, and its size [N]."""
    where = f"input {graph_input.name!r}"
    array = as_array(where, on_host(where, value))
    size = check_fits(graph_input, array, np.floating)
    return real_values(where, array).reshape(size[0], graph_input.features), size


def _integers(model: DeviceModel, given: Mapping[str, Any], states: Mapping[str, State]) -> dict[str, Any]:
    """Return features as int16, tokens as int64; DataError where any of them, or a value of a layer's state, is refused.

    All refused values are counted before the one wait for the device.
    """
    limited = limited_states(model, states)
    counts = zeros((len(given) + len(limited),), np.int32)
    integers = quantized(model, given, counts)
    count_states(limited, counts[len(given) :])
    found = counts.copy_to_host().tolist()
    refuse_states(limited, found[len(given) :])
    if (refused := refusal(model, given, found)) is not None:
        raise DataError(refused)
    return integers


@dataclass(frozen=True)
class LimitedState:
    """A state array of a layer whose type holds values that no step ends with."""

    layer: str
    limit: StateLimit
    array: Any


def limited_states(model: DeviceModel, states: Mapping[str, State]) -> list[LimitedState]:
    """Return the arrays of ``states`` whose values have to be checked."""
    return [
        LimitedState(layer, limit, state[place])
        for layer, state in states.items()
        for place, limit in model.layers[layer].state_limits.items()
    ]


def count_states(states: Sequence[LimitedState], counts: Any) -> None:
    """Count in counts[k] the values of the k-th of ``states`` that no step ends with."""
    for k, state in enumerate(states):
        count, limit = state.array.size, state.limit
        for_each(elements.check_state, count, limit.least, limit.largest, state.array.reshape(count), counts[k : k + 1])


def refuse_states(states: Sequence[LimitedState], counts: Sequence[int]) -> None:
    """Raise DataError where the counts of `count_states` are not all zero."""
    for state, count in zip(states, counts, strict=True):
        if count:
            limit = state.limit
            only_low = limit.largest == np.iinfo(state.array.dtype).max
            where = f"below {limit.least}" if only_low else f"below {limit.least} or above {limit.largest}"
            raise DataError(
                f"state of layer {state.layer!r}: {count} values of {limit.name} are {where}, "
                f"expected {limit.least}…{limit.largest}; give a state from this model's own run or step"
            )


def quantized(model: DeviceModel, given: Mapping[str, Any], counts: Any) -> dict[str, Any]:
    """Return real values as int16, tokens as int64.

    Values that are refused become 0, and are added to counts[k] for the k-th input of ``given``.
    """
    integers: dict[str, Any] = {}
    for k, (name, x) in enumerate(given.items()):
        graph_input = next(i for i in model.model.inputs if i.name == name)
        count = counts[k : k + 1]
        if graph_input.kind == "tokens":
            out = device_array(x.shape, np.int64)
            for_each(
                elements.check_tokens, x.size, graph_input.vocabulary, x.reshape(x.size), out.reshape(x.size), count
            )
        else:
            fmt, lead = model.model.tensors[name], tuple(x.shape[: 2 if graph_input.has_time else 1])
            out = device_array((*lead, graph_input.features), np.int16)
            flat = x.reshape(x.size // graph_input.features, graph_input.features)
            for_each(elements.quantize, x.size, *model.scales_and_offsets(name), fmt.limit, flat, rows(out), count)
        integers[name] = out
    return integers


def refusal(model: DeviceModel, given: Iterable[str], counts: Sequence[int]) -> str | None:
    """Return a text about the first input some of whose values were refused, by the counts of `quantized`; None where there is none."""
    for name, count in zip(given, counts, strict=False):
        if count:
            graph_input = next(i for i in model.model.inputs if i.name == name)
            expected = (
                f"tokens in 0…{graph_input.vocabulary - 1}"
                if graph_input.kind == "tokens"
                else "finite numbers of float32's range"
            )
            return f"input {name!r}: {count} of its values are not {expected}"
    return None


def outputs_of(model: DeviceModel, run: Run, one_step: bool, kind: str) -> dict[str, Any]:
    """Return graph outputs as reals of character ``kind``, on the device.

    They are zero past a sequence's length, and in one step where nothing came out.
    """
    outputs: dict[str, Any] = {}
    for output in model.model.outputs:
        parts = [run.tensors[name] for name, _, _ in output.parts]
        steps = min(q.shape[1] for q in parts) if output.has_time else 0
        lead = (parts[0].shape[0], steps) if output.has_time else (parts[0].shape[0],)
        out = zeros((int(np.prod(lead)), output.features), kind)
        for number, (name, indices, _) in enumerate(output.parts):
            q = rows(first_steps(parts[number], steps) if output.has_time else parts[number])
            behind = name if output.has_time or one_step else model.empty_without(name)
            if one_step and behind is not None:
                behind = model.over_time_behind(behind)
            ends = model.no_lengths if behind is None else run.lengths[behind].device
            for_each(
                elements.write_output, q.shape[0] * len(indices), q, *model.scales_and_offsets(name),
                *model.places(output, number), ends, steps or int(behind is not None), out,
            )  # fmt: skip
        if one_step and output.has_time:
            lead = lead[:1]
        outputs[output.name] = out.reshape(*lead, *output.shape)
    return outputs
