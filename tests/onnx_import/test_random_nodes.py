"""Random recurrent nodes: what is imported computes what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings

from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import GATE_ROLE
from qrnn.onnx_import import import_model

from .random_nodes import RandomNode, random_nodes
from .running import batch_first, oracle, runtime

LARGEST = 80.0
"""Of the values inside: beyond it ONNX Runtime's Softplus, ln(1 + e^x) in float32, overflows."""

THRESHOLD_MARGIN = 1e-4
"""A ThresholdedRelu jumps at its threshold: nearer to it float32 may fall on the other side."""

NUDGE = 1e-6
"""A relative change of the inputs of about float32's rounding: where it moves an output by more than a tenth of the tolerance, as
unbounded gates in a feedback loop may, float32 says nothing about the equations."""

few = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
many = settings(few, max_examples=2000)


class Watch:
    """The largest value inside the recurrent layer, and the least distance of an argument to a threshold."""

    def __init__(self, model: FloatModel) -> None:
        self.largest = 0.0
        self.margin = np.inf
        self.thresholds: dict[str, float] = {}
        layer = model.layers[0]
        assert isinstance(layer, Recurrent)
        for number, direction in enumerate(layer.directions):
            for gate in layer.gates:
                function = direction.activations[GATE_ROLE[gate]]
                if function.kind == "thresholded_relu":
                    self.thresholds[f"{layer.name}[{number}].pre_{gate}"] = function.alpha
            output = direction.activations.get("output")
            if output is not None and output.kind == "thresholded_relu":
                self.thresholds[f"{layer.name}[{number}].c"] = output.alpha

    def __call__(self, name: str, values: np.ndarray[Any, Any], mask: np.ndarray[Any, Any] | None) -> None:
        real = values if mask is None else values[mask]
        self.largest = float(np.maximum(self.largest, np.abs(real).max(initial=0.0)))  # NaN stays
        if name in self.thresholds:
            self.margin = min(self.margin, float(np.abs(real - self.thresholds[name]).min(initial=np.inf)))


def check(node: RandomNode) -> None:
    model = import_model(onnx.load_from_string(node.model), "random")
    watch = Watch(model)
    with np.errstate(all="ignore"):  # some of these explode within a few steps
        got = oracle(model, node.inputs, watch)
    assume(watch.largest <= LARGEST and watch.margin > THRESHOLD_MARGIN)
    nudged = oracle(
        model, {k: v if v.dtype == np.int32 else v.astype(np.float64) * (1 + NUDGE) for k, v in node.inputs.items()}
    )
    assume(all(np.allclose(nudged[name], got[name], atol=1e-5, rtol=1e-5) for name in got))
    for name, expected in runtime(node.model, node.inputs).items():
        place = next(o for o in model.outputs if o.name == name)
        np.testing.assert_allclose(
            got[name], batch_first(place, expected), atol=1e-4, rtol=1e-4, err_msg=f"{name}: {node.description}"
        )


@few
@given(node=random_nodes())
def test_random_nodes(node: RandomNode) -> None:
    check(node)


@pytest.mark.long
@many
@given(node=random_nodes())
def test_random_nodes_long(node: RandomNode) -> None:
    check(node)
