"""Weights, row parameters and gate functions of a direction as the fused steps read them; packed once, when an engine is made."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qrnn.backends.cpu import blocks, steps
from qrnn.backends.cpu import matrix as matrix_products
from qrnn.backends.cpu.block_lists import LISTED, layout_of
from qrnn.backends.cpu.blocks import phases_of
from qrnn.backends.cpu.calls import Call, ReusedCalls
from qrnn.backends.cpu.functions import GATE_FIELDS, TABLE_AT, lookup_of, pack_function, variant_of
from qrnn.backends.cpu.isa import Isa
from qrnn.backends.cpu.matrix import AHEAD, GROUP_LEAST, ROWS_AHEAD
from qrnn.backends.cpu.native import DEFAULT, Code
from qrnn.backends.cpu.pages import CACHE_LINE, aligned
from qrnn.backends.cpu.table import Lookup
from qrnn.backends.cpu.tasks import Reused
from qrnn.backends.cpu.threads.team import Spins, StepParts, TeamCall, barrier_flags
from qrnn.backends.cpu.tuning import Tuning
from qrnn.backends.cpu.wanted import Kernel
from qrnn.model.cell_formats import pack_formats
from qrnn.model.kinds.recurrent.quantized import QuantDirection, QuantPeephole, QuantRecurrentDefinition
from qrnn.model.parts import Int8Array, Int64Array, Matrix, Operand


class OperandCoding(NamedTuple):
    """How operands are encoded: ``wide`` ones are int16; the bytes of others have ``offsets`` added, of high (or the only) and of low bytes."""

    wide: bool
    offsets: tuple[int, int]


class PackedMatrix(NamedTuple):
    """A matrix as fused steps read it: weights in the order of their layout, and ``params`` [blocks, row parameters, gates, units] int32.

    ``groups`` counts the groups of columns that are multiplied. ``byte_parts`` is that of the operands that it is multiplied with; see
    `byte_parts_of`.
    """

    weights: npt.NDArray[Any]
    params: npt.NDArray[Any]
    groups: int
    byte_parts: int


class TeamScratch(NamedTuple):
    """Scratch of the thread team that shares a sequence in `fused.run`; H is padded to whole blocks."""

    operands: npt.NDArray[Any]
    """Encoded operands of h, [2, bytes]: those of this step and of the next, in turn."""
    reset: npt.NDArray[Any]
    """Encoded operands of r·h, [bytes]."""
    z: npt.NDArray[Any]
    """Values of the update gate, [H] int32."""
    h: npt.NDArray[Any]
    """[H] int16."""
    c: npt.NDArray[Any]
    """[H] int32, where ``c_places`` says."""
    input_products: npt.NDArray[Any]
    """The inputs' part of `AHEAD` steps of each worker, once or twice, [workers, AHEAD · (1 or 2), gates · H] int32."""
    input_operands: npt.NDArray[Any]
    """The encoded operands of x of each worker, [workers, AHEAD, bytes]."""
    tails: npt.NDArray[Any]
    """Room for the last columns of x of each worker, [workers, units] int16."""
    sums: npt.NDArray[Any]
    """The accumulators of `VECTORS` vectors of each worker, [workers, VECTORS · gates · units] int32."""
    c_places: Int64Array
    """Where c of each unit lies in ``c``, [H]: in the order of the half blocks' rows."""
    tile_config: npt.NDArray[Any]
    """The shapes of AMX's tiles, [64] uint8."""
    flags: Int64Array
    """`barrier_flags`."""


class GroupScratch(NamedTuple):
    """Scratch of a group of up to `VECTORS` sequences in `fused.run_group` and `fused.step_streams`; the fields are those of `TeamScratch`.

    Every sequence of the group has ``operands``, ``reset``, ``z``, ``h`` and ``c`` of its own. ``input_products`` and ``input_operands`` have
    `ROWS_AHEAD` rows, of steps times sequences.
    """

    operands: npt.NDArray[Any]
    reset: npt.NDArray[Any]
    z: npt.NDArray[Any]
    h: npt.NDArray[Any]
    c: npt.NDArray[Any]
    input_products: npt.NDArray[Any]
    input_operands: npt.NDArray[Any]
    tails: npt.NDArray[Any]
    sums: npt.NDArray[Any]
    c_places: Int64Array
    tile_config: npt.NDArray[Any]
    order: Int64Array
    """The sequences of the group by falling length, [VECTORS]."""


