"""Backpropagation through time by a compiled loop (`qrnn.qat.kernels`), for all cells but those with layer normalization inside.

It gives what `qrnn.qat.recurrent.steps_back` gives, at the arguments of the gates that the forward pass had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.direction import Direction
from qrnn.qat import loop_numbers as loop
from qrnn.qat.numbers import Functions
from qrnn.qat.passes import DirectionGradients, DirectionPass
from qrnn.qat.spreading import spread_parts

Fast = Callable[[DirectionPass], DirectionGradients]

_CELLS = frozenset({"lstm", "gru", "rnn", "indrnn", "min_gru"})

_PLACES = {"i": 0, "f": 1, "g": 2, "o": 3, "r": 0, "z": 1, "n": 2, "h": 0}
"""Where the loop keeps the numbers of a gate; see `qrnn.qat.kernels`."""


def fast_of(layer: Recurrent, d: Direction) -> Fast | None:
    """Return the compiled way for a direction; None where there is none."""
    if layer.cell not in _CELLS or (d.projection is not None and d.projection.function is not None):
        return None
    return _back


def _back(made: DirectionPass) -> DirectionGradients:
    """Go back through time by the compiled loop, a part of the sequences on each core."""
    from qrnn.qat import kernels  # which brings the compiler

    given, N, real, d = _given(made), len(made.of_h), made.values.real, made.d
    h, c = made.of_last.astype(real), made.of_cell.astype(real)
    begun_h, begun_c = np.zeros_like(h), np.zeros_like(c)
    of_x = np.zeros(given.x.shape if made.wants_x else (0, 0, 0), real)
    shapes = {
        "weight_ih": d.weight_ih.shape,
        "bias_ih": d.bias_ih.shape,
        "weight_hh": given.R.shape,
        "bias_hh": d.bias_hh.shape if len(given.R) else (0,),
        "diagonal": given.diagonal.shape,
        "peephole": given.peephole.shape,
        "projection.weight": given.projection.weight.shape,
        "projection.bias": given.projection.weight.shape[:1],
    }

    def part(first: int, last: int) -> dict[str, Any]:
        sums = {name: np.zeros(shape, real) for name, shape in shapes.items()}
        kernels.back(first, last, given, loop.Wanted(h, c, begun_h, begun_c, of_x, *sums.values()))
        return sums

    found = spread_parts(part, N, kernels.BLOCK)
    arrays = {name: sum(own[name] for own in found) for name, shape in shapes.items() if shape[0]}
    if "bias_hh" not in arrays:  # b of R·h + b is there where R is not
        arrays["bias_hh"] = arrays["bias_ih"]
    if made.layer.memory:
        begun_h, begun_c = h, c
    return DirectionGradients(of_x if made.wants_x else None, begun_h, begun_c, arrays)


def _given(made: DirectionPass) -> loop.Given:
    """Return what the loop reads."""
    from qrnn.qat.chunk_loops import GRU, LSTM, RNN

    layer, d, values, steps = made.layer, made.d, made.values, made.steps
    real, H, P = values.real, made.layer.hidden_size, made.of_h.shape[2]

    def of(array: Any) -> Any:
        return _whole(array, real)

    def state(after: Any, before: Any, unit: float, most: float) -> Any:
        raw = np.round(before / unit) if unit != 1.0 else before
        arrays = _whole(after, None), _whole(raw, after.dtype)
        return loop.States(*arrays, of([unit]), most)

    none = np.zeros((0, 0), real)
    family = {"lstm": LSTM, "gru": GRU, "min_gru": GRU}.get(layer.cell, RNN)
    is_gru = layer.cell == "gru"
    after = is_gru and layer.linear_before_reset
    R = none.reshape(0, P) if d.weight_hh is None else of(d.weight_hh)
    h_most, c_most = values.ends(layer, made.number)
    reading, p, own = values.reading(layer, made.number), d.projection, values.projected(layer, made.number)
    return loop.Given(
        cell=loop.Cell(family, layer.forget == "gate", layer.forget == "coupled", is_gru, after, layer.memory),
        H=H,
        places=np.array([_PLACES[gate] for gate in layer.gates]),
        lengths=_whole(made.lengths, np.int64),
        gates=Functions(*(_whole(a, None) for a in values.looked_up(layer, made.number, steps.arguments))),
        output=Functions(*(_whole(a, None) for a in values.output(layer, made.number, steps.c))),
        shift=reading.cell_shift,
        h=state(steps.h, made.before[0], steps.h_unit, h_most),
        c=state(steps.c, made.before[1], steps.c_unit, c_most),
        operand=loop.Operand(reading.shift, reading.limit, of([reading.unit]), reading.step),
        x=of(made.x),
        weight_ih=of(d.weight_ih) if made.wants_x else none,
        R=R,
        turned=of(R[2 * H :].T) if after else none,
        bias=of(d.bias_hh[2 * H :]) if after else none[0:0].reshape(0),
        diagonal=of([] if d.diagonal is None else d.diagonal),
        peephole=of([] if d.peephole is None else d.peephole),
        projection=loop.Projection(none.reshape(0, H) if p is None else of(p.weight), *own),
        of_h=of(made.of_h),
    )


def _whole(array: Any, kind: Any) -> Any:
    """Return an array in one piece that may be written: the loop is compiled once for all, so that types have to be the same."""
    return np.require(array, kind, ["C", "W"])
