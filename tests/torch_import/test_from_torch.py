"""`from_torch`: the imported model computes what the module computes, at any size, and the module is left as it was."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest

import qrnn
from qrnn.errors import DataError, QrnnError, UnsupportedError
from qrnn.model.float_model import FloatModel

torch = pytest.importorskip("torch")
nn = torch.nn

BARE = {
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "rnn_tanh": (nn.RNN, {}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm_projection": (nn.LSTM, {"proj_size": 2}),
    "lstm_no_bias": (nn.LSTM, {"bias": False}),
    "lstm_projection_no_bias": (nn.LSTM, {"proj_size": 2, "bias": False}),
}
SHAPES = {
    "plain": {},
    "bidirectional": {"bidirectional": True},
    "stacked": {"num_layers": 2, "dropout": 0.4},
    "both": {"num_layers": 2, "bidirectional": True, "dropout": 0.4},
}

BARE_CASES = [
    *((kind, "plain", True) for kind in BARE),
    *((kind, "both", False) for kind in BARE),
    ("lstm", "bidirectional", True),
    ("lstm", "stacked", False),
]


def exact(module: Any, *arguments: Any) -> Any:
    """Return what the module gives in float64 and evaluation mode."""

    def double(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(double(v) for v in value)
        return value.double() if value.is_floating_point() else value

    with torch.no_grad():
        return copy.deepcopy(module).double().eval()(*(double(a) for a in arguments))


def close(got: np.ndarray[Any, Any], want: Any) -> None:
    np.testing.assert_allclose(got, want.numpy() if hasattr(want, "numpy") else want, rtol=0, atol=1e-5)


def time_first(x: Any, batch_first: bool) -> Any:
    return x if batch_first else x.transpose(0, 1)


@pytest.mark.parametrize(("kind", "shape", "batch_first"), BARE_CASES)
def test_bare_modules(kind: str, shape: str, batch_first: bool) -> None:
    torch.manual_seed(1)
    make, options = BARE[kind]
    module = make(3, 5, batch_first=batch_first, **options, **SHAPES[shape])
    example = time_first(torch.randn(2, 4, 3), batch_first)
    model = qrnn.from_torch(module, example)
    assert [i.name for i in model.inputs] == ["input"]
    assert [o.name for o in model.outputs] == ["output", "h_n"] + (["c_n"] if "lstm" in kind else [])
    x = torch.randn(3, 9, 3)  # batch and time of their own
    y, state = exact(module, time_first(x, batch_first))
    got = qrnn.run_oracle(model, {"input": x.numpy()}).outputs
    close(got["output"], time_first(y, batch_first))
    for key, value in zip(("h_n", "c_n"), state if isinstance(state, tuple) else (state,), strict=False):
        close(got[key], value.transpose(0, 1))
    lengths = np.array([9, 4, 1])
    got = qrnn.run_oracle(model, {"input": x.numpy()}, lengths).outputs["output"]
    for n, length in enumerate(lengths):
        alone = exact(module, time_first(x[n : n + 1, :length], batch_first))[0]
        close(got[n, :length], time_first(alone, batch_first)[0])
        assert not got[n, length:].any()


@pytest.mark.parametrize(
    ("kind", "batch_first"), [("lstm", True), ("gru", False), ("rnn_tanh", True), ("lstm_projection", False)]
)
def test_initial_states(kind: str, batch_first: bool) -> None:
    """States are graph inputs where the example gives them; L·D = 4 is also the example's number of steps."""
    torch.manual_seed(2)
    make, options = BARE[kind]
    module = make(3, 5, batch_first=batch_first, **options, **SHAPES["both"])

    def states(batch: int) -> Any:
        h, c = torch.randn(4, batch, options.get("proj_size", 5)), torch.randn(4, batch, 5)
        return (h, c) if make is nn.LSTM else h

    model = qrnn.from_torch(module, (time_first(torch.randn(2, 4, 3), batch_first), states(2)))
    assert [i.kind for i in model.inputs][1:] == ["state"] * (2 if make is nn.LSTM else 1)
    x, given = torch.randn(3, 7, 3), states(3)
    y, state = exact(module, time_first(x, batch_first), given)
    named = dict(zip(("h_0", "c_0"), given if isinstance(given, tuple) else (given,), strict=False))
    data = {"input": x.numpy()} | {key: value.transpose(0, 1).numpy() for key, value in named.items()}
    got = qrnn.run_oracle(model, data).outputs
    close(got["output"], time_first(y, batch_first))
    for key, value in zip(("h_n", "c_n"), state if isinstance(state, tuple) else (state,), strict=False):
        close(got[key], value.transpose(0, 1))