def byte_parts_of(isa: Isa, operand: Operand) -> int:
    """Return how many parts operands are stored in.

    These are two where an 8-bit dot product reads 16-bit operands: all high bytes, then all low bytes.
    """
    return 2 if isa.operand_bits == 8 and operand.limit > 127 else 1


def whole_blocks(isa: Isa, groups: int) -> int:
    """Return the groups of columns between two parts of operands, of which so many are multiplied; see `steps.Step.part_bytes`."""
    return -(-groups * isa.group // isa.units) * isa.units // isa.group


def encoded_bytes(isa: Isa, columns: int, byte_parts: int, bits: int = 8) -> int:
    """Return the bytes of one encoded operand vector, for weights of ``bits``.

    An operand of one part has whole rows of AMX's tiles, the last of which is filled up with zeros.
    """
    size = whole_blocks(isa, layout_of(isa, bits).groups(columns)) * isa.operand_size
    return size * byte_parts if byte_parts > 1 else -(-size // CACHE_LINE) * CACHE_LINE


def pack_matrix(
    isa: Isa,
    matrix: Matrix,
    pre_shift: Int8Array,
    phases: tuple[int, ...],
    operand: Operand,
    bits: int = 8,
    peephole: QuantPeephole | None = None,
) -> PackedMatrix:
    """Pack a matrix in blocks of units, its weights of ``bits`` as `qrnn.backends.cpu.weight_layouts` lays them out.

    ``phases`` says how many gates each phase has. What the operands' offset adds to every sum is taken off the bias, modulo 2^32.
    Behind the weights lie as many bytes as a tile may read too much.
    """
    G = sum(phases)
    rows, K = matrix.weight.shape
    H, units, lay = rows // G, isa.units, layout_of(isa, bits)
    blocks_count, groups, byte_parts = -(-H // units), lay.groups(K), byte_parts_of(isa, operand)
    weights = lay.pack(matrix, phases)
    packed = aligned((weights.size + matrix_products.TILE_BYTES * max(phases),), np.int8)[: weights.size]
    packed[:] = weights
    sums = matrix.weight.astype(np.int64).sum(axis=1)
    bias = matrix.bias.astype(np.int64) - sums * isa.encoded_offset(byte_parts)
    wrapped = (bias & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    values = {
        steps.BIAS: wrapped,
        steps.MULTIPLIER: matrix.multiplier,
        steps.LEFT_SHIFT: matrix.left_shift,
        steps.PRE_SHIFT: pre_shift,
    }
    if peephole is not None:
        values |= {steps.PEEPHOLE: peephole.weight, steps.PEEPHOLE_SHIFT: peephole.shift}
    row_params = steps.KernelVariant(peephole=peephole is not None).row_params
    params = aligned((blocks_count, row_params, G, units), np.int32)
    for which, value in values.items():
        padded = np.zeros((G, blocks_count * units), np.int32)
        padded[:, :H] = value.reshape(G, H)
        params[:, which] = padded[:, isa.unit_places(blocks_count)].reshape(G, blocks_count, units).transpose(1, 0, 2)
    if isa.half_tail:
        assert not params[:, steps.PRE_SHIFT].any()
        params[-1, steps.PRE_SHIFT] = steps.HALF_TAIL
    params[:, steps.ODD_MULTIPLIER, :, ::2] = params[:, steps.MULTIPLIER, :, 1::2]
    return PackedMatrix(packed, params, groups, byte_parts)


def can_fuse(d: QuantDirection) -> bool:
    """Return whether fused steps have what this direction needs.

    They have all but a projection, which is left to `qrnn.backends.cpu.kernels`.
    """
    return d.projection is None


def spans_of(layer: QuantRecurrentDefinition, d: QuantDirection) -> str:
    """Return `steps.KernelVariant.spans` of a direction; it is empty where neither `UNIT` nor `SIGNED` fits some function.

    Where both fit, a gate has `UNIT` and another function `SIGNED`.
    """
    found = ""
    for role, function in zip(layer.roles, d.gates, strict=True):
        spans = {"u": steps.UNIT, "s": steps.SIGNED}
        inside = [s for s, (low, high) in spans.items() if low <= function.bounds[0] and function.bounds[1] <= high]
        if not inside:
            return ""
        found += inside[0 if role in "iforz" else -1]
    return found


def function_variants_of(d: QuantDirection) -> tuple[int, ...]:
    """Return what the steps of a simple direction are compiled for: the variants of its functions."""
    return tuple(variant_of(function) for function in d.gates)


def is_simple(layer: QuantRecurrentDefinition, d: QuantDirection) -> bool:
    """Return whether a direction is as most are.

    The values of each gate function are in [0, 32768] or within ±32767, there is no pre_shift, and the cell is two bits or more finer than its
    function's argument. The steps of such a direction are compiled without what it does not need, and in 16-bit lanes where the instruction set
    has them and the tables fit them.
    """
    finer = not layer.has_cell_state or layer.shifts(d).argument > 1
    return finer and spans_of(layer, d) != "" and not d.pre_shift.any()


def kernel_variants_of(
    isa: Isa, layer: QuantRecurrentDefinition, d: QuantDirection, bits: tuple[int, int]
) -> tuple[steps.KernelVariant, steps.KernelVariant]:
    """Return the variants for the products of the inputs and for the steps.

    They are those of a direction whose matrices are packed in so many bits.
    """
    simple, spans, shifts = is_simple(layer, d), spans_of(layer, d), layer.shifts(d)
    lookup = lookup_of(d.gates, simple and isa.int16_lanes)
    gates = {role: f for role, f in zip(layer.roles, d.gates, strict=True) if role in "iforz"}
    q15 = all(f.out_frac == steps.Q15 for f in gates.values())
    ih, hh = (bool(m.left_shift.any()) for m in (d.ih, d.matrix_hh))
    lists = LISTED in bits  # Tiles of lists have the rows of a block in one order.
    tail = lookup.has_int16_lanes and not lists and isa.with_int16_lanes().leaves_half(layer.hidden_size)
    small = d.ih.weight.size + d.matrix_hh.weight.size <= isa.gate_by_gate
    # A half tail has another order of units, and empty products to leave out.
    by_gates = small and bits == (8, 8) and not tail
    if not simple:  # Other directions have few variants: for usual functions, and for any.
        usual = q15 and spans == "".join("u" if role in gates else "s" for role in layer.roles)
        narrow = usual and layer.declaration.state_gate is None and (not layer.has_cell_state or shifts.argument > 0)
        own = (lookup, spans if narrow else "", narrow)
        return (
            steps.KernelVariant(lookup=lookup, bits=bits[0]),
            steps.KernelVariant(False, (), True, bits[1], *own, peephole=d.peephole is not None, by_gates=by_gates),
        )
    rescaled = shifts.hidden != steps.Q15 if layer.has_cell_state else shifts.candidate != 0
    return (
        steps.KernelVariant(True, (), ih, bits[0], lookup, half_tail=tail),
        steps.KernelVariant(
            True,
            function_variants_of(d),
            hh,
            bits[1],
            lookup,
            spans,
            q15,
            rescaled,
            d.peephole is not None,
            half_tail=tail,
            by_gates=by_gates,
        ),
    )


@dataclass(frozen=True)
class FusedDirection:
    """A direction ready for `qrnn.backends.cpu.fused.run`."""

    coding: OperandCoding
    ih: PackedMatrix
    hh: PackedMatrix
    functions: Int64Array
    formats: Int64Array
    tables: tuple[npt.NDArray[Any], ...]
    """Kept alive: ``functions`` holds their addresses."""


def pack_direction(
    isa: Isa,
    layer: QuantRecurrentDefinition,
    d: QuantDirection,
    bits: tuple[int, int] = (8, 8),
    lookup: Lookup = Lookup.PAIRS,
) -> FusedDirection:
    """Pack everything of one direction, with the weights of ih and hh in so many bits.

    ``isa`` is the instruction set with blocks for the lanes of ``lookup``.
    """
    phases = [blocks.PHASES[name] for name in phases_of(layer)]
    functions = np.zeros((len(d.gates), GATE_FIELDS), np.int64)
    tables = []
    for record, gate in zip(functions, d.gates, strict=True):
        record[:], values = pack_function(gate, lookup)
        table = aligned(values.shape, np.int32)
        table[:] = values
        record[TABLE_AT] = table.ctypes.data
        tables.append(table)
    x, h = layer.x_operand, layer.h_operand
    return FusedDirection(
        OperandCoding(isa.operand_bits == 16, (isa.offset, isa.low_offset)),
        pack_matrix(isa, d.ih, d.pre_shift, (phases[0].gates,), x, bits[0]),
        pack_matrix(isa, d.matrix_hh, d.pre_shift, tuple(phase.count for phase in phases), h, bits[1], d.peephole),
        functions,
        pack_formats(layer, d),
        tuple(tables),
    )


def scratch(
    isa: Isa, layer: QuantRecurrentDefinition, workers: int, tuning: Tuning, bits: tuple[int, int] = (8, 8)
) -> TeamScratch:
    """Make the scratch of one team of `fused.run`."""
    h_bytes, x_bytes, padded = _sizes(isa, layer, bits)
    gates = len(layer.gates)
    return TeamScratch(
        operands=aligned((2, h_bytes), np.uint8),
        reset=aligned((h_bytes,), np.uint8),
        z=aligned((padded,), np.int32),
        h=aligned((padded,), np.int16),
        c=aligned((padded,), np.int32),
        input_products=aligned((workers, AHEAD * (2 if isa.beside else min(workers, 2)), gates * padded), np.int32),
        input_operands=aligned((workers, AHEAD, x_bytes), np.uint8),
        tails=aligned((workers, isa.units), np.int16),
        sums=aligned((workers, matrix_products.VECTORS * gates * isa.units), np.int32),
        c_places=_places(isa, padded),
        tile_config=np.array(matrix_products.tile_config(), np.uint8),
        flags=barrier_flags(workers, tuning),
    )


def group_scratch(isa: Isa, layer: QuantRecurrentDefinition, bits: tuple[int, int] = (8, 8)) -> GroupScratch:
    """Make the scratch of one group of `fused.run_group` or `fused.step_streams`."""
    h_bytes, x_bytes, padded = _sizes(isa, layer, bits)
    n, gates = matrix_products.VECTORS, len(layer.gates)
    return GroupScratch(
        operands=aligned((2, n, h_bytes), np.uint8),
        reset=aligned((n, h_bytes), np.uint8),
        z=aligned((n, padded), np.int32),
        h=aligned((n, padded), np.int16),
        c=aligned((n, padded), np.int32),
        input_products=aligned((ROWS_AHEAD, gates * padded), np.int32),
        input_operands=aligned((ROWS_AHEAD, x_bytes), np.uint8),
        tails=aligned((isa.units,), np.int16),
        sums=aligned((n * gates * isa.units,), np.int32),
        c_places=_places(isa, padded),
        tile_config=np.array(matrix_products.tile_config(), np.uint8),
        order=np.zeros(n, np.int64),
    )


def _sizes(isa: Isa, layer: QuantRecurrentDefinition, bits: tuple[int, int]) -> tuple[int, int, int]:
    """Return the bytes of the encoded operands of h and of x, and H padded to blocks.

    The weights of ih and hh have these ``bits``.
    """
    h_parts, x_parts = byte_parts_of(isa, layer.h_operand), byte_parts_of(isa, layer.x_operand)
    h_bytes = encoded_bytes(isa, layer.hidden_size, h_parts, bits[1])
    x_bytes = encoded_bytes(isa, layer.input_size, x_parts, bits[0])
    return h_bytes, x_bytes, -(-layer.hidden_size // isa.units) * isa.units


def _places(isa: Isa, padded: int) -> Int64Array:
    """Return where c of each unit is kept: in the order of the half blocks' rows."""
    return np.argsort(isa.unit_places(padded // isa.units)).astype(np.int64)


class FusedRun:
    """One direction, packed: calls of `fused.run`, `fused.run_group` and `fused.step_streams` with everything but the sequences filled in.

    The weights of ih and hh are packed in ``bits``, which are 4 for a `QuantMatrix4` alone.
    """

    def __init__(
        self,
        isa: Isa,
        layer: QuantRecurrentDefinition,
        d: QuantDirection,
        bits: tuple[int, int] = (8, 8),
        code: Code = DEFAULT,
        tuning: Tuning | None = None,
    ) -> None:
        self.direction, self._code, self._compiled_for = d, code, isa
        self._tuning = tuning or Tuning()
        ih, hh = kernel_variants_of(isa, layer, d, bits)
        self.isa, self.layer, self.bits = hh.instructions(isa), layer, bits
        p = pack_direction(self.isa, layer, d, bits, hh.lookup)
        self._parts = (p.coding, p.ih, p.hh, p.functions, p.formats)
        self._tables = p.tables
        self._key = (isa.name, phases_of(layer), ih, hh)
        self._reused = ReusedCalls(code)

    @cached_property
    def traced(self) -> FusedRun:
        """The same run, which writes what happens inside; see `run_traced`."""
        other = copy(self)
        isa_name, phases, ih, hh = self._key
        other._key = isa_name, phases, ih, replace(hh, traced=True)
        other._reused = ReusedCalls(self._code)
        return other

    def _call(self, template: str, *values: Any) -> Call:
        isa_name, phases, ih, hh = self._key
        hh = replace(hh, by_gates=False) if template == "run" else hh  # `run` has one sequence at a time.
        kernel = Kernel("qrnn.backends.cpu.fused", "compiled", (template, isa_name, phases, ih, hh))
        return Call(kernel, *values, isa=self._compiled_for)

    def reused(self, most: int) -> Reused:
        """Return the kind of call for padded batches, (x, lengths, h, c, y), of which a thread gets ``most`` sequences or one fewer."""
        template = "run" if most < GROUP_LEAST else "run_group"

        def make(control: Int64Array, data: Sequence[Any]) -> Call:
            return self._whole(control, data, template)

        return Reused((self, template), make, len(self._parts) + DATA_FROM)

    def run_traced(self, *data: Any) -> None:
        """Run a `traced` one at once. ``data`` are x, lengths, h, c, y, pre and cells of `fused.run_group`, and the first and last sequence."""
        *arrays, n0, n1 = data
        self._again(("run_group",), arrays, n0, n1, self._whole)

    def run_shared(self, data: Sequence[Any], threads: int, macs: int) -> None:
        """Run `shared_call` at once."""
        self._again((threads, macs), data, 0, 1, self.shared_call)

    def _again(self, kind: tuple[Any, ...], data: Sequence[Any], n0: int, n1: int, make: Any) -> None:
        self._reused.run(kind, lambda *a: make(*a, *kind), data, len(self._parts) + DATA_FROM, n0, n1)

    def _place(self, me: int, threads: int) -> tuple[int, ...]:
        return me, threads, self._tuning.beside_bytes, self._tuning.ahead_bytes

    def _whole(self, control: Any, data: Sequence[Any], template: str) -> Call:
        own: GroupScratch | TeamScratch = (
            group_scratch(self.isa, self.layer, self.bits)
            if template == "run_group"
            else scratch(self.isa, self.layer, 1, self._tuning, self.bits)
        )
        return self._call(
            template, control, self._place(0, 1), self.direction.reverse, *self._parts, *_with_traces(data), own
        )

    def whole_call(self, control: Any, x: Any, lengths: Any, h: Any, c: Any, y: Any) -> Call:
        """Return the call of `fused.run` or `fused.run_group` of sequences control[FIRST] … control[LAST] - 1.

        One thread makes it, with a scratch of its own.
        """
        template = "run" if len(lengths) < GROUP_LEAST else "run_group"
        return self._whole(control, (x, lengths, h, c, y), template)

    def shared_call(self, _control: Any, data: Sequence[Any], threads: int, macs: int) -> TeamCall:
        """Return the call of `fused.run` of one sequence by a team of so many workers.

        ``data`` is (x, lengths, h, c, y), and ``macs`` counts the multiply-adds.
        """
        own = scratch(self.isa, self.layer, threads, self._tuning, self.bits)
        fixed = (self.direction.reverse, *self._parts, *_with_traces(data), own)
        one = np.array([0, 1, 0])
        workers = [self._call("run", one, self._place(me, threads), *fixed) for me in range(threads)]
        alone = self._call("run", one, self._place(0, 1), *fixed)
        return TeamCall(workers, alone, own.flags, Spins.of(self._tuning, macs))

    def call(self, place: Any, rows: Any, x: Any, h: Any, c: Any, y: Any) -> Call:
        """Return the call of `fused.step_streams` with these arguments and a scratch of its own."""
        own = group_scratch(self.isa, self.layer, self.bits)
        return self._call("step_streams", *self._parts, own, place, rows, x, h, c, y)

    def shared_step(self, workers: int, *data: Any) -> StepParts:
        """Return the step of a team of so many workers. ``data`` are the arguments of `call`."""
        own = group_scratch(self.isa, self.layer, self.bits)
        sums = aligned((workers, own.sums.size), np.int32)

        def part(number: int, me: int, threads: int) -> Call:
            return self._call("step_part", *self._parts, own, sums, number, (me, threads), *data)

        phases = range(FIRST_PHASE, FIRST_PHASE + len(self._key[1]))
        parts = [[part(number, me, workers) for me in range(workers)] for number in phases]
        return StepParts(part(ENCODE, 0, 1), parts, self.call(*data), GROUP_LEAST - 1)


def _with_traces(data: Sequence[Any]) -> Sequence[Any]:
    """Return the arrays of a run with the traces that it writes. They are empty where nobody gave them."""
    return data if len(data) == 7 else (*data, np.zeros((0, 0, 0), np.int16), np.zeros((0, 0, 0), np.int32))


ENCODE, FIRST_PHASE = 0, 1
"""Parts of a step; see `qrnn.backends.cpu.step_parts`, which imports the compiler."""

DATA_FROM = 3
"""Arguments of `fused.run` before the parts of `FusedRun`: control, place and reverse."""
