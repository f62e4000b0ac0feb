"""What saturates, and how much of each range is used, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from models import Shape, make_model

from accuracy.pairs import LENGTHS, MASK, X, pair
from qrnn.accuracy.compare import compare
from qrnn.accuracy.probe import LayerProbe
from qrnn.backends.base import Trace
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session


def test_saturation_of_inputs_by_hand() -> None:
    """Calibrated to ±1 with 127 steps: beyond 127.5/127 a value is clipped; padding and other features do not count."""
    calibration = np.zeros((1, 2, 3))
    calibration[0, 0, 0] = 1.0
    model, quantized = pair(Shape("gru", head=2), calibration)
    x = np.zeros((2, 4, 3))
    x[0, 0] = [1.0, 127.4 / 127, -127.4 / 127]
    x[0, 1] = [127.6 / 127, -127.6 / 127, 0.0]
    x[1, 0] = [50.0, 0.0, 0.0]
    x[1, 2] = [99.0, 99.0, 99.0]  # beyond its length
    result = compare(model, quantized, {"x": x, "lengths": np.array([4, 2])})
    found = {s.where: (s.saturated, s.total) for s in result.saturation}
    assert found["input x: beyond its calibrated range"] == (3, 18)
    assert result.ranges["x"] == 1.0


def test_saturation_of_given_states() -> None:
    """The h of a bounded cell holds ±32767/32768: of five given values 1.5 and -2 are clipped, the last by less than half a unit is not."""
    shape = Shape("gru", hidden_size=5, states=True, head=2)
    model, quantized = pair(shape, np.random.default_rng(1).normal(size=(2, 3, 3)))
    state = np.zeros((1, 2, 1, 1, 5))
    state[0, 0, 0, 0] = [0.5, -0.999, 1.5, -2.0, 32767.4 / 32768]
    result = compare(model, quantized, {"x": np.zeros((1, 3, 3)), "state": state})
    found = {s.where: (s.saturated, s.total) for s in result.saturation}
    assert found["layer0[0]: initial h"] == (2, 5)


def one_unit(weight: float, bias: float) -> FloatModel:
    """An LSTM of one unit: gates i and f from the bias alone, candidate weight·x, no recurrence."""
    model = make_model(Shape("lstm", input_size=1, hidden_size=1, head=1), np.random.default_rng(0))
    layer, dense = model.layers
    direction = replace(
        layer.directions[0],  # type: ignore[union-attr]
        weight_ih=np.array([[0.0], [0.0], [weight], [0.0]]),
        weight_hh=np.zeros((4, 1)),
        bias_ih=np.array([bias, -bias, 0.0, bias]),
        bias_hh=np.zeros(4),
    )
    head_weight = replace(dense, weight=np.array([[1.0]]), bias=np.array([0.0]))
    return replace(model, layers=(replace(layer, directions=(direction,)), head_weight))  # type: ignore[arg-type]


def test_saturation_of_gates_by_hand() -> None:
    """The candidate's argument is int16 with 12 fraction bits, ±8: of |x| = 1, 4, 9, 20 the last two saturate, on real steps only."""
    model = one_unit(1.0, 3.0)
    calibration = np.array([[[20.0]]])
    quantized = quantize(model, {"x": calibration}, Scheme(input="16"))
    x = np.array([[1.0, 4.0, 9.0], [-20.0, -4.0, 30.0]])[:, :, None]
    result = compare(model, quantized, {"x": x, "lengths": np.array([3, 2])})
    found = {s.where: (s.saturated, s.total) for s in result.saturation}
    assert found["layer0[0]: pre-activation g"] == (2, 5)
    assert found["layer0[0]: pre-activation i"] == (0, 5)
    assert found["layer0[0]: cell"] == (0, 5)
    assert found["head: pre-activation"] == (0, 5)


def test_saturation_of_a_trace_made_by_hand() -> None:
    """Exactly the values that the contract's clamps change: rails of int16 and int32, and operands that round beyond their limit."""
    model = one_unit(1.0, 3.0)
    quantized = quantize(model, {"x": np.array([[[0.5]]])}, Scheme(input="8"))
    layer = quantized.layers[0]
    assert isinstance(layer, QuantRecurrent)
    shift, limit = layer.h_operand.shift, layer.h_operand.limit
    assert limit == 127
    half, top = (1 << shift) // 2, limit << shift
    batch = make_batch(model.inputs, {"x": np.zeros((1, 6, 1))}, [5])
    probe, trace = LayerProbe(quantized, batch), Trace()
    run_oracle_batch(model, batch, probe.observe)
    _, tensors = Session(quantized).run_batch(batch, trace=trace)
    key = "layer0[0]"
    pre, h, c = (trace.arrays[f"{key}.{name}"].copy() for name in ("pre", "h", "c"))
    pre[0, :, 0] = [32767, -32768, 32766, -32767, 0, 32767]  # two at a rail; the sixth step is padding
    pre[0, :, 1] = [32767] * 6
    # Halves round up: two are beyond. The matrix reads each at the next step, before the first step the initial state, 0.
    h[0, :, 0] = [top + half - 1, top + half, -top - half, -top - half - 1, 32767, -32767]
    c[0, :, 0] = [2**31 - 1, -(2**31), 2**31 - 2, 0, 0, -(2**31)]
    trace.arrays.update({f"{key}.pre": pre, f"{key}.h": h, f"{key}.c": c})
    logits = tensors["logits"].copy()
    logits[0, :, 0] = [32767, -32768, -32767, 32766, 32767, 32767]
    start = Session(quantized).initial_state(1, {}).layers
    probe.compare(trace, {**tensors, "logits": logits}, batch, start)
    found = {s.where: (s.saturated, s.total) for s in probe.saturation()}
    assert found == {
        "input x: beyond its calibrated range": (0, 5),
        f"{key}: pre-activation i": (2, 5),
        f"{key}: pre-activation f": (5, 5),
        f"{key}: pre-activation g": (0, 5),
        f"{key}: pre-activation o": (0, 5),
        f"{key}: h operand": (2, 5),
        f"{key}: cell": (2, 5),
        "head: pre-activation": (3, 5),
        "head: x operand": (0, 5),  # of the engine's own h
    }
    (operand,) = (s for s in probe.saturation() if s.where == f"{key}: h operand")
    assert operand.largest == 128 / 127
    assert probe.ranges()["logits"] == 32768 / quantized.tensors["logits"].limit


def test_ranges_by_hand() -> None:
    model, quantized = pair(Shape("gru", head=3), X)
    data = {"x": X, "lengths": LENGTHS}
    result = compare(model, quantized, data)
    tensors = Session(quantized).run_batch(make_batch(model.inputs, {"x": X}, LENGTHS))[1]
    assert set(result.ranges) == set(tensors)
    for name, q in tensors.items():
        real = q[MASK] if quantized.tensors[name].has_time else q
        assert result.ranges[name] == np.abs(real.astype(int)).max() / quantized.tensors[name].limit
