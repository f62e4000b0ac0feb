"""Random float models with heads, data and states for the exactness tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from models import Shape, make_model

from qrnn.backends.base import Trace
from qrnn.errors import QuantizationError
from qrnn.model.batch import Batch, make_batch
from qrnn.model.float_model import (
    Activation,
    Concat,
    Dense,
    FloatModel,
    GraphOutput,
    LastStep,
    Layer,
    Pointwise,
    Softmax,
    TensorInfo,
)
from qrnn.model.quant_model import QuantModel
from qrnn.quantization import Scheme, quantize
from qrnn.session import Session

HEADS = ("none", "dense", "sigmoid", "tanh", "relu", "softmax", "hard_sigmoid")


@dataclass(frozen=True)
class Case:
    """A model, its data and the choices of its conversion."""

    shape: Shape
    head: str = "none"
    last_step: bool = False
    concat: bool = False
    sequences: int = 2
    steps: int = 5
    lengths: tuple[int, ...] = ()
    amplitude: float = 1.0
    scheme: Scheme = field(default_factory=lambda: Scheme(input="8"))
    seed: int = 0

    def data(self) -> dict[str, Any]:
        """The graph inputs, of mixed sizes up to ``amplitude``, and states up to 1."""
        rng = np.random.default_rng(self.seed + 1)
        shape = (self.sequences, self.steps, self.shape.input_size)
        data: dict[str, Any] = {"x": rng.normal(size=shape) * self.amplitude * 10.0 ** -rng.uniform(0, 2, shape)}
        if self.shape.states:
            state_shape = (self.sequences, 2, self.shape.layers, len(self.shape.directions), self.shape.hidden_size)
            data["state"] = rng.uniform(-1, 1, state_shape)
        return data

    def model(self) -> FloatModel:
        """The float model, with the head and the outputs added to the recurrent stack."""
        model = make_model(replace(self.shape, head=0), np.random.default_rng(self.seed))
        return _with_head(model, self)

    def quantized(self) -> QuantModel:
        return quantize(self.model(), {**self.data(), "lengths": np.asarray(self.lengths)}, self.scheme)

    def batch(self, model: QuantModel) -> Batch:
        """The calibration data at three times their size, so that every saturation is met."""
        data = self.data()
        return make_batch(model.inputs, data | {"x": 3.0 * data["x"]}, np.asarray(self.lengths))


def _with_head(model: FloatModel, case: Case) -> FloatModel:
    rng = np.random.default_rng(case.seed + 2)
    tensors, layers = dict(model.tensors), list(model.layers)
    source = layers[-1].output

    def put(layer: Layer, features: int, has_time: bool) -> str:
        layers.append(layer)
        tensors[layer.output] = TensorInfo(features, has_time)
        return layer.output

    if case.last_step:
        source = put(LastStep("last", source, "last.y"), tensors[source].features, False)
    has_time, width = tensors[source].has_time, tensors[source].features
    logits = ""
    if case.head != "none":
        weight, bias = rng.normal(size=(6, width)) * case.shape.weight, rng.normal(size=6) * case.shape.bias
        logits = put(Dense("head", source, "logits", weight, bias), 6, has_time)
        if case.head == "softmax":
            source = put(Softmax("softmax", logits, "p"), 6, has_time)
        elif case.head != "dense":
            activation = Activation("hard_sigmoid", 0.3, 0.4) if case.head == "hard_sigmoid" else Activation(case.head)  # type: ignore[arg-type]
            source = put(Pointwise("point", logits, "p", activation), 6, has_time)
        else:
            source = logits
    if case.concat and source != layers[0].output:
        other = "last.y" if case.last_step else model.layers[-1].output
        parts = ((source, np.arange(tensors[source].features)[::-1].copy()), (other, np.arange(width)))
        source = put(Concat("concat", "both", parts), tensors[source].features + width, has_time)
    every = np.arange(tensors[source].features)
    y = GraphOutput("y", (len(every),), has_time, ((source, every, every),))
    return replace(model, layers=tuple(layers), tensors=tensors, outputs=(y, *model.outputs[1:]))


@st.composite
def cases(draw: st.DrawFn, forward: bool = False, most_hidden: int = 40) -> Case:
    """A case of any kind; ``forward``: without reverse directions."""
    cell = draw(st.sampled_from(["lstm", "gru", "rnn"]))
    ways = [(False,)] if forward else [(False,), (True,), (False, True)]
    activations: dict[str, Activation] = {}
    if cell == "rnn" and draw(st.booleans()):
        activations["candidate"] = Activation("relu")
    elif cell != "rnn" and draw(st.integers(0, 3)) == 0:
        alpha = draw(st.sampled_from([0.2, 1 / 6, 0.001, 2.0, -0.7]))
        activations["gate"] = Activation("hard_sigmoid", alpha, draw(st.sampled_from([0.5, 0.0, -1.25, 3.0])))
    shape = Shape(
        cell=cell,  # type: ignore[arg-type]
        input_size=draw(st.integers(1, 9)),
        hidden_size=draw(st.integers(1, most_hidden)),
        directions=draw(st.sampled_from(ways)),
        layers=draw(st.integers(1, 2)),
        linear_before_reset=draw(st.booleans()),
        weight=draw(st.sampled_from([1e-3, 0.1, 0.5, 1.0, 4.0, 50.0])),
        bias=draw(st.sampled_from([0.0, 0.3, 10.0, 1000.0])),
        activations=activations,
        states=draw(st.booleans()),
    )
    sequences, steps = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    lengths = draw(st.lists(st.integers(1, steps), min_size=sequences, max_size=sequences))
    return Case(
        shape,
        head=draw(st.sampled_from(HEADS)),
        last_step=draw(st.booleans()),
        concat=draw(st.booleans()),
        sequences=sequences,
        steps=steps,
        lengths=tuple(lengths),
        amplitude=draw(st.sampled_from([1e-3, 1.0, 30.0, 1e4])),
        scheme=Scheme(
            activations=draw(st.sampled_from([8, 16])),
            gates=draw(st.sampled_from(["pwl:8", "pwl:32", "pwl:128", "pwl:1024"])),
            calibrator=draw(st.sampled_from(["minmax", "percentile", "mse"])),
            input=draw(st.sampled_from(["8", "8-per-feature", "16"])),
        ),
        seed=draw(st.integers(0, 1 << 16)),
    )


def quantized_or_refused(case: Case) -> QuantModel | None:
    """The quantized model; None where a float range has no 16-bit format, which is a QuantizationError and no fault."""
    try:
        return case.quantized()
    except QuantizationError as error:
        if "fraction bits" in str(error):
            return None
        raise


def integers(session: Session, batch: Batch, state: Any = None, traced: bool = False) -> tuple[dict[str, Any], Any]:
    """Every integer tensor of a run, its trace when asked for, and the final state by ``layer.h`` and ``layer.c``."""
    trace = Trace() if traced else None
    result, tensors = session.run_batch(batch, state, trace)
    found: dict[str, Any] = dict(tensors)
    if trace is not None:
        found |= {f"trace {name}": value for name, value in trace.arrays.items()}
    for name, (h, c) in result.state.layers.items():
        found |= {f"{name}.h": h, f"{name}.c": c}
    return found, result.state


def assert_equal(want: dict[str, Any], got: dict[str, Any]) -> None:
    """The same names, types and values."""
    assert want.keys() == got.keys()
    for name in want:
        assert want[name].dtype == got[name].dtype, name
        np.testing.assert_array_equal(want[name], got[name], err_msg=name)
