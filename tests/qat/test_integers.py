"""The forward pass is the deployed model's, bit for bit, at every step of training, and its gradients are near those of what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends.generators import REASONS, Case, cases, fewest, many
from hypothesis import given
from models import Shape, make_model

from qat.networks import network
from qrnn import layers
from qrnn.errors import DataError, QuantizationError, UnsupportedError
from qrnn.model.batch import make_batch
from qrnn.qat import recurrent
from qrnn.qat.backward import Gradients, backward
from qrnn.qat.trained import TrainedModel
from qrnn.qat.values import FloatValues
from qrnn.quantization.scheme import Scheme
from qrnn.quantization.widths import parse_widths
from qrnn.running.session import Session

LENGTHS = np.array([9, 4, 1, 6])


def each(gradients: Gradients) -> Iterator[tuple[str, Any]]:
    """Yield every gradient with its name."""
    for layer, own in gradients.arrays.items():
        for path, gradient in own.items():
            yield f"{layer} {path}", gradient
    yield from gradients.inputs.items()
    yield from gradients.states.items()


def distance(a: Gradients, b: Gradients) -> float:
    """Return the largest distance of two sets of gradients, each relative to the largest number of its array."""
    others = dict(each(b))
    found = [np.abs(g - others[name]).max() / max(np.abs(g).max(), 1e-9) for name, g in each(a)]
    assert dict(each(a)).keys() == others.keys()
    return float(max(found))


def seeds(values: Any, rng: np.random.Generator) -> dict[str, Any]:
    return {name: rng.normal(size=y.shape) for name, y in values.result.outputs.items()}


def trained(case: Case) -> TrainedModel | None:
    """Return a model in training; None where a range of floats has no format."""
    model = case.model()
    scheme = replace(case.scheme, widths=parse_widths(case._widths(model)))
    try:
        with np.errstate(over="raise"):
            return TrainedModel(model, {**case.data(), "lengths": np.asarray(case.lengths)}, scheme, "generic")
    except FloatingPointError:
        return None
    except QuantizationError as error:
        if not any(reason in str(error) for reason in REASONS):
            raise
        return None


def check_steps(case: Case) -> None:
    """Take steps of training, and compare the forward pass of each with a session of what is deployed."""
    made = trained(case)
    if made is None:
        return
    rng, data = np.random.default_rng(case.seed), case.data()
    lengths = np.asarray(case.lengths)
    for _ in range(3):
        values = made.run(make_batch(made.inputs, data, lengths))
        want = Session(made.quantized).run(data, lengths)
        assert want.outputs.keys() == values.result.outputs.keys()
        for name, y in want.outputs.items():
            np.testing.assert_array_equal(values.result.outputs[name], y, err_msg=name)
        found = backward(values, seeds(values, rng))
        assert all(np.isfinite(gradient).all() for _, gradient in each(found))
        moved = {
            layer: {
                path: made.arrays[layer][path] - 0.03 * gradient / max(1.0, np.abs(gradient).max())
                for path, gradient in own.items()
            }
            for layer, own in found.arrays.items()
        }
        made.set_arrays(moved)
        try:
            _ = made.quantized
        except QuantizationError:  # a step too far for the formats
            return


@fewest
@given(cases(most_hidden=9, usual=True))
def test_every_step_of_training_runs_what_is_deployed(case: Case) -> None:
    check_steps(case)


@pytest.mark.matrix
@many
@given(cases(most_hidden=12))
def test_every_step_of_training_runs_what_is_deployed_for_any_cell(case: Case) -> None:
    check_steps(case)


SHAPES = [
    Shape("lstm", directions=(False, True), layers=2, peephole=0.4, head=3, hidden_size=8),
    Shape("lstm", forget="coupled", states=True, hidden_size=8),
    Shape("lstm", forget="one", hidden_size=8, weight=0.3),
    Shape("gru", states=True, layers=2, hidden_size=8),
    Shape("gru", linear_before_reset=False, update_keeps=False, hidden_size=8, directions=(True,)),
    Shape("rnn", head=3, hidden_size=8, weight=0.4),
]
SCHEMES = [Scheme(), Scheme(activations=16, weights=4, gates="hard"), Scheme(gates="pwl:32,candidate=hard")]


def made_of(shape: Shape, scheme: Scheme, seed: int = 0) -> tuple[TrainedModel, Any, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    data: dict[str, Any] = {"x": rng.normal(size=(4, 9, shape.input_size))}
    if shape.states:
        data["state"] = rng.uniform(-0.5, 0.5, (4, *shape.state_shape))
    made = TrainedModel(make_model(shape, rng), data, scheme, "generic")
    return made, make_batch(made.inputs, data, LENGTHS), data


@pytest.mark.wide
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.cell}-{shape.forget}-{shape.linear_before_reset}")
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: f"{scheme.weights}-{scheme.gates}")
def test_compiled_loops_give_the_derivatives_of_the_equations(
    shape: Shape, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, batch, _ = made_of(shape, scheme)
    values = made.run(batch)
    given = seeds(values, np.random.default_rng(1))
    fast = backward(values, given)
    monkeypatch.setattr(recurrent, "fast_of", lambda *_: None)
    # the arguments of gates differ by their roundings; a ramp's slope is another one beside its ends
    assert distance(backward(values, given), fast) < (0.1 if "hard" in scheme.gates else 0.01)


@pytest.mark.parametrize(
    "shape", SHAPES[:5], ids=lambda shape: f"{shape.cell}-{shape.forget}-{shape.linear_before_reset}"
)
def test_gradients_are_near_those_of_the_float_model_with_the_weights_of_the_integers(shape: Shape) -> None:
    made, batch, _ = made_of(shape, Scheme(activations=16, input="16"))
    values = made.run(batch)
    given = seeds(values, np.random.default_rng(1))
    assert distance(backward(FloatValues(values.model, batch), given), backward(values, given)) < 0.02


@pytest.mark.parametrize(
    "kind", ["conv", "average_pool", "layer_norm", "attention", "concat", "gelu", "over_bands", "softmax"]
)
def test_layers_without_a_cell_are_near_the_float_model_too(kind: str) -> None:
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(4, 9, 3))}
    made = TrainedModel(network(kind), data, Scheme(activations=16, input="16"), "generic")
    batch = make_batch(made.inputs, data, LENGTHS)
    values = made.run(batch)
    given = seeds(values, rng)
    assert distance(backward(FloatValues(values.model, batch), given), backward(values, given)) < 0.05


def test_no_gradient_goes_through_what_is_clamped() -> None:
    made, _, data = made_of(SHAPES[0], Scheme())
    batch = make_batch(made.inputs, {"x": 50.0 * data["x"]}, LENGTHS)
    values = made.run(batch)
    found = backward(values, seeds(values, np.random.default_rng(1)))
    beyond = np.abs(batch.features["x"]) > 2 * np.abs(data["x"]).max()
    assert beyond.any()
    assert not found.inputs["x"][beyond].any()


@pytest.mark.parametrize(("gates", "learned"), [("forget=step,input=step", True), ("candidate=hard", True)])
def test_step_gates_have_the_derivative_of_a_sigmoid(gates: str, learned: bool) -> None:
    made, batch, _ = made_of(SHAPES[0], Scheme(gates=gates))
    values = made.run(batch)
    found = backward(values, seeds(values, np.random.default_rng(1)))
    rows = found.arrays["layer0"]["directions.0.weight_ih"].reshape(4, -1)
    assert [bool(row.any()) for row in rows] == [learned] * 4


def test_formats_follow_new_data_when_they_are_decided_anew() -> None:
    made, _, data = made_of(Shape("rnn", head=2, hidden_size=4), Scheme())
    before = made.quantized.tensors["x"].scale[0]
    made.recalibrate({"x": 4.0 * data["x"]})
    assert made.quantized.tensors["x"].scale[0] == pytest.approx(4.0 * before)


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    made, _, _ = made_of(Shape("rnn"), Scheme())
    with pytest.raises(DataError, match=r"directions.0.bias_ih of layer 'layer0' is not finite .*; take a smaller"):
        made.set_arrays({"layer0": {"directions.0.bias_ih": np.full(5, np.nan)}})


def test_a_model_through_which_no_gradient_goes_is_refused_by_name() -> None:
    rng = np.random.default_rng(0)
    h = layers.rnn(layers.input("x", features=3), rng.normal(size=(4, 3)), rng.normal(size=(4, 4)))
    model = layers.model("m", outputs={"y": layers.argmax(h.output, name="best")})
    with pytest.raises(UnsupportedError, match=r"'best' .* has no derivative"):
        TrainedModel(model, {"x": rng.normal(size=(2, 5, 3))}, Scheme(), "generic")


def test_sixteen_bit_weights_are_refused() -> None:
    with pytest.raises(QuantizationError, match="weights=16: training is for"):
        made_of(Shape("rnn"), Scheme(weights=16))
