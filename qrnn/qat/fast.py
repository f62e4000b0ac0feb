"""Backpropagation through time by compiled loops (`qrnn.qat.kernels`), for LSTM, GRU and RNN without a projection.

It gives what `qrnn.qat.recurrent.steps_back` gives, at the arguments of the gates that the forward pass had. All products with weights but
R^T · dz are made at once for all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.direction import Direction
from qrnn.model.parts import FloatArray
from qrnn.qat.passes import DirectionGradients, DirectionPass
from qrnn.qat.spreading import spread

Fast = Callable[[DirectionPass], DirectionGradients]


def fast_of(layer: Recurrent, d: Direction) -> Fast | None:
    """Return the compiled way for a direction; None where there is none."""
    if d.projection is not None or not layer.memory:
        return None
    return {"lstm": _lstm, "gru": _gru, "rnn": _rnn}.get(layer.cell)


class _Arrays:
    """The arrays that all loops have in common, of one type."""

    def __init__(self, made: DirectionPass) -> None:
        self.made, self.real = made, made.values.real
        passed = made.values.gates(made.layer, made.number, made.steps.arguments)
        self.gates, self.slopes = self.of(passed.values), self.of(passed.slope)
        (self.N, self.T, _), self.H = self.gates.shape, made.layer.hidden_size
        h_0, _ = made.before
        self.before = np.concatenate([self.of(h_0)[:, None], self.of(made.steps.h)[:, :-1]], axis=1)
        read = made.values.recurrent_operand(made.layer, made.number, self.before)
        self.read, self.r_live = self.of(read.values), self.live(read.slope)
        h_clamped, c_clamped = made.values.clamped(made.layer, made.number, made.steps)
        self.h_live, self.c_live = self.live(h_clamped), self.live(c_clamped)
        self.of_h, self.dh, self.R = self.of(made.of_h), self.of(made.of_last).copy(), self.of(made.d.matrix_hh)
        self.sums = np.zeros(self.gates.shape, self.real)
        self.lengths = np.ascontiguousarray(made.lengths)

    def of(self, array: Any) -> Any:
        """Return an array of the type that all have, in one piece."""
        return np.ascontiguousarray(array, self.real)

    def live(self, slope: Any) -> Any:
        """Return a derivative that is 0 or 1, [N, T, H] uint8."""
        return np.ascontiguousarray(np.broadcast_to(np.asarray(slope, np.uint8), (self.N, self.T, self.H)))

    def run(self, loop: Any, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
        """Run a loop over all rows, each thread with its own array for products."""

        def part(first: int, last: int) -> None:
            loop(first, last, *before, np.empty((8, self.H), self.real), *after)

        spread(part, self.N)

    def recurrent(self, products: Any, read: Any = None) -> FloatArray:
        """Return the gradient of rows of R, for the gradient of what R gives, [N, T, …]."""
        read = self.read if read is None else read
        flat = products.reshape(-1, products.shape[-1])
        made: FloatArray = flat.T @ read.reshape(len(flat), -1)
        return made


def _lstm(made: DirectionPass) -> DirectionGradients:
    from qrnn.qat.kernels import lstm_back

    a, d, H = _Arrays(made), made.d, made.layer.hidden_size
    c = a.of(made.steps.c)
    before = np.concatenate([a.of(made.before[1])[:, None], c[:, :-1]], axis=1)
    output = made.values.output(made.layer, made.number, c)
    peephole = a.of(np.zeros(a.gates.shape[2]) if d.peephole is None else d.peephole)
    dc, forget = a.of(made.of_cell).copy(), made.layer.forget
    fixed = (
        forget == "gate", forget == "coupled", a.lengths, a.gates, a.slopes, a.of(output.values), a.of(output.slope), before, a.R, peephole,
        a.of_h, a.h_live, a.c_live, a.r_live, a.dh, dc,
    )  # fmt: skip
    a.run(lstm_back, fixed, (a.sums,))
    arrays = {"weight_hh": a.recurrent(a.sums), "bias_hh": a.sums.sum(axis=(0, 1))}
    if d.peephole is not None:
        own = (a.sums[:, :, :-H].reshape(a.N, a.T, -1, H) * before[:, :, None]).sum(axis=(0, 1))
        own[-1] = 0.0  # of the candidate, which reads no c
        arrays["peephole"] = np.concatenate([own.ravel(), (a.sums[:, :, -H:] * c).sum(axis=(0, 1))])
    return DirectionGradients(a.sums, a.dh, dc, arrays)


def _gru(made: DirectionPass) -> DirectionGradients:
    from qrnn.qat.kernels import gru_back

    a, d, after, H = _Arrays(made), made.d, made.layer.linear_before_reset, made.layer.hidden_size
    turned = not made.layer.update_keeps
    if turned:  # h' = (1 - z)·h + z·n: the loop takes 1 - z for z
        a.gates[:, :, H : 2 * H] = 1 - a.gates[:, :, H : 2 * H]
        a.slopes[:, :, H : 2 * H] *= -1
    of_n, reset, reset_live = a.read, a.read, a.r_live
    if after:
        of_n = a.of(a.read.reshape(-1, H) @ a.R[2 * H :].T + d.bias_hh[2 * H :]).reshape(a.before.shape)
    else:
        passed = made.values.operand(f"{made.key}.h", a.gates[:, :, :H] * a.before)
        reset, reset_live = a.of(passed.values), a.live(passed.slope)
    products = np.zeros_like(a.sums)
    fixed = (after, a.lengths, a.gates, a.slopes, a.before, of_n, a.R, a.of_h, a.h_live, a.r_live, reset_live, a.dh)
    a.run(gru_back, fixed, (a.sums, products))
    weight = (
        a.recurrent(products)
        if after
        else np.concatenate([a.recurrent(products[:, :, : 2 * H]), a.recurrent(products[:, :, 2 * H :], reset)])
    )
    arrays = {"weight_hh": weight, "bias_hh": products.sum(axis=(0, 1))}
    return DirectionGradients(a.sums, a.dh, np.zeros((a.N, 0)), arrays)


def _rnn(made: DirectionPass) -> DirectionGradients:
    from qrnn.qat.kernels import rnn_back

    a = _Arrays(made)
    a.run(rnn_back, (a.lengths, a.slopes, a.R, a.of_h, a.h_live, a.r_live, a.dh), (a.sums,))
    arrays = {"weight_hh": a.recurrent(a.sums), "bias_hh": a.sums.sum(axis=(0, 1))}
    return DirectionGradients(a.sums, a.dh, np.zeros((a.N, 0)), arrays)
