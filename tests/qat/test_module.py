"""The PyTorch module: what it takes and gives, its gradients against autograd's, training, checkpoints, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

import qrnn
from qat.networks import network
from qrnn.errors import DataError, MissingLibraryError
from qrnn.model.batch import make_batch
from qrnn.qat.backward import backward
from qrnn.qat.values import FloatValues
from qrnn.torch_import import from_torch

torch = pytest.importorskip("torch")
nn = torch.nn


class Classifier(nn.Module):  # type: ignore[misc,name-defined]
    """A recurrent layer and a dense layer on its last step."""

    def __init__(self, cell: str = "LSTM", hidden: int = 12) -> None:
        super().__init__()
        self.cell, self.head = getattr(nn, cell)(4, hidden, batch_first=True), nn.Linear(hidden, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.cell(x)[0][:, -1])


def problem(count: int = 48) -> tuple[Any, Any]:
    """Return sequences whose class is the feature with the largest sum."""
    torch.manual_seed(0)
    x = torch.randn(count, 10, 4)
    return x, x[:, :, :3].sum(dim=1).argmax(dim=1)


def prepared(scheme: qrnn.Scheme | None = None, cell: str = "LSTM", **more: Any) -> Any:
    x, _ = problem()
    return qrnn.qat.prepare(Classifier(cell), {"x": x}, scheme or qrnn.Scheme(), example=x[:2], **more)


def runs(module: Any, x: Any, lengths: Any = None) -> dict[str, Any]:
    return qrnn.Session(module.deploy()).run({"x": x.detach().numpy()}, lengths).outputs


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("scheme", [qrnn.Scheme(), qrnn.Scheme(weights=4, gates="hard")], ids=["8", "4-hard"])
def test_training_learns_and_runs_what_is_deployed_at_every_step(cell: str, scheme: qrnn.Scheme) -> None:
    module, (x, labels) = prepared(scheme, cell, learned_scales=scheme.weights == 4), problem()
    optimizer, losses = torch.optim.Adam(module.parameters(), 0.02), []
    for _ in range(30):
        optimizer.zero_grad()
        logits = module(x)
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        np.testing.assert_array_equal(logits.detach().numpy(), runs(module, x)["output"].astype(np.float32))
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("cell", "options"),
    [("LSTM", {}), ("LSTM", {"num_layers": 2, "bidirectional": True}), ("GRU", {"num_layers": 2}), ("RNN", {}), ("LSTM", {"proj_size": 3})],
    ids=["lstm", "lstm-two-both-ways", "gru-two", "rnn", "lstm-projection"],
)  # fmt: skip
def test_gradients_where_nothing_is_rounded_are_those_of_autograd(cell: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    real = getattr(nn, cell)(4, 6, batch_first=True, **options)
    x = torch.randn(3, 8, 4)
    model = from_torch(real, x)
    exact = real.double()
    given = x.double().requires_grad_()
    y, _ = exact(given)
    weight = torch.randn(y.shape, dtype=torch.float64)
    (y * weight).sum().backward()
    found = backward(FloatValues(model, make_batch(model.inputs, {"input": x.numpy()})), {"output": weight.numpy()})
    np.testing.assert_allclose(found.inputs["input"], given.grad, atol=1e-6)
    names = {"weight_ih": "weight_ih", "weight_hh": "weight_hh", "bias_ih": "bias_ih", "bias_hh": "bias_hh"}
    for number, layer in enumerate(model.recurrent_layers):
        for direction, suffix in enumerate(("", "_reverse")[: len(layer.directions)]):
            for own, of_torch in (
                names | ({"projection.weight": "weight_hr"} if "proj_size" in options else {})
            ).items():
                want = getattr(exact, f"{of_torch}_l{number}{suffix}").grad
                np.testing.assert_allclose(found.arrays[layer.name][f"directions.{direction}.{own}"], want, atol=1e-6)


def test_inputs_and_initial_states_have_gradients() -> None:
    shape = Shape("gru", states=True, hidden_size=6)
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(5, 7, 3)), "state": rng.uniform(-0.5, 0.5, (5, *shape.state_shape))}
    module = qrnn.qat.prepare(make_model(shape, rng), data)
    x, state = (torch.tensor(data[name], dtype=torch.float32, requires_grad=True) for name in ("x", "state"))
    outputs = module(x, lengths=torch.tensor([7, 2, 0, 4, 7]), states={"state": state})
    assert set(outputs) == {"y", "h"}
    outputs["y"].square().sum().backward()
    assert x.grad is not None
    assert state.grad is not None
    assert x.grad.abs().sum(dim=2)[1].nonzero().max() == 1  # a sequence of two steps
    assert not x.grad[2].any()
    assert state.grad[:, 0].any()


def test_zero_initial_states_are_learned_only_when_they_are_told_to() -> None:
    module, (x, _) = prepared(), problem()
    own = {name: p for name, p in module.weights.items() if name.endswith("_0/value")}
    assert own
    assert not any(p.requires_grad for p in own.values())
    for p in own.values():
        p.requires_grad_(True)
    module(x).square().sum().backward()
    assert all(p.grad.any() for p in own.values())


def test_evaluation_is_the_same_and_keeps_nothing() -> None:
    module, (x, _) = prepared(), problem()
    with torch.no_grad():
        y = module(x)
    assert not y.requires_grad
    np.testing.assert_array_equal(y, module(x).detach())


def test_checkpoints_hold_weights_and_formats(tmp_path: Path) -> None:
    module, (x, _) = prepared(learned_scales=True), problem()
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(1.1)
    module.recalibrate({"x": 3.0 * x})
    torch.save(module.state_dict(), tmp_path / "module.pt")
    other = prepared(learned_scales=True)
    assert not torch.equal(other(x), module(x))
    other.load_state_dict(torch.load(tmp_path / "module.pt"))
    assert torch.equal(other(x), module(x))
    assert other.deploy().tensors == module.deploy().tensors


def test_the_deployed_model_can_be_saved_and_compared(tmp_path: Path) -> None:
    module, (x, _) = prepared(), problem()
    qrnn.save(module.deploy(), tmp_path / "model.qrnn")
    again = qrnn.Session(qrnn.load(tmp_path / "model.qrnn")).run({"x": x.numpy()}).outputs["output"]
    np.testing.assert_array_equal(again.astype(np.float32), module(x).detach())
    assert qrnn.compare(module.float_model, module.deploy(), {"x": x.numpy()}).outputs["output"].sqnr_db > 25


def test_a_file_and_a_bundled_model_are_prepared() -> None:
    folder = Path(qrnn.__file__).parent / "examples"
    calibration = dict(np.load(folder / "digits_calibration.npz"))
    calibration.pop("labels", None)
    module = qrnn.qat.prepare(folder / "digits_gru.onnx", calibration)
    (name,) = (i.name for i in module.float_model.inputs if i.kind == "features")
    found = module(
        torch.tensor(calibration[name][:4]), calibration["lengths"][:4] if "lengths" in calibration else None
    )
    assert found.requires_grad


def test_learned_scales_have_gradients_of_the_step() -> None:
    module, (x, _) = prepared(qrnn.Scheme(weights=4), learned_scales=True), problem()
    name = next(name for name in module.scales if name.endswith("weight_hh"))
    with torch.no_grad():
        module.scales[name].mul_(0.5)
    outside = module.weights[name].abs() > module.scales[name][:, None]
    assert outside.any()
    module(x).square().sum().backward()
    assert module.scales[name].grad.any()
    assert not module.weights[name].grad[outside].any()
    layer, path = module._places[name]
    assert np.abs(module._trained.arrays[layer][path]).max(axis=1) == pytest.approx(
        module.scales[name].detach().numpy()
    )


def test_several_inputs_are_given_by_name() -> None:
    module, x = qrnn.qat.prepare(network("dense"), {"x": torch.randn(4, 6, 3)}), torch.randn(2, 5, 3)
    assert module({"x": x})["y"].shape == (2, 5, 5)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.LSTM(4, 3, batch_first=True), {}, "example: missing"),
        (3, {}, "model: int, expected|int, expected"),
        (network("dense"), {"widths": "x"}, "widths: not known"),
    ],
    ids=["no example", "no model", "an unknown option"],
)
def test_what_is_refused(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        qrnn.qat.prepare(model, {"x": np.zeros((2, 5, 3))}, **options)


def test_without_pytorch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "qrnn.qat.module"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingLibraryError, match=r"qrnn\[torch\]"):
        qrnn.qat.prepare(network("dense"), {"x": np.zeros((2, 5, 3))})
