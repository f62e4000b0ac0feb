"""Every kind of layer offers the methods of `Layer` and `QuantLayer`, so that a walk through a model is a loop that calls the layers.

A kind is one module of `qrnn.model.kinds` (docs/extending.md). It holds the float layer, a `Layer`, with its equation in float64 and the rule
by which it is quantized; and the integer layer, a `QuantLayer`, with its checks, its formats, its matrices and what it says about itself.
Backends and the C export add loops for speed; docs/extending.md says in which modules.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from qrnn.arithmetic.arrays import unclamped
from qrnn.arithmetic.fixedpoint import to_operand
from qrnn.model.layer_facts import (
    Bytes,
    Chosen,
    LayerMatrix,
    Narrowed,
    Part,
    PartSize,
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
from qrnn.model.time import Axis, LengthRule
from qrnn.system.brief import Brief

NEVER = 1 << 40
"""So late comes a step that a layer gives past the end of a sequence alone."""


class GraphLayer(Brief):
    """A layer of a graph reads and writes named tensors, [N, T, F] or [N, F]. Most kinds read ``input`` and write ``output``."""

    if TYPE_CHECKING:  # dataclasses' fields

        @property
        def name(self) -> str:
            """Return the layer's name in the model."""

        @property
        def input(self) -> str:
            """Return the name of the tensor that the layer reads."""

        @property
        def output(self) -> str:
            """Return the name of the tensor that the layer writes."""

    @property
    def title(self) -> str:
        """Return the layer's kind in words, as in "max pool"."""
        return re.sub("(?<!^)(?=[A-Z])", " ", type(self).__name__.removeprefix("Quant")).lower()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the tensors that the layer reads."""
        return (self.input,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the tensors that the layer writes."""
        return (self.output,)

    folds_offset: ClassVar[bool] = False
    """Whether the layer may read a tensor whose integer 0 is not the real 0, since its biases hold what its weights make of the offset.

    A layer that pads with zeros, or that reads its input otherwise than by a matrix, may not.
    """

    carries_offset: ClassVar[bool] = False
    """Whether the layer may read a tensor whose integer 0 is not the real 0, since it copies features and writes them with their offset."""

    needs_end: ClassVar[bool] = False
    """Whether each step of the output depends on all steps of the input, also on later ones: the layer runs over whole sequences alone."""

    @property
    def least_steps(self) -> int:
        """Return the least steps of a sequence that ends; the state array ``steps`` [1] counts at least as far."""
        return 0

    @property
    def fixed_steps(self) -> int | None:
        """Return the number of steps that every sequence has to have; None where any number will do, from `least_steps` on."""
        return None

    @property
    def repeated(self) -> str | None:
        """Return the name of a vector that the layer, which is `by_rows`, gives at every step of its first input; None for other layers."""
        return None

    @property
    def repeats(self) -> int:
        """Return how often a layer gives what is `repeated`; 0 for as often as its first input has steps."""
        return 0

    @property
    def read_whole(self) -> tuple[str, ...]:
        """Return the names of inputs over time that have equal lengths and of which every step of the others reads all steps."""
        return ()

    @property
    def begins_with(self) -> tuple[str, ...]:
        """Return the names of inputs without time that are read before the first step of a sequence alone."""
        return ()

    @property
    def joined(self) -> tuple[tuple[str, ...], ...]:
        """Return groups of inputs; those of a group that are over time have equal lengths. The steps of the first are those of the output."""
        whole = self.read_whole
        return (self.inputs[: len(self.inputs) - len(whole)], whole) if whole else (self.inputs,)

    def length_rule(self, given: LengthRule) -> LengthRule:
        """Return the length rule of the layer's output over time, for an input whose length rule is ``given``."""
        return given

    @property
    def comes_late(self) -> tuple[int, int]:
        """Return the steps of input from one output to the next, and how many steps after its own the first output comes."""
        return 1, 0

    @property
    def gives_steps(self) -> tuple[int, int]:
        """Return how many steps of output each step of input gives, and how many of these come with the step that follows."""
        return 1, 0


