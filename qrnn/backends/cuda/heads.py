"""The layers without time, and what moves tensors about: a thread an item. x [M, F] int16 is given flat or by rows, as it says."""

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda import int64

from qrnn.arithmetic import fixedpoint
from qrnn.arithmetic.gates import IN_FRAC
from qrnn.backends.cuda.cells import evaluate
from qrnn.backends.cuda.contract import device, to_integers, to_reals
from qrnn.backends.cuda.general import softmax_row
from qrnn.backends.cuda.launch import THREADS, kernel
from qrnn.model.batch import FLOAT32_MAX

align16, add16 = device(fixedpoint.align16), device(fixedpoint.add16)
shift_right_round = device(fixedpoint.shift_right_round)

LARGEST = FLOAT32_MAX
"""Of an input's magnitude, as `qrnn.model.batch.make_batch` has it."""


@kernel(THREADS)
def fill_zero(flat: Any) -> None:
    """flat[i] = 0."""
    i = cuda.grid(1)
    if i < flat.shape[0]:
        flat[i] = 0


@kernel(THREADS)
def fill_one(flat: Any) -> None:
    """flat[i] = 1."""
    i = cuda.grid(1)
    if i < flat.shape[0]:
        flat[i] = 1


@kernel(THREADS)
def pointwise(params: Any, tables: Any, in_frac: Any, out_shift: Any, x: Any, out: Any) -> None:
    """out[i] = round(gate(align16(x[i])) / 2^out_shift), flat."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        value = evaluate(align16(int64(x[i]), in_frac, params[0, IN_FRAC]), params, tables, 0)
        out[i] = shift_right_round(value, out_shift)


@kernel(THREADS)
def softmax(table: Any, in_frac: Any, x: Any, out: Any) -> None:
    """x [M, F] → out [M, F], Q1.14: a thread a row."""
    m = cuda.grid(1)
    if m < x.shape[0]:
        softmax_row(x[m], in_frac, table, out[m])


@kernel(THREADS)
def add(a_shift: Any, b_shift: Any, out_shift: Any, a: Any, b: Any, out: Any) -> None:
    """out[i] = add16(a[i], b[i]), flat."""
    i = cuda.grid(1)
    if i < a.shape[0]:
        out[i] = add16(int64(a[i]), int64(b[i]), a_shift, b_shift, out_shift)


@kernel(THREADS)
def align_part(from_frac: Any, to_frac: Any, indices: Any, x: Any, column: Any, out: Any) -> None:
    """out[m, column + k] = align16(x[m, indices[k]])."""
    i = cuda.grid(1)
    width = indices.shape[0]
    if i < x.shape[0] * width:
        m, k = i // width, i % width
        out[m, column + k] = align16(int64(x[m, indices[k]]), from_frac, to_frac)


@kernel(THREADS)
def embedding(table: Any, tokens: Any, out: Any) -> None:
    """out[m] = table[tokens[m]]; tokens [M] int64, checked."""
    i = cuda.grid(1)
    if i < out.shape[0] * out.shape[1]:
        m, k = i // out.shape[1], i % out.shape[1]
        out[m, k] = table[tokens[m], k]


@kernel(THREADS)
def last_step(lengths: Any, x: Any, out: Any) -> None:
    """out[n] = x[n, lengths[n] - 1], zero for sequences of no steps; x [N, T, F], out [N, F]."""
    i = cuda.grid(1)
    if i < out.shape[0] * out.shape[1]:
        n, k = i // out.shape[1], i % out.shape[1]
        out[n, k] = x[n, lengths[n] - 1, k] if lengths[n] > 0 else 0


@kernel(THREADS)
def mark_steps(lengths: Any, steps: Any, out: Any) -> None:
    """out[n * steps + t] = 1 for the steps t < lengths[n] of sequence n, 0 for those past its end."""
    i = cuda.grid(1)
    if i < out.shape[0]:
        out[i] = 1 if i % steps < lengths[i // steps] else 0


@kernel(THREADS)
def zero_empty(lengths: Any, x: Any, out: Any) -> None:
    """out [N, F] = x [N, F], zero for sequences of no steps."""
    i = cuda.grid(1)
    if i < out.shape[0] * out.shape[1]:
        n, k = i // out.shape[1], i % out.shape[1]
        out[n, k] = x[n, k] if lengths[n] > 0 else 0


@kernel(THREADS)
def copy_columns(x: Any, x_column: Any, out: Any, out_column: Any, width: Any) -> None:
    """out[n, out_column + k] = x[n, x_column + k] for k < width."""
    i = cuda.grid(1)
    if i < x.shape[0] * width:
        n, k = i // width, i % width
        out[n, out_column + k] = x[n, x_column + k]


@kernel(THREADS)
def quantize(scale: Any, limit: Any, x: Any, out: Any, refused: Any) -> None:
    """Real x [M, F], any floating or integer type and strides, as int16; refused[0] counts values that are no finite float32."""
    i = cuda.grid(1)
    if i < out.shape[0] * out.shape[1]:
        m, k = i // out.shape[1], i % out.shape[1]
        value = float(x[m, k])
        if abs(value) <= LARGEST:
            out[m, k] = int64(to_integers(value, scale[k if scale.shape[0] > 1 else 0], limit))
        else:
            out[m, k] = 0
            cuda.atomic.add(refused, 0, 1)


@kernel(THREADS)
def check_state(largest: Any, h: Any, refused: Any) -> None:
    """refused[0] counts values of h [M] int16 that are not within ±largest."""
    m = cuda.grid(1)
    if m < h.shape[0] and not -largest <= int64(h[m]) <= largest:
        cuda.atomic.add(refused, 0, 1)


@kernel(THREADS)
def check_tokens(vocabulary: Any, x: Any, out: Any, refused: Any) -> None:
    """out [M] int64 = x [M] of any integer type; refused[0] counts those that are not in 0 … vocabulary - 1, which become 0."""
    m = cuda.grid(1)
    if m < out.shape[0]:
        value = int64(x[m])
        if 0 <= value < vocabulary:
            out[m] = value
        else:
            out[m] = 0
            cuda.atomic.add(refused, 0, 1)


@kernel(THREADS)
def write_output(q: Any, scale: Any, indices: Any, positions: Any, lengths: Any, steps: Any, out: Any) -> None:
    """out[m, positions[k]] = q[m, indices[k]] · scale, float64; zero past a sequence's length. ``steps``: rows a sequence, 0 without time."""
    i = cuda.grid(1)
    width = indices.shape[0]
    if i < q.shape[0] * width:
        m, k = i // width, i % width
        f = indices[k]
        value = to_reals(float(q[m, f]), scale[f if scale.shape[0] > 1 else 0])
        if steps > 0 and m % steps >= lengths[m // steps]:
            value = 0.0
        out[m, positions[k]] = value
