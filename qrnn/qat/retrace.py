"""Compute the arguments of the gates and c of every step again, of a run that kept what its layers write alone: the integers of a trace.

All h are known, so that the sums of all steps are two products of matrices over time. They are exact: whole numbers in float32 where the
largest sum is below 2^24, else in float64. What follows is the contract's own functions, in compiled loops (`qrnn.qat.retrace_kernels`).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from qrnn.model.gate_values import gate_integers
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.parts import AnyMatrix, GateFunction, IndexArray, Operand, pack_gates
from qrnn.qat.spreading import spread

EXACT = 1 << 24
"""The least whole number that float32 may not hold together with its neighbours."""


def can_retrace(layer: QuantRecurrent) -> bool:
    """Return whether a layer's cells are computed here: LSTM, GRU and RNN without a projection."""
    return (
        layer.cell in ("lstm", "gru", "rnn")
        and layer.memory
        and all(d.projection is None and d.norms is None for d in layer.directions)
    )


def retraced(
    layer: QuantRecurrent, number: int, x: Any, h: Any, begun: tuple[Any, Any], lengths: IndexArray
) -> tuple[Any, Any]:
    """Return the arguments of the gates, [N, T, G·H] int16, and c, [N, T, H] or [N, T, 0] int32, in time order and zero on padding.

    ``x`` [N, T, I] and ``h`` [N, T, P] are the integers of the run, ``begun`` h [N, P] and c [N, H] before the first step.
    """
    from qrnn.qat import retrace_kernels as kernels

    d, H = layer.directions[number], layer.hidden_size
    before = _before(h, begun[0], lengths, d.reverse)
    of_x, of_h = _sums(d.ih, x, layer.x_operand), _sums(d.matrix_hh, before, layer.h_operand)
    s, (N, T, _) = layer.shifts(d), x.shape
    arguments = np.zeros((N, T, len(layer.gates) * H), np.int16)
    both = *_rows(d.ih), *_rows(d.matrix_hh), d.pre_shift
    rows = *both, *pack_gates(d.gates)
    if layer.cell == "lstm":
        own, coupled = layer.forget == "gate", layer.forget == "coupled"
        peephole = d.peephole
        weight, shift = (np.zeros(arguments.shape[2], t) for t in (np.int16, np.int8))
        if peephole is not None:
            weight, shift = peephole.weight, peephole.shift
        cells = np.zeros((N, T, H), np.int32)
        values = tuple(integers_of(f.params.tobytes(), f.table.tobytes()) for f in d.gates[:-1])
        fixed = own, coupled, d.reverse, lengths, of_x, of_h, *both, values, s.input_frac, s.forget_frac, s.product
        spread(
            lambda first, last: kernels.lstm_again(
                first, last, *fixed, peephole is not None, weight, shift, begun[1], arguments, cells
            ),
            N,
        )
        return arguments, cells
    if layer.cell == "rnn":
        spread(lambda first, last: kernels.rnn_again(first, last, lengths, of_x, of_h, *rows, arguments), N)
    else:
        after = layer.linear_before_reset
        resets = np.zeros((N, T, H), np.int16)
        given = lengths, of_x, of_h, *rows, s.reset_frac, layer.h_operand.shift, layer.h_operand.limit, before
        spread(lambda first, last: kernels.gru_again(first, last, after, *given, resets, arguments), N)
        if not after:
            of_reset = _sums(d.matrix_hh, resets, Operand(0, layer.h_operand.limit), slice(2 * H, None))
            spread(
                lambda first, last: kernels.gru_candidate_again(first, last, lengths, of_x, of_reset, *rows, arguments),
                N,
            )
    return arguments, np.zeros((N, T, 0), np.int32)


def _before(h: Any, begun: Any, lengths: IndexArray, reverse: bool) -> Any:
    """Return h before each step, in time order."""
    before = np.empty_like(h)
    if reverse:
        before[:, :-1] = h[:, 1:]
        before[np.arange(len(h)), np.maximum(lengths, 1) - 1] = begun
    else:
        before[:, 1:], before[:, 0] = h[:, :-1], begun
    return before


def _sums(matrix: AnyMatrix, values: Any, operand: Operand, rows: slice = slice(None)) -> Any:
    """Return the products of the integer weights with operands, [N, T, R], whole numbers as floats."""
    weight = matrix.weight[rows]
    largest = int(np.abs(weight.astype(np.int64)).sum(axis=1).max(initial=0)) * operand.limit
    real = np.float32 if largest < EXACT else np.float64
    read, _ = read_by(values, operand, 1.0, real)
    return (read.reshape(-1, values.shape[-1]) @ weight.T.astype(real)).reshape(*values.shape[:2], -1)


def read_by(values: Any, operand: Operand, unit: float, real: Any) -> tuple[Any, Any]:
    """Return int16 values [N, T, F] as a matrix reads them, times ``unit``, and 0 where one was clamped, else 1, as uint8."""
    from qrnn.qat.retrace_kernels import narrowed

    flat = np.ascontiguousarray(values).reshape(-1, values.shape[-1])
    out, live = np.empty(flat.shape, real), np.empty(flat.shape, np.uint8)
    spread(
        lambda first, last: narrowed(first, last, flat, operand.shift, operand.limit, real(unit), out, live), len(flat)
    )
    return out.reshape(values.shape), live.reshape(values.shape)


@functools.lru_cache(maxsize=64)
def integers_of(params: bytes, table: bytes) -> Any:
    """Return the integers of a gate function at every int16, int32."""
    function = GateFunction("", np.frombuffer(params, np.int64), np.frombuffer(table, np.int32))
    return gate_integers(function, np.arange(-32768, 32768)).astype(np.int32)


def _rows(matrix: AnyMatrix) -> tuple[Any, Any, Any]:
    return matrix.bias, matrix.multiplier, matrix.left_shift