class Layer(GraphLayer, ABC):
    """A layer of a float model."""

    keeps_state: ClassVar[bool] = False
    """Whether the layer keeps something from one time step to the next."""

    @property
    def homogeneous(self) -> bool:
        """Return whether f(s·x) = s·f(x) for each feature by itself and every s > 0, so that its scale may be moved through the layer."""
        return False

    @property
    def decides_by_half(self) -> bool:
        """Return whether each feature of the output is the probability of a yes, so that 0.5 is the threshold of a decision."""
        return False

    @property
    def complemented(self) -> tuple[str, ...]:
        """Return the names of the layer's functions, as in `Equations.gate`, whose integer functions compute 1 - f."""
        return ()

    def renamed(self, name: str) -> Self:
        """Return the layer with another name."""
        return replace(self, name=name)  # type: ignore[type-var]  # every kind is a dataclass

    def with_input(self, tensor: str, other: str) -> Self:
        """Return the layer as it reads the tensor ``other`` where it reads ``tensor``."""
        read = {field: other for field in ("input", "left", "right") if getattr(self, field, None) == tensor}
        return replace(self, **read)  # type: ignore[type-var]  # every kind is a dataclass

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the roles of the layer's scalar functions, by which a scheme chooses gates; ``head`` for a function that is no gate."""
        return ()

    @abstractmethod
    def equation(self, run: Equations) -> None:
        """Read the layer's inputs from ``run``, compute its outputs in float64, and write them to ``run``."""

    @abstractmethod
    def quantize(self, plan: Plan) -> QuantLayer:
        """Decide every format and make the integer layer; QuantizationError names what integers cannot hold."""

    def wanted_frac(self, plan: Plan) -> tuple[int, str] | None:
        """Return the fraction bits that the layer wants its input to have and the name of its function; None where it has no such wish."""
        return None

    least_frac: ClassVar[int] = -16
    """The least number of fraction bits of the input that is of use to the layer; below 0, units are larger than 1."""

    def needed_of(self, plan: Plan, tensor: str) -> float | None:
        """Return the largest magnitude of an input that the layer has to be given as it is; None for all values.

        A layer whose result is the same for every lower value, such as ReLU below 0, needs no more than the upper ones.
        """
        return None

    def weights(self) -> tuple[Weights, ...]:
        """Return the layer's matrices of weights, in an order that `with_weights` knows."""
        return ()

    def with_weights(self, values: Sequence[FloatArray]) -> Self:
        """Return the layer with other values, [R, K] each, in the place of its `weights`."""
        return self

    @property
    def input_weights(self) -> tuple[FloatArray, ...]:
        """Return the matrices that multiply the layer's input, [R, F] each; none for a layer that reads its input in another way."""
        return ()

    def multiplies(self, tensor: str) -> bool:
        """Return whether the layer, which reads ``tensor``, reads it by its `input_weights` alone."""
        return bool(self.input_weights)

    def width_parts(self) -> dict[str, PartSize]:
        """Return the parts whose width can be chosen by themselves (`qrnn.quantization.widths`): ``x`` for a layer with `input_weights`."""
        products = sum(int(weight.size) for weight in self.input_weights)
        return {"x": PartSize(products, int(self.input_weights[0].shape[1]))} if products else {}

    def with_input_divided(self, scale: FloatArray) -> Self:
        """Return the layer that gives the same output for x · ``scale`` [F] as this one for x, for a layer with `input_weights`."""
        raise NotImplementedError(f"a layer of kind {type(self).__name__} has no matrix that multiplies its input")

    def with_input_shifted(self, by: FloatArray) -> Self:
        """Return the layer that gives the same output for x as this one for x + ``by`` [F], for a layer with `folds_offset`."""
        raise NotImplementedError(
            f"a layer of kind {type(self).__name__} has no bias that an offset of its input folds into"
        )

    def with_output_scaled(self, scale: FloatArray) -> Self | None:
        """Return the layer that writes y · ``scale`` [F] instead of y; None where a scale cannot become a part of its weights."""
        return None

    def quantities(self, plan: InputRanges) -> tuple[str, ...]:
        """Return the names of the quantities inside the layer whose ranges decide formats, as it shows them to `Equations.observe`."""
        return ()

    def initial_values(self, size: int, states: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return the states before the first step of ``size`` sequences, by the names that they have in `quantities`."""
        return {}

    def input_row_sum(self, plan: Plan, unit: FloatArray) -> float | None:
        """Return the largest sum of a row of the integer weights that multiply the input; None for a layer that reads it in another way.

        ``unit`` [1] or [F] holds the real value of one unit of each feature, or numbers that are proportional to these.
        """
        return None

    @property
    def source_values(self) -> FloatArray | None:
        """Return all values that the output can have, [M, F], where they do not depend on features; None where they do.

        Such an output is a source like a graph input.
        """
        return None


class QuantLayer(GraphLayer, ABC):
    """An integer layer exists only with arrays of the right types, shapes and ranges; `check` compares it with the tensors around it."""

    @property
    def whole_sequences(self) -> bool:
        """Return whether the layer needs the end of a sequence, so that it has no place in a graph of one step per call."""
        return False

    reads_tokens: ClassVar[bool] = False
    """Whether the input of the layer is a graph input of tokens."""

    @property
    def by_rows(self) -> bool:
        """Return whether every time step is computed from the same step of the inputs alone: rows [M, F] in, rows [M, F'] out."""
        return True

    @property
    def by_steps(self) -> bool:
        """Return whether the layer's `step_loop` computes its output."""
        return type(self).step_loop is not QuantLayer.step_loop

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return the loops that compute the output of a layer with `by_rows`, to be run one after the other."""
        raise NotImplementedError(f"a layer of kind {type(self).__name__} is not computed by rows")

    def states(self) -> tuple[StateArray, ...]:
        """Return the declarations of the arrays that the layer keeps from one time step to the next."""
        return ()

    def step_loop(self) -> StepLoop:
        """Return what a layer does in a time step, if it keeps a state and is not a `QuantRecurrent`; its inputs are all over time."""
        raise NotImplementedError(f"a layer of kind {type(self).__name__} has no step of its own")

    def step_arrays(self) -> tuple[StateArray, ...]:
        """Return the declarations of the arrays that the `step_loop` reads and writes beside its inputs and its output.

        They are the `states`. Where a layer has inputs that it reads as a whole (`read_whole`), they are these, the number of their steps, and
        that number once more; all inputs of the loop are then those that are read step by step, the first one in the place of the others.
        """
        return self.states()

    @property
    def most_steps(self) -> int | None:
        """Return the most steps of a sequence, which the state array ``steps`` [1] counts; None for a layer without a limit."""
        return None

    @property
    def steps_past_end(self) -> int:
        """Return the delay of the layer: how many steps past the end of a sequence it takes until its last output has come out."""
        return 0

    def rows_in(self, steps: int) -> int:
        """Return the most rows of output that come out in ``steps`` steps of input, for a layer with a `step_loop`."""
        return steps

    @property
    def step_for_step(self) -> bool:
        """Return whether each step of the input gives one step of the output at once: nothing is skipped, merged or delayed."""
        return not self.by_steps or (self.length_rule(Axis()) == Axis() and self.steps_past_end == 0)

    @property
    def clamps_output(self) -> bool:
        """Return whether the output holds sums that were saturated to int16, so that a value at the end of the range may be wrong."""
        return False

    def narrowed(self, values: Mapping[str, Any], tensors: Mapping[str, TensorFormat]) -> tuple[Narrowed, ...]:
        """Return what the layer clamps of the integers that it reads, ``values``, whose formats are ``tensors``; its states are not among it.

        Here this is what its matrices read of tensors that can have larger values than the operand.
        """
        found = []
        for reading in self.readings():
            operand, tensor = reading.operand, reading.tensor
            if operand is not None and (operand.shift or operand.limit < tensors[tensor].limit):
                read = unclamped(to_operand)(values[tensor].astype(np.int64), operand.shift, operand.limit)
                found.append(Narrowed(f"{self.name}: x operand", tensor, read, operand.limit))
        return tuple(found)

    @property
    def last_steps(self) -> tuple[str, ...]:
        """Return the names of those outputs that hold a sequence's last step, [N, F], while the input is over time."""
        return ()

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the names of those outputs that are int32: graph outputs read them, and layers whose `reads_cells` names them."""
        return ()

    @property
    def reads_cells(self) -> tuple[str, ...]:
        """Return the names of those inputs that may be int32 `cells` of another layer."""
        return ()

    @abstractmethod
    def check(self, checks: Checks) -> None:
        """Refuse tensors that do not fit the layer: their shapes and what else it needs of the model."""

    @abstractmethod
    def readings(self) -> tuple[Reading, ...]:
        """Return how the layer reads each of its inputs, except tokens."""

    @abstractmethod
    def formats(self, tensors: Mapping[str, TensorFormat]) -> Mapping[str, Written]:
        """Return the formats of what the layer writes, by tensor; one that is not named is free, and `check_source` checks it."""

    def check_source(self, checks: Checks) -> None:
        """Refuse an output whose format is free and not one that a graph input could have."""
        return

    def matrices(self) -> tuple[LayerMatrix, ...]:
        """Return the layer's matrices, for the overflow proof, sizes, refinement and descriptions."""
        return ()

    def functions(self) -> tuple[GateFunction, ...]:
        """Return the layer's scalar functions."""
        return ()

    def integer_parts(self) -> tuple[Part, ...]:
        """Return the layer's parts that can be integers by themselves in a float model (`qrnn.accuracy.explain`)."""
        return (Part(self.name, "output"),)

    def stand_ins(self, chosen: Chosen, tensors: Mapping[str, TensorFormat]) -> StandIns:
        """Return what the chosen ones of its `integer_parts` do to the numbers of a run of the float model."""
        return StandIns(tensors={self.output} if Part(self.name, "output") in chosen else set())

    def worth(self, real: Any, chosen: Chosen, tensors: Mapping[str, TensorFormat]) -> Any:
        """Return the float layer ``real`` whose chosen weights and biases are the real numbers that their integers stand for."""
        return real

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the places where the layer rounds and saturates."""
        return ()

    def own_bytes(self) -> Bytes:
        """Return the bytes that the layer holds beside its matrices and gate tables: those of its state."""
        sizes = (math.prod(state.shape) * np.dtype(state.dtype).itemsize for state in self.states())
        return Bytes(state=sum(sizes))
