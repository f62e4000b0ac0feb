"""Weights, row parameters and gate functions of a direction as the fused steps read them; packed once, when an engine is made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.cpu import blocks, steps
from qrnn.backends.cpu import matrix as matrix_products
from qrnn.backends.cpu.blocks import phases_of
from qrnn.backends.cpu.calls import Call, ReusedCalls
from qrnn.backends.cpu.functions import GATE_WORDS, TABLE_AT, lookup_of, pack_function, variant_of
from qrnn.backends.cpu.isa import Isa
from qrnn.backends.cpu.matrix import AHEAD, CACHE_LINE, GROUP_LEAST, ROWS_AHEAD
from qrnn.backends.cpu.native import DEFAULT, Code
from qrnn.backends.cpu.panels import layout
from qrnn.backends.cpu.table import Lookup
from qrnn.backends.cpu.threads.team import Spins, TeamCall, barrier_flags
from qrnn.backends.cpu.tuning import Tuning
from qrnn.backends.cpu.wanted import Kernel
from qrnn.model.cell_formats import pack_formats
from qrnn.model.kinds.recurrent.quantized import QuantDirection, QuantPeephole, QuantRecurrentDefinition
from qrnn.model.parts import Int8Array, Int64Array, Matrix, Operand, QuantMatrix4


def aligned(shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """Zeros that begin at a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    found: npt.NDArray[Any] = raw[start : start + size].view(dtype).reshape(shape)
    return found


def planes_of(isa: Isa, operand: Operand) -> int:
    """Planes of operand bytes: two where an 8-bit dot product reads 16-bit operands."""
    return 2 if isa.operand_bits == 8 and operand.limit > 127 else 1


