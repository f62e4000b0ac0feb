"""`from_torch` takes what `load_onnx` takes of an exported file: arguments and results of any nesting, cells, caches, attention, bands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import qrnn
from qrnn.errors import DataError

torch = pytest.importorskip("torch")
nn = torch.nn

N, T = 2, 5


class Fn(nn.Module):  # type: ignore[misc,name-defined]
    """A module whose forward is a function of it and of its arguments."""

    def __init__(self, function: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = function

    def forward(self, *x: Any, **more: Any) -> Any:
        return self.function(self, *x, **more)


@dataclasses.dataclass
class Result:
    y: Any
    h: Any


class Pair(NamedTuple):
    h: Any
    c: Any


def gru() -> Any:
    return nn.GRU(3, 4, batch_first=True)


def lstm(**more: Any) -> Any:
    return nn.LSTM(3, 4, batch_first=True, **more)


def x(*shape: int) -> Any:
    return torch.randn(*(shape or (N, T, 3)))


def looped(cell: Any) -> Any:
    def forward(self: Any, x: Any) -> Any:
        h = x.new_zeros(len(x), 4)
        c, steps = h, []
        for t in range(x.shape[1]):
            if isinstance(self.cell, nn.LSTMCell):
                h, c = self.cell(x[:, t], (h, c))
            else:
                h = self.cell(x[:, t], h)
            steps.append(h)
        return self.head(torch.stack(steps, 1))

    return Fn(forward, cell=cell, head=nn.Linear(4, 2))


def step(self: Any, frame: Any, h: Any, c: Any) -> Any:
    h, c = self.cell(frame, (h, c))
    return {"y": self.head(h), "next": Pair(h, c)}


def packed(self: Any, x: Any, n: Any) -> Any:
    given = nn.utils.rnn.pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False)
    return self.head(nn.utils.rnn.pad_packed_sequence(self.rnn(given)[0], batch_first=True)[0])


def cached(self: Any, x: Any, cache: Any, h: Any) -> Any:
    frames = torch.cat([cache, x], 2)
    y, h = self.rnn(self.conv(frames).transpose(1, 2), h)
    return y, frames[:, :, -2:], h


def banded(self: Any, x: Any) -> Any:
    n, t, f, c = x.shape
    y = self.rnn(x.reshape(n * t, f, c))[0].reshape(n, t, f, 4)
    return self.over(y.permute(0, 2, 1, 3).reshape(n * f, t, 4))[0].reshape(n, f, t, 3).permute(0, 2, 1, 3)


def imaged(self: Any, x: Any) -> Any:
    n, t = x.shape[:2]
    return self.rnn(self.conv(x.reshape(n * t, *x.shape[2:])).flatten(1).view(n, t, -1))[0]


def attended(self: Any, x: Any) -> Any:
    y = self.rnn(x)[0]
    return self.norm(y + self.attention(y, y, y)[0])


OUTPUT = ("output",)
CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any], tuple[str, ...], tuple[str, ...]]] = {
    "two sequences": (
        lambda: Fn(lambda s, a, b: s.f(torch.cat([s.a(a)[0], s.b(b)[0]], -1)), a=lstm(), b=gru(), f=nn.Linear(8, 2)),
        lambda: (x(), x()), ("x_0", "x_1"), OUTPUT),
    "a dict of results": (
        lambda: Fn(lambda s, a: dict(zip(("y", "state"), s.a(a), strict=True)), a=lstm()), x, ("x_0",), ("y", "state_0", "state_1")),
    "a dataclass of results": (lambda: Fn(lambda s, a: Result(*s.a(a)), a=gru()), x, ("x_0",), ("y", "h")),
    "numbers and arguments by name": (
        lambda: Fn(lambda s, a, gain=1.0, on=False: s.a(a)[0] * gain if on else a, a=gru()),
        lambda: (x(), {"gain": 2.5, "on": True}), ("x_0",), OUTPUT),
    "a dict argument": (
        lambda: Fn(lambda s, a: s.a(a["left"])[0] + s.a(a["right"])[0], a=gru()),
        lambda: ({"left": x(), "right": x()}, {}), ("x_0_left", "x_0_right"), OUTPUT),
    "an LSTMCell alone": (lambda: nn.LSTMCell(3, 4), lambda: (x(N, 3), (x(N, 4), x(N, 4))), ("input", "h_0", "c_0"), ("h_1", "c_1")),
    "a GRUCell alone": (lambda: nn.GRUCell(3, 4), lambda: (x(N, 3), x(N, 4)), ("input", "h_0"), ("h_1",)),
    "an RNNCell of relu, without states": (lambda: nn.RNNCell(3, 4, nonlinearity="relu"), lambda: x(N, 3), ("input",), ("h_1",)),
    "a step of a cell": (
        lambda: Fn(step, cell=nn.LSTMCell(3, 4), head=nn.Linear(4, 2)),
        lambda: (x(N, 3), x(N, 4), x(N, 4)), ("x_0", "x_1", "x_2"), ("y", "next_0", "next_1")),
    "a loop of LSTMCell": (lambda: looped(nn.LSTMCell(3, 4)), x, ("x_0",), OUTPUT),
    "a loop of GRUCell": (lambda: looped(nn.GRUCell(3, 4)), x, ("x_0",), OUTPUT),
    "a loop of RNNCell": (lambda: looped(nn.RNNCell(3, 4)), x, ("x_0",), OUTPUT),
    "packing in any order": (
        lambda: Fn(packed, rnn=lstm(bidirectional=True), head=nn.Linear(8, 2)),
        lambda: (x(), torch.tensor([T - 2, T])), ("x_0", "x_1"), OUTPUT),
    "a projection inside": (
        lambda: Fn(lambda s, a: s.f(s.a(a)[0]), a=lstm(proj_size=2, num_layers=2, bidirectional=True), f=nn.Linear(4, 3)), x, ("x_0",), OUTPUT),
    "a cache of past frames": (
        lambda: Fn(cached, conv=nn.Conv1d(3, 4, 3), rnn=nn.GRU(4, 4, batch_first=True)),
        lambda: (x(N, 3, 1), x(N, 3, 2), x(1, N, 4)), ("x_0", "x_2"), ("output_0", "output_2")),
    "attention and layer normalization": (
        lambda: Fn(attended, rnn=gru(), attention=nn.MultiheadAttention(4, 2, batch_first=True), norm=nn.LayerNorm(4)), x, ("x_0",), OUTPUT),
    "a layer of a transformer": (
        lambda: Fn(lambda s, a: s.t(s.a(a)[0]), a=gru(), t=nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)), x, ("x_0",), OUTPUT),
    "bands in the batch": (lambda: Fn(banded, rnn=gru(), over=nn.GRU(4, 3, batch_first=True)), lambda: x(N, T, 6, 3), ("x_0",), OUTPUT),
    "images in steps": (
        lambda: Fn(imaged, conv=nn.Conv2d(1, 2, 3, stride=2), rnn=nn.GRU(8, 4, batch_first=True)), lambda: x(N, T, 1, 6, 5), ("x_0",), OUTPUT),
    "a transposed convolution": (
        lambda: Fn(lambda s, a: s.t(s.a(a)[0].transpose(1, 2)), a=gru(), t=nn.ConvTranspose1d(4, 2, 4, 2, 1)), x, ("x_0",), OUTPUT),
    "all steps side by side": (
        lambda: Fn(lambda s, a: s.f(s.a(a)[0].flatten(1)), a=gru(), f=nn.Linear(4 * T, 2)), x, ("x_0",), OUTPUT),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_imported(name: str) -> None:
    """`from_torch` itself compares the module with what it imported, on the example and on larger ones."""
    torch.manual_seed(1)
    make, example, inputs, outputs = CASES[name]
    module = make()
    model = qrnn.from_torch(module, example())
    renamed = {i.name.replace("input_", "x_") if not hasattr(module, "weight_ih") else i.name for i in model.inputs}
    assert renamed == set(inputs)
    assert tuple(o.name for o in model.outputs) == outputs
    assert not any("forward" in vars(m) for m in module.modules())


def branches(self: Any, x: Any, rate: Any) -> Any:
    return self.slow(x)[0] if rate == 8 else self.fast(x)[0]


def test_values_choose_a_branch_in_python() -> None:
    torch.manual_seed(2)
    module = Fn(branches, slow=gru(), fast=gru())
    example = (x(), torch.tensor(8))
    model = qrnn.from_torch(module, example, values={"input_1": 16})
    assert model.values == {"input_1": 16}
    data = x(3, 7, 3)
    got = qrnn.run_oracle(model, {"input_0": data.numpy()}).outputs["output"]
    np.testing.assert_allclose(got, module.fast(data)[0].detach().numpy(), atol=1e-5)


def test_a_window_for_what_is_normalized_over_time() -> None:
    module = Fn(lambda s, a: s.n(s.a(a)[0].transpose(1, 2)), a=gru(), n=nn.InstanceNorm1d(4))
    model = qrnn.from_torch(module, x(), window=3)
    assert any(type(layer).__name__ == "RunningNorm" for layer in model.layers)


def test_the_state_of_a_cache_by_name() -> None:
    module = Fn(cached, conv=nn.Conv1d(3, 4, 3), rnn=nn.GRU(4, 4, batch_first=True))
    model = qrnn.from_torch(module, (x(N, 3, 1), x(N, 3, 2), x(1, N, 4)), state={"input_1": "output_1"})
    assert [cache.input for cache in model.caches] == ["input_1"]


@pytest.mark.matrix
def test_the_newer_exporter() -> None:
    pytest.importorskip("onnxscript")
    module = Fn(lambda s, a: s.f(s.a(a)[0]), a=lstm(), f=nn.Linear(4, 2))
    model = qrnn.from_torch(module, x(), exporter="dynamo")
    assert [i.name for i in model.inputs] == ["input_0"]


@pytest.mark.parametrize(("example", "words"), [
    ((3.0,), "no tensor among its 1 arguments"),
    ((x(), object()), "is object, expected a tensor, a number"),
    ((x(), {3: x()}), "keys that are no names")])  # fmt: skip
def test_examples_without_tensors(example: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        qrnn.from_torch(Fn(lambda s, *a: s.a(a[0])[0], a=gru()), example)
    with pytest.raises(DataError, match="exporter='other', expected one of"):
        qrnn.from_torch(gru(), x(), exporter="other")  # type: ignore[arg-type]
