"""What a forward pass tells the backward pass: records of numbers and of how they are read."""

from __future__ import annotations

from typing import Any, NamedTuple

from qrnn.model.parts import FloatArray, IndexArray


class Passed(NamedTuple):
    """Numbers after a function, and the derivative of that function by its argument, or a number for all."""

    values: FloatArray
    slope: Any


class Steps(NamedTuple):
    """What one direction did at every step, in time order: arguments of gates [N, T, G·H], h [N, T, P], and c [N, T, H] or [N, T, 0].

    States are integers in units of ``h_unit`` and ``c_unit``, or real numbers.
    """

    arguments: Any
    h: Any
    c: Any
    h_unit: float = 1.0
    c_unit: float = 1.0

    def ordered(self, rows: IndexArray, order: IndexArray) -> Steps:
        """Return the steps in another order."""
        arguments, h, c = (array[rows, order] for array in (self.arguments, self.h, self.c))
        return self._replace(arguments=arguments, h=h, c=c)


class Functions(NamedTuple):
    """Functions at every step, as compiled loops read them: see `qrnn.qat.lookups.look_up`."""

    arguments: Any
    tables: Any


class Reading(NamedTuple):
    """How R reads h: integers lose ``shift`` bits and stay within ±``limit``, in units of ``unit``.

    ``step`` is that unit, or 0 of real numbers. The argument of the function of c has ``cell_shift`` fraction bits less than c.
    """

    shift: int = 0
    limit: int = 0
    unit: float = 1.0
    step: float = 0.0
    cell_shift: int = 0


class Projected(NamedTuple):
    """How the state before a projection is rounded: to ``unit`` within ±``most`` of it; then for its matrix to ``step`` within ±``limit``."""

    unit: float = 0.0
    most: float = 0.0
    step: float = 0.0
    limit: float = 0.0
