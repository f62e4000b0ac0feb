"""Measure one case of docs/conformance.md: agreement of the float result, equality of the integer backends, error and sensitivity.

Sensitivity is the error that an engine of 8 bits must be allowed: every weight, input and fed-back state of the float64 oracle is moved by
half of its own quantization step, either way by seeded chance, `DRAWS` times, and the largest change of each output is taken. The same with
an eighth of the move tells a jump (the change stays) from a gain (it falls with the move).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import onnx
from conformance_cases import NODE_ATOL, NODE_RTOL, Case

from qrnn.accuracy.metrics import sqnr_db
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import QrnnError
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import QuantRecurrent, Recurrent
from qrnn.model.kinds.recurrent.definition import Direction
from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_backend import Bound, prepare
from qrnn.running.session import Session

DRAWS = 16
FRACTION = 8
"""How much smaller the second move is."""

NEAR = 1 / 32
"""Error beside the largest magnitude that needs no words: eight half steps of an 8-bit number."""


def ratio(value: float, unit: float) -> float:
    """Return value / unit, or 0 where both are 0."""
    return value / unit if unit else (0.0 if value == 0.0 else math.inf)


@dataclass(frozen=True)
class Output:
    """One output: its largest magnitude, the largest error, SQNR in dB, the largest change by a whole and by a small move.

    The small move is made where an output is not `NEAR`; ``moved_less`` is nan otherwise.
    """

    name: str
    peak: float
    error: float
    sqnr: float
    moved: float
    moved_less: float

    @property
    def relative(self) -> float:
        """The largest error over the largest magnitude."""
        return ratio(self.error, self.peak)

    @property
    def times(self) -> float:
        """The largest error over what half a step costs the float network."""
        return ratio(self.error, self.moved)

    @property
    def jumps(self) -> bool:
        """Whether the change does not fall with the move as that of a continuous function does."""
        return self.moved_less > 0.5 * self.moved


@dataclass(frozen=True)
class Result:
    """The result of a case.

    ``refused`` is the error's text where the case is not run. ``difference`` is that of the float result over the largest magnitude, which
    counts as at least 1. ``equal`` is true where every backend gives the same integers.
    """

    case: Case
    refused: str = ""
    difference: float = math.nan
    within_node_tolerance: bool = False
    equal: bool = False
    outputs: tuple[Output, ...] = ()
    not_quantized: str = ""

    @property
    def relative(self) -> float:
        """The largest relative error of any output."""
        return max((o.relative for o in self.outputs), default=math.nan)

    @property
    def sqnr(self) -> float:
        """The least SQNR of any output; inf where every output is exact or zero throughout."""
        return min((o.sqnr for o in self.outputs if not math.isnan(o.sqnr)), default=math.inf)

    @property
    def times(self) -> float:
        """The largest error of any output over what half a step costs the float network."""
        return max((o.times for o in self.outputs), default=math.nan)


def run_float(case: Case) -> tuple[Bound, tuple[Any, ...]]:
    """Run the case through `qrnn.onnx_backend`: return the bound model and the outputs in the graph's own form."""
    rep = prepare(case.model)
    return rep.bind(case.inputs), rep.run(case.inputs)


def expected(case: Case) -> tuple[Any, ...]:
    """Return what the float result is compared with, in the case's own layout."""
    if case.expected is not None:
        return tuple(case.expected[o.name] for o in case.model.graph.output if o.name in case.expected)
    source = case.twin or case
    found = run_onnxruntime(source.model, source.inputs)
    return tuple(
        v.transpose(case.axes[o.name]) if o.name in case.axes else v
        for v, o in zip(found, case.model.graph.output, strict=True)
    )