def operand_bytes(isa: Isa, columns: int, planes: int, bits: int = 8) -> int:
    """Bytes of one encoded operand vector, for weights of ``bits``; of one plane, whole rows of AMX's tiles, the last filled up with zeros."""
    size = layout(isa, bits).groups(columns) * isa.operand_size
    return size * planes if planes > 1 else -(-size // CACHE_LINE) * CACHE_LINE


def pack_matrix(
    isa: Isa,
    matrix: Matrix,
    pre_shift: Int8Array,
    phases: tuple[int, ...],
    operand: Operand,
    bits: int = 8,
    peephole: QuantPeephole | None = None,
) -> tuple[Any, ...]:
    """(weights, params, groups, planes): blocks of units, as `qrnn.backends.cpu.panels` lays them out; weights of ``bits``.

    ``phases``: how many gates each phase has. What the operands' offset adds to every sum is taken off the bias, modulo 2^32.
    Behind the weights lie as many bytes as a tile may read too much.
    """
    G = sum(phases)
    rows, K = matrix.weight.shape
    H, units, order, lay = rows // G, isa.units, isa.unit_order(), layout(isa, bits)
    blocks_count, groups, planes = -(-H // units), lay.groups(K), planes_of(isa, operand)
    weights = lay.pack(matrix, phases)
    packed = aligned((weights.size + matrix_products.TILE_BYTES * max(phases),), np.int8)[: weights.size]
    packed[:] = weights
    sums = matrix.weight.astype(np.int64).sum(axis=1)
    bias = matrix.bias.astype(np.int64) - sums * isa.encoded_offset(planes)
    wrapped = (bias & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    values = {
        steps.BIAS: wrapped,
        steps.MULTIPLIER: matrix.multiplier,
        steps.LEFT_SHIFT: matrix.left_shift,
        steps.PRE_SHIFT: pre_shift,
    }
    if peephole is not None:
        values |= {steps.PEEPHOLE: peephole.weight, steps.PEEPHOLE_SHIFT: peephole.shift}
    row_params = steps.Form(peephole=peephole is not None).row_params
    params = aligned((blocks_count, row_params, G, units), np.int32)
    for which, value in values.items():
        padded = np.zeros((G, blocks_count * units), np.int32)
        padded[:, :H] = value.reshape(G, H)
        params[:, which] = padded.reshape(G, blocks_count, units)[:, :, order].transpose(1, 0, 2)
    params[:, steps.ODD_MULTIPLIER, :, ::2] = params[:, steps.MULTIPLIER, :, 1::2]
    return packed, params, groups, planes


def can_fuse(d: QuantDirection) -> bool:
    """Whether fused steps have what this direction needs: all but a projection, which is left to `qrnn.backends.cpu.kernels`."""
    return d.projection is None


def spans_of(layer: QuantRecurrentDefinition, d: QuantDirection) -> str:
    """`steps.Form.spans` of a direction: where both fit, `UNIT` of a gate and `SIGNED` of others; empty where neither fits some function."""
    found = ""
    for role, function in zip(layer.roles, d.gates, strict=True):
        spans = {"u": steps.UNIT, "s": steps.SIGNED}
        inside = [s for s, (low, high) in spans.items() if low <= function.bounds[0] and function.bounds[1] <= high]
        if not inside:
            return ""
        found += inside[0 if role in "iforz" else -1]
    return found


def variants_of(d: QuantDirection) -> tuple[int, ...]:
    """What the steps of a simple direction are compiled for: the variants of its functions."""
    return tuple(variant_of(function) for function in d.gates)


def is_simple(layer: QuantRecurrentDefinition, d: QuantDirection) -> bool:
    """Whether a direction is as most are: the values of each gate function in [0, 32768] or within ±32767, no pre_shift, a cell two bits or
    more finer than its function's argument. Its steps are compiled without what it does not need, and in 16-bit lanes where the instruction
    set has them and the tables fit them."""
    finer = not layer.has_cell_state or layer.shifts(d).argument > 1
    return finer and spans_of(layer, d) != "" and not d.pre_shift.any()


def forms_of(
    isa: Isa, layer: QuantRecurrentDefinition, d: QuantDirection, bits: tuple[int, int]
) -> tuple[steps.Form, steps.Form]:
    """For the products of the inputs and for the steps, of a direction whose matrices are packed in so many bits."""
    simple, spans, shifts = is_simple(layer, d), spans_of(layer, d), layer.shifts(d)
    lookup = lookup_of(d.gates, simple and isa.words)
    gates = {role: f for role, f in zip(layer.roles, d.gates, strict=True) if role in "iforz"}
    q15 = all(f.out_frac == steps.Q15 for f in gates.values())
    ih, hh = (bool(m.left_shift.any()) for m in (d.ih, d.matrix_hh))
    if not simple:  # what is not has few forms: of usual functions, and of any
        usual = q15 and spans == "".join("u" if role in gates else "s" for role in layer.roles)
        narrow = usual and layer.declaration.state_gate is None and (not layer.has_cell_state or shifts.argument > 0)
        own = (lookup, spans if narrow else "", narrow)
        return (
            steps.Form(lookup=lookup, bits=bits[0]),
            steps.Form(False, (), True, bits[1], *own, peephole=d.peephole is not None),
        )
    rescaled = shifts.hidden != steps.Q15 if layer.has_cell_state else shifts.candidate != 0
    return (
        steps.Form(True, (), ih, bits[0], lookup),
        steps.Form(True, variants_of(d), hh, bits[1], lookup, spans, q15, rescaled, d.peephole is not None),
    )


@dataclass(frozen=True)
class FusedDirection:
    """A direction ready for `qrnn.backends.cpu.fused.run`."""

    coding: tuple[bool, tuple[int, int]]
    ih: tuple[Any, ...]
    hh: tuple[Any, ...]
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
    """Everything of one direction, the weights of ih and hh packed in so many bits; ``isa``: with blocks for the lanes of ``lookup``."""
    phases = [blocks.PHASES[name] for name in phases_of(layer)]
    functions = np.zeros((len(d.gates), GATE_WORDS), np.int64)
    tables = []
    for record, gate in zip(functions, d.gates, strict=True):
        record[:], values = pack_function(gate, lookup)
        table = aligned(values.shape, np.int32)
        table[:] = values
        record[TABLE_AT] = table.ctypes.data
        tables.append(table)
    x, h = layer.x_operand, layer.h_operand
    return FusedDirection(
        (isa.operand_bits == 16, (isa.offset, isa.low_offset)),
        pack_matrix(isa, d.ih, d.pre_shift, (phases[0].gates,), x, bits[0]),
        pack_matrix(isa, d.matrix_hh, d.pre_shift, tuple(phase.count for phase in phases), h, bits[1], d.peephole),
        functions,
        pack_formats(layer, d),
        tuple(tables),
    )


def scratch(
    isa: Isa, layer: QuantRecurrentDefinition, threads: int, tuning: Tuning, bits: tuple[int, int] = (8, 8)
) -> tuple[Any, ...]:
    """Of one team in `fused.run`: h operands twice in turn, those of r·h, z, h and c padded to blocks; each thread's input products, operands,
    last columns and sums; where each unit's c is; the tiles' shapes; the barrier's flags."""
    h_bytes, x_bytes, padded = _sizes(isa, layer, bits)
    return (
        aligned((2, h_bytes), np.uint8),
        aligned((h_bytes,), np.uint8),
        aligned((padded,), np.int32),
        aligned((padded,), np.int16),
        aligned((padded,), np.int32),
        aligned((threads, AHEAD * min(threads, 2), len(layer.gates) * padded), np.int32),
        aligned((threads, AHEAD, x_bytes), np.uint8),
        aligned((threads, isa.units), np.int16),
        aligned((threads, matrix_products.VECTORS * len(layer.gates) * isa.units), np.int32),
        _places(isa, padded),
        np.array(matrix_products.tile_config(), np.uint8),
        barrier_flags(threads, tuning),
    )


def group_scratch(isa: Isa, layer: QuantRecurrentDefinition, bits: tuple[int, int] = (8, 8)) -> tuple[Any, ...]:
    """Of `fused.run_group`: the same for each of a group's sequences, and their order."""
    h_bytes, x_bytes, padded = _sizes(isa, layer, bits)
    n = matrix_products.VECTORS
    return (
        aligned((2, n, h_bytes), np.uint8),
        aligned((n, h_bytes), np.uint8),
        aligned((n, padded), np.int32),
        aligned((n, padded), np.int16),
        aligned((n, padded), np.int32),
        aligned((ROWS_AHEAD, len(layer.gates) * padded), np.int32),
        aligned((ROWS_AHEAD, x_bytes), np.uint8),
        aligned((isa.units,), np.int16),
        aligned((n * len(layer.gates) * isa.units,), np.int32),
        _places(isa, padded),
        np.array(matrix_products.tile_config(), np.uint8),
        np.zeros(n, np.int64),
    )


def _sizes(isa: Isa, layer: QuantRecurrentDefinition, bits: tuple[int, int]) -> tuple[int, int, int]:
    """Bytes of the encoded operands of h and of x, for weights of these ``bits`` of ih and hh; and H padded to blocks."""
    h_planes, x_planes = planes_of(isa, layer.h_operand), planes_of(isa, layer.x_operand)
    h_bytes = operand_bytes(isa, layer.hidden_size, h_planes, bits[1])
    x_bytes = operand_bytes(isa, layer.input_size, x_planes, bits[0])
    return h_bytes, x_bytes, -(-layer.hidden_size // isa.units) * isa.units


def _places(isa: Isa, padded: int) -> Int64Array:
    """Where c of each unit is kept: in the order of the panels' rows."""
    within = np.argsort(isa.unit_order())
    return (np.arange(padded) // isa.units * isa.units + np.tile(within, padded // isa.units)).astype(np.int64)


class FusedRun:
    """One direction, packed: `run` is `fused.run` or `fused.run_group` with everything but the sequences filled in.

    ``bits``: in which the weights of ih and hh are packed; 4 for a `QuantMatrix4` alone.
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
        ih, hh = forms_of(isa, layer, d, bits)
        self.isa, self.layer, self.bits = isa.in_words() if hh.lookup.in_words else isa, layer, bits
        p = pack_direction(self.isa, layer, d, bits, hh.lookup)
        self._parts = (p.coding, p.ih, p.hh, p.functions, p.formats)
        self._tables = p.tables
        self._key = (isa.name, phases_of(layer), ih, hh)
        self._reused = ReusedCalls(code)

    def _call(self, template: str, *values: Any) -> Call:
        kernel = Kernel("qrnn.backends.cpu.fused", "compiled", (template, *self._key))
        return Call(kernel, *values, isa=self._compiled_for)

    def run(self, x: Any, lengths: Any, h: Any, c: Any, y: Any, n0: int, n1: int) -> None:
        """Sequences n0 … n1 - 1, by one thread; many threads may call."""
        self._again(("run" if n1 - n0 < GROUP_LEAST else "run_group",), (x, lengths, h, c, y), n0, n1, self._whole)

    def run_shared(self, data: Sequence[Any], threads: int, wake_spins: int) -> None:
        """`shared_call` at once."""
        self._again((threads, wake_spins), data, 0, 1, self.shared_call)

    def _again(self, kind: tuple[Any, ...], data: Sequence[Any], n0: int, n1: int, make: Any) -> None:
        self._reused.run(kind, lambda *a: make(*a, *kind), data, len(self._parts) + DATA_FROM, n0, n1)

    def _whole(self, control: Any, data: Sequence[Any], template: str) -> Call:
        make_scratch = group_scratch(self.isa, self.layer, self.bits) if template == "run_group" else None
        own = make_scratch or scratch(self.isa, self.layer, 1, self._tuning, self.bits)
        return self._call(template, control, (0, 1), self.direction.reverse, *self._parts, *data, own)

    def whole_call(self, control: Any, x: Any, lengths: Any, h: Any, c: Any, y: Any) -> Call:
        """`fused.run` or `fused.run_group` of sequences control[FIRST] … control[LAST] - 1 by one thread, with a scratch of its own."""
        template = "run" if len(lengths) < GROUP_LEAST else "run_group"
        return self._whole(control, (x, lengths, h, c, y), template)

    def shared_call(self, _control: Any, data: Sequence[Any], threads: int, wake_spins: int) -> TeamCall:
        """`fused.run` of one sequence, (x, lengths, h, c, y), by a team of so many workers, worth waiting for ``wake_spins`` pauses."""
        own = scratch(self.isa, self.layer, threads, self._tuning, self.bits)
        fixed = (self.direction.reverse, *self._parts, *data, own)
        one = np.array([0, 1, 0])
        workers = [self._call("run", one, (me, threads), *fixed) for me in range(threads)]
        alone = self._call("run", one, (0, 1), *fixed)
        return TeamCall(workers, alone, own[-1], Spins.of(self._tuning, wake_spins))

    def call(self, place: Any, rows: Any, x: Any, h: Any, c: Any, y: Any) -> Call:
        """`fused.tick` with these arguments and a scratch of its own."""
        own = group_scratch(self.isa, self.layer, self.bits)
        return self._call("tick", *self._parts, own, place, rows, x, h, c, y)


DATA_FROM = 3
"""Arguments of `fused.run` before the parts of `FusedRun`: control, place and reverse."""


def cache_bytes(tuning: Tuning) -> int:
    """Return the size of the second-level cache."""
    if tuning.cache_bytes is not None:
        return tuning.cache_bytes
    try:
        return max(os.sysconf("SC_LEVEL2_CACHE_SIZE"), tuning.least_cache_bytes)
    except (AttributeError, OSError, ValueError):
        return tuning.unknown_cache_bytes


class FusedForms:
    """A direction's `FusedRun`, in as many forms as its weights are read in; each is packed when first needed.

    Four-bit weights are read as they are by sequences that run alone, where their bytes are what takes the time: they outgrow the cache and
    are read anew at every step. A group of sequences shares each read of them, and multiplies by instructions or tiles that want bytes; a
    long sequence so reads the weights of its inputs.
    """

    def __init__(
        self,
        isa: Isa,
        layer: QuantRecurrentDefinition,
        d: QuantDirection,
        model_bytes: int,
        code: Code = DEFAULT,
        tuning: Tuning | None = None,
    ) -> None:
        self.direction, self._tuning = d, tuning or Tuning()
        self._make = lambda bits: FusedRun(isa, layer, d, bits, code, self._tuning)
        self._four = isinstance(d.ih, QuantMatrix4), isinstance(d.hh, QuantMatrix4)
        self._hh_bytes, self._model_bytes = d.matrix_hh.weight.size, model_bytes
        share = self._tuning.byte_cache_share if isa.operand_bits == 8 else self._tuning.word_cache_share
        self._cached = int(share * cache_bytes(self._tuning))
        self._runs: dict[tuple[int, int], FusedRun] = {}
        if not any(self._four):
            self.choose(0, 0, 1)

    def every(self) -> list[FusedRun]:
        """All forms, of which `choose` takes one, on this machine or on another with other caches."""
        few, long = (4 if self._four[0] else 8), (4 if self._four[1] else 8)
        return [self._of(bits) for bits in sorted({(8, 8), (few, long), (8, long)})]

    def choose(self, sequences: int, steps: int, threads: int) -> FusedRun:
        """The form for a run of so many sequences of up to so many steps, a sequence shared by ``threads``."""
        return self._of(self._bits(sequences, steps, threads))

    def _of(self, bits: tuple[int, int]) -> FusedRun:
        if bits not in self._runs:  # two threads may both make it: either serves
            self._runs[bits] = self._make(bits)
        return self._runs[bits]

    def _bits(self, sequences: int, steps: int, threads: int) -> tuple[int, int]:
        few = steps < self._tuning.few_steps
        # single steps go through the whole model between two reads of a weight
        size = self._model_bytes if few else self._hh_bytes
        if sequences >= GROUP_LEAST or size <= self._cached * threads:
            return 8, 8
        return (4 if few and self._four[0] else 8), (4 if self._four[1] else 8)
