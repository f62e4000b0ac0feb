"""An integer layer says these things about itself: its matrices, formats, roundings, loops, and which parts can be integers alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qrnn.model.parts import (
    CELL_MAX,
    FloatArray,
    GateFunction,
    Int8Array,
    Int64Array,
    Matrix,
    Operand,
    QuantInitialState,
)
from qrnn.system.brief import Brief


@dataclass(frozen=True)
class Reading:
    """How a layer reads a tensor: by a matrix product through ``operand``, or as fixed-point with ``frac`` fraction bits.

    Where both are None, the layer reads any fixed-point tensor.
    """

    tensor: str
    frac: int | None = None
    operand: Operand | None = None


@dataclass(frozen=True)
class Narrowed(Brief):
    """Values of a run that a layer clamps to ±limit, as they are before the clamp.

    ``where`` says in words what they become, and ``tensor`` names the tensor that they come from, in whose order ``values`` are.
    """

    where: str
    tensor: str
    values: Int64Array
    limit: int


@dataclass(frozen=True)
class Written:
    """A fixed-point tensor as a layer writes it: with ``frac`` fraction bits, within ±limit, and with an offset or one for each feature."""

    frac: int
    limit: int
    offset: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Part:
    """A part of a quantized model that is an integer there, and that can be put in the place of the float model's.

    ``where`` names the layer, with the direction's number for what belongs to a direction. ``kind`` is one of ``input weights``,
    ``recurrent weights``, ``biases``, ``gate function`` (each of one ``gate``), ``peepholes``, ``projection``, ``x operand``,
    ``h operand``, ``h state``, ``c state``; ``weights`` and ``biases`` of a dense layer, ``function`` of a pointwise one, ``output`` of any
    other.
    """

    where: str
    kind: str
    gate: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.gate + ', ' if self.gate else ''}{self.kind}"


Chosen = Collection[Part]
"""The parts that replace those of the float model."""


@dataclass
class StandIns:
    """What the integers of chosen parts do to the numbers of a run in float64, by the names of `Equations`.

    ``operands`` maps a reader to (real value of one unit, limit, real value of the integer 0); ``functions`` maps a name to (integer function,
    whether it computes 1 - f); ``states`` maps a name to (fraction bits, limit); ``tensors`` names those that are kept as integers.
    """

    operands: dict[str, tuple[FloatArray, int, FloatArray]] = field(default_factory=dict)
    functions: dict[str, tuple[GateFunction, bool]] = field(default_factory=dict)
    states: dict[str, tuple[int | Int64Array, int]] = field(default_factory=dict)
    tensors: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class LayerMatrix(Brief):
    """A matrix of a layer, with what the overflow proof, refinement and descriptions ask of it.

    ``name`` is its name in the model, ``layer.weight`` or ``layer[d].weight_ih``; ``part`` its weights as a part; ``pre_shift`` and
    ``fracs`` its rows' shifts and fraction bits, [R]; ``operand`` how it reads its input; ``gates`` the names of the gates whose rows it
    holds, in equal blocks; ``times`` how often a step multiplies by it.
    """

    name: str
    part: Part
    matrix: Matrix
    pre_shift: Int8Array
    fracs: Int64Array
    operand: Operand
    gates: tuple[str, ...] = ()
    times: int = 1

    @property
    def row_scale(self) -> FloatArray:
        """Return the real value of one accumulator unit of each row, [R]; an integer weight is worth that, divided by the operand's unit."""
        return row_scale(self.matrix, self.pre_shift, self.fracs)


def row_scale(matrix: Matrix, pre_shift: Int8Array, fracs: Int64Array) -> FloatArray:
    """Return the real value of one accumulator unit of each row of ``matrix``, [R], whose results have ``fracs`` fraction bits."""
    factor = matrix.multiplier * 2.0 ** (matrix.left_shift.astype(np.float64) - 32)
    scale: FloatArray = factor * 2.0 ** (pre_shift.astype(np.float64) - fracs)
    return scale


@dataclass(frozen=True)
class Weights(Brief):
    """A matrix of weights of a float layer, [R, K].

    ``reads``: the tensor whose features its columns multiply, K of them or, of several steps, a multiple of them; empty for a matrix that reads
    a state of the layer. ``width``: the part of `Layer.width_parts` that says its bits; empty for a matrix that has eight.
    """

    values: FloatArray
    reads: str = ""
    width: str = ""


