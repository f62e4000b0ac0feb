"""Recurrent layers over bands of features: within each time step, or over time for each band, with the same weights for all bands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from qrnn.errors import DataError, UnsupportedError
from qrnn.layers.checks import count, place, shaped
from qrnn.layers.tensors import Node, Recurrent, Slot, State, Tensor, sequence, tensor_name
from qrnn.model.float_model import TensorInfo
from qrnn.model.kinds.over_bands import OverBands
from qrnn.model.kinds.per_band import PerBand
from qrnn.model.kinds.recurrent import Recurrent as RecurrentLayer
from qrnn.model.kinds.recurrent.definition import InitialState
from qrnn.model.layer import Layer

Make = Callable[[Tensor], Recurrent]
"""Makes a recurrent layer over one band, a tensor of I features over time."""


def over_bands(t: Tensor, bands: int, make: Make, *, name: str | None = None) -> Tensor:
    """Run a recurrent layer over the bands of each time step: t [N, T, B·I] gives [N, T, B·D·P].

    ``make(band)`` returns the layer, as `gru`, `lstm` and others do, with one direction or by `bidirectional`; it reads ``band``, which has
    the I features of a band and, in the place of time steps, the B = ``bands`` bands of one step. A step holds the features of a band one
    after the other, and so does the result. Each time step begins with the layer's h_0 and c_0, which are constants, so that nothing goes on
    from step to step.

        intra = layers.over_bands(x, 32, lambda band: layers.bidirectional(
            layers.gru(band, w, u), layers.gru(band, w_back, u_back, reverse=True)))

    Source: dual-path networks, Luo, Chen, Yoshioka 2020, https://arxiv.org/abs/1910.06379.
    """
    where = place("over_bands", name)
    t, layer, states = _made(where, t, bands, make)
    if states:
        raise UnsupportedError(
            f"{where}: the initial state {states[0].name!r} is a graph input; every time step begins with constants"
        )
    taken = {field.name: getattr(layer, field.name) for field in fields(RecurrentLayer)}
    wide = bands * len(layer.directions) * layer.output_size

    def finished(own: str, names: tuple[str, ...]) -> Layer:
        c_n = None if layer.c_n is None else ""
        return OverBands(**{**taken, "name": own, "input": names[0], "output": own, "h_n": "", "c_n": c_n}, bands=bands)

    return Node("over_bands", name, (t,), finished, {"": TensorInfo(wide, True)}).tensor()


def per_band(
    t: Tensor, bands: int, make: Make, *, h_0: Any = None, c_0: Any = None, name: str | None = None
) -> Recurrent:
    """Run a recurrent layer over time for each band: t [N, T, B·I] gives ``output`` [N, T, B·D·P].

    ``make(band)`` returns the layer, as `gru`, `lstm` and others do; it reads ``band``, which has the I features of one of the B = ``bands``
    bands over time. All bands have its weights, and each has a state of its own: ``h_n`` is [N, D·B·P] and ``c_n`` [N, D·B·H], direction after
    direction.

    A layer's own h_0 [P] and c_0 [H] are those of every band. For a layer of one direction, ``h_0`` [B·P] and ``c_0`` [B·H] give each band
    its own: arrays, or graph inputs by `state`.

        inter = layers.per_band(x, 32, lambda band: layers.gru(band, weight_ih, weight_hh))

    Source: dual-path networks, Luo, Chen, Yoshioka 2020, https://arxiv.org/abs/1910.06379.
    """
    where = place("per_band", name)
    t, layer, states = _made(where, t, bands, make)
    if states:
        raise DataError(
            f"{where}: the layer of one band begins with the state input {states[0].name!r}; give per_band h_0 and c_0 of all bands"
        )
    if (h_0 is not None or c_0 is not None) and len(layer.directions) > 1:
        raise UnsupportedError(f"{where}: h_0 and c_0 are for a layer of one direction")
    if c_0 is not None and layer.c_n is None:
        raise DataError(f"{where}: c_0 is given, but the cell {layer.cell} has no c")
    sources = tuple(s for s in (h_0, c_0) if isinstance(s, State))
    directions = tuple(
        replace(
            d,
            h_0=_start(where, "h_0", h_0, d.h_0, bands),
            c_0=None if d.c_0 is None else _start(where, "c_0", c_0, d.c_0, bands),
        )
        for d in layer.directions
    )
    taken = {field.name: getattr(layer, field.name) for field in fields(RecurrentLayer)} | {"directions": directions}
    D = len(layer.directions)
    wide = bands * D * layer.output_size
    writes: dict[Slot, TensorInfo] = {"": TensorInfo(wide, True), "h_n": TensorInfo(wide, False)}
    if layer.c_n is not None:
        writes["c_n"] = TensorInfo(bands * D * layer.hidden_size, False)

    def finished(own: str, names: tuple[str, ...]) -> Layer:
        c_n = None if layer.c_n is None else tensor_name(own, "c_n")
        given = {**taken, "name": own, "input": names[0], "output": own, "h_n": tensor_name(own, "h_n"), "c_n": c_n}
        return PerBand(**given, bands=bands)

    node = Node("per_band", name, (t,), finished, writes, sources)
    handle = PerBand(**taken, bands=bands)
    return Recurrent(node.tensor(), node.tensor("h_n"), node.tensor("c_n") if "c_n" in writes else None, handle, t)


def _made(where: str, t: Tensor, bands: Any, make: Make) -> tuple[Tensor, RecurrentLayer, tuple[State, ...]]:
    """Return the input, the layer that ``make`` gives for a band of it, and the graph state inputs of that layer."""
    t = sequence(where, t)
    bands = count(where, "bands", bands)
    if t.features % bands:
        raise DataError(f"{where}: its input {t.name!r} has {t.features} features, which are not {bands} equal bands")
    band = Tensor(t.features // bands, True, t.source, t.slot)
    handle = make(band)
    if not isinstance(handle, Recurrent):
        raise DataError(f"{where}: make returns {type(handle).__name__}, expected what lstm, gru and others return")
    if handle.layer.is_started:
        raise UnsupportedError(
            f"{where}: the layer of one band begins with a computed state, {handle.layer.name or handle.layer.cell}; give it an array"
        )
    if handle.input is not band or type(handle.layer) is not RecurrentLayer:
        raise DataError(f"{where}: the layer that make returns does not read the band that it is given")
    assert isinstance(handle.output.source, Node)
    return t, handle.layer, handle.output.source.states


def _start(where: str, what: str, given: Any, own: InitialState, bands: int) -> InitialState:
    """Return what all bands begin with: what is given for them, or the layer's own for each."""
    size = bands * len(own.value)
    if given is None:
        return InitialState(np.tile(own.value, bands))
    if isinstance(given, State):
        if given.size != size:
            raise DataError(f"{where}: {what} is the state input {given.name!r} of size {given.size}, expected {size}")
        return InitialState(np.zeros(size), given.name, np.arange(size))
    return InitialState(shaped(where, what, given, (size,), f"[{bands}·{len(own.value)}]"))
