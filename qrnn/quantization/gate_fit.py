"""Piecewise-linear fits with uniform knots, in closed form: the least largest error of any continuous fit with those knots.

Let d(s) be f minus its chord at the fraction s in [0, 1] of a segment, and d the extreme of d(s). f is concave or convex on each segment,
so d(s) has one sign there.

- A segment whose ends may both move: no line is nearer to f than |d|/2, and moving both ends by d/2 reaches that.
- A segment with one fixed end, s counted from it: the other end, moved by e, is wrong by e, and f - p = d(s) - e·s inside. Both stay
  within |e| exactly from e = max d(s)/(1 + s) on.

These are the demands of the segments; the largest of all is a lower bound for every fit. Each knot is moved by the larger demand of its
two segments. A segment whose ends are moved by u, v with the sign of d and |u|, |v| ≥ |d|/2 is wrong by at most max(|d|/2, |u|, |v|). So
where all segments curve to the same side (concave: sigmoid, tanh, softsign on x ≥ 0; convex: exp, softplus) the fit reaches the lower
bound and is optimal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qrnn.model.parts import FloatArray

RealFunction = Callable[[FloatArray], FloatArray]


def fit_knots(
    function: RealFunction, width: float, segments: int, start: float = 0.0, fixed_start: bool = True
) -> FloatArray:
    """Return the knot values [segments + 1] of the minimax continuous fit on [start, start + width · segments].

    The function's curvature has one sign on all of it. With ``fixed_start``, knot 0 stays at f(start).
    """
    knots = start + width * np.arange(segments + 1, dtype=np.float64)
    values = function(knots)
    inside = np.linspace(0.0, 1.0, 65)
    x = knots[:-1, None] + width * inside
    chord = values[:-1, None] * (1 - inside) + values[1:, None] * inside
    deviation = function(x) - chord  # ≥ 0 where concave, ≤ 0 where convex
    share = np.full_like(deviation, 2.0)
    if fixed_start:
        share[0] = 1.0 + inside
    shared = deviation / share
    least = np.where(shared.max(axis=1) >= -shared.min(axis=1), shared.max(axis=1), shared.min(axis=1))
    padded = np.concatenate([[0.0], least, [0.0]])
    left, right = padded[:-1], padded[1:]
    lift = np.where(np.abs(left) >= np.abs(right), left, right)
    if fixed_start:
        lift[0] = 0.0
    fitted: FloatArray = values + lift
    return fitted


def fit_with_kink(function: RealFunction, width: float, segments: int) -> FloatArray:
    """Return the knot values [2 · segments + 1] of a fit on ±width · segments that is exact at x = 0, where f may have a kink.

    Each half is fitted by itself: the fit is optimal among those that are exact at 0, and a linear half stays exact. Against fits that are
    not, the largest error is at most 2 times as large (d/(1 + s) against d/2), 1.38 times where f is near a parabola on the segment at 0,
    and 1.42 times for elu with segments of width 1.
    """
    left = fit_knots(lambda x: function(-x), width, segments)
    right = fit_knots(function, width, segments)
    return np.concatenate([left[:0:-1], right])
