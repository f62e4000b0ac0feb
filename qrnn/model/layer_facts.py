"""What an integer layer says about itself: its matrices, formats, roundings, loops and the parts that can stand alone in a float model."""

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


@dataclass(frozen=True)
class Reading:
    """How a layer reads a tensor: by a matrix product through ``operand``, as fixed-point with ``frac`` bits, or, with neither, as any
    fixed-point."""

    tensor: str
    frac: int | None = None
    operand: Operand | None = None


@dataclass(frozen=True)
class Written:
    """A fixed-point tensor as a layer writes it: ``frac`` fraction bits, within ±limit."""

    frac: int
    limit: int


@dataclass(frozen=True)
class Part:
    """One thing that is an integer in a quantized model, and that can be put in the place of the float model's.

    ``where``: the layer, with the direction's number for what is a direction's own. ``kind``: ``input weights``, ``recurrent weights``,
    ``biases``, ``gate function`` (each of one ``gate``), ``peepholes``, ``projection``, ``x operand``, ``h operand``, ``h state``, ``c state``;
    ``weights`` and ``biases`` of a dense layer, ``function`` of a pointwise one, ``output`` of any other.
    """

    where: str
    kind: str
    gate: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.gate + ', ' if self.gate else ''}{self.kind}"


Chosen = Collection[Part]
"""The parts that stand in for the float model's."""


@dataclass
class StandIns:
    """What the integers of chosen parts do to the numbers of a run in float64, by the names of `Equations`.

    ``operands``: reader → (real value of one unit, limit); ``functions``: name → (integer function, whether it stands for 1 - f); ``states``:
    name → (fraction bits, limit); ``tensors``: those that are kept as integers.
    """

    operands: dict[str, tuple[FloatArray, int]] = field(default_factory=dict)
    functions: dict[str, tuple[GateFunction, bool]] = field(default_factory=dict)
    states: dict[str, tuple[int | Int64Array, int]] = field(default_factory=dict)
    tensors: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class LayerMatrix:
    """A matrix of a layer.

    ``name``: in the model, ``layer.weight`` or ``layer[d].weight_ih``; ``part``: its weights; ``pre_shift`` and ``fracs``: its rows' shifts and
    fraction bits, [R]; ``operand``: how it reads its input; ``gates``: the names of the gates whose rows it holds, in equal blocks.
    """

    name: str
    part: Part
    matrix: Matrix
    pre_shift: Int8Array
    fracs: Int64Array
    operand: Operand
    gates: tuple[str, ...] = ()

    @property
    def row_scale(self) -> FloatArray:
        """[R]: the real value of one accumulator unit, recovered from the multiplier; weights are worth it over their operand's unit."""
        return row_scale(self.matrix, self.pre_shift, self.fracs)


def row_scale(matrix: Matrix, pre_shift: Int8Array, fracs: Int64Array) -> FloatArray:
    """[R]: the real value of one accumulator unit of each row of ``matrix``, whose results have ``fracs`` fraction bits."""
    factor = matrix.multiplier * 2.0 ** (matrix.left_shift.astype(np.float64) - 32)
    scale: FloatArray = factor * 2.0 ** (pre_shift.astype(np.float64) - fracs)
    return scale


@dataclass(frozen=True)
class Weights:
    """A matrix of weights of a float layer, [R, K].

    ``reads``: the tensor whose features its columns multiply, K of them or, of several steps, a multiple of them; empty for a matrix that reads
    a state of the layer. ``recurrent``: whether it may have four bits (`Scheme.weights`).
    """

    values: FloatArray
    reads: str = ""
    recurrent: bool = False


@dataclass(frozen=True)
class Rounding:
    """A place where a layer rounds and saturates (docs/arithmetic.md, section 8), in words."""

    where: str
    rounded: str
    saturated: str


@dataclass(frozen=True)
class Bytes:
    """Bytes that a layer holds beside its matrices and gate tables: ``weights`` (tables of numbers), ``rows`` (what rows have of their own) and
    ``state``."""

    weights: int = 0
    rows: int = 0
    state: int = 0


Loop = Callable[..., None]
"""loop(first, last, *parameters, *inputs, out) sets rows first … last - 1 of out [M, F'] from those of the inputs, [M, F] (tokens: [M])."""


@dataclass(frozen=True)
class RowLoop:
    """A loop over rows, the definition that every backend is held to.

    ``make(contract)`` gives the `Loop`, with the functions of `qrnn.arithmetic` as attributes of ``contract``: the reference runs it on
    Python's unbounded integers, and a backend without loops of its own compiles it. ``parameters`` are integers and arrays of integers;
    ``inputs`` are the names of tensors.
    """

    make: Callable[[Any], Loop]
    parameters: tuple[Any, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class StateArray:
    """A named integer array that a layer keeps from one time step to the next, [N, *shape] for N sequences.

    ``dtype``: int16 or int32; ``limit``: every value that a step ends with lies within ±limit (a value of -2^31 is allowed where the limit is
    2^31 - 1), and is not below ``least`` where that is given. ``starts``: what a sequence begins with, one for each index of the first axis of
    ``shape``; zeros where it is empty. ``frac``: the fraction bits in which graph state inputs are quantized.
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
        """The least and the largest value."""
        if self.least is not None:
            return self.least, self.limit
        return (-(1 << 31) if self.limit == CELL_MAX else -self.limit), self.limit


@dataclass(frozen=True)
class Scratch:
    """An array of a `StepLoop` whose contents mean nothing between two steps, [N, *shape] for N sequences."""

    shape: tuple[int, ...]
    dtype: type[np.int16] | type[np.int32] | type[np.int64]


Step = Callable[..., int]
"""step(n, t, k, x, out, *states, *parameters, *scratch) does one time step of sequence n and returns how many rows of ``out`` it wrote.

It reads x[n, t], of x [N, T, F] int16, and writes rows from out[n, k] on, of out [N, T', F'] int16. ``t`` is -1 for a step past the end of the
sequence, whose input is zero: ``x`` is then not read. States and scratch arrays have n as their first index.
"""


@dataclass(frozen=True)
class StepLoop:
    """What a layer with a state does in one time step, the definition that every backend is held to.

    ``make(contract)`` gives the `Step`, with the functions of `qrnn.arithmetic` as attributes of ``contract``, and beside them
    ``contract.dot(weight, r, x, n)``, the sum of weight[r, k] · x[n, k] over k, which is proved to fit an int32. The reference runs it on
    Python's unbounded integers; a backend without a kernel of its own compiles it; the C export translates it. So it is written in a small
    language: integers, indexed arrays with all of their indices, ``shape``, ``for … in range``, ``if``, arithmetic, comparisons, and calls of
    the contract. ``parameters`` are integers and arrays of integers.
    """

    make: Callable[[Any], Step]
    parameters: tuple[Any, ...]
    scratch: tuple[Scratch, ...] = ()
