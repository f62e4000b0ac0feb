"""Causal convolutions over time: against PyTorch's definition in float64, and in integers on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st

import qrnn
from qrnn import DataError, Session, layers
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.export.source import export_source
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.conv import QuantConv

pytestmark = pytest.mark.usefixtures("loops")

Array = npt.NDArray[np.float64]


def network(stride: int, dilation: int, taps: int, features: int = 3, units: int = 5, seed: int = 0) -> FloatModel:
    """A convolution, a GRU behind it, and outputs of both and of the last step."""
    rng = np.random.default_rng(seed)
    x = layers.input("x", features)
    weight = rng.normal(0, 0.5, (4, features, taps))
    c = layers.conv(x, weight, rng.normal(size=4), stride=stride, dilation=dilation, name="conv")
    h = layers.gru(
        c, rng.normal(0, 0.4, (3 * units, 4)), rng.normal(0, 0.4, (3 * units, units)), rng.normal(size=3 * units)
    )
    y = layers.dense(h.output, rng.normal(size=(2, units)))
    return layers.model("conv", {"y": y, "c": c, "h": h.h_n, "last": layers.last_step(y)})


def convolved(x: Array, weight: Array, bias: Array, stride: int, dilation: int) -> Array:
    """The equation, written out for one sequence [T, F]."""
    taps = weight.shape[2]
    rows = []
    for at in range(0, len(x), stride):
        total = bias.copy()
        for k in range(taps):
            step = at - (taps - 1 - k) * dilation
            if step >= 0:
                total += weight[:, :, k] @ x[step]
        rows.append(total)
    return np.array(rows)


@pytest.mark.parametrize(("stride", "dilation", "taps"), [(1, 1, 1), (1, 1, 3), (2, 1, 3), (3, 2, 2), (2, 3, 4)])
def test_equation(stride: int, dilation: int, taps: int) -> None:
    model = network(stride, dilation, taps)
    conv: Any = model.layers[0]
    x, lengths = np.random.default_rng(1).normal(size=(3, 9, 3)), np.array([9, 4, 1])
    got = run_oracle(model, {"x": x}, lengths).outputs["c"]
    for n, length in enumerate(lengths):
        want = convolved(x[n, :length], conv.weight, conv.bias, stride, dilation)
        np.testing.assert_allclose(got[n, : len(want)], want, atol=1e-12)
        assert not got[n, len(want) :].any()


def test_against_torch() -> None:
    torch = pytest.importorskip("torch")
    model = network(2, 2, 3)
    conv: Any = model.layers[0]
    x = np.random.default_rng(2).normal(size=(2, 11, 3))
    padded = torch.nn.functional.pad(torch.tensor(x).transpose(1, 2), (4, 0))
    want = torch.nn.functional.conv1d(padded, torch.tensor(conv.weight), torch.tensor(conv.bias), stride=2, dilation=2)
    np.testing.assert_allclose(run_oracle(model, {"x": x}).outputs["c"], want.transpose(1, 2).numpy(), atol=1e-12)


@pytest.mark.parametrize(("stride", "dilation", "taps"), [(1, 1, 3), (2, 1, 3), (3, 2, 4)])
def test_accuracy(stride: int, dilation: int, taps: int) -> None:
    model = network(stride, dilation, taps)
    x = np.random.default_rng(3).normal(size=(16, 24, 3))
    found = qrnn.compare(model, quantize(model, {"x": x}), {"x": x})
    assert found.outputs["c"].sqnr_db > 38
    assert found.outputs["y"].sqnr_db > 30


def test_file(tmp_path: Any) -> None:
    x = np.random.default_rng(4).normal(size=(4, 10, 3))
    made = quantize(network(2, 1, 3), {"x": x})
    qrnn.save(made, tmp_path / "conv.qrnn")
    again = qrnn.load(tmp_path / "conv.qrnn")
    for backend in available_backends():
        np.testing.assert_array_equal(
            Session(again, backend).run({"x": x}).outputs["y"], Session(made, "reference").run({"x": x}).outputs["y"]
        )


@settings(deadline=None, max_examples=25)
@given(st.data())
@pytest.mark.parametrize("backend", available_backends())
def test_backends_agree(backend: str, data: st.DataObject) -> None:
    """Whole, ragged, in chunks and step by step, with inputs beyond the calibrated range."""
    stride, dilation, taps = (data.draw(st.integers(1, most)) for most in (3, 2, 4))
    features = data.draw(st.integers(1, 5))
    model = network(stride, dilation, taps, features, 3, data.draw(st.integers(0, 3)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    quantized = quantize(model, {"x": rng.normal(size=(2, 6, features))})
    N, T = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8))
    x, lengths = rng.normal(0, 3, (N, T, features)), rng.integers(0, T + 1, N)
    want = Session(quantized, "reference").run({"x": x}, lengths)
    session = Session(quantized, backend)
    got = session.run({"x": x}, lengths)
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values)
        np.testing.assert_array_equal(got.lengths[name], want.lengths[name])
    assert want.lengths["y"].tolist() == [-(-n // stride) for n in lengths.tolist()]
    for n in range(N):
        stream, rows = session.stream(), []
        for frame in x[n, : lengths[n]]:
            outputs = stream.step({"x": frame[None]})
            if stream.lengths["y"][0]:
                rows.append(outputs["y"][0])
        np.testing.assert_array_equal(np.reshape(rows, (-1, 2)), want.outputs["y"][n, : want.lengths["y"][n]])


def test_states_of_convolutions_are_checked() -> None:
    """A place outside the ring would be read and written outside of the array."""
    made = quantize(network(2, 1, 3), {"x": np.random.default_rng(5).normal(size=(2, 6, 3))})
    session = Session(made)
    state = session.initial_state(1)
    (layer,) = (layer for layer in made.layers if isinstance(layer, QuantConv))
    for position, value in ((1, 3), (1, -1), (2, 2), (2, -1), (0, -32768)):
        arrays = [array.copy() for array in state.layers[layer.name]]
        arrays[position][...] = value
        with pytest.raises(DataError, match=r"expected -?[0-9]+…"):
            session.run({"x": np.zeros((1, 2, 3))}, state=qrnn.State({**state.layers, layer.name: tuple(arrays)}))


def test_refusals() -> None:
    x = layers.input("x", 3)
    for says, call in {
        r"weight has shape \[4, 2, 3\]": lambda: layers.conv(x, np.zeros((4, 2, 3))),
        "stride=0, expected a whole number": lambda: layers.conv(x, np.zeros((4, 3, 3)), stride=0),
        "expected a sequence": lambda: layers.conv(layers.input("v", 3, has_time=False), np.zeros((4, 3, 3))),
        "joins tensors of different lengths": lambda: layers.model(
            "m", {"y": (layers.conv(x, np.zeros((4, 3, 3)), stride=2), layers.dense(x, np.zeros((2, 3))))}
        ),
    }.items():
        with pytest.raises(DataError, match=says):
            call()


@pytest.mark.parametrize("kernels", ["plain", "mve"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_exported_c(compiler: str, kernels: Any, tmp_path: Any) -> None:
    """Exported C says how many steps came out, and has the reference's bits."""
    made = quantize(network(2, 2, 3), {"x": np.random.default_rng(6).normal(size=(4, 10, 3))})
    check(made, tmp_path, compiler, kernels)


def test_a_convolution_that_keeps_the_steps_may_stand_beside_its_input(tmp_path: Any) -> None:
    """With stride 1 its output has the steps of its input: they can be added, both be outputs, and C has its usual functions."""
    rng = np.random.default_rng(0)
    x = layers.input("x", 3)
    d = layers.dense(x, rng.normal(size=(3, 3)))
    y = layers.add(d, layers.conv(d, rng.normal(size=(3, 3, 4)), dilation=2))
    made = quantize(layers.model("m", {"y": y, "d": d}), {"x": rng.normal(size=(4, 10, 3))})
    check(made, tmp_path, "gcc")
    assert "void net_step(" in export_source(made, "net", "plain").header
