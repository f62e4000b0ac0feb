"""Convolutions on the CPU: by the dot products of the fused steps; see `qrnn.backends.cpu.conv_blocks` for what is multiplied together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from qrnn.backends.cpu import matrix
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.conv_blocks import WORD, Blocking, Convolution, choose_blocking
from qrnn.backends.cpu.defined import DefinedSteps
from qrnn.backends.cpu.isa import PORTABLE
from qrnn.backends.cpu.layer_calls import Flow
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.matrix import AHEAD
from qrnn.backends.cpu.packed import encoded_bytes, pack_matrix, whole_blocks
from qrnn.backends.cpu.pages import aligned
from qrnn.backends.cpu.tasks import ROWS, Tasks
from qrnn.backends.cpu.wanted import Kernel
from qrnn.backends.cpu.window_run import Share, WindowRun
from qrnn.model.kinds.conv import QuantConv
from qrnn.model.parts import Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel

HISTORY_BYTES = 1 << 17
"""The bytes of a history where windows are short: enough for many of them, and less than a second-level cache."""


LEAST_BYTES, MOST_TIMES = 1 << 24, 64
"""Weights and history may take so many bytes, and so many times the elements of a layer's matrix and ring."""

ROW_UNIT = 16
"""The bytes of which a step's operands begin at a multiple."""


class StepPlan(NamedTuple):
    """How a step of the output is made of products, and where its operands lie in a row of the history."""

    pieces: int
    """Products over the places of a line of the output."""
    piece_step: int
    """The bytes between two of them in the history."""
    piece_features: int
    """The features between two of them in the output."""
    piece_rows: int
    """Rows of a product that are features of the output, and of the last one."""
    last_rows: int
    front: int
    """The bytes of the padding before the first band of the first line."""
    part_groups: int
    """The groups of columns between two parts of the operands of a row."""
    lines: int
    """The lines of a step of the input."""
    line_bytes: int
    """The bytes between two of them in the history."""
    line_places: int
    """The lines of a step of the output."""
    line_step: int
    """The bytes between two of them in the history."""
    line_features: int
    """The features of a line of the output."""


class ProductPlan(NamedTuple):
    """Which operands a product reads; see `qrnn.backends.cpu.conv_products`, and for vectors that are put together `operands.GATHER_ARGS`."""

    places: Int64Array
    """The bytes from a position to each word, [words]; or to each segment, and from a vector's beginning to where it goes, [segments, 2]."""
    bytes: int
    """The bytes of a segment."""
    part: int
    """The bytes between two parts of operands."""
    chunks: int
    """Products over the groups of channels."""
    chunk_step: int
    """The bytes between two of them in the history."""
    chunk_rows: int
    """The output's features of a chunk."""


class ConvScratch(NamedTuple):
    """Scratch of `qrnn.backends.cpu.rows.conv`, for `AHEAD` vectors at a time."""

    history: Any
    """Encoded operands of steps, [steps, bytes], with encoded zeros where lines and bands are padded."""
    vectors: Any
    """Encoded operands of products, [AHEAD, bytes]; of no use where they are read from the history."""
    results: Int16Array
    """Results, padded to whole blocks, [AHEAD, R]; or room for a block of them."""
    positions: Int64Array
    """For each vector, the addresses of its first operand and of its output, and the number of its results that are written, [3, AHEAD]."""
    tails: Int16Array
    """Room for the last columns of a line, of which those behind it stay 0, and for those of a step, [2, units]."""
    zeros: Int16Array
    """The input of steps past the end of a sequence, [F]."""
    sums: Any
    """Accumulators of `matrix.VECTORS` vectors, int32."""
    tile_config: Any
    """The shapes of AMX's tiles, [64] uint8."""


