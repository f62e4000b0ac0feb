"""Recurrent layers on the CPU: fused steps, plain loops, and which threads get which sequences.

Sequences are spread over a pool of threads; a single sequence with long rows is shared by a thread team, whose workers meet at a barrier
once in every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isqrt
from typing import Any

import numpy as np

from qrnn.backends.base import LayerState, Trace
from qrnn.backends.cpu import plain
from qrnn.backends.cpu.calls import Call, CallList
from qrnn.backends.cpu.defined import StepCalls
from qrnn.backends.cpu.fused_variants import FusedVariants
from qrnn.backends.cpu.layer_calls import Flow, LayerCalls, SequenceCalls, StreamCalls, as_int64
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.matrix import GROUP_LEAST, VECTORS
from qrnn.backends.cpu.packed import can_fuse
from qrnn.backends.cpu.tasks import Tasks
from qrnn.backends.cpu.threads.team import Spins, StepCall, TeamCall, most_workers
from qrnn.model.batch import shortest
from qrnn.model.cell_codes import CODES, codes_of
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.quantized import QuantDirection
from qrnn.model.kinds.recurrent.start import limits
from qrnn.model.layer_facts import StateArray
from qrnn.model.parts import CELL_MAX, STATE_MAX, IndexArray, Int16Array, Int32Array, Int64Array
from qrnn.model.quant_model import QuantModel

PLAIN_TIMES = 10
"""How many times as long plain loops take as fused steps, about."""

SequenceData = tuple[Int16Array, IndexArray, Int16Array, Int32Array, Int16Array]
"""x, lengths, h, c, y."""


class RecurrentRun(LayerRun):
    """See the module. ``fused`` has the directions, by number, whose steps are fused.

    A cell that the CPU has no kernel for is run by the layer's own definition: ``direction_loop(number)`` gives a `StepLoop` with the states h
    and c, of which every step writes one row, and whose first scratch array holds the arguments of the gates.
    """

    def __init__(self, layer: QuantRecurrent, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer
        self.fused: dict[int, FusedVariants] = {}
        self._packed: dict[int, plain.PlainDirection] = {}
        self._defined: dict[int, StepCalls] = {}
        if layer.declaration.form(layer) not in CODES:
            self._defined = {k: self._own_loop(k) for k in range(len(layer.directions))}
            return
        size = sum(m.matrix.weight.size for m in model.matrices)
        for number, d in enumerate(layer.directions):
            self._packed[number] = plain.pack_direction(layer, d)
            if tasks.isa is not None and can_fuse(d):
                self.fused[number] = FusedVariants(tasks.isa, layer, d, size, tasks.code, tasks.tuning)

    @property
    def plain_directions(self) -> tuple[str, ...]:
        """The directions, ``layer[number]``, whose steps are not fused."""
        layer = self._layer
        return tuple(f"{layer.name}[{k}]" for k in range(len(layer.directions)) if k not in self.fused)

    @property
    def step_macs(self) -> int:
        """Return the multiply-adds of a time step, over all directions."""
        return sum(_macs(d) for d in self._layer.directions)

    @property
    def most_macs(self) -> int:
        """Return the multiply-adds of a time step of the largest direction."""
        return max(_macs(d) for d in self._layer.directions)

    # --- streams ----------------------------------------------------------------------------------------------------------------------

    def share_tensors(self, tensors: dict[str, Any]) -> None:
        """Let h_n be the array of y, and c_n one of int32; see `LayerRun.share_tensors`."""
        layer = self._layer
        tensors[layer.h_n] = tensors[layer.output]
        if layer.c_n is not None:
            wide = layer.states()[1].shape[1]
            tensors[layer.c_n] = np.zeros((len(tensors[layer.output]), wide), np.int32)

    def stream_calls(self, walk: StreamCalls) -> list[Call]:
        """Return the calls of one step of streams; see `LayerRun.stream_calls`."""
        layer, flow = self._layer, walk.flow_of(self._layer.input)
        states = walk.streams.layers[layer.name]
        h, c = states[0][:, 0], states[1][:, 0]
        x, y = walk.tensors[layer.input], walk.tensors[layer.output]
        calls = [*self._begin_calls(walk, flow.control, flow.rows, states), *self.step_calls(flow, x, h, c, y, walk)]
        if layer.c_n in walk.read_out:
            calls.append(self.tasks.call("copying", "gather", flow.control, flow.rows, c, walk.tensors[layer.c_n]))
        return calls

    def _begin_calls(self, walk: LayerCalls, place: Int64Array, rows: Int64Array, states: LayerState) -> list[Call]:
        """Return the calls that put computed initial states in the place of the states, for the sequences that have not begun."""
        if not self._layer.is_started:
            return []
        begun, calls = states[2], []
        for parts, state in ((self._layer.h_start, states[0]), (self._layer.c_start, states[1])):
            whole = state.reshape(len(state), -1)
            for part in parts:
                shifts = part.left_shift, part.right_shift, *limits(state.dtype)
                places = as_int64(part.indices), as_int64(part.positions)
                read = walk.tensors[part.tensor]
                calls.append(self.tasks.call("begin", "begin", place, rows, begun, read, *places, *shifts, whole))
        return [*calls, self.tasks.call("begin", "mark", place, rows, begun)]

    def step_calls(
        self, flow: Flow, x: Int16Array, h: Int16Array, c: Int32Array, y: Int16Array, walk: StreamCalls | None = None
    ) -> list[Call]:
        """Return the calls of one step of the one direction for the streams of a flow: x [M, I] gives y [M, P], and h and c change.

        Helper threads take part in it where the ``walk`` allows it.
        """
        own = self._defined.get(0)
        if own is not None:
            return [own.stream_call(flow, flow, (x,), y, (h, c))]
        workers, variants = self._step_team(), self.fused.get(0)
        if walk is None or not walk.teams or workers == 1 or variants is None:
            return [self._step_call(flow.control, flow.rows, x, h, c, y)]
        step = variants.choose(len(flow.rows), 1, 1).shared_step(workers, flow.control, flow.rows, x, h, c, y)
        return [StepCall(flow.control, walk.control, step, self.tasks.tuning)]

    def _step_team(self) -> int:
        """Return how many threads share a step of few streams."""
        macs, tuning = self.step_macs, self.tasks.tuning
        most = min(self.tasks.workers, most_workers(tuning))
        return min(most, max(1, macs // tuning.shared_step_macs), largest_team(macs, tuning.flag_read_macs, most))

    def _step_call(
        self, place: Int64Array, rows: Int64Array, x: Int16Array, h: Int16Array, c: Int32Array, y: Int16Array
    ) -> Call:
        """Return the call of one step of the one direction for streams ``rows``; see `fused.step_streams` and `rows.recurrent.sequences`."""
        layer, M = self._layer, len(rows)
        d, variants = layer.directions[0], self.fused.get(0)
        if variants is not None:
            return variants.choose(M, 1, 1).call(place, rows, x, h, c, y)
        traces = plain.traces_of(d, c, M, 0)
        own = (np.zeros_like(h), np.zeros_like(c))
        return self.tasks.call(
            "recurrent", "sequences", place, rows, *codes_of(layer), *self._packed[0], x[:, None], h, c, y[:, None],
            np.ones(M, np.int64), own, traces, plain.scratch(layer, d, 1, self.tasks.tuning),
        )  # fmt: skip

    # --- whole sequences --------------------------------------------------------------------------------------------------------------

    def sequence_calls(self, walk: SequenceCalls) -> list[Call]:
        """Return the calls of whole sequences; see `LayerRun.sequence_calls`."""
        layer = self._layer
        N, T, P, D = walk.rows.size, walk.steps[layer.input], layer.output_size, len(layer.directions)
        lengths = walk.lengths(layer.input)
        x = walk.tensors[layer.input].reshape(N, T, layer.input_size)
        states = walk.rows.layers[layer.name]
        h, c = states[:2]
        begin = self._begin_calls(walk, walk.place(False), np.arange(N), states)
        walk.tensors[layer.h_n] = h.reshape(N, -1)
        if layer.c_n is not None:
            walk.tensors[layer.c_n] = c.reshape(N, -1)
        out, row = walk.tensors[layer.output], walk.place(False)
        if D == 1:
            data = (x, lengths, h[:, 0], c[:, 0], out.reshape(N, T, P))
            return [*begin, self.sequence_call(walk, 0, row, data)]
        calls: list[Call] = begin
        copying = partial(self.tasks.call, "copying")
        for number in range(D):
            own_h, own_c, y = np.zeros_like(h[:, 0]), np.zeros_like(c[:, 0]), np.zeros((N, T, P), np.int16)
            data = (x, lengths, own_h, own_c, y)
            calls += [copying("take_part", row, number, h, own_h), copying("take_part", row, number, c, own_c)]
            calls.append(self.sequence_call(walk, number, row, data))
            calls += [copying("put_part", row, number, own_h, h), copying("put_part", row, number, own_c, c)]
            parts = out.reshape(N * T, D, P)
            calls.append(copying("put_part", walk.rows_at(T), number, y.reshape(N * T, P), parts))
        return calls

    def sequence_call(self, walk: LayerCalls, number: int, place: Int64Array, data: SequenceData) -> Call:
        """Return the call of one direction over sequences, as `_direction`; by a thread team only where the walk allows it.

        They are rows place[FIRST] … place[LAST] - 1 of the arrays.
        """
        d, (N, T, _), variants = self._layer.directions[number], data[0].shape, self.fused.get(number)
        if (own := self._defined.get(number)) is not None:
            x, lengths, h, c, y = data
            return own.sequence_call(place, lengths, (x,), y, (h, c), d.reverse)
        teams = isinstance(walk, SequenceCalls) and walk.teams
        workers = self._team_size(d, N, T, variants is not None) if teams else 1
        if variants is None:
            return self.plain_call(number, place, data, workers)
        fused = variants.choose(N, T, workers)
        if workers == 1:
            return fused.whole_call(place, *data)
        return fused.shared_call(place, data, workers, T * _macs(d))

    def plain_call(self, number: int, place: Int64Array, data: SequenceData, workers: int, traces: Any = None) -> Call:
        """Return the call of one direction by the plain loops.

        ``traces`` are those of `plain.traces_of`, which have no steps where none are given.
        """
        layer, d, tuning = self._layer, self._layer.directions[number], self.tasks.tuning
        if traces is None:
            traces = plain.traces_of(d, data[3], len(data[0]), 0)
        own = plain.scratch(layer, d, workers, tuning)
        fixed = (*codes_of(layer), d.reverse, *self._packed[number], *data, traces, own)
        whole = partial(self.tasks.call, "recurrent", "whole_sequences")
        if workers == 1:
            return whole(place, (0, 1), *fixed)
        one = np.array([0, 1, 0])
        calls = [whole(one, (me, workers), *fixed) for me in range(workers)]
        as_fused = PLAIN_TIMES * data[0].shape[1] * _macs(d)
        return TeamCall(calls, whole(one, (0, 1), *fixed), own.flags, Spins.of(tuning, as_fused))

    # --- padded batches ---------------------------------------------------------------------------------------------------------------

    def recurrent(
        self, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        """Run the layer over a padded batch; see `Engine.recurrent`."""
        P, D = self._layer.output_size, len(self._layer.directions)
        x = np.ascontiguousarray(x)
        if D == 1:  # There is nothing to be put together.
            h, c = state[0][:, 0].copy(), state[1][:, 0].copy()
            return self._direction(0, x, h, c, lengths, trace), (h[:, None], c[:, None])
        y = np.empty((*x.shape[:2], D * P), np.int16)
        h_n, c_n = np.empty_like(state[0]), np.empty_like(state[1])
        for number in range(D):
            h, c = state[0][:, number].copy(), state[1][:, number].copy()
            y[:, :, number * P : (number + 1) * P] = self._direction(number, x, h, c, lengths, trace)
            h_n[:, number], c_n[:, number] = h, c
        return y, (h_n, c_n)

    def _direction(
        self, number: int, x: Int16Array, h: Int16Array, c: Int32Array, lengths: IndexArray, trace: Trace | None
    ) -> Int16Array:
        """Return one direction's Y [N, T, P]; h [N, P] and c [N, H or 0] are replaced by the final state.

        Fused steps are used where the instruction set and the cell allow it. Those that write traces too are code of their own, which is
        compiled for long runs alone.
        """
        layer, tasks = self._layer, self.tasks
        if number in self._defined:
            return self._defined_direction(number, x, h, c, lengths, trace)
        (N, T, _), d = x.shape, layer.directions[number]
        variants, traced = self.fused.get(number), trace is not None
        if traced and N * T * _macs(d) < tasks.tuning.traced_macs:
            variants = None
        traces = plain.traces_of(d, c, N, T if traced else 0)
        # Fused steps write everything but padding.
        y = (np.zeros if variants is None or shortest(lengths) < T else np.empty)((N, T, layer.output_size), np.int16)
        data = (x, np.ascontiguousarray(lengths), h, c, y)
        workers = 1 if traced and variants is not None else self._team_size(d, N, T, variants is not None)
        if traced and variants is not None:
            fused = variants.choose(max(N, GROUP_LEAST), T, 1).traced
            run = partial(fused.run_traced, *data, *traces)
            tasks.spread(run, N, tasks.parts(N, T * _macs(d), tasks.tuning.fused_task_macs, VECTORS))
        elif workers > 1 and variants is not None:
            variants.choose(N, T, workers).run_shared(data, workers, T * _macs(d))
        elif workers > 1 and T * _macs(d) >= tasks.tuning.team_call_macs:
            control = np.zeros(3, np.int64)
            calls = CallList((self.plain_call(number, control, data, workers, traces),), control, tasks.code)
            calls.wake()
            calls.run(0, 1)
        elif variants is not None:
            macs, least = T * _macs(d), tasks.tuning.share_macs
            parts = tasks.parts(N, macs, least, VECTORS)
            tasks.in_parts(data, variants.choose(N, T, 1).reused(-(-N // parts)), parts, N * macs)
        else:

            def once(first: int, last: int) -> None:
                control = np.zeros(3, np.int64)
                call = self.plain_call(number, control, data, 1, traces)
                CallList((call,), control, tasks.code).run(first, last)

            tasks.spread(once, N, tasks.parts(N, T * _macs(d), tasks.tuning.task_macs))
        if trace is not None:
            key = f"{layer.name}[{number}]"
            trace.arrays.update({f"{key}.pre": traces[0], f"{key}.h": y, f"{key}.c": traces[1]})
        return y

    def _defined_direction(
        self, number: int, x: Int16Array, h: Int16Array, c: Int32Array, lengths: IndexArray, trace: Trace | None
    ) -> Int16Array:
        """Do as `_direction` by the layer's own ``direction_loop``, for a cell that the CPU has no kernel for."""
        layer, steps = self._layer, self._defined[number]
        y = np.zeros((*x.shape[:2], layer.output_size), np.int16)
        reverse = layer.directions[number].reverse
        if trace is None:
            steps.run((x,), (h, c), lengths, y, reverse)
            return y
        N, T, _ = x.shape
        # The first scratch array of a direction's loop holds the arguments of the gates.
        scratch = steps.scratch(N)
        pre, cells = np.zeros((N, T, scratch[0].shape[1]), np.int16), np.zeros((N, T, c.shape[1]), np.int32)
        for i in range(T):  # Each turn takes one step of all sequences.
            here = np.flatnonzero(i < lengths)
            at = here, (lengths[here] - 1 - i if reverse else np.full(len(here), i))
            one, row = np.zeros((N, 1, x.shape[2]), np.int16), np.zeros((N, 1, y.shape[2]), np.int16)
            one[here, 0] = x[at]
            steps.run((one,), (h, c), (i < lengths).astype(np.int64), row, scratch=scratch)
            y[at], pre[at], cells[at] = row[here, 0], scratch[0][here], c[here]
        key = f"{layer.name}[{number}]"
        trace.arrays.update({f"{key}.pre": pre, f"{key}.h": y, f"{key}.c": cells})
        return y

    def _own_loop(self, number: int) -> StepCalls:
        layer: Any = self._layer
        if not hasattr(layer, "direction_loop"):
            raise AssertionError(f"layer {layer.name}: cell {layer.cell!r} has neither a kernel nor a loop of its own")
        cells = layer.hidden_size if layer.c_n is not None else 0
        states = (
            StateArray("h", (layer.output_size,), np.int16, STATE_MAX),
            StateArray("c", (cells,), np.int32, CELL_MAX),
        )
        return StepCalls(layer.direction_loop(number), states, (layer.name, number), self.tasks)

    def _team_size(self, d: QuantDirection, sequences: int, steps: int, fused: bool) -> int:
        """Return how many threads share a sequence alone, of so many steps. A projection reads all of h, so teams do not share it."""
        macs, tuning = _macs(d), self.tasks.tuning
        most = min(self.tasks.workers, most_workers(tuning))
        if most == 1 or sequences > 1 or d.projection is not None or steps * macs < tuning.team_run_macs:
            return 1
        if not fused:
            return min(most, max(1, macs // tuning.team_step_macs))
        return min(most, max(1, macs // tuning.fused_team_step_macs), largest_team(macs, tuning.flag_read_macs, most))

    # --- what is compiled ahead -------------------------------------------------------------------------------------------------------

    def ahead(self, runs: bool, stepped: bool) -> Iterator[Call]:
        """Yield calls of every form that the weights are read in, alone and by a team."""
        yield from (steps.ahead() for steps in self._defined.values())
        place, data, teams = np.zeros(3, np.int64), self._one_step(), most_workers(self.tasks.tuning) > 1
        for number in self._packed:
            d, variants = self._layer.directions[number], self.fused.get(number)
            if variants is None:
                if runs and d.projection is None and teams:
                    yield self.plain_call(number, place, data, 2)
                continue
            for fused in variants.every():
                if runs:
                    yield fused.whole_call(place, *data)
                    if teams and d.projection is None:
                        yield fused.shared_call(place, data, 2, 0)
                if stepped:
                    step = (place, place, data[0][:, 0], data[2], data[3], data[4][:, 0])
                    yield fused.call(*step)
                    if teams and _macs(d) >= 2 * self.tasks.tuning.shared_step_macs:
                        yield StepCall(place, place, fused.shared_step(2, *step), self.tasks.tuning)

    def _one_step(self) -> SequenceData:
        """Make x, lengths, h, c and y of one sequence of one step."""
        layer = self._layer
        return (
            np.zeros((1, 1, layer.input_size), np.int16),
            np.ones(1, np.int64),
            np.zeros((1, layer.output_size), np.int16),
            np.zeros((1, layer.cell_size), np.int32),
            np.zeros((1, 1, layer.output_size), np.int16),
        )


def _macs(d: QuantDirection) -> int:
    """Return the multiply-adds of a step of a direction."""
    return d.ih.weight.size + (0 if d.hh is None else d.hh.weight.size)


def largest_team(macs: int, flag_read_macs: int, most: int) -> int:
    """Return the number of workers beyond which one more costs a fused step more at the barrier than it takes off the rest, at most ``most``.

    With m workers a step of ``macs`` multiply-adds takes macs / m and, since each reads the flags of all, m times what such a read takes. The
    sum is least at the square root of their quotient.
    """
    return most if flag_read_macs == 0 else max(2, isqrt(macs // flag_read_macs))


RUN = RecurrentRun
