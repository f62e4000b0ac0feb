"""Training in PyTorch: the loss falls, every epoch's model is what the module computes, and a training that was interrupted goes on exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qrnn
from finetuning.classifiers import arrays, classifier
from qrnn.finetuning.examples import examples
from qrnn.finetuning.goals import goal_of
from qrnn.finetuning.scores import float_runner, with_followed
from qrnn.model.file import model_digest

torch = pytest.importorskip("torch")

SCHEME = qrnn.Scheme(weights=4, gates="hard", refine="none", input="8")


def labelled(count: int = 64) -> dict[str, Any]:
    """Return inputs with the classes that the float model decides for at every step."""
    data = arrays(count)
    model = classifier()
    outputs = float_runner(model)(examples(model, data, goal_of(model, data)).batch)["y"]
    return {**data, "labels": outputs.argmax(axis=-1)}


@pytest.mark.parametrize("goal", ["labels", "float", "targets"])
def test_training_makes_it_better(goal: str) -> None:
    model, data = classifier(), labelled()
    if goal != "labels":
        data.pop("labels")
    if goal == "targets":
        data["y"] = float_runner(model)(examples(model, data, goal_of(model, data)).batch)["y"]
    training = qrnn.Training(epochs=8, learning_rate=5e-3, batch=16)
    found = qrnn.finetune(model, arrays(64), data, validation=data, scheme=SCHEME, training=training)
    assert found.best > 0
    assert found.after.score.key < found.before.score.key
    losses = [epoch.training_loss for epoch in found.history]
    assert losses[-1] < losses[0]
    again = qrnn.finetune(model, arrays(64), data, validation=data, scheme=SCHEME, training=training)
    assert model_digest(again.model) == model_digest(found.model)
    other = qrnn.Training(epochs=8, learning_rate=5e-3, batch=16, seed=1)
    assert model_digest(
        qrnn.finetune(model, arrays(64), data, validation=data, scheme=SCHEME, training=other).model
    ) != model_digest(found.model)


class StopHereError(Exception):
    """Interrupts a training."""


@pytest.mark.parametrize("recalibrate", [0, 1])
@pytest.mark.parametrize("learned_scales", [None, False])
def test_an_interrupted_training_comes_to_the_same_model(
    recalibrate: int, learned_scales: bool | None, tmp_path: Path
) -> None:
    from qrnn.finetuning.finetune import Job, torch_trainer

    model, data = classifier(), labelled(40)
    training = qrnn.Training(
        epochs=4, learning_rate=5e-3, batch=16, recalibrate=recalibrate, learned_scales=learned_scales
    )

    def interrupted(job: Job) -> Any:
        trainer: Any = torch_trainer()(job)
        epoch = trainer.epoch

        def two(number: int, report: Callable[[float], None]) -> float:
            if number == 3:
                raise StopHereError
            return float(epoch(number, report))

        trainer.epoch = two
        return trainer

    def run(**more: Any) -> qrnn.Finetuned:
        return qrnn.finetune(model, arrays(40), data, validation=data, scheme=SCHEME, training=training, **more)

    whole = run()
    with pytest.raises(StopHereError):
        run(checkpoint=tmp_path / "c", trainer=interrupted)
    found = run(checkpoint=tmp_path / "c")
    assert [epoch.score for epoch in found.history] == [epoch.score for epoch in whole.history]
    assert found.best == whole.best
    assert model_digest(found.model) == model_digest(whole.model)


def test_the_module_computes_what_is_deployed() -> None:
    from qrnn.finetuning.trainer import TorchTrainer
    from qrnn.qat import prepare

    model, data = classifier(), labelled(20)
    found = with_followed(examples(model, data, goal_of(model, data)))
    training = qrnn.Training(epochs=2, batch=8, learning_rate=5e-3)
    trainer = TorchTrainer(prepare(model, arrays(20), SCHEME), found, training, arrays(20))
    for number in (1, 2):
        trainer.epoch(number, lambda _: None)
        got = trainer.outputs(found)["y"].detach().numpy()
        want = qrnn.Session(trainer.deploy()).run({"x": data["x"]}, data["lengths"]).outputs["y"]
        assert np.array_equal(got, want.astype(np.float32))


def test_training_begins_with_refined_integers() -> None:
    from qrnn.finetuning.trainer import begin_with
    from qrnn.qat import prepare

    model, data = classifier(), labelled(40)
    inputs = {name: data[name] for name in ("x", "lengths")}
    refined = qrnn.quantize(model, inputs, qrnn.Scheme(weights=4, input="8"))
    module = prepare(model, inputs, qrnn.Scheme(weights=4, input="8"), learned_scales=True)

    def db(made: qrnn.QuantModel) -> float:
        return float(qrnn.compare(model, made, inputs).outputs["y"].sqnr_db)

    nearest = db(module.deploy())
    begin_with(module, refined)
    assert db(module.deploy()) > nearest + 0.8 * (db(refined) - nearest)
    for name, scale in module.scales.items():  # no refined weight is beyond its row's scale, where it would be clamped
        assert torch.equal(scale, module.weights[name].abs().amax(dim=1))


def test_a_loss_that_is_no_number_changes_nothing() -> None:
    from qrnn.finetuning.trainer import TorchTrainer

    model, data = classifier(), labelled(8)
    found = examples(model, data, goal_of(model, data))

    class Broken(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, x: Any, lengths: Any = None, states: Any = None) -> Any:
            return torch.full((8, 6, 3), torch.nan) * self.scale

    trainer = TorchTrainer(Broken(), found, qrnn.Training(epochs=1), {})
    assert np.isnan(trainer.epoch(1, lambda _: None))
    assert trainer.state()["module.scale"] == 1.0
