"""What every kind of layer offers, so that a walk through a model is a loop that calls the layers.

A kind is one module of `qrnn.model.kinds` (docs/extending.md). It holds the float layer, a `Layer`, with its equation in float64 and the rule
by which it is quantized; and the integer layer, a `QuantLayer`, with its checks, its formats, its matrices and what it says about itself.
Backends and the C export add loops for speed; docs/extending.md says in which modules.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from qrnn.model.layer_facts import (
    Bytes,
    Chosen,
    LayerMatrix,
    Part,
    Reading,
    Rounding,
    RowLoop,
    StandIns,
    StateArray,
    StepLoop,
    Weights,
    Written,
)
from qrnn.model.parts import FloatArray, GateFunction, TensorFormat
from qrnn.model.surroundings import Checks, Equations, InputRanges, Plan
from qrnn.model.time import LengthRule


class GraphLayer:
    """A layer of a graph: it reads and writes named tensors, [N, T, F] or [N, F]. Most kinds read ``input`` and write ``output``."""

    if TYPE_CHECKING:  # dataclasses' fields

        @property
        def name(self) -> str: ...
        @property
        def input(self) -> str: ...
        @property
        def output(self) -> str: ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that it reads."""
        return (self.input,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The tensors that it writes."""
        return (self.output,)

    def length_rule(self, given: LengthRule) -> LengthRule:
        """How many steps its output over time has, for an input of as many steps as ``given`` says."""
        return given


class Layer(GraphLayer, ABC):
    """A layer of a float model."""

    keeps_state: ClassVar[bool] = False
    """Whether it keeps something from one time step to the next."""

    @property
    def homogeneous(self) -> bool:
        """Whether each feature by itself goes through f(s·x) = s·f(x) for every s > 0, so that its scale may be moved through the layer."""
        return False

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

    def weights(self) -> tuple[Weights, ...]:
        """Its matrices of weights, in an order that `with_weights` knows."""
        return ()

    def with_weights(self, values: Sequence[FloatArray]) -> Self:
        """The same layer with other values, [R, K] each, in the place of its `weights`."""
        return self

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


class QuantLayer(GraphLayer, ABC):
    """An integer layer. It exists only with arrays of the right types, shapes and ranges; `check` sees to the tensors around it."""

    @property
    def whole_sequences(self) -> bool:
        """Whether it needs the end of a sequence, so that it has no place in a graph of one step per call."""
        return False

    reads_tokens: ClassVar[bool] = False
    """Whether its input is a graph input of tokens."""

    @property
    def by_rows(self) -> bool:
        """Whether every time step is computed from the same step of its inputs alone: rows [M, F] in, rows [M, F'] out."""
        return True

    @property
    def by_steps(self) -> bool:
        """Whether its output is computed by its `step_loop`."""
        return type(self).step_loop is not QuantLayer.step_loop

    def row_loops(self) -> tuple[RowLoop, ...]:
        """The loops that compute its output, one after the other, for a layer with `by_rows`."""
        raise NotImplementedError(f"a layer of kind {type(self).__name__} is not computed by rows")

    def states(self) -> tuple[StateArray, ...]:
        """The arrays that it keeps from one time step to the next."""
        return ()

    def step_loop(self) -> StepLoop:
        """What it does in a time step, for a layer of one input that keeps a state and is not a `QuantRecurrent`."""
        raise NotImplementedError(f"a layer of kind {type(self).__name__} has no step of its own")

    steps_past_end: ClassVar[int] = 0
    """How many steps past the end of a sequence, of zeros, it takes until its last output has come out: its delay."""

    def rows_in(self, steps: int) -> int:
        """The most rows of output that come out in ``steps`` steps of input, for a layer with a `step_loop`."""
        return steps

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
        """What it holds beside matrices and gate tables: its state."""
        sizes = (math.prod(state.shape) * np.dtype(state.dtype).itemsize for state in self.states())
        return Bytes(state=sum(sizes))
