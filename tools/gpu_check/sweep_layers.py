"""Layers of random integers for the sweep: any hidden size in a moment, with the formats and tables of a small quantized layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from bench_workloads import inputs, network

import qrnn
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.quantized import QuantDirection
from qrnn.model.parts import Int16Array, QuantInitialState, QuantMatrix
from qrnn.model.quant_model import QuantModel

SMALL = 8
"""Units and input features of the layer that is quantized."""

DISTINCT = 9
"""Different sequences of a batch, more than a tile has; a larger batch repeats them at other places."""

VERIFIED_STEPS = 3
"""Steps of the runs that are compared with the reference."""

BITS = {1: 8, 2: 16}


@dataclass(frozen=True)
class Layer:
    """A model of one recurrent layer, and sequences x [DISTINCT, T, SMALL] int16 with the lengths and the results of the reference."""

    model: QuantModel
    layer: QuantRecurrent
    x: Int16Array
    lengths: npt.NDArray[np.int64]
    y: Int16Array
    h: Int16Array
    c: Any


@cache
def small_model(cell: str, operand_bytes: int) -> QuantModel:
    """Return the quantized model whose formats and gate tables are used."""
    calibration = inputs(SMALL, 8, 64, seed=1)
    scheme = qrnn.Scheme(BITS[operand_bytes], input="8")
    return qrnn.quantize(network(cell, SMALL).model, {"x": calibration}, scheme)


@cache
def random_layer(cell: str, hidden: int, operand_bytes: int) -> Layer:
    """Return a layer with matrices of random integers, whose sums are requantized to the size that the small layer's have."""
    small = small_model(cell, operand_bytes)
    (old,) = small.recurrent_layers
    rng = np.random.default_rng([hidden, operand_bytes, len(old.gates)])
    d = old.directions[0]
    rows = len(old.gates) * hidden
    ih, hh = (_matrix(rng, matrix, rows, columns) for matrix, columns in ((d.ih, SMALL), (d.hh, hidden)))
    zero = QuantInitialState(np.zeros(hidden, np.int32))
    direction: QuantDirection = replace(
        d, ih=ih, hh=hh, pre_shift=np.repeat(d.pre_shift, hidden // SMALL), h_0=zero, c_0=zero if d.c_0 else None
    )
    layer = replace(old, directions=(direction,))
    model = _model(small, old, layer)
    x = rng.integers(-32767, 32768, (DISTINCT, VERIFIED_STEPS, SMALL)).astype(np.int16)
    lengths = rng.integers(0, VERIFIED_STEPS + 1, DISTINCT)
    lengths[0] = VERIFIED_STEPS
    h = np.zeros((DISTINCT, 1, hidden), np.int16)
    c = np.zeros((DISTINCT, 1, hidden if cell == "lstm" else 0), np.int32)
    engine = qrnn.Session(model, "reference").engine  # backend cpu would compile its kernels first
    y, (h, c) = engine.recurrent(layer, x, (h, c), lengths, None)
    return Layer(model, layer, x, lengths, y, h, c)


def _matrix(rng: np.random.Generator, old: Any, rows: int, columns: int) -> QuantMatrix:
    """Return random weights as large as the overflow proof allows, no bias, and the small matrix's size of requantized sums."""
    limit = old.operand_limit
    largest = min(127, int(2.0**31 * 0.8 / (columns * limit / 2)))
    weight = rng.integers(-largest, largest + 1, (rows, columns), dtype=np.int8)
    repeat = rows // len(old.multiplier)
    size = np.sqrt(np.square(old.weight.astype(np.float64)).sum(axis=1)).repeat(repeat)
    scale = (old.multiplier.astype(np.float64) * 2.0**old.left_shift).repeat(repeat)
    wide = weight.astype(np.int32)
    scale *= size / np.sqrt(np.einsum("ij,ij->i", wide, wide).astype(np.float64))
    bound = np.abs(wide).sum(axis=1, dtype=np.int64) * limit
    shift = np.floor(np.log2((2.0**31 - 1) / bound)).clip(0, 30)
    multiplier = 2 * np.floor((scale / 2.0**shift / 2).clip(1, 2.0**30 - 1))
    return QuantMatrix(weight, np.zeros(rows, np.int32), multiplier.astype(np.int32), shift.astype(np.int8), limit)


def _model(small: QuantModel, old: QuantRecurrent, layer: QuantRecurrent) -> QuantModel:
    """Return the small model with another layer in place of its own, and outputs of that size."""
    every = np.arange(layer.hidden_size)
    own = (old.output, old.h_n, old.c_n)
    tensors = {
        name: replace(fmt, features=layer.hidden_size) if name in own else fmt for name, fmt in small.tensors.items()
    }
    outputs = tuple(
        replace(o, shape=(layer.hidden_size,), parts=tuple((tensor, every, every) for tensor, _, _ in o.parts))
        for o in small.outputs
    )
    return replace(small, layers=(layer,), tensors=tensors, outputs=outputs)
