"""These kernels have a thread for each element and belong to no layer: they fill and copy arrays, and read inputs, states and outputs."""

from __future__ import annotations

from typing import Any

from numba import cuda
from numba.cuda import int64

from qrnn.arithmetic import cells
from qrnn.backends.cuda.contract import device, to_integers, to_reals
from qrnn.backends.cuda.launch import THREADS, kernel
from qrnn.model.user_values import FLOAT32_MAX

begin_state = device(cells.begin_state)

LARGEST = FLOAT32_MAX
"""The largest magnitude of an input, as in `qrnn.model.batch.make_batch`."""


@kernel(THREADS)
def fill_zero(flat: Any) -> None:
    """Set flat[i] = 0."""
    i = cuda.grid(1)
    if i < flat.shape[0]:
        flat[i] = 0


@kernel(THREADS)
def fill_one(flat: Any) -> None:
    """Set flat[i] = 1."""
    i = cuda.grid(1)
    if i < flat.shape[0]:
        flat[i] = 1


@kernel(THREADS)
def last_step(lengths: Any, zero: Any, x: Any, out: Any) -> None:
    """Set out[n] = x[n, lengths[n] - 1], ``zero`` [F] for sequences of no steps; x [N, T, F], out [N, F]."""
    i = cuda.grid(1)
    if i < out.shape[0] * out.shape[1]:
        n, k = i // out.shape[1], i % out.shape[1]
        out[n, k] = x[n, lengths[n] - 1, k] if lengths[n] > 0 else zero[k]


@kernel(THREADS)
def repeat(x: Any, out: Any) -> None:
    """Set out[n, t] = x[n]; x [N, F], out [N, T, F]."""
    i = cuda.grid(1)
    if i < out.shape[0] * out.shape[1] * out.shape[2]:
        row, k = i // out.shape[2], i % out.shape[2]
        n, t = row // out.shape[1], row % out.shape[1]
        out[n, t, k] = x[n, k]


@kernel(THREADS)
def begin(
    lengths: Any, begun: Any, x: Any, indices: Any, positions: Any, left_shift: Any, right_shift: Any, low: Any, high: Any, state: Any
) -> None:  # fmt: skip
    """Set state[n, positions[k]] = begin_state(x[n, indices[k]]) where begun[n, 0] is 0 and sequence n has a step."""
    i = cuda.grid(1)
    if i < begun.shape[0] * indices.shape[0]:
        n, k = i // indices.shape[0], i % indices.shape[0]
        if begun[n, 0] == 0 and lengths[n] > 0:
            state[n, positions[k]] = begin_state(x[n, indices[k]], left_shift, right_shift, low, high)


@kernel(THREADS)
def mark_begun(lengths: Any, begun: Any) -> None:
    """Set begun[n, 0] = 1 for the sequences that have a step."""
    n = cuda.grid(1)
    if n < begun.shape[0] and lengths[n] > 0:
        begun[n, 0] = 1


@kernel(THREADS)
def mark_steps(lengths: Any, steps: Any, out: Any) -> None:
    """Set out[n * steps + t] = 1 for the steps t < lengths[n] of sequence n, 0 for those past its end."""
    i = cuda.grid(1)
    if i < out.shape[0]:
        out[i] = 1 if i % steps < lengths[i // steps] else 0


@kernel(THREADS)
def band_lengths(lengths: Any, bands: Any, out: Any) -> None:
    """Set out[n * bands + b] = lengths[n]."""
    i = cuda.grid(1)
    if i < out.shape[0]:
        out[i] = lengths[i // bands]


@kernel(THREADS)
def step_lengths(lengths: Any, steps: Any, bands: Any, out: Any) -> None:
    """Set out[n * steps + t] = bands for the steps t < lengths[n] of sequence n, 0 for those past its end."""
    i = cuda.grid(1)
    if i < out.shape[0]:
        out[i] = bands if i % steps < lengths[i // steps] else 0


@kernel(THREADS)
def swap_axes(x: Any, out: Any) -> None:
    """Set out[n, b, a] = x[n, a, b]; x [N, A, B, F], out [N, B, A, F]."""
    i = cuda.grid(1)
    A, B, F = x.shape[1], x.shape[2], x.shape[3]
    if i < x.shape[0] * A * B * F:
        row, k = i // F, i % F
        n, a, b = row // B // A, row // B % A, row % B
        out[n, b, a, k] = x[n, a, b, k]


@kernel(THREADS)
def zero_empty(lengths: Any, x: Any, out: Any) -> None:
    """Set out [N, F] = x [N, F], zero for sequences of no steps."""
    i = cuda.grid(1)
    if i < out.shape[0] * out.shape[1]:
        n, k = i // out.shape[1], i % out.shape[1]
        out[n, k] = x[n, k] if lengths[n] > 0 else 0


@kernel(THREADS)
def copy_columns(x: Any, x_column: Any, out: Any, out_column: Any, width: Any) -> None:
    """Set out[n, out_column + k] = x[n, x_column + k] for k < width."""
    i = cuda.grid(1)
    if i < x.shape[0] * width:
        n, k = i // width, i % width
        out[n, out_column + k] = x[n, x_column + k]


@kernel(THREADS)
def quantize(scale: Any, offset: Any, limit: Any, x: Any, out: Any, refused: Any) -> None:
    """Write real x [M, F], of any floating or integer type and strides, as int16; refused[0] counts values that are no finite float32."""
    i = cuda.grid(1)
    if i < out.shape[0] * out.shape[1]:
        m, k = i // out.shape[1], i % out.shape[1]
        value = float(x[m, k])
        if abs(value) <= LARGEST:
            f = k if scale.shape[0] > 1 else 0
            out[m, k] = int64(to_integers(value, scale[f], limit, offset[f]))
        else:
            out[m, k] = 0
            cuda.atomic.add(refused, 0, 1)


@kernel(THREADS)
def check_state(least: Any, largest: Any, values: Any, refused: Any) -> None:
    """Count in refused[0] the values [M], int16 or int32, that are not in least … largest."""
    m = cuda.grid(1)
    if m < values.shape[0] and not least <= int64(values[m]) <= largest:
        cuda.atomic.add(refused, 0, 1)


@kernel(THREADS)
def check_tokens(vocabulary: Any, x: Any, out: Any, refused: Any) -> None:
    """Set out [M] int64 = x [M] of any integer type; refused[0] counts those not in 0 … vocabulary - 1, which become 0."""
    m = cuda.grid(1)
    if m < out.shape[0]:
        value = int64(x[m])
        if 0 <= value < vocabulary:
            out[m] = value
        else:
            out[m] = 0
            cuda.atomic.add(refused, 0, 1)


@kernel(THREADS)
def write_output(
    q: Any, scale: Any, offset: Any, indices: Any, positions: Any, lengths: Any, steps: Any, out: Any
) -> None:
    """Set out[m, positions[k]] = (q[m, indices[k]] + offset) · scale, rounded to its type, and zero past a sequence's length.

    ``scale`` and ``offset`` are both [1] or both [F]. ``steps`` is the number of rows of each sequence, 0 without time.
    """
    i = cuda.grid(1)
    width = indices.shape[0]
    if i < q.shape[0] * width:
        m, k = i // width, i % width
        f = indices[k]
        s = f if scale.shape[0] > 1 else 0
        value = to_reals(float(q[m, f]), scale[s], offset[s])
        if steps > 0 and m % steps >= lengths[m // steps]:
            value = 0.0
        out[m, positions[k]] = value
