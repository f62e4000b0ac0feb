"""Compiled loops of backpropagation through time, for rows ``first`` … ``last`` - 1 of a batch, by docs/training_equations.md.

All real arrays have one type, float32 or float64. Steps are in the order of processing. Names: ``gates`` and ``slopes`` [N, T, G·H] are the
values and derivatives of the gates, ``of_h`` [N, T, H] the gradient of h that comes from outside, ``sums`` [N, T, G·H] what is wanted: the
gradient of the gates' arguments. ``dh`` and ``dc`` [N, H] go from the gradients of the last states to those of the first ones. ``live``
arrays are uint8 [N, T, H]: 0 where h after a step (``h_live``), c after it (``c_live``) or h before it as R reads it (``r_live``) was
clamped. A sequence ends after ``lengths`` steps; what lies behind stays as it is, so that ``sums`` begin with zeros.
"""

from __future__ import annotations

from typing import Any

import numba

_BLOCK = 8
"""Sequences that go through time together, so that each row of R is read once for all of them."""

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": {"reassoc", "contract", "nsz"}}


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def look_up(
    first: int, last: int, arguments: Any, units: int, values: Any, slopes: Any, out: Any, out_slopes: Any
) -> None:
    """Set ``out`` and ``out_slopes`` [M, G·H] to what tables of each gate, G of 65536 numbers, say of int16 ``arguments`` [M, G·H]."""
    for gate in range(len(values)):
        of_value, of_slope = values[gate], slopes[gate]
        for m in range(first, last):
            for u in range(gate * units, (gate + 1) * units):
                place = arguments[m, u] + 32768
                out[m, u] = of_value[place]
                out_slopes[m, u] = of_slope[place]


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _through(R: Any, sums: Any, t: int, lengths: Any, first: int, last: int, total: Any) -> None:
    """Set total [B, P] to R^T · sums[n, t] for the rows of a block: of a sequence that has ended, to anything."""
    total[:] = 0.0
    rows = R.shape[0]
    k = 0
    while k + 4 <= rows:
        for n in range(first, last):
            if t < lengths[n]:
                a, b, c, d = sums[n, t, k], sums[n, t, k + 1], sums[n, t, k + 2], sums[n, t, k + 3]
                for p in range(R.shape[1]):
                    total[n - first, p] += a * R[k, p] + b * R[k + 1, p] + c * R[k + 2, p] + d * R[k + 3, p]
        k += 4
    while k < rows:
        for n in range(first, last):
            if t < lengths[n]:
                for p in range(R.shape[1]):
                    total[n - first, p] += sums[n, t, k] * R[k, p]
        k += 1


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def lstm_back(
    first: int, last: int, own_forget: bool, coupled: bool, lengths: Any, gates: Any, slopes: Any, activated: Any, activated_slope: Any,
    before: Any, R: Any, peephole: Any, of_h: Any, h_live: Any, c_live: Any, r_live: Any, dh: Any, dc: Any, total: Any, sums: Any,
) -> None:  # fmt: skip
    """Go back through an LSTM whose rows are the blocks i, f (with ``own_forget``), g, o.

    ``activated`` [N, T, H] is output(c) and ``activated_slope`` its derivative; ``before`` [N, T, H] is c before each step.
    """
    H, T = dh.shape[1], gates.shape[1]
    at_f, at_g = H, H + H * own_forget
    at_o = at_g + H
    for begin in range(first, last, _BLOCK):
        end = min(begin + _BLOCK, last)
        for t in range(T - 1, -1, -1):
            for n in range(begin, end):
                if t >= lengths[n]:
                    continue
                for u in range(H):
                    i, g, o = gates[n, t, u], gates[n, t, at_g + u], gates[n, t, at_o + u]
                    of = (of_h[n, t, u] + dh[n, u]) * h_live[n, t, u]
                    by_o = of * activated[n, t, u] * slopes[n, t, at_o + u]
                    by_c = dc[n, u] + of * o * activated_slope[n, t, u] + by_o * peephole[at_o + u]
                    by_c = by_c * c_live[n, t, u]
                    by_i, carried = by_c * g, by_c
                    if own_forget:
                        by_f = by_c * before[n, t, u] * slopes[n, t, at_f + u]
                        sums[n, t, at_f + u] = by_f
                        carried = by_c * gates[n, t, at_f + u] + by_f * peephole[at_f + u]
                    elif coupled:
                        by_i -= by_c * before[n, t, u]
                        carried = by_c * (1 - i)
                    by_i = by_i * slopes[n, t, u]
                    sums[n, t, u] = by_i
                    sums[n, t, at_g + u] = by_c * i * slopes[n, t, at_g + u]
                    sums[n, t, at_o + u] = by_o
                    dc[n, u] = carried + by_i * peephole[u]
            _through(R, sums, t, lengths, begin, end, total)
            for n in range(begin, end):
                if t < lengths[n]:
                    for u in range(H):
                        dh[n, u] = total[n - begin, u] * r_live[n, t, u]


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def gru_back(
    first: int, last: int, after: bool, lengths: Any, gates: Any, slopes: Any, before: Any, of_n: Any, R: Any, of_h: Any, h_live: Any,
    r_live: Any, reset_live: Any, dh: Any, total: Any, sums: Any, products: Any,
) -> None:  # fmt: skip
    """Go back through a GRU whose rows are the blocks r, z, n, with h' = z·h + (1 - z)·n.

    ``before`` [N, T, H] is h before each step. With ``after``, r multiplies R·h + b, whose rows of n are ``of_n`` [N, T, H]; else it
    multiplies h. ``products`` [N, T, 3·H] gets the gradient of R·h + b, or of R·(r ⊙ h) + b in its rows of n.
    """
    H, T = dh.shape[1], gates.shape[1]
    for begin in range(first, last, _BLOCK):
        end = min(begin + _BLOCK, last)
        for t in range(T - 1, -1, -1):
            for n in range(begin, end):
                if t >= lengths[n]:
                    continue
                for u in range(H):
                    z, new = gates[n, t, H + u], gates[n, t, 2 * H + u]
                    of = (of_h[n, t, u] + dh[n, u]) * h_live[n, t, u]
                    by_n = of * (1 - z) * slopes[n, t, 2 * H + u]
                    by_z = of * (before[n, t, u] - new) * slopes[n, t, H + u]
                    sums[n, t, H + u] = by_z
                    sums[n, t, 2 * H + u] = by_n
                    products[n, t, H + u] = by_z
                    dh[n, u] = of * z
                    if after:
                        by_r = by_n * of_n[n, t, u] * slopes[n, t, u]
                        sums[n, t, u] = by_r
                        products[n, t, u] = by_r
                        products[n, t, 2 * H + u] = by_n * gates[n, t, u]
                    else:
                        products[n, t, u] = 0
                        products[n, t, 2 * H + u] = by_n
            if not after:  # r ⊙ h goes through the rows of n first
                _through(R[2 * H :], products[:, :, 2 * H :], t, lengths, begin, end, total)
                for n in range(begin, end):
                    if t < lengths[n]:
                        for u in range(H):
                            of_reset = total[n - begin, u] * reset_live[n, t, u]
                            by_r = of_reset * before[n, t, u] * slopes[n, t, u]
                            sums[n, t, u] = by_r
                            products[n, t, u] = by_r
                            dh[n, u] += of_reset * gates[n, t, u]
                _through(R[: 2 * H], products, t, lengths, begin, end, total)
            else:
                _through(R, products, t, lengths, begin, end, total)
            for n in range(begin, end):
                if t < lengths[n]:
                    for u in range(H):
                        dh[n, u] += total[n - begin, u] * r_live[n, t, u]


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def rnn_back(
    first: int,
    last: int,
    lengths: Any,
    slopes: Any,
    R: Any,
    of_h: Any,
    h_live: Any,
    r_live: Any,
    dh: Any,
    total: Any,
    sums: Any,
) -> None:
    """Go back through h' = f(W·x + R·h + b)."""
    H, T = dh.shape[1], slopes.shape[1]
    for begin in range(first, last, _BLOCK):
        end = min(begin + _BLOCK, last)
        for t in range(T - 1, -1, -1):
            for n in range(begin, end):
                if t < lengths[n]:
                    for u in range(H):
                        sums[n, t, u] = (of_h[n, t, u] + dh[n, u]) * h_live[n, t, u] * slopes[n, t, u]
            _through(R, sums, t, lengths, begin, end, total)
            for n in range(begin, end):
                if t < lengths[n]:
                    for u in range(H):
                        dh[n, u] = total[n - begin, u] * r_live[n, t, u]
