"""What every kind of layer offers. A walk through a model is a loop that calls the layers; no walk asks of which kind a layer is.

A kind is one module of `qrnn.model.kinds` (docs/extending.md). It holds the float layer, a `Layer`, with its equation in float64 and the rule
by which it is quantized; and the integer layer, a `QuantLayer`, with its checks, its formats, its matrices and what it says about itself.
Backends and the C export add a module of the same name each, with loops for speed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol, Self

import numpy as np
import numpy.typing as npt

from qrnn.model.activation import Activation
from qrnn.model.parts import (
    AnyMatrix,
    FloatArray,
    GateFunction,
    IndexArray,
    Int8Array,
    Int16Array,
    Int32Array,
    Int64Array,
    Matrix,
    Operand,
    QuantMatrix,
    TensorFormat,
)

# Float layers


class Equations(Protocol):
    """One run of a float model in float64, as an equation sees it: N sequences of at most T steps."""

    @property
    def size(self) -> int:
        """N."""

    @property
    def steps(self) -> int:
        """T."""

    @property
    def lengths(self) -> IndexArray:
        """[N]: the number of real steps of each sequence."""

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """[N, T]: which steps are real."""

    def read(self, tensor: str) -> FloatArray:
        """A tensor, [N, T, F] or [N, F]."""

    def tokens(self, tensor: str) -> IndexArray:
        """A token input, [N, T] or [N]."""

    @property
    def states(self) -> Mapping[str, FloatArray]:
        """The values of those graph state inputs that were given, [N, F]."""

    def operand(self, reader: str, values: FloatArray) -> FloatArray:
        """``values`` as the matrix of ``reader`` reads them. Readers are called ``<layer>.x`` (of any layer with weights), ``<layer>[d].h`` and
        ``<layer>[d].hidden``."""

    def gate(self, name: str, argument: FloatArray, value: FloatArray) -> FloatArray:
        """The value of a scalar function at its argument; ``value`` unless something stands in for it. Functions are called as the layer, or
        ``<layer>[d].<role>``."""

    def state(self, name: str, values: FloatArray) -> FloatArray:
        """A state after a step, ``<layer>[d].<state>``, as it is kept."""

    def write(self, tensor: str, values: FloatArray) -> None:
        """Set a tensor, [N, T, F] or [N, F]."""

    def observe(self, name: str, values: FloatArray) -> None:
        """Show a quantity inside a layer, [N, T, …], to whoever watches."""


class InputRanges(Protocol):
    """What says which functions' arguments have formats that follow from calibration."""

    def needs_input_range(self, activation: Activation) -> bool:
        """Whether the format of a function's argument follows from calibration, not from the function."""


class Plan(InputRanges, Protocol):
    """One conversion, as the rule of a layer sees it: what was measured, what was decided so far, and what integers can hold."""

    @property
    def weight_bits(self) -> int:
        """The width of recurrent layers' weights, 8 or 4."""

    def readers(self, tensor: str) -> list[Layer]:
        """The layers that read a tensor."""

    def is_output(self, tensor: str) -> bool:
        """Whether a graph output reads a tensor."""

    def largest(self, quantity: str) -> float:
        """The largest magnitude that a tensor, or a quantity inside a layer, had in calibration."""

    def observed(self, quantity: str) -> float:
        """The largest magnitude that a matrix operand should cover, by the calibrator; 0 for what was not observed."""

    def decide(self, decision: str) -> None:
        """Record a decision and its reason."""

    def frac(self, tensor: str, layer: str) -> int:
        """The fraction bits of a fixed-point tensor that ``layer`` reads; QuantizationError where they are not in 0…15."""

    def set_format(self, tensor: str, frac: int, limit: int = 32767) -> None:
        """Let a tensor be int16 with ``frac`` fraction bits, within ±limit."""

    def set_cells(self, tensor: str, frac: int) -> None:
        """Let a tensor be int32 with ``frac`` fraction bits: cell states, which only graph outputs read."""

    def copy_format(self, source: str, tensor: str) -> None:
        """Let a tensor have the format of another one."""

    def to_format(self, tensor: str, values: FloatArray) -> Int16Array:
        """Real values as integers of a tensor's format."""

    def gate_function(
        self, role: str, activation: Activation, in_frac: int | None = None, clip: float | None = None
    ) -> GateFunction:
        """The integer function of a role (a gate, or ``head``), by the scheme's choice; ``in_frac`` where `needs_input_range` asks for it."""

    def complement(self, function: GateFunction) -> GateFunction:
        """The integer function 1 - f."""

    def exp_table(self) -> Int32Array:
        """The table of e^-d that a softmax reads."""

    def row_sum(self, weight: FloatArray, bits: int = 8) -> float:
        """The largest sum of a row's integer weights."""

    def row_scales(self, weight: FloatArray) -> FloatArray:
        """[R]: the real value of one integer weight of each row."""

    def operand(self, tensor: str, largest: float, row_sum: float) -> Operand:
        """How a matrix with rows of that sum reads a tensor whose magnitudes reach ``largest``."""

    def narrowing(self, frac: int, largest: float, row_sum: float) -> Operand:
        """How a matrix reads int16 values with ``frac`` fraction bits: by the least shift that covers ``largest``."""

    def unit(self, tensor: str, operand: Operand) -> FloatArray:
        """The real value of one operand unit of a tensor, [1] or [F]."""

    def pre_shift(
        self, owner: str, weight: FloatArray, bias: FloatArray, fracs: Int64Array, limit: int, bits: int = 8
    ) -> Int8Array:
        """[R]: by how many bits each row is computed coarser, so that its sums fit 32 bits."""

    def note_shift(self, owner: str, pre_shift: Int8Array) -> None:
        """Record rows that are computed coarser, where there are any."""

    def matrix(
        self, weight: FloatArray, bias: FloatArray, fracs: Int64Array, pre_shift: Int8Array, limit: int
    ) -> QuantMatrix:
        """A matrix of 8-bit weights whose results have ``fracs`` [R] fraction bits."""

    def recurrent_matrix(
        self, weight: FloatArray, bias: FloatArray, fracs: Int64Array, pre_shift: Int8Array, limit: int
    ) -> AnyMatrix:
        """The same with weights of `weight_bits`."""