class Classifier(nn.Module):  # type: ignore[misc,name-defined]
    """Tokens to several answers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 3)
        self.rnn = nn.GRU(3, 5, 2, batch_first=True, bidirectional=True, dropout=0.5)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(10, 4)

    def forward(self, ids: Any) -> Any:
        y, h = self.rnn(self.embedding(ids))
        return {
            "z_steps": self.head(self.drop(y)),
            "a_last": self.head(y[:, -1]),
            "summary": torch.cat([h[-2], h[-1]], dim=-1),
            "p": torch.softmax(self.head(y), dim=-1),
        }


def test_a_module_with_heads() -> None:
    torch.manual_seed(3)
    module = Classifier()
    model = qrnn.from_torch(module, torch.randint(0, 11, (2, 4)), name="classifier")
    assert model.name == "classifier"
    assert [(i.name, i.kind, i.vocabulary) for i in model.inputs] == [("ids", "tokens", 11)]
    ids = torch.randint(0, 11, (3, 8))
    want = exact(module, ids)
    got = qrnn.run_oracle(model, {"ids": ids.numpy()}).outputs
    assert list(got) == list(want)
    for key, value in want.items():
        close(got[key], value)
    quantized = qrnn.quantize(model, {"ids": ids.numpy()})
    result = qrnn.Session(quantized, "reference").run({"ids": ids.numpy()}).outputs
    assert np.abs(result["z_steps"] - got["z_steps"]).max() < 0.05


class TwoOutputs(nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 5), nn.Linear(5, 2)

    def forward(self, x: Any, state: Any = None) -> Any:
        y, (h, c) = self.rnn(x, state)
        return torch.sigmoid(self.head(y)), (h, c)


@pytest.mark.parametrize("with_state", [False, True])
def test_nested_results_are_numbered(with_state: bool) -> None:
    module = TwoOutputs()
    state = (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5))
    example = (torch.randn(4, 2, 3), state) if with_state else torch.randn(4, 2, 3)
    model = qrnn.from_torch(module, example)
    assert [i.name for i in model.inputs] == ["x"] + (["state_0", "state_1"] if with_state else [])
    assert [o.name for o in model.outputs] == ["output_0", "output_1", "output_2"]
    x = torch.randn(6, 3, 3)
    y, (h, c) = exact(module, x)
    got = qrnn.run_oracle(model, {"x": x.transpose(0, 1).numpy()}).outputs
    for key, value in zip(got, (y, h, c), strict=True):
        close(got[key], value.transpose(0, 1))


@pytest.mark.parametrize(("size", "steps"), [(1, 1), (1, 5), (3, 1), (3, 3)])
def test_sizes_of_the_example_do_not_matter(size: int, steps: int) -> None:
    module = nn.LSTM(3, 5, batch_first=True)
    model = qrnn.from_torch(module, torch.randn(size, steps, 3))
    x = torch.randn(2, 6, 3)
    close(qrnn.run_oracle(model, {"input": x.numpy()}).outputs["output"], exact(module, x)[0])


def test_a_module_of_one_step() -> None:
    """Frames [N, F] with states in and out: qrnn runs whole sequences of them."""

    class Step(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, frame: Any, h: Any) -> Any:
            y, h = self.rnn(frame.unsqueeze(1), h)
            return self.head(y[:, 0]), h

    module = Step()
    model = qrnn.from_torch(module, (torch.randn(2, 3), torch.zeros(1, 2, 5)))
    assert model.one_step
    x = torch.randn(2, 4, 3)
    got = qrnn.run_oracle(model, {"frame": x.numpy()}).outputs["output_0"]
    h = torch.zeros(1, 2, 5, dtype=torch.float64)
    for t in range(4):
        y, h = exact(module, x[:, t], h)
        close(got[:, t], y)


def test_a_module_of_one_step_without_states() -> None:
    """Rows of a table as sequences of one step: nothing is kept between them, unless a stream is asked for."""

    class Rows(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x.unsqueeze(1))[0][:, -1])

    module = Rows()
    x = torch.randn(6, 3)
    model = qrnn.from_torch(module, torch.randn(2, 3))
    assert model.rows
    close(qrnn.run_oracle(model, {"x": x.numpy()}).outputs["output"], exact(module, x))
    stream = qrnn.from_torch(module, torch.randn(2, 3), stream=True)
    carried = exact(module.head, exact(module.rnn, x[None])[0])
    close(qrnn.run_oracle(stream, {"x": x[None].numpy()}).outputs["output"], carried)


def test_sorted_packing_is_imported() -> None:
    class Packed(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, enforce_sorted: bool) -> None:
            super().__init__()
            self.rnn, self.enforce_sorted = nn.GRU(3, 5, batch_first=True), enforce_sorted

        def forward(self, x: Any, n: Any) -> Any:
            packed = nn.utils.rnn.pack_padded_sequence(x, n, batch_first=True, enforce_sorted=self.enforce_sorted)
            y, h = self.rnn(packed)
            return nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0], h

    x, lengths = torch.randn(3, 6, 3), torch.tensor([6, 4, 1])
    module = Packed(True)
    model = qrnn.from_torch(module, (x[:2], lengths[:2]))
    assert [i.kind for i in model.inputs] == ["features", "lengths"]
    y, h = exact(module, x, lengths)
    got = qrnn.run_oracle(model, {"x": x.numpy(), "n": lengths.numpy()}).outputs
    close(got["output_0"], y)
    close(got["output_1"], h.transpose(0, 1))
    model = qrnn.from_torch(Packed(False), (x, lengths.flip(0)))
    assert [i.kind for i in model.inputs] == ["features", "lengths"]


def test_training_mode_hooks_and_gradients_are_left_alone() -> None:
    module = Classifier()
    module.train()
    module.drop.eval()
    ids = torch.randint(0, 11, (2, 4))
    state = torch.get_rng_state()
    qrnn.from_torch(module, ids)
    assert torch.equal(state, torch.get_rng_state())
    assert (module.training, module.rnn.training, module.drop.training) == (True, True, False)
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert not module.rnn._forward_pre_hooks
    assert not any("forward" in vars(m) for m in module.modules())
    with pytest.raises(DataError):
        qrnn.from_torch(module, torch.randint(0, 11, (2, 4, 5)))
    assert (module.training, module.drop.training) == (True, False)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    qrnn.from_torch(nn.LSTM(3, 5, 2, bidirectional=True), torch.randn(4, 2, 3))
    with pytest.raises(UnsupportedError):
        qrnn.from_torch(nn.Linear(3, 5), torch.randn(4, 2, 3))
    assert capfd.readouterr() == ("", "")


def test_double_precision() -> None:
    module = nn.LSTM(3, 5).double()
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    got = qrnn.run_oracle(qrnn.from_torch(module, x), {"input": x.transpose(0, 1).numpy()}).outputs["output"]
    np.testing.assert_allclose(got, module(x)[0].transpose(0, 1).detach().numpy(), rtol=0, atol=1e-12)


class Wrapped(nn.Module):  # type: ignore[misc,name-defined]
    """A recurrent layer between two functions."""

    def __init__(self, layer: Any, after: Any = None) -> None:
        super().__init__()
        self.layer, self.after = layer, after

    def forward(self, x: Any) -> Any:
        y = self.layer(x)
        y = y[0] if isinstance(y, tuple) else y
        return self.after(y) if self.after else y


def baked_steps(y: Any) -> Any:
    """Adds the number of steps, computed in Python where the export does not see it."""
    return y + float(y.shape[1])


class GivenStates(nn.Module):  # type: ignore[misc,name-defined]
    """A projected layer that begins with other states than zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(3, 5, proj_size=2, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.layer(x, (x.new_ones(1, len(x), 2), x.new_ones(1, len(x), 5)))[0]


REFUSED = {
    "projection inside, with states": (
        GivenStates(),
        r"submodule 'layer' of 'GivenStates' is an LSTM with proj_size .*qrnn\.layers",
    ),
    "cell inside without a loop": (Wrapped(nn.GRUCell(3, 5)), "no recurrent node"),
    "convolution": (Wrapped(nn.GRU(4, 4, batch_first=True), nn.Conv1d(3, 3, 1)), "Conv"),
    "no recurrence": (nn.Linear(3, 5), "no recurrent node"),
    "baked size": (Wrapped(nn.GRU(3, 5, batch_first=True), baked_steps), "computes something else than the module"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    module, message = REFUSED[case]
    shape = {"cell inside without a loop": (2, 3), "convolution": (2, 3, 4)}.get(case, (2, 4, 3))
    with pytest.raises(UnsupportedError, match=message) as caught:
        qrnn.from_torch(module, torch.randn(*shape))
    assert "\n" not in str(caught.value)


def test_examples_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"module is int, expected a torch\.nn\.Module"):
        qrnn.from_torch(3, torch.randn(2, 4, 3))
    with pytest.raises(DataError, match="cannot be called with the example"):
        qrnn.from_torch(nn.LSTM(3, 5), torch.randn(2, 4, 7))
    with pytest.raises(UnsupportedError, match="batch axis"):
        qrnn.from_torch(nn.LSTM(3, 5, proj_size=2), torch.randn(4, 3))


def test_a_module_that_is_given_one_sequence() -> None:
    """Without a batch axis; any number of sequences runs."""
    torch.manual_seed(3)
    module = nn.LSTM(3, 5)
    model = qrnn.from_torch(module, torch.randn(4, 3))
    assert model.inputs[0].batch_axis is None
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    got = qrnn.run_oracle(model, {model.inputs[0].name: x}).outputs[model.outputs[0].name]
    with torch.no_grad():
        want = np.stack([module(torch.tensor(row))[0].numpy() for row in x])
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(QrnnError, match="pip install torch"):
        qrnn.from_torch(None, None)


def test_quantized_from_torch_runs(tmp_path: Any) -> None:
    torch.manual_seed(4)
    model: FloatModel = qrnn.from_torch(nn.GRU(3, 8, 2, batch_first=True), torch.randn(2, 4, 3))
    x = np.random.default_rng(0).normal(size=(4, 20, 3))
    quantized = qrnn.quantize(model, {"input": x})
    want = qrnn.run_oracle(model, {"input": x}).outputs["output"]
    got = qrnn.Session(quantized).run({"input": x}).outputs["output"]
    assert 10 * np.log10((want**2).sum() / ((want - got) ** 2).sum()) > 30
