"""Random float models with heads, data and states for the exactness tests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from models import ROLE_ACTIVATIONS, Shape, make_model

from qrnn.backends.base import Trace
from qrnn.backends.cpu.tuning import Tuning
from qrnn.conversion import quantize
from qrnn.errors import QuantizationError
from qrnn.model.activation import Activation, ActivationKind
from qrnn.model.batch import Batch, make_batch
from qrnn.model.float_model import FloatModel, GraphOutput, TensorInfo
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.model.kinds.recurrent.definition import CellKind, Forget
from qrnn.model.kinds.softmax import Softmax
from qrnn.model.layer import Layer
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.choices import choices
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

HEADS: tuple[ActivationKind | Literal["none", "dense", "softmax"], ...] = (
    "none", "dense", "softmax", *get_args(ActivationKind)
)  # fmt: skip
GATES = ("pwl:8", "pwl:32", "pwl:128", "pwl:1024", "step", "hard", "hard:0.3,0.4", "candidate=pwl:64,sigmoid=hard")
ALPHAS = (0.2, 1 / 6, 0.001, 1.0, 2.0, -0.7, 30.0)
BETAS = (0.5, 0.0, -1.25, 3.0)
WILD = (1e-3, 0.1, 0.5, 1.0, 4.0, 50.0)
PEEPHOLES = [0.0, 0.0, 0.3, 3.0, 1e3]
BOUNDED = ("sigmoid", "tanh", "hard_sigmoid", "hard_tanh", "step", "softsign")

QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
few = settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
fewest = settings(few, max_examples=8)
"""For the default run, where nearly every example compiles something at first."""
many = settings(max_examples=3000, deadline=None, database=None, suppress_health_check=QUIET)


@dataclass(frozen=True)
class Case:
    """A model, its data and the choices of its conversion."""

    shape: Shape
    head: ActivationKind | Literal["none", "dense", "softmax"] = "none"
    last_step: bool = False
    concat: bool = False
    sequences: int = 2
    steps: int = 5
    lengths: tuple[int, ...] = ()
    amplitude: float = 1.0
    scheme: Scheme = field(default_factory=lambda: Scheme(input="8"))
    seed: int = 0
    mixed: tuple[str, ...] = ()
    """The parts (x, h, W, R, or ``source``) that have widths of their own, drawn by ``seed``."""

    def data(self) -> dict[str, Any]:
        """The graph inputs, of mixed sizes up to ``amplitude``, and states up to 1."""
        rng = np.random.default_rng(self.seed + 1)
        shape = (self.sequences, self.steps, self.shape.input_size)
        data: dict[str, Any] = {"x": rng.normal(size=shape) * self.amplitude * 10.0 ** -rng.uniform(0, 2, shape)}
        if self.shape.states:
            data["state"] = rng.uniform(-1, 1, (self.sequences, *self.shape.state_shape))
        return data

    def model(self) -> FloatModel:
        """The float model, with the head and the outputs added to the recurrent stack."""
        model = make_model(replace(self.shape, head=0), np.random.default_rng(self.seed))
        return _with_head(model, self)

    def quantized(self) -> QuantModel:
        model = self.model()
        scheme = replace(self.scheme, widths=self._widths(model))
        return quantize(model, {**self.data(), "lengths": np.asarray(self.lengths)}, scheme)

    def _widths(self, model: FloatModel) -> dict[str, str]:
        """Widths of about half of what the model can choose, of the parts that are ``mixed``."""
        rng = np.random.default_rng(self.seed + 3)
        found = {}
        for choice in choices(model):
            value, named = rng.choice(choice.values), rng.random() < 0.5
            if named and (choice.part or "source") in self.mixed:
                found[choice.key] = str(value)
        return found

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
            source = put(Pointwise("point", logits, "p", Activation(case.head, 0.3, 0.4)), 6, has_time)
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
def activations(draw: st.DrawFn, kinds: tuple[ActivationKind, ...]) -> Activation:
    """A function of one of ``kinds`` with parameters of every size."""
    kind, alpha, beta = draw(st.sampled_from(kinds)), draw(st.sampled_from(ALPHAS)), draw(st.sampled_from(BETAS))
    return Activation(kind, alpha, beta or 0.5) if kind == "scaled_tanh" else Activation(kind, alpha, beta)


@st.composite
def shapes(draw: st.DrawFn, forward: bool, most_hidden: int, usual: bool = False) -> Shape:
    """A stack of recurrent layers of any kind; ``usual``: with each cell's own functions, no clip and moderate weights."""
    cell: CellKind = draw(st.sampled_from(["lstm", "gru", "rnn"]))
    ways = [(False,)] if forward else [(False,), (True,), (False, True)]
    update_keeps = cell != "gru" or usual or draw(st.integers(0, 3)) > 0
    functions: dict[str, Activation] = {}
    for role in sorted(ROLE_ACTIVATIONS[cell]):
        if not usual and draw(st.integers(0, 2)) == 0:
            share = role == "gate" and not update_keeps  # 1 - z is made for a z in [0, 1] alone
            functions[role] = draw(activations(("hard_sigmoid", "step") if share else get_args(ActivationKind)))
    bounded = all(f.kind in BOUNDED for f in functions.values())
    wild = (
        bounded or cell == "rnn"
    )  # unbounded functions of large arguments leave float64 within few steps of a product
    projection = draw(st.integers(1, most_hidden)) if cell != "gru" and draw(st.integers(0, 3)) == 0 else 0
    hidden, directions = draw(st.integers(1, most_hidden)), draw(st.sampled_from(ways))
    residual = draw(st.booleans())
    forget: Forget = draw(st.sampled_from(get_args(Forget))) if cell == "lstm" else "gate"
    peepholes = [0.0] if cell != "lstm" else PEEPHOLES if wild and not usual else [0.0, 0.1]
    return Shape(
        cell=cell,
        input_size=len(directions) * (projection or hidden) if residual else draw(st.integers(1, 9)),
        hidden_size=hidden,
        directions=directions,
        layers=draw(st.integers(1, 2)),
        linear_before_reset=draw(st.booleans()),
        weight=draw(st.sampled_from([0.5, 1.0] if usual else WILD if wild else [1e-3, 0.05, 0.2])),
        bias=0.3 if usual else draw(st.sampled_from([0.0, 0.3, 10.0, 1000.0] if wild else [0.0, 0.3])),
        activations=functions,
        states=draw(st.booleans()),
        forget=forget,
        peephole=draw(st.sampled_from(peepholes)),
        projection=projection,
        projected=draw(st.one_of(st.none(), st.just("softmax"), activations(get_args(ActivationKind)))),
        clip=None if usual else draw(st.sampled_from([None, None, None, 1e-3, 0.5, 3.0, 50.0])),
        update_keeps=update_keeps,
        residual=residual,
    )


