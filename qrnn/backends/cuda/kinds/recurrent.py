"""A recurrent layer computes W·x of all steps of a direction, then takes the steps by the kernel that the plan names.

A cell that has no kernel runs by its own definition, `QuantRecurrent.direction_loop`, compiled (`qrnn.backends.cuda.loops`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from qrnn.arithmetic.gates import PARAMS
from qrnn.backends.base import Trace
from qrnn.backends.cuda import elements, work
from qrnn.backends.cuda.choice import Choice, choose_plan
from qrnn.backends.cuda.device_layer import DeviceLayer, Run, Setting, State, StateLimit
from qrnn.backends.cuda.filled import copied, repeated, zeros
from qrnn.backends.cuda.fragments import B_WORDS, TILE_COLUMNS, depth_tiles, gate_order, pack_weights
from qrnn.backends.cuda.general import run_general
from qrnn.backends.cuda.input_product import multiply_inputs
from qrnn.backends.cuda.inputs import pack_operands
from qrnn.backends.cuda.kernel_variants import CELL_NAMES, GRID, LAUNCH, ProductKind
from qrnn.backends.cuda.launch import THREADS, configured, for_each, most_blocks_that_meet, sized
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.loops import StepCode
from qrnn.backends.cuda.plan import Layout, StepPlan
from qrnn.backends.cuda.proofs import note_launch
from qrnn.backends.cuda.steps import step_kernel
from qrnn.backends.cuda.tuning import Tuning
from qrnn.backends.cuda.weights import MOST_COLUMNS, ProductWeights, planes_of, row_parameters, upload
from qrnn.backends.cuda.work import device_array
from qrnn.model.cell_codes import CODES, COUPLED, FORGETS, FUNCTION, IDENTITY, NONE, ONE, OWN_GATE, SOFTMAX, codes_of
from qrnn.model.cell_formats import pack_formats
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.quantized import QuantDirection
from qrnn.model.kinds.recurrent.start import limits
from qrnn.model.parts import STATE_MAX, Int32Array, TensorFormat, pack_gates

LAYER_FIELDS = frozenset(
    ("name", "input", "output", "h_n", "c_n", "cell", "directions", "h_frac", "c_frac", "x_operand", "h_operand")
) | {"linear_before_reset", "forget", "memory", "h_start", "c_start"}
DIRECTION_FIELDS = frozenset(("reverse", "ih", "hh", "pre_shift", "gates", "h_0", "c_0", "peephole", "projection"))
"""The fields of a layer and of a direction that the kernels take account of."""

GENERAL_THREADS = 32 if THREADS < 128 else 256


@dataclass(frozen=True)
class ProjectionWeights:
    """A projection for `general.run_general`; its arrays are empty where there is none."""

    weight: Any
    rows: Any
    params: Any
    tables: Any
    formats: Any


class DirectionWeights:
    """One direction of a recurrent layer, with its weights on the device."""

    def __init__(self, layer: QuantRecurrent, number: int) -> None:
        d = layer.directions[number]
        self.direction, self.reverse = d, d.reverse
        self.cell, self.forget = codes_of(layer)
        self.hidden, self.fed_back, self.size = layer.hidden_size, layer.output_size, len(d.pre_shift)
        self.inputs = ProductWeights(d.ih, d.pre_shift, layer.x_operand)
        self.h_operand, self.planes = layer.h_operand, planes_of(layer.h_operand)
        self.layout = Layout(self.cell, len(layer.gates), layer.hidden_size, self.planes)
        self.not_fused = ""
        """Why no step kernel takes the direction; empty where one does."""
        if d.projection is not None:
            self.not_fused = "the step kernels take no projection"
        elif self.planes == 2 and self.hidden > MOST_COLUMNS:
            self.not_fused = f"the step kernels take at most {MOST_COLUMNS} units with 16-bit operands"
        self.fused = not self.not_fused
        self.rows = upload(row_parameters(d.matrix_hh, d.pre_shift))
        self.params, self.tables = (upload(v) for v in pack_gates(d.gates))
        self.formats = upload(pack_formats(layer, d))
        self.peephole = upload(_peephole(d))
        self._h_frac = layer.h_frac

    @cached_property
    def fragments(self) -> Any:
        """Return R in fragments for `steps`."""
        return upload(pack_weights(self.direction.matrix_hh.weight, gate_order(self.layout.gates, self.hidden)))

    @cached_property
    def columns(self) -> Any:
        """Return R as [P, rows] int8 for `general`."""
        return upload(self.direction.matrix_hh.weight.T)

    @cached_property
    def projection(self) -> ProjectionWeights:
        """Return the projection for `general.run_general`."""
        p = self.direction.projection
        params, tables = np.zeros((1, PARAMS), np.int64), np.zeros((1, 1), np.int32)
        if p is None:
            weight, rows, formats = np.zeros((0, 0), np.int8), np.zeros((4, 0), np.int32), [NONE, 0, 0, 0, 0]
        else:
            kind = IDENTITY
            if p.function is not None:
                kind, (params, tables) = FUNCTION, pack_gates((p.function,))
            elif p.table is not None:
                kind, tables = SOFTMAX, p.table[None]
            weight, rows = p.matrix.weight.T, row_parameters(p.matrix, p.pre_shift)
            formats = [kind, p.operand.shift, p.operand.limit, p.in_frac, p.out_frac - self._h_frac]
        return ProjectionWeights(*(upload(v) for v in (weight, rows, params, tables, np.array(formats, np.int64))))


def _peephole(d: QuantDirection) -> Int32Array:
    if d.peephole is None:
        return np.zeros((2, 0), np.int32)
    return np.stack([d.peephole.weight.astype(np.int32), d.peephole.shift.astype(np.int32)])


Traces = tuple[Any, Any]
"""What a traced run writes of a direction: the arguments of the gates, [N, T, R] int16, and c, [N, T, H or 0] int32."""


def run_direction(
    w: DirectionWeights, plan: StepPlan | None, x: Any, h: Any, c: Any, lengths: Lengths, y: Any, column: int, traces: Traces | None,
    capability: tuple[int, int], tuning: Tuning,
) -> None:  # fmt: skip
    """Run one direction of a layer: x [N, T, I] gives y [N, T, …] from feature ``column`` on; h [N, P] and c [N, H or 0] are replaced.

    The general kernel runs it where there is no ``plan``.
    """
    N, R = lengths.count, w.size
    piece = max(1, min(lengths.longest, tuning.input_bytes // (4 * N * R)))
    run = _general(w, N, traces, tuning) if plan is None else FusedSteps(w, plan, N, tuning)
    kind = ProductKind(w.inputs.planes, False, capability)
    for begin, end in work.pieces(lengths.longest, piece):
        xs = multiply_inputs(w.inputs, x, lengths.device, w.reverse, begin, end - begin, kind, tuning)
        arguments = xs.reshape(end - begin, N, R), h, c, lengths, y, column, begin, end
        try:
            run(*arguments)
        except CannotMeetError:  # nothing has been launched
            run = _general(w, N, traces, tuning)
            run(*arguments)


def _general(w: DirectionWeights, N: int, traces: Traces | None, tuning: Tuning) -> Any:
    H, P, R = w.hidden, w.fed_back, w.size
    row_bytes = 2 * H + 8 * max(P, H) + 4 * max(R, P)
    M = max(1, min(N, tuning.scratch_bytes // row_bytes))  # sequences of one launch
    hidden, operand = device_array((M, H), np.int16), device_array((M, 2, max(P, H)), np.int32)
    sums, nothing = device_array((M, max(R, P)), np.int32), device_array(0, np.int16)
    v = w.projection
    pre, c_trace = traces or (device_array((N, 0, R), np.int16), device_array((N, 0, 0), np.int32))

    def run(xs: Any, h: Any, c: Any, lengths: Lengths, y: Any, column: int, begin: int, end: int) -> None:
        for first in range(0, N, M):
            configured(run_general, min(M, N - first), GENERAL_THREADS)(
                w.cell, w.forget, w.reverse, w.columns, w.rows, w.params, w.tables, w.peephole, w.formats,
                v.weight, v.rows, v.params, v.tables, v.formats, xs, lengths.device, h, c, y, column,
                pre, c_trace, nothing, hidden, operand, sums, first, begin, end,
            )  # fmt: skip

    return run


class CannotMeetError(Exception):
    """Raised where the device does not hold all blocks of a grid at once, and the kernel that takes a launch a step may not run."""


class FusedSteps:
    """The fused steps of a direction, launched as its plan says."""

    def __init__(self, w: DirectionWeights, plan: StepPlan, N: int, tuning: Tuning) -> None:
        self.w, self.plan, self.kind, self.tuning = w, plan, plan.kind, tuning
        depth = depth_tiles(w.hidden)
        self.depth, tile = depth, w.planes * depth * B_WORDS
        self.batch_blocks = -(-N // (TILE_COLUMNS * self.kind.tiles))
        self.half = self.batch_blocks * self.kind.tiles * tile
        self.operands = zeros((2 * self.half,), np.int32)
        self.z = device_array((N, w.hidden if self.kind.barriers_per_step == 2 else 0), np.int32)
        self.nothing = device_array(0, np.int16)

    def __call__(self, xs: Any, h: Any, c: Any, lengths: Lengths, y: Any, column: int, begin: int, end: int) -> None:
        """Take steps begin … end - 1. CannotMeetError is raised before the first launch, which has the most blocks."""
        w, ticks = self.w, self.kind.barriers_per_step
        first, operand = begin * ticks, w.h_operand
        now = self.operands[(first & 1) * self.half : ((first & 1) + 1) * self.half]
        # h as a sequence of one step; the bytes of sequences that do not exist stay zero, since no step of theirs does.
        for_each(
            pack_operands, self.half, h.reshape(h.shape[0], 1, h.shape[1]), lengths.ones, False,
            operand.shift, operand.limit, w.planes, 0, self.depth, now,
        )  # fmt: skip
        for batch_begin in range(0, self.batch_blocks, self.plan.batch_blocks):
            blocks = min(self.plan.batch_blocks, self.batch_blocks - batch_begin)

            def arguments(tick: int, last: int, at: int = batch_begin) -> tuple[Any, ...]:
                return (
                    w.fragments, w.rows, w.params, w.tables, w.peephole, w.formats, xs, lengths.device, h, c,
                    self.operands, self.operands.view(np.int8), self.z, y, column, self.nothing, w.forget, w.reverse,
                    self.depth, at, begin, tick, last,
                )  # fmt: skip

            last = end * ticks
            kernel = self._kernel(arguments(first, last), blocks)
            grid, block = (self.plan.unit_blocks, blocks), (32, self.plan.warps)
            note_launch(self.kind)
            run = configured(kernel, grid, block, self.plan.shared_bytes)
            stride = 1 if self.kind.barrier == LAUNCH else last - first
            for tick in range(first, last, stride):
                run(*arguments(tick, tick + stride))

    def _kernel(self, arguments: tuple[Any, ...], blocks: int) -> Any:
        """Return the plan's kernel; one with a launch a step where the device does not hold all blocks at once."""
        plan = self.plan
        made = sized(step_kernel(self.kind), plan.shared_bytes, arguments)
        wanted = plan.unit_blocks * blocks
        if self.kind.barrier == GRID and wanted > most_blocks_that_meet(made, 32 * plan.warps, plan.shared_bytes):
            launched = replace(self.kind, barrier=LAUNCH)
            if not self.tuning.allows(launched):
                raise CannotMeetError
            self.kind = launched
            made = sized(step_kernel(self.kind), plan.shared_bytes, arguments)
        return made