def run_onnxruntime(model: onnx.ModelProto, inputs: Mapping[str, Any]) -> list[Any]:
    """Return the graph's outputs by ONNX Runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Any] = session.run(None, dict(inputs))
    return found


@cache
def _measured(key: str) -> dict[str, Result]:
    """Return the results that are kept for the tests and the document of one process."""
    return {}


def measure(case: Case) -> Result:
    """Measure everything about one case; the result is kept, so that a process measures it once."""
    kept = _measured("results")
    if case.name not in kept:
        kept[case.name] = _measure(case)
    return kept[case.name]


def _measure(case: Case) -> Result:
    try:
        bound, got = run_float(case)
    except QrnnError as error:
        return Result(case, refused=f"{type(error).__name__}: {error}")
    got = tuple(g for g, o in zip(got, case.model.graph.output, strict=True) if o.name in (case.compared or (o.name,)))
    want = expected(case)
    assert all(g.shape == w.shape and g.dtype == w.dtype for g, w in zip(got, want, strict=True))
    difference = max(largest_difference(g, w) for g, w in zip(got, want, strict=True))
    close = all(np.allclose(g, w, rtol=NODE_RTOL, atol=NODE_ATOL) for g, w in zip(got, want, strict=True))
    result = Result(case, difference=difference, within_node_tolerance=close)
    try:
        quantized = quantize(bound.model, bound.calibration)
    except QrnnError as error:
        return replace(result, not_quantized=f"{type(error).__name__}: {error}")
    equal, outputs = run_integers(quantized, bound)
    measured = tuple(o for o in _outputs(bound, quantized, outputs) if o.name in (case.compared or (o.name,)))
    return replace(result, equal=equal, outputs=measured)


def largest_difference(got: Any, want: Any) -> float:
    """Return the largest difference over the largest magnitude, which counts as at least 1.

    It looks where ``want`` is finite, for ``want`` is of float32 and the oracle is not.
    """
    finite = np.isfinite(want)
    if not finite.any():
        return 0.0
    return float(np.abs(got[finite] - want[finite]).max() / max(1.0, np.abs(want[finite]).max()))


def run_integers(quantized: QuantModel, bound: Bound) -> tuple[bool, dict[str, FloatArray]]:
    """Return whether every backend gives the same integers, tensors and states; and the outputs."""
    batch = make_batch(quantized.inputs, bound.data)
    runs = [Session(quantized, backend).run_batch(batch) for backend in available_backends()]
    integers = []
    for result, tensors in runs:
        arrays: dict[str, Any] = dict(tensors)
        arrays.update({f"{n}.{k}": v for n, pair in result.state.layers.items() for k, v in enumerate(pair)})
        integers.append({name: (v.dtype, v.shape, v.tobytes()) for name, v in arrays.items()})
    return all(found == integers[0] for found in integers[1:]), runs[0][0].outputs


def _outputs(bound: Bound, quantized: QuantModel, got: Mapping[str, FloatArray]) -> tuple[Output, ...]:
    want = run_oracle(bound.model, bound.data).outputs
    whole = changes(bound, quantized, want, 1.0)
    outputs = tuple(
        Output(
            name,
            float(np.abs(v).max()),
            float(np.abs(v - got[name]).max()),
            sqnr_db(v, got[name]),
            whole[name],
            math.nan,
        )
        for name, v in want.items()
    )
    if all(o.relative <= NEAR for o in outputs):
        return outputs
    less = changes(bound, quantized, want, 1.0 / FRACTION)
    return tuple(replace(o, moved_less=less[o.name]) for o in outputs)


def changes(bound: Bound, quantized: QuantModel, want: Mapping[str, FloatArray], size: float) -> dict[str, float]:
    """Return the largest change of each output when everything that has 8 bits is moved by ``size`` half steps."""
    rng = np.random.default_rng(0)
    largest = dict.fromkeys(want, 0.0)
    for _ in range(DRAWS):
        model, data = moved(bound, quantized, rng, 0.5 * size)
        with np.errstate(all="ignore"):  # a recurrence may leave float64, too
            found = run_oracle(model, data).outputs
            change = {name: float(np.abs(value - want[name]).max()) for name, value in found.items()}
        for name, value in change.items():
            largest[name] = max(largest[name], value if math.isfinite(value) else math.inf)
    return largest


def moved(
    bound: Bound, quantized: QuantModel, rng: np.random.Generator, steps: float
) -> tuple[FloatModel, dict[str, Any]]:
    """Move the network's weights, inputs and fed-back states by ``steps`` of their quantization steps, up or down by chance."""
    layers = {layer.name: layer for layer in quantized.recurrent_layers}
    data = dict(bound.data)
    changed: list[Layer] = []
    for layer in bound.model.layers:
        if not isinstance(layer, Recurrent):
            changed.append(layer)
            continue
        integers = layers[layer.name]
        scales = np.array(quantized.tensors[layer.input].scales)
        if layer.input in data:
            x = np.asarray(data[layer.input], np.float64)
            data[layer.input] = x + _signs(rng, x.shape) * scales * 2.0**integers.x_operand.shift * steps
        directions = tuple(_moved_direction(d, integers, scales, rng, steps) for d in layer.directions)
        changed.append(replace(layer, directions=directions))
    return replace(bound.model, layers=tuple(changed)), data


def _moved_direction(
    d: Direction, integers: QuantRecurrent, scales: FloatArray, rng: np.random.Generator, steps: float
) -> Direction:
    """Move one direction; a constant move of what is fed back is one of the recurrent bias."""
    scaled = d.weight_ih * scales
    h_step = 2.0 ** (integers.h_operand.shift - integers.h_frac)
    fed_back = _signs(rng, d.matrix_hh.shape[1:]) * h_step * steps
    return replace(
        d,
        weight_ih=(scaled + _signs(rng, scaled.shape) * _row_steps(scaled) * steps) / scales,
        weight_hh=d.matrix_hh + _signs(rng, d.matrix_hh.shape) * _row_steps(d.matrix_hh) * steps,
        bias_hh=d.bias_hh + d.matrix_hh @ fed_back,
    )


def _row_steps(weight: FloatArray) -> FloatArray:
    steps: FloatArray = np.abs(weight).max(axis=1, keepdims=True) / 127
    return steps


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    signs: FloatArray = np.where(rng.random(shape) < 0.5, -1.0, 1.0)
    return signs
