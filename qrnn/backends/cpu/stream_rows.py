"""One step of some streams, layer by layer: rows place[FIRST] … place[LAST] - 1 of every tensor [M, F], one row a stream.

The arithmetic and its loops are those of `qrnn.backends.cpu.kernels`; here they are given rows. Made into `Call` by
`qrnn.backends.cpu.layer_calls`.
"""

from __future__ import annotations

from typing import Any

from qrnn.arithmetic.fixedpoint import add16, align16
from qrnn.backends.cpu import kernels
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.memory import elements
from qrnn.backends.cpu.python_calls import FIRST, LAST, STATUS
from qrnn.backends.cpu.real_rows import quantize_rows
from qrnn.model.boundary import to_reals


@jit
def copy_row(to: Any, row: Any) -> None:
    """to[k] = row[k]. An assignment of slices would be compiled with what it says to a user whose slices do not fit."""
    for k in range(to.shape[0]):
        to[k] = row[k]


@jit
def quantize(place: Any, x: Any, out: Any, scaling: Any, limit: int) -> None:
    """x [M, F] float64 or float32 → out [M, F] int16; place[STATUS] = 1 where a value is not of float32's range, as NaN is not."""
    if quantize_rows(scaling, limit, x, out, place[FIRST], place[LAST]):
        place[STATUS] = 1


@jit
def check_tokens(place: Any, tokens: Any, vocabulary: int) -> None:
    """place[STATUS] = 1 where one of tokens [M] is not in 0 … vocabulary - 1."""
    for m in range(place[FIRST], place[LAST]):
        if not 0 <= tokens[m] < vocabulary:
            place[STATUS] = 1


@jit
def embedding(place: Any, table: Any, tokens: Any, out: Any) -> None:
    """out[m] = table[tokens[m]]."""
    for m in range(place[FIRST], place[LAST]):
        copy_row(out[m], table[tokens[m]])


@jit
def dense(place: Any, matrix: Any, pre_shift: Any, shift: int, limit: int, x: Any, out: Any, scratch: Any) -> None:
    """`kernels.run_dense`."""
    kernels.run_dense(matrix, pre_shift, shift, limit, x, out, scratch, place[FIRST], place[LAST])


@jit
def pointwise(
    place: Any, params: Any, tables: Any, in_frac: int, out_shift: int, x: Any, out: Any, values: Any
) -> None:
    """`kernels.run_pointwise`."""
    first, last = place[FIRST] * x.shape[1], place[LAST] * x.shape[1]
    kernels.run_pointwise(
        params, tables, in_frac, out_shift, elements(x, first, last), elements(out, first, last), values
    )


@jit
def softmax(place: Any, table: Any, in_frac: int, x: Any, out: Any, weights: Any) -> None:
    """`kernels.softmax_rows`; weights [F] int64 is scratch."""
    for m in range(place[FIRST], place[LAST]):
        kernels.softmax_rows(table, in_frac, x[m], out[m], weights)


@jit
def add(place: Any, a_shift: int, b_shift: int, out_shift: int, a: Any, b: Any, out: Any) -> None:
    """out[m] = add16(a[m], b[m])."""
    for m in range(place[FIRST], place[LAST]):
        for k in range(a.shape[1]):
            out[m, k] = add16(a[m, k], b[m, k], a_shift, b_shift, out_shift)


@jit
def align(place: Any, from_frac: int, to_frac: int, x: Any, out: Any) -> None:
    """out[m] = align16(x[m])."""
    for m in range(place[FIRST], place[LAST]):
        for k in range(x.shape[1]):
            out[m, k] = align16(x[m, k], from_frac, to_frac)


@jit
def concat_part(place: Any, first: int, indices: Any, from_frac: int, to_frac: int, x: Any, out: Any) -> None:
    """out[m, first + j] = align16(x[m, indices[j]])."""
    for m in range(place[FIRST], place[LAST]):
        for j in range(indices.shape[0]):
            out[m, first + j] = align16(x[m, indices[j]], from_frac, to_frac)


@jit
def sequences(
    place: Any, rows: Any, cell: int, forget: int, ih: Any, hh: Any, gates: Any, projection: Any, formats: Any, x: Any,
    h: Any, c: Any, y: Any, lengths: Any, own: Any, trace: Any, scratch: Any,
) -> None:  # fmt: skip
    """`kernels.run_sequences` for one step: x [M, 1, I], y [M, 1, P]; the state of stream m is h[rows[m]], c[rows[m]].

    own (h [M, P], c [M, H or 0]) is scratch; lengths [M] are 1.
    """
    h_own, c_own = own
    for m in range(place[FIRST], place[LAST]):
        copy_row(h_own[m], h[rows[m]])
        copy_row(c_own[m], c[rows[m]])
    span = (place[FIRST], place[LAST], 0, 1)
    kernels.run_sequences(
        cell, forget, False, ih, hh, gates, projection, formats, x, lengths, h_own, c_own, y, trace, scratch, span
    )
    for m in range(place[FIRST], place[LAST]):
        copy_row(h[rows[m]], h_own[m])
        copy_row(c[rows[m]], c_own[m])


@jit
def gather(place: Any, rows: Any, x: Any, out: Any) -> None:
    """out[m] = x[rows[m]]."""
    for m in range(place[FIRST], place[LAST]):
        copy_row(out[m], x[rows[m]])


@jit
def dequantize_whole(place: Any, out: Any, q: Any, scale: Any) -> None:
    """out[m] = q[m] · scale[0], which is exact for a power of two."""
    one = scale[0]
    for m in range(place[FIRST], place[LAST]):
        for k in range(q.shape[1]):
            out[m, k] = to_reals(q[m, k], one)


@jit
def dequantize(place: Any, out: Any, q: Any, scale: Any, indices: Any, positions: Any) -> None:
    """out[m, positions[j]] = q[m, indices[j]] · scale; scale [1], or one for each feature of q."""
    for m in range(place[FIRST], place[LAST]):
        for j in range(indices.shape[0]):
            k = indices[j]
            out[m, positions[j]] = to_reals(q[m, k], scale[k if scale.shape[0] > 1 else 0])


@jit
def last_step(place: Any, steps: int, x: Any, out: Any) -> None:
    """out[n] = x[n · steps + steps - 1]."""
    for n in range(place[FIRST], place[LAST]):
        copy_row(out[n], x[n * steps + steps - 1])


@jit
def take_part(place: Any, part: int, x: Any, out: Any) -> None:
    """out[m] = x[m, part]."""
    for m in range(place[FIRST], place[LAST]):
        copy_row(out[m], x[m, part])


@jit
def put_part(place: Any, part: int, x: Any, out: Any) -> None:
    """out[m, part] = x[m]."""
    for m in range(place[FIRST], place[LAST]):
        copy_row(out[m, part], x[m])


@jit
def whole_sequences(
    place: Any, team: Any, cell: int, forget: int, reverse: bool, ih: Any, hh: Any, gates: Any, projection: Any, formats: Any, x: Any,
    lengths: Any, h: Any, c: Any, y: Any, trace: Any, scratch: Any,
) -> None:  # fmt: skip
    """`kernels.run_sequences` of sequences place[FIRST] … place[LAST] - 1, as thread team[0] of team[1]."""
    span = (place[FIRST], place[LAST], team[0], team[1])
    kernels.run_sequences(
        cell, forget, reverse, ih, hh, gates, projection, formats, x, lengths, h, c, y, trace, scratch, span
    )