@dataclass(frozen=True)
class PartSize:
    """How much a choice of width for a part of a layer is about.

    ``products`` counts the multiply-adds of a time step, ``read`` the values that an operand has, or the weights that a matrix has.
    """

    products: int
    read: int


@dataclass(frozen=True)
class Rounding:
    """A place where a layer rounds and saturates (docs/arithmetic.md, section 8), in words."""

    where: str
    rounded: str
    saturated: str


@dataclass(frozen=True)
class Bytes:
    """The bytes that a layer holds beside its matrices and gate tables.

    ``weights`` counts tables of numbers, ``rows`` what each row has of its own, and ``state`` the state.
    """

    weights: int = 0
    rows: int = 0
    state: int = 0


Loop = Callable[..., None]
"""A function loop(first, last, *parameters, *inputs, out) that computes rows first … last - 1 of out.

It sets them, of out [M, F'], from the same rows of the inputs, [M, F], or [M] for tokens."""


@dataclass(frozen=True)
class RowLoop:
    """A loop over rows that defines the integers of a layer, which every backend must give.

    ``make(contract)`` returns the `Loop`; the functions of `qrnn.arithmetic` are attributes of ``contract``. The reference runs the loop on
    Python's unbounded integers, and a backend without loops of its own compiles it. ``parameters`` are integers and arrays of integers;
    ``inputs`` are the names of tensors.
    """

    make: Callable[[Any], Loop]
    parameters: tuple[Any, ...]
    inputs: tuple[str, ...]


ANY_STEPS = -1
"""The length of an axis of a `StateArray` that has all steps of a whole sequence (`QuantLayer.step_arrays`)."""


@dataclass(frozen=True)
class StateArray:
    """A state array: a named integer array that a layer keeps from one time step to the next, [N, *shape] for N sequences.

    ``dtype`` is int16 or int32. Every value that a step ends with lies within ±limit (a value of -2^31 is allowed where the limit is
    2^31 - 1), and is not below ``least`` where that is given. ``starts`` is what a sequence begins with, one for each index of the first
    axis of ``shape``; zeros where it is empty. ``frac`` is the number of fraction bits in which graph state inputs are quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: type[np.int16] | type[np.int32]
    limit: int
    frac: int = 0
    starts: tuple[QuantInitialState, ...] = ()
    least: int | None = None

    @property
    def range(self) -> tuple[int, int]:
        """Return the least and the largest value of the array."""
        if self.least is not None:
            return self.least, self.limit
        return (-(1 << 31) if self.limit == CELL_MAX else -self.limit), self.limit


@dataclass(frozen=True)
class Scratch:
    """An array of a `StepLoop` whose contents mean nothing between two steps, [N, *shape] for N sequences."""

    shape: tuple[int, ...]
    dtype: type[np.int16] | type[np.int32] | type[np.int64]


Step = Callable[..., int]
"""A function step(n, t, k, *inputs, out, *states, *parameters, *scratch) that does one time step of sequence n.

It reads x[n, t] of each input x, [N, T, F] int16, in the order of the layer's ``inputs``, writes rows from out[n, k] on, of out [N, T', F']
int16, and returns how many rows it wrote. ``t`` is -1 for a step past the end of the sequence, whose input is zero: no input is then read.
States and scratch arrays have n as their first index."""


@dataclass(frozen=True)
class StepLoop:
    """What a layer with a state does in one time step, which defines the integers that every backend must give.

    ``make(contract)`` returns the `Step`. Attributes of ``contract`` are the functions of `qrnn.arithmetic`, and beside them
    ``contract.dot(weight, r, x, n)``, the sum of weight[r, k] · x[n, k] over k, which is proved to fit an int32. The reference runs the
    step on Python's unbounded integers; a backend without a kernel of its own compiles it; the C export translates it. So it is written in
    a small language: integers, indexed arrays with all of their indices, ``shape``, ``for … in range``, ``if``, arithmetic, comparisons,
    and calls of the contract. ``parameters`` are integers and arrays of integers.

    A layer that needs the end of a sequence at each of its steps (`GraphLayer.needs_end`) goes through it twice: ``before`` makes a step of
    the same arguments, which is taken for every step of a sequence first, and returns 0.
    """

    make: Callable[[Any], Step]
    parameters: tuple[Any, ...]
    scratch: tuple[Scratch, ...] = ()
    before: Callable[[Any], Step] | None = None
