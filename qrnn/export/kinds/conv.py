"""Convolutions are computed by targets/runtime/qrnn_conv.h, and those with a group for each channel by qrnn_depthwise.h."""

from __future__ import annotations

from dataclasses import fields as fields_of

import numpy as np

from qrnn.export.c_text import CONSTANT, CONSTANTS, WEIGHTS, array, fields
from qrnn.export.code import operand_format, operand_words
from qrnn.export.layer_code import AnyCode
from qrnn.export.layout import COLUMNS, block_rows, channel_blocks, channel_constants, padded_columns
from qrnn.export.matrices import MOST_COLUMNS, c_matrix, plain_rows, stays_four_bit
from qrnn.export.translated import CountingCode, TranslatedSteps
from qrnn.export.windows import WindowCode, window_fields, within
from qrnn.model.kinds.conv import QuantConv
from qrnn.model.parts import AnyMatrix, Int8Array, QuantMatrix
from qrnn.targets import Kernels

BLOCK_WORK = 48
"""The columns of a block of rows whose products take about as long as all else of it."""


class ConvCode(WindowCode[QuantConv]):
    """The C of a convolution: its window, its weights, and room for the operands of a place."""

    @classmethod
    def of(cls, layer: QuantConv) -> type[AnyCode]:
        """Return the class that counts rows for a layer that skips or delays some, and translated code where rows are too long for blocks."""
        if not by_channels(layer) and layer.matrix.weight.shape[1] > MOST_COLUMNS - max(COLUMNS.values()):
            return TranslatedSteps if layer.step_for_step else CountingCode
        return ConvCode if layer.step_for_step else CountingConvCode

    def constants(self) -> tuple[str, list[str], list[str]]:
        """Add the window and the weights."""
        return self._channels() if by_channels(self.layer) else self._blocks()

    def _blocks(self) -> tuple[str, list[str], list[str]]:
        """Add a matrix, of whose blocks each has rows of one group."""
        layer, name, code = self.layer, self.name, self.code
        joined = joined_groups(layer, code.kernels)
        groups, rows = layer.groups // joined, len(layer.pre_shift) // layer.groups * joined
        matrix = joined_matrix(layer, joined)
        blocks = plain_rows(rows, code.kernels)
        order = np.concatenate([np.where(blocks < 0, -1, blocks + rows * g) for g in range(groups)])
        found = c_matrix(f"{name}_matrix", matrix, layer.pre_shift, order, code.kernels, gathered=True)
        code.matrix(found, gathered=True)
        code.headers |= {"qrnn_conv.h", "qrnn_matrix.h"}
        members = [
            ("window", within(window_fields(layer))),
            ("matrix", within(found.initializer)),
            ("format", operand_format(layer.operand, found)),
            ("columns", f"{matrix.weight.shape[1]}U"),
            ("groups", f"{groups}U"),
            ("rows", f"{rows}U"),
        ]
        code.define(f"{CONSTANT} qrnn_convolution {name}_window = {{\n{fields(members)}\n}};")
        return "qrnn_conv", [f"uint32_t operand[{operand_words(found, code.kernels)}];"], ["operand"]

    def _channels(self) -> tuple[str, list[str], list[str]]:
        """Add the weights of each channel."""
        layer, name, code = self.layer, self.name, self.code
        matrix = layer.matrix
        code.headers.add("qrnn_depthwise.h")
        weight = channel_blocks(matrix.weight, code.kernels).transpose(0, 2, 1)
        row = np.stack([channel_constants(v, code.kernels) for v in (matrix.bias, matrix.multiplier)], axis=1)
        code.define(array("int8_t", f"{name}_channels_weight", weight, place=WEIGHTS))
        code.define(array("int32_t", f"{name}_channels_row", row, "biases and multipliers of a block", CONSTANTS))
        code.weight_bytes += weight.size
        pointers = {"left_shift": "NULL", "pre_shift": "NULL"}
        for shift, values in (("left_shift", matrix.left_shift), ("pre_shift", layer.pre_shift)):
            if values.any():
                pointers[shift] = f"{name}_channels_{shift}"
                shifts = channel_constants(values, code.kernels)
                code.define(array("uint8_t", f"{name}_channels_{shift}", shifts, place=CONSTANTS))
        members = [
            ("window", within(window_fields(layer))),
            ("weight", f"{name}_channels_weight"),
            ("row", f"{name}_channels_row"),
            *pointers.items(),
            ("format", operand_format(layer.operand)),
        ]
        code.define(f"{CONSTANT} qrnn_depthwise {name}_window = {{\n{fields(members)}\n}};")
        return "qrnn_depthwise_conv", [], []


class CountingConvCode(ConvCode):
    """The C of a convolution that may give no row for a step, or rows past the end of a sequence."""

    counts_rows = True


def by_channels(layer: QuantConv) -> bool:
    """Return whether the layer computes each of several channels from the same channel alone."""
    return layer.groups == layer.channels == len(layer.pre_shift) > 1


def joined_groups(layer: QuantConv, kernels: Kernels) -> int:
    """Return how many groups are computed as one, with weights of zero in between, so that blocks of rows are filled at the least work."""
    rows, columns = len(layer.pre_shift) // layer.groups, layer.matrix.weight.shape[1]
    if stays_four_bit(layer.matrix, kernels):  # the zeros in between would divide the columns that share a scale
        return 1

    def work(joined: int) -> int:
        blocks = -(-rows * joined // block_rows(kernels))
        return layer.groups // joined * blocks * (padded_columns(columns * joined, kernels) + BLOCK_WORK)

    fitting = [
        joined
        for joined in range(1, 2 * block_rows(kernels) // rows + 1)
        if layer.groups % joined == 0 and padded_columns(columns * joined, kernels) <= MOST_COLUMNS
    ]
    return min(fitting, key=work, default=1)


def joined_matrix(layer: QuantConv, joined: int) -> AnyMatrix:
    """Return the matrix with `joined_weight`; its own where each group is computed by itself."""
    if joined == 1:
        return layer.matrix
    rows = {f.name: getattr(layer.matrix, f.name) for f in fields_of(QuantMatrix) if f.name != "weight"}
    return QuantMatrix(weight=joined_weight(layer, joined), **rows)


def joined_weight(layer: QuantConv, joined: int) -> Int8Array:
    """Return the weights [R, K · ``joined``] of rows that read the channels of as many groups."""
    weight, taps = layer.matrix.weight, layer.time.taps * layer.step_taps
    own, rows = weight.shape[1] // taps, len(weight) // layer.groups
    found = np.zeros((len(weight), taps, joined, own), np.int8)
    for row, of_taps in enumerate(weight.reshape(len(weight), taps, own)):
        found[row, :, row // rows % joined] = of_taps
    return found.reshape(len(weight), -1)


LAYER_CODE = ConvCode
