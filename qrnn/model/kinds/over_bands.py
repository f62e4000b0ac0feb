"""A recurrent layer over the bands of features of each time step, which begins every step anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qrnn.model.kinds.recurrent.bands import Banded, QuantBanded
from qrnn.model.kinds.recurrent.grouping import EachStep
from qrnn.model.kinds.recurrent.layer import Recurrent
from qrnn.model.kinds.recurrent.quantized_layer import QuantRecurrent
from qrnn.model.kinds.recurrent.rule import quantize
from qrnn.model.layer_facts import Bytes, StateArray
from qrnn.model.parts import LEFT_OUT, require
from qrnn.model.surroundings import Checks, Plan
from qrnn.model.time import TimeAxis


@dataclass(frozen=True)
class OverBands(Banded, Recurrent):
    """Run a recurrent layer over the ``bands`` B bands of each time step, from the constants h_0 and c_0.

    x [N, T, B·I] holds the I features of a band one after the other, and ``output`` [N, T, B·D·P] the D·P of each band; a reverse direction
    runs from the last band to the first. Nothing goes on from one time step to the next. ``h_n`` and ``c_n`` name no tensors: they are
    empty, and None for a cell without c. Other fields are those of `Recurrent`.
    """

    keeps_state = False

    bands: int = 1

    @property
    def grouping(self) -> EachStep:
        """Return that each time step is a sequence of its bands."""
        return EachStep(self.bands)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the name of the one tensor that is written."""
        return (self.output,)

    @property
    def backward(self) -> bool:
        """Return False: no direction reads time steps backwards."""
        return False

    def quantize(self, plan: Plan) -> QuantOverBands:
        """Decide the formats of gate functions and states, and make the integer matrices and the integer layer."""
        made = quantize(plan, self, QuantOverBands, bands=self.bands)
        assert isinstance(made, QuantOverBands)
        return made


@dataclass(frozen=True)
class QuantOverBands(QuantBanded, QuantRecurrent):
    """Run a recurrent layer over the ``bands`` bands of each time step: see `OverBands`, and `QuantRecurrent` for the other fields."""

    bands: int = field(default=1, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        super().__post_init__()
        where, states = f"layer {self.name}", [s for d in self.directions for s in (d.h_0, d.c_0) if s is not None]
        require(not self.h_n and not self.c_n, f"{where}: h_n and c_n name tensors, expected none")
        require(self.memory, f"{where}: memory is False, where no step reads the states of another")
        require(all(s.source is None for s in states), f"{where}: an initial state is a graph input")

    @property
    def grouping(self) -> EachStep:
        """Return that each time step is a sequence of its bands."""
        return EachStep(self.bands)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the name of the one tensor that is written."""
        return (self.output,)

    @property
    def by_rows(self) -> bool:
        """Return True: each time step is computed by itself."""
        return True

    @property
    def backward(self) -> bool:
        """Return False: no direction reads time steps backwards."""
        return False

    @property
    def whole_sequences(self) -> bool:
        """Return False: every time step is whole."""
        return False

    def states(self) -> tuple[StateArray, ...]:
        """Return no arrays: nothing goes on from step to step."""
        return ()

    def starts(
        self, states: Mapping[str, tuple[Any, ...]], tensors: Mapping[str, Any], axis: TimeAxis
    ) -> tuple[Any, ...]:
        """Return h_0 and c_0 of each time step, [N·T, D, P] and [N·T, D, H]."""
        return self.begin(len(axis.lengths) * axis.steps)

    def begin(self, rows: int) -> tuple[Any, ...]:
        """Return h_0 [rows, D, P] int16 and c_0 [rows, D, H] int32, of size 0 for a cell without c."""
        found = []
        for state in super().states():
            values = np.zeros((rows, *state.shape), state.dtype)
            for number, start in enumerate(state.starts):
                values[:, number] = start.value
            found.append(values)
        return tuple(found)

    def check(self, checks: Checks) -> None:
        """Refuse tensors of other shapes than x [N, T, B·I] and output [N, T, B·D·P]."""
        self.check_bands(checks)

    def own_bytes(self) -> Bytes:
        """Return the bytes of a recurrent layer, without a state."""
        return Bytes(rows=super().own_bytes().rows)
