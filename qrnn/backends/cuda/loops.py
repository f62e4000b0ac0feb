"""A kind of layer without kernels of its own runs by its own definition, compiled for the device.

A loop over rows (`qrnn.model.layer_facts.RowLoop`) has a thread for each row, and a step (`StepLoop`) a thread for each sequence, which
takes the steps one after the other. Numba computes with 64-bit integers, as in all kernels (`qrnn.backends.cuda.contract`). Parameters are
copied to the device once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda

from qrnn.backends.cuda.contract import LOOP_FUNCTIONS, compiled_loop
from qrnn.backends.cuda.device_layer import DeviceLayer, DeviceRowLayer, Run, Setting, State, StateLimit
from qrnn.backends.cuda.filled import copied, first_steps
from qrnn.backends.cuda.launch import THREADS, for_each, kernel
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.weights import upload
from qrnn.backends.cuda.work import device_array
from qrnn.model.layer_facts import Loop, Step, StepLoop
from qrnn.model.parts import TensorFormat

KEPT = 256
"""The number of definitions that stay compiled: each is compiled once for all layers that have it."""


@lru_cache(KEPT)
def row_loop_kernel(make: Callable[[Any], Loop]) -> Any:
    """Return a kernel that runs the loop which ``make`` gives, with a thread for each row."""
    loop = compiled_loop(make(LOOP_FUNCTIONS))

    @kernel(THREADS)
    def run_rows(parameters: Any, inputs: Any, out: Any) -> None:
        """Set row m of out [M, F'] from the inputs, [M, F] or [M]. ``parameters`` and ``inputs`` are tuples."""
        m = cuda.grid(1)
        if m < out.shape[0]:
            loop(m, m + 1, *parameters, *inputs, out)

    return run_rows


@lru_cache(KEPT)
def step_loop_kernel(make: Callable[[Any], Step], before: Callable[[Any], Step] | None = None) -> Any:
    """Return a kernel that takes the steps which ``make`` gives, after those of ``before``, with a thread for each sequence."""
    step = compiled_loop(make(LOOP_FUNCTIONS))
    first, passes = step if before is None else compiled_loop(before(LOOP_FUNCTIONS)), int(before is not None)

    @kernel(THREADS)
    def take_steps(
        lengths: Any, reverse: Any, past: Any, by_time: Any, inputs: Any, out: Any, out_lengths: Any, rest: Any,
        watched: Any, trace: Any, watched_wide: Any, trace_wide: Any,
    ) -> None:  # fmt: skip
        """Take lengths[n] steps of the inputs, [N, T, F] each, from the last to the first with ``reverse``, and then ``past`` past the end.

        Rows go to out [N, T', F'] one after the other; with ``by_time``, where every step writes one row, the row of step t goes to
        out[n, t]. out_lengths[n] counts the rows; those after them become zero. ``rest``: states, parameters and scratch arrays. After step t,
        watched[n] is copied to trace[n, t], of trace [N, T or 0, W] int16, and so are those of int32.
        """
        n = cuda.grid(1)
        if n < lengths.shape[0]:
            length, k = lengths[n], 0
            for i in range(length * passes):
                first(n, i, 0, *inputs, out, *rest)
            for i in range(length):
                t = length - 1 - i if reverse else i
                k += step(n, t, t if by_time else k, *inputs, out, *rest)
                if trace.shape[1] > 0:
                    for r in range(trace.shape[2]):
                        trace[n, t, r] = watched[n, r]
                    for r in range(trace_wide.shape[2]):
                        trace_wide[n, t, r] = watched_wide[n, r]
            for _ in range(past):
                k += step(n, -1, k, *inputs, out, *rest)
            out_lengths[n] = k
            for row in range(k, out.shape[1]):
                for r in range(out.shape[2]):
                    out[n, row, r] = 0

    return take_steps


def uploaded(parameters: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a loop's parameters: arrays on the device, and integers."""
    return tuple(upload(value) if isinstance(value, np.ndarray) else int(value) for value in parameters)


class StepCode:
    """A `StepLoop`, compiled, with its parameters on the device."""

    def __init__(self, loop: StepLoop) -> None:
        self._kernel, self._scratch = step_loop_kernel(loop.make, loop.before), loop.scratch
        self._parameters = uploaded(loop.parameters)

    def launch(
        self, inputs: tuple[Any, ...], states: State, lengths: Lengths, out: Any, reverse: bool = False, past: int = 0, by_time: bool = False,
        traces: tuple[Any, Any] | None = None,
    ) -> Any:  # fmt: skip
        """Take all steps of the inputs, [N, T, F] int16 each, and return how many rows of ``out`` were written, [N].

        ``states`` [N, *shape] are changed in place; see `step_loop_kernel`. ``traces`` of a recurrent direction: [N, T, G·H] int16 takes
        the arguments of the gates, which the first scratch array holds, and [N, T, H or 0] int32 takes c, the second state.
        """
        N = inputs[0].shape[0]
        out_lengths = device_array(N, np.int64)
        scratch = tuple(device_array((N, *s.shape), s.dtype) for s in self._scratch)
        rest = (*states, *self._parameters, *scratch)
        if traces is None:
            narrow, wide = device_array((N, 0), np.int16), device_array((N, 0), np.int32)
            trace, trace_wide = device_array((N, 0, 0), np.int16), device_array((N, 0, 0), np.int32)
        else:
            (trace, trace_wide), narrow, wide = traces, scratch[0], states[1]
        for_each(
            self._kernel, N, lengths.device, reverse, past, by_time, inputs, out, out_lengths, rest, narrow, trace, wide, trace_wide
        )  # fmt: skip
        return out_lengths


class RowLoops(DeviceRowLayer):
    """A layer on the device that is computed by rows and has no kernel: the loops of its `QuantLayer.row_loops`."""

    def __init__(self, layer: Any, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._loops = [
            (row_loop_kernel(loop.make), uploaded(loop.parameters), loop.inputs) for loop in layer.row_loops()
        ]

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        """Run the layer's loops one after the other, and return the rows that they wrote."""
        given = dict(zip(self.layer.inputs, inputs, strict=True))
        M = inputs[0].shape[0]
        out = device_array((M, self.features), np.int16)
        for loop, parameters, names in self._loops:
            for_each(loop, M, parameters, tuple(given[name] for name in names), out)
        return out


class Steps(DeviceLayer):
    """A layer on the device with a state and no kernel: the steps of its `QuantLayer.step_loop`."""

    def __init__(self, layer: Any, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._code, self._features = StepCode(layer.step_loop()), tensors[layer.output].features

        for place, state in enumerate(layer.states()):
            holds = np.iinfo(state.dtype)
            if state.range != (holds.min, holds.max):
                self.state_limits[place] = StateLimit(state.name, *state.range)
        self.varies = not layer.read_whole

    def run(self, run: Run) -> None:
        """Take the steps of every sequence, and those past its end where it ends."""
        layer = self.layer
        if layer.read_whole:
            self._over_whole(run)
            return
        given, states = [run.tensors[name] for name in layer.inputs], run.states[layer.name]
        steps = min(
            x.shape[1] for x in given
        )  # inputs of equal lengths, which may have more or fewer steps of padding behind them
        inputs = tuple(first_steps(x, steps) for x in given)
        states = states if run.in_place else tuple(copied(state) for state in states)
        past = layer.steps_past_end if run.end else 0
        lengths, most = run.lengths[layer.inputs[0]], layer.rows_in(steps)
        y, written = self.steps(inputs, states, lengths, most, past)
        written = written.known()  # later layers launch no more steps than there are
        run.tensors[layer.output], run.lengths[layer.output] = first_steps(y, max(1, written.longest)), written
        run.final[layer.name] = states

    def _over_whole(self, run: Run) -> None:
        """Compute the output of a layer each of whose steps reads whole sequences."""
        layer, read = self.layer, self.layer.inputs[0]
        x, lengths = run.tensors[read], run.lengths[read]
        counts = run.lengths[layer.read_whole[0]].device.reshape(x.shape[0], 1)
        states = (*(run.tensors[name] for name in layer.read_whole), counts, counts)
        y, _ = self.steps((x,) * len(layer.inputs), states, lengths, x.shape[1], 0)
        run.tensors[layer.output], run.lengths[layer.output] = y, lengths

    def steps(
        self, inputs: tuple[Any, ...], states: State, lengths: Lengths, out_rows: int, past: int
    ) -> tuple[Any, Lengths]:
        """Return y [N, out_rows, F'] for inputs [N, T, F], zero past the rows that come out, and their lengths.

        ``states`` are changed in place. ``past`` steps past the end of each sequence are taken after its own.
        """
        y = device_array((inputs[0].shape[0], out_rows, self._features), np.int16)
        device = self._code.launch(inputs, states, lengths, y, past=past)
        return y, Lengths(device, lengths.ones, lengths.count, 0, out_rows)