class ConvRun(WindowRun):
    """See the module."""

    arrays_from, advance_from = 8, 4

    def __init__(self, layer: QuantConv, model: QuantModel, tasks: Tasks, found: Blocking) -> None:
        super().__init__(layer, model, tasks)
        self._conv, self._isa, self._blocking = layer, found.isa, found
        ordered, pre_shift = found.matrix()
        self._packed = pack_matrix(self._isa, ordered, pre_shift, (found.parts,), layer.operand)
        self._formats = layer.operand.shift, layer.operand.limit
        time, out_part = layer.time, whole_blocks(self._isa, self._packed.groups) * self._isa.operand_size
        self._time = time.taps, time.stride, time.dilation
        self._part_bytes = _part_bytes(found)
        self._step = _step_plan(found, self._part_bytes)
        # A stream's history has the taps of a window alone.
        self._products = [_product_plan(found, self._part_bytes, out_part, apart) for apart in (time.dilation, 1)]

    @property
    def step_macs(self) -> int:
        """Return the multiply-adds of a step of the output."""
        return self._conv.places * int(self._conv.matrix.weight.size)

    def _call(self, template: str, *values: Any) -> Call:
        kernel = Kernel(
            f"{ROWS}.conv", "compiled", (template, self._isa.name, self._blocking.parts, self._blocking.placed)
        )
        return Call(kernel, *values, isa=self.tasks.isa)

    def outputs_call(self, place: Int64Array, share: Share, past: int, arrays: Sequence[Any]) -> Call:
        """Return the call that computes outputs; see `WindowRun.outputs_call`."""
        plans = (self._packed, self._formats, self._time, self._step, self._products[0])
        span = self._conv.time.span
        return self._call("convolve", place, share, past, *plans, *arrays, self._scratch(span, self._conv.time.stride))

    def advance_call(self, place: Int64Array, past: int, arrays: Sequence[Any]) -> Call:
        """Return the call that advances the states; see `WindowRun.advance_call`."""
        return self.tasks.call("conv", "advance", place, past, self._formats, self._conv.time.stride, *arrays)

    def step_call(self, before: Flow, after: Flow, x: Int16Array, out: Int16Array, states: Sequence[Any]) -> Call:
        """Return the call of one step of streams; see `WindowRun.step_call`."""
        plans = (self._packed, self._formats, self._time, self._step, self._products[1])
        own = self._scratch(self._conv.time.taps, self._conv.time.taps, most=len(x))
        return self._call("step_streams", before, after, *plans, x, out, *states, own)

    def _scratch(self, window: int, step: int, most: int = AHEAD) -> ConvScratch:
        """Make the scratch of one call, with a history for ``most`` windows, or fewer of long ones, each ``step`` steps after another."""
        isa, found, part_step = self._isa, self._blocking, self._part_bytes
        row = part_step * found.byte_parts
        windows = max(1, min(most, AHEAD, (HISTORY_BYTES // row - window) // step + 1))
        # A vector of the last place may read behind the last row. What it reads there is multiplied by zeros.
        behind = -(-(self._step.piece_step + self._products[0].bytes) // row) + 1
        rows = window + (windows - 1) * step
        history = aligned((rows + behind, row), np.uint8)
        for part, zero in enumerate(_zeros(found)):
            history[:, part * part_step : (part + 1) * part_step] = zero
        vectors, results = (1, 1), (1, isa.lanes)
        if found.placed is None:
            vectors = AHEAD, encoded_bytes(isa, found.all_columns, found.byte_parts)
            results = AHEAD, found.blocks * found.parts * isa.lanes
        return ConvScratch(
            history[:rows],
            aligned(vectors, np.uint8),
            aligned(results, np.int16),
            np.zeros((3, AHEAD), np.int64),
            aligned((2, isa.units), np.int16),
            np.zeros(self._conv.features, np.int16),
            aligned((matrix.VECTORS * found.parts * isa.lanes,), np.int32),
            np.array(matrix.tile_config(), np.uint8),
        )


def _zeros(found: Blocking) -> tuple[int, ...]:
    """Return the byte that stands for the operand 0 in each part of its encoding."""
    isa = found.isa
    return (isa.offset % 256, isa.low_offset % 256)[: found.byte_parts]


def _line_operands(layer: Convolution) -> int:
    """Return the operands from one line of a step to the next in the history, with the padding of bands; one line has none behind it."""
    if layer.line_places == layer.line.taps == layer.lines == 1:
        return 0
    read = (layer.band_places - 1) * layer.band.stride + layer.band.span
    return max(read, layer.band.before + layer.bands) * layer.channels


def _part_bytes(found: Blocking) -> int:
    """Return the bytes of a part of a step, with the padding of lines and bands, and room for whole blocks, in which lines are encoded."""
    layer, isa, band, line = found.layer, found.isa, found.layer.band, found.layer.line
    apart = _line_operands(layer)
    read = ((layer.band_places - 1) * band.stride + band.span) * layer.channels
    read += ((layer.line_places - 1) * line.stride + line.span - 1) * apart
    encoded = band.before * layer.channels + -(-layer.features // layer.lines // isa.units) * isa.units
    encoded += (line.before + layer.lines - 1) * apart
    unit = max(isa.group, ROW_UNIT // found.operand_bytes)
    return -(-max(read, encoded) // unit) * unit * found.operand_bytes


def _step_plan(found: Blocking, part: int) -> StepPlan:
    """Return the plan of a layer's steps, for so many bytes of a part of a step."""
    layer, size, units = found.layer, found.operand_bytes, found.layer.matrix.weight.shape[0]
    last = (layer.band_places - (found.pieces - 1) * found.places) * units // found.chunks
    apart = _line_operands(layer) * size
    return StepPlan(
        found.pieces, found.places * layer.band.stride * layer.channels * size, found.places * units, found.rows, last,
        layer.line.before * apart + layer.band.before * layer.channels * size, part // found.isa.group, layer.lines, apart,
        layer.line_places, layer.line.stride * apart, layer.band_places * units,
    )  # fmt: skip


def _product_plan(found: Blocking, part: int, out_part: int, apart: int) -> ProductPlan:
    """Return the plan of a layer's products.

    ``part`` and ``out_part`` are the bytes of a part of a step and of a vector; two taps of a window lie ``apart`` steps from each other.
    """
    layer, size = found.layer, found.operand_bytes
    step, line = layer.band.dilation * layer.channels * size, layer.line.dilation * _line_operands(layer) * size
    segment = found.padded_segment * size
    segments = found.places_of(part, apart, step, line)
    if found.placed is None:
        places: list[Any] = [
            (number * part + at, number * out_part + k * segment)
            for number in range(found.byte_parts)
            for k, at in enumerate(segments)
        ]
    else:
        words = [at + word for at in segments for word in range(0, 1 if found.placed.own else segment, WORD)]
        places = words + [0] * (len(words) % 2)  # The weights of the added word are 0.
    own = found.groups * (layer.channels // layer.groups) * size
    rows = layer.matrix.weight.shape[0] // found.chunks
    return ProductPlan(np.array(places, np.int64), segment, part, found.chunks, own, rows)


def fits(layer: QuantConv, found: Blocking) -> bool:
    """Return whether weights and history take memory in proportion to the layer's own, which zeros for padding and groups may exceed."""
    history = layer.time.span * _part_bytes(found) * found.byte_parts
    own = int(layer.matrix.weight.size) + layer.time.span * layer.features
    return found.weight_bytes() + history <= LEAST_BYTES + MOST_TIMES * own


def RUN(layer: QuantConv, model: QuantModel, tasks: Tasks) -> LayerRun:  # noqa: N802  (as a class is called)
    """Return the run of a layer: by its definition where products would take too much memory."""
    found = choose_blocking(layer, tasks.isa or PORTABLE, tasks.tuning)
    return ConvRun(layer, model, tasks, found) if fits(layer, found) else DefinedSteps(layer, model, tasks)