def has_kernel(layer: QuantRecurrent) -> bool:
    """Return whether the kernels compute all that the layer is: its cell, and every field that is not left out.

    The kernels know nothing of a field that a later version adds, so that a layer which has it runs by its own definition, not by a kernel
    that would overlook it.
    """
    if CODES.get(layer.declaration.form(layer)) not in CELL_NAMES:
        return False
    if FORGETS.get(layer.forget) not in (OWN_GATE, ONE, COUPLED):
        return False
    unknown: list[tuple[Any, Any]] = [(layer, f) for f in fields(layer) if f.name not in LAYER_FIELDS]
    unknown += [(d, f) for d in layer.directions for f in fields(d) if f.name not in DIRECTION_FIELDS]
    return all(getattr(owner, f.name) is f.default for owner, f in unknown)


class DeviceRecurrent(DeviceLayer):
    """A recurrent layer on the device."""

    kind = QuantRecurrent

    def __init__(self, layer: QuantRecurrent, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self.state_limits = {0: StateLimit("h", -STATE_MAX, STATE_MAX)}
        if layer.is_started:
            self.state_limits[2] = StateLimit("begun", 0, 1)
        self._begins = [
            (array, part, upload(part.indices), upload(part.positions))
            for array, parts in enumerate((layer.h_start, layer.c_start))
            for part in parts
        ]
        """The parts of computed initial states, each with the number of the state array that it is of."""
        self._loops: tuple[StepCode, ...] = ()
        """Each direction's definition, compiled, where the cell has no kernel."""
        numbers = range(len(layer.directions))
        if has_kernel(layer):
            self.directions = tuple(DirectionWeights(layer, number) for number in numbers)
        else:
            self._loops = tuple(StepCode(layer.direction_loop(number)) for number in numbers)

    def choices(self, setting: Setting, batch: int) -> dict[int, Choice]:
        """Return what runs each direction with ``batch`` sequences, and why."""
        if self._loops:
            why = f"this form of cell {self.layer.cell!r} runs by its own definition"
            return {number: Choice(None, why) for number in range(len(self._loops))}
        return {number: self._choice(w, setting, batch) for number, w in enumerate(self.directions)}

    def _choice(self, w: DirectionWeights, setting: Setting, batch: int, traced: bool = False) -> Choice:
        if traced:
            return Choice(None, "only it writes traces")
        if not w.fused:
            return Choice(None, w.not_fused)
        return choose_plan(w.layout, batch, setting.device, setting.tuning)

    def run(self, run: Run) -> None:
        """Run all directions, and put Y and the final states into ``run``."""
        layer = self.layer
        x, state, lengths = run.tensors[layer.input], run.states[layer.name], run.lengths[layer.input]
        in_place = run.in_place
        if layer.is_started:
            state, in_place = self._begin(run, state, lengths), True
        y, (h, c) = self.sequences(run, x, state[:2], lengths, in_place)
        run.tensors[layer.output], run.lengths[layer.output] = y, lengths
        run.tensors[layer.h_n] = _of_steps(h, lengths)
        if layer.c_n is not None:
            run.tensors[layer.c_n] = _of_steps(c, lengths)
        run.final[layer.name] = (h, c, *state[2:]) if layer.memory else state

    def _begin(self, run: Run, state: State, lengths: Lengths) -> State:
        """Return the state with computed initial states for the sequences that have not begun, in place where the run is."""
        own = state if run.in_place else tuple(copied(array) for array in state)
        begun = own[2]
        for array, part, indices, positions in self._begins:
            whole = own[array].reshape(own[array].shape[0], own[array].shape[1] * own[array].shape[2])
            shifts = part.left_shift, part.right_shift, *limits(own[array].dtype)
            count = begun.shape[0] * len(part.indices)
            for_each(
                elements.begin,
                count,
                lengths.device,
                begun,
                run.tensors[part.tensor],
                indices,
                positions,
                *shifts,
                whole,
            )
        for_each(elements.mark_begun, begun.shape[0], lengths.device, begun)
        return own

    def sequences(self, run: Run, x: Any, state: State, lengths: Lengths, in_place: bool) -> tuple[Any, State]:
        """Return Y and the final state, with or without memory; see `recurrent`."""
        if self.layer.memory:
            return self.recurrent(run.setting, x, state, lengths, run.trace, in_place)
        return self._forgetful(run.setting, x, state, lengths, run.trace)

    def recurrent(
        self, setting: Setting, x: Any, state: State, lengths: Lengths, trace: Trace | None, in_place: bool = False
    ) -> tuple[Any, State]:
        """Return Y [N, T, D·P] for x [N, T, I], and the final state, which replaces ``state`` with ``in_place``, and else leaves it alone."""
        layer = self.layer
        N, T = x.shape[0], x.shape[1]
        D, P = len(layer.directions), layer.output_size
        C = state[1].shape[2]
        y = zeros((N, T, D * P), np.int16)
        h_n, c_n = state if in_place else (copied(state[0]), copied(state[1]))
        for number in range(D):
            if D == 1:
                h, c = h_n.reshape(N, P), c_n.reshape(N, C)
            else:
                h, c = device_array((N, P), np.int16), device_array((N, C), np.int32)
                for_each(elements.copy_columns, N * P, h_n.reshape(N, D * P), number * P, h, 0, P)
                for_each(elements.copy_columns, N * C, c_n.reshape(N, D * C), number * C, c, 0, C)
            traces = None
            if trace is not None:
                rows = layer.directions[number].pre_shift.shape[0]
                traces = zeros((N, T, rows), np.int16), zeros((N, T, C), np.int32)
            if self._loops:
                reverse, columns = layer.directions[number].reverse, y[:, :, number * P : (number + 1) * P]
                self._loops[number].launch((x,), (h, c), lengths, columns, reverse, by_time=True, traces=traces)
            else:
                w = self.directions[number]
                plan = self._choice(w, setting, N, trace is not None).plan
                run_direction(
                    w, plan, x, h, c, lengths, y, number * P, traces, setting.device.capability, setting.tuning
                )
            if trace is not None and traces is not None:
                key = f"{layer.name}[{number}]"
                trace.arrays[f"{key}.pre"], trace.arrays[f"{key}.c"] = (a.copy_to_host() for a in traces)
            if D > 1:
                for_each(elements.copy_columns, N * P, h, 0, h_n.reshape(N, D * P), number * P, P)
                for_each(elements.copy_columns, N * C, c, 0, c_n.reshape(N, D * C), number * C, C)
        if trace is not None:
            whole = y.copy_to_host()
            for number in range(D):
                trace.arrays[f"{layer.name}[{number}].h"] = whole[:, :, number * P : (number + 1) * P].copy()
        return y, (h_n, c_n)

    def _forgetful(
        self, setting: Setting, x: Any, state: State, lengths: Lengths, trace: Trace | None
    ) -> tuple[Any, State]:
        """Run a layer without memory, where each step is a sequence of its own; see `qrnn.backends.base.Engine._forgetful`."""
        N, T = x.shape[0], x.shape[1]
        if T == 1:
            return self.recurrent(setting, x, state, lengths, trace)
        own = Trace()
        y, after = self.recurrent(
            setting,
            x.reshape(N * T, 1, x.shape[2]),
            (repeated(state[0], T), repeated(state[1], T)),
            lengths.each_step(T),
            None if trace is None else own,
        )
        if trace is not None:
            trace.arrays.update({name: a.reshape(N, T, a.shape[-1]) for name, a in own.arrays.items()})
        last = []
        for values in after:
            D, F = values.shape[1], values.shape[2]
            out, zero = device_array((N, D * F), values.dtype), zeros((D * F,), np.int16)
            for_each(elements.last_step, out.size, lengths.device, zero, values.reshape(N, T, D * F), out)
            last.append(out.reshape(N, D, F))
        return y.reshape(N, T, y.shape[2]), (last[0], last[1])


def _of_steps(state: Any, lengths: Lengths) -> Any:
    """Return a final state [N, D, F] as a graph reads it, [N, D·F]: zero for sequences of no steps."""
    N = state.shape[0]
    given = state.reshape(N, state.size // N)
    if lengths.shortest > 0:
        return given
    out = device_array(given.shape, state.dtype)
    for_each(elements.zero_empty, out.size, lengths.device, given, out)
    return out