class Layer(ABC):
    """A layer of a float model. It reads and writes named tensors, [N, T, F] or [N, F]."""

    if TYPE_CHECKING:  # dataclasses' fields

        @property
        def name(self) -> str: ...
        @property
        def output(self) -> str: ...

    @property
    def homogeneous(self) -> bool:
        """Whether each feature by itself goes through f(s·x) = s·f(x) for every s > 0, so that its scale may be moved through the layer."""
        return False

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The tensors that it reads."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The tensors that it writes."""
        return (self.output,)

    @property
    def decides_by_half(self) -> bool:
        """Whether its output is the probability of a yes for each feature by itself, so that 0.5 is the threshold."""
        return False

    @property
    def complemented(self) -> tuple[str, ...]:
        """The names of its functions, as in `Equations.gate`, whose integer functions are 1 - f."""
        return ()

    def renamed(self, name: str) -> Self:
        """The same layer of another name."""
        return replace(self, name=name)  # type: ignore[type-var]  # every kind is a dataclass

    @property
    def roles(self) -> tuple[str, ...]:
        """What its scalar functions are for, in the words by which a scheme chooses gates; ``head`` for one that is no gate."""
        return ()

    @abstractmethod
    def equation(self, run: Equations) -> None:
        """Compute what it writes, in float64."""

    @abstractmethod
    def quantize(self, plan: Plan) -> QuantLayer:
        """Decide every format and make the integer layer; QuantizationError names what integers cannot hold."""

    def wanted_frac(self, plan: Plan) -> tuple[int, str] | None:
        """The fraction bits in which it wants its input and the name of its function, where that function says so."""
        return None

    least_frac: ClassVar[int] = -16
    """The least number of fraction bits of its input that is of use to it; below 0, units are larger than 1."""

    @property
    def input_weights(self) -> tuple[FloatArray, ...]:
        """The matrices that multiply its input, [R, F] each; none for a layer that reads tensors in another way."""
        return ()

    def with_input_divided(self, scale: FloatArray) -> Self:
        """The same function of x · ``scale`` [F], for a layer with `input_weights`."""
        raise NotImplementedError(f"a layer of kind {type(self).__name__} has no matrix that multiplies its input")

    def with_output_scaled(self, scale: FloatArray) -> Self | None:
        """The layer that writes y · ``scale`` [F] instead; None where a scale cannot become a part of its weights."""
        return None

    def quantities(self, plan: InputRanges) -> tuple[str, ...]:
        """The quantities inside it, as it shows them to `Equations.observe`, whose ranges decide formats."""
        return ()

    def initial_values(self, size: int, states: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """What its states hold before the first step of ``size`` sequences, by the names that they have in `quantities`."""
        return {}

    def input_row_sum(self, plan: Plan) -> float | None:
        """The largest sum of a row of the integer weights that multiply its input; None for a layer that reads tensors in another way."""
        return None

    @property
    def source_values(self) -> FloatArray | None:
        """[M, F]: all values that its output can have, where they do not depend on features; such an output is a source like a graph input."""
        return None


# Integer layers


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
    states: dict[str, tuple[int, int]] = field(default_factory=dict)
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


class Checks(Protocol):
    """The model around a layer, as its checks see it. Each method raises ModelFileError where something does not fit."""

    @property
    def tensors(self) -> Mapping[str, TensorFormat]:
        """The formats of all tensors."""

    def fail(self, problem: str) -> NoReturn:
        """Refuse the layer."""

    def expect(self, tensor: str, features: int, has_time: bool) -> None:
        """Refuse a tensor of another shape."""

    def vocabulary(self, tensor: str) -> int | None:
        """The vocabulary of a token input; None for any other tensor."""

    def state_features(self, source: str) -> int:
        """The size of a graph state input; 0 where there is none of that name."""

    def as_source(self, tensor: str) -> None:
        """Refuse a tensor whose format no graph input could have; note those with scales that only matrix products can read."""


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


class QuantLayer(ABC):
    """An integer layer. It exists only with arrays of the right types, shapes and ranges; `check` sees to the tensors around it."""

    if TYPE_CHECKING:  # dataclasses' fields

        @property
        def name(self) -> str: ...
        @property
        def output(self) -> str: ...

    @property
    def whole_sequences(self) -> bool:
        """Whether it needs the end of a sequence, so that it has no place in a graph of one step per call."""
        return False

    reads_tokens: ClassVar[bool] = False
    """Whether its input is a graph input of tokens."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The tensors that it reads."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The tensors that it writes."""
        return (self.output,)

    @property
    def by_rows(self) -> bool:
        """Whether every time step is computed from the same step of its inputs alone: rows [M, F] in, rows [M, F'] out."""
        return True

    def row_loops(self) -> tuple[RowLoop, ...]:
        """The loops that compute its output, one after the other, for a layer with `by_rows`."""
        raise NotImplementedError(f"a layer of kind {type(self).__name__} is not computed by rows")

    @property
    def clamps_output(self) -> bool:
        """Whether its output holds sums that were saturated to int16, so that a value at a rail may be a value lost."""
        return False

    @property
    def last_steps(self) -> tuple[str, ...]:
        """Those of its outputs that hold a sequence's last step, [N, F], while its input goes over time."""
        return ()

    @property
    def cells(self) -> tuple[str, ...]:
        """Those of its outputs that are int32: only graph outputs read them."""
        return ()

    @abstractmethod
    def check(self, checks: Checks) -> None:
        """Refuse tensors that do not fit the layer: their shapes and what else it needs of the model."""

    @abstractmethod
    def readings(self) -> tuple[Reading, ...]:
        """How it reads each of its inputs, tokens left out."""

    @abstractmethod
    def formats(self, tensors: Mapping[str, TensorFormat]) -> Mapping[str, Written]:
        """The formats of what it writes, by tensor; one that is not named is free (`check_source` looks at it)."""

    def check_source(self, checks: Checks) -> None:
        """Refuse an output whose format is free and not that of a graph input."""
        return

    def matrices(self) -> tuple[LayerMatrix, ...]:
        """Its matrices, for the overflow proof, sizes, refinement and descriptions."""
        return ()

    def functions(self) -> tuple[GateFunction, ...]:
        """Its scalar functions."""
        return ()

    def integer_parts(self) -> tuple[Part, ...]:
        """What is an integer in it and can stand alone in a float model (`qrnn.accuracy.explain`)."""
        return (Part(self.name, "output"),)

    def stand_ins(self, chosen: Chosen, tensors: Mapping[str, TensorFormat]) -> StandIns:
        """What those of its `integer_parts` that are chosen do to the numbers of a run of the float model."""
        return StandIns(tensors={self.output} if Part(self.name, "output") in chosen else set())

    def worth(self, real: Any, chosen: Chosen, tensors: Mapping[str, TensorFormat]) -> Any:
        """The float layer ``real`` with the weights and biases that are chosen as the real numbers that their integers are worth."""
        return real

    def roundings(self) -> tuple[Rounding, ...]:
        """Where it rounds and saturates."""
        return ()

    def own_bytes(self) -> Bytes:
        """What it holds beside matrices and gate tables."""
        return Bytes()