@st.composite
def cases(draw: st.DrawFn, forward: bool = False, most_hidden: int = 40, usual: bool = False) -> Case:
    """A case of any kind; ``forward``: without reverse directions.

    ``usual``: each cell as most models have it, so that few kernels are compiled, with all sizes, heads, lengths and states. The default
    run draws these; every kind of gate, range and scale is drawn by the tests marked ``matrix``.
    """
    shape = draw(shapes(forward, most_hidden, usual))
    sequences, steps = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    lengths = draw(st.lists(st.integers(0, steps), min_size=sequences, max_size=sequences).filter(any))
    wild = shape.weight > 0.2 or all(f.kind in BOUNDED for f in (shape.activations or {}).values())
    return Case(
        shape,
        head=draw(st.sampled_from(HEADS)),
        last_step=draw(st.booleans()),
        concat=draw(st.booleans()),
        sequences=sequences,
        steps=steps,
        lengths=tuple(lengths),
        amplitude=draw(st.sampled_from([1e-3, 1.0, 30.0, 1e4] if wild else [1e-3, 1.0])),
        scheme=Scheme(
            activations=draw(st.sampled_from([8, 16])),
            gates="pwl:32" if usual else draw(st.sampled_from(GATES)),
            calibrator=draw(st.sampled_from(["minmax", "percentile", "mse"])),
            input=draw(st.sampled_from(["8", "8-per-feature", "16"])),
            weights=draw(st.sampled_from([8, 8, 4])),
            refine="none",
        ),
        seed=draw(st.integers(0, 1 << 16)),
        mixed=draw(st.sampled_from([(), ("x", "h") if usual else ("source", "x", "h", "W", "R")])),
    )


DRAWN: Counter[str] = Counter()
"""How many cases were ``quantized``, and how many refused, by reason."""

REASONS = (
    "fraction bits", "do not fit int16", "too large for 16 bits", "the ramp does not fit 32-bit integers",
    "in calibration, beyond",
)  # fmt: skip
"""Why the quantizer may refuse a drawn model: a range of floats that has no format."""


def quantized_or_refused(case: Case) -> QuantModel | None:
    """The quantized model; None where a range of floats has no 16-bit format (a QuantizationError and no fault), or leaves float64."""
    try:
        with np.errstate(over="raise"):
            model = case.quantized()
    except FloatingPointError:
        DRAWN["leaves float64"] += 1
        return None
    except QuantizationError as error:
        reason = next((r for r in REASONS if r in str(error)), None)
        if reason is None:
            raise
        DRAWN[reason] += 1
        return None
    DRAWN["quantized"] += 1
    return model


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


def eager(cores: int, **fields: Any) -> Tuning:
    """A tuning by which every layer and every sequence is big enough for threads, and there are so many cores; ``fields``: others of it.

    A team waits long for its helper threads, so that it comes together however busy the machine is.
    """
    sizes = dict.fromkeys(
        (
            "team_run_macs",
            "team_call_macs",
            "team_step_macs",
            "fused_team_step_macs",
            "task_macs",
            "fused_task_macs",
            "share_macs",
            "dense_macs",
        ),
        1,
    )
    patient = {
        "flag_read_macs": 0,
        "wake_macs": 0,
        "macs_per_wake_spin": 0,
        "wake_spins": 1 << 26,
        "expected_spins": 1 << 24,
    }
    return Tuning(**{"cores": cores, **sizes, **patient, **fields})  # type: ignore[arg-type]
