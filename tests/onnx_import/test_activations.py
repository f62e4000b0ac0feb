"""Every activation in every role of every operator, with given and default parameters, against ONNX Runtime."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from qrnn.errors import ModelFileError, QrnnError, UnsupportedError
from qrnn.model.activation import ACTIVATION_PARAMETERS, Activation
from qrnn.onnx_import import import_model
from qrnn.onnx_import.operators.recurrent_attributes import ACTIVATIONS, CELLS, PARAMETER_DEFAULTS

from .builders import single
from .running import agree, data

X = data(6, 3, 4)  # [T, N, I]
ROLES = [(op, role) for op, cell in CELLS.items() for role in cell.defaults]


def names_with(op: str, role: str, name: str) -> list[str]:
    """The default activations of an operator, but ``name`` for the role."""
    return list((CELLS[op].defaults | {role: name}).values())


def parameters(names: list[str], seed: int) -> dict[str, list[float]]:
    """Random activation_alpha and activation_beta, as many as the functions take."""
    rng = np.random.default_rng(seed)
    result: dict[str, list[float]] = {}
    for parameter in ("alpha", "beta"):
        count = sum(parameter in ACTIVATION_PARAMETERS[ACTIVATIONS[name]] for name in names)
        if count:
            result[f"activation_{parameter}"] = np.round(rng.uniform(0.1, 0.9, count), 3).tolist()
    return result


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("op", "role"), ROLES)
def test_every_function_in_every_role(op: str, role: str, name: str) -> None:
    names = names_with(op, role, name)
    given = parameters(names, seed=len(name))
    model = agree(single(op, activations=names, **given), {"X": X})
    function = model.layers[0].directions[0].activations[role]
    assert function.kind == ACTIVATIONS[name]
    for parameter in ACTIVATION_PARAMETERS[function.kind]:
        assert getattr(function, parameter) == pytest.approx(given[f"activation_{parameter}"][0])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("op", CELLS)
def test_parameters_are_consumed_in_order(op: str, seed: int) -> None:
    """Other functions in each direction; the lists go to those that take them, whatever stands between."""
    rng = np.random.default_rng(seed)
    names = rng.choice(list(ACTIVATIONS), size=2 * len(CELLS[op].defaults)).tolist()
    agree(single(op, direction="bidirectional", activations=names, **parameters(names, seed)), {"X": X})


@pytest.mark.parametrize("change", [str.lower, str.upper])
@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_case_does_not_matter(op: str, change: Any) -> None:
    names = [change(name) for name in names_with(op, "gate", "HardSigmoid")]
    agree(single(op, activations=names), {"X": X})


def test_case_does_not_matter_in_rnn() -> None:
    """ONNX Runtime's RNN alone wants the exact spelling."""
    model = import_model(single("RNN", activations=["leakyRELU"]), "test")
    assert model.layers[0].directions[0].activations["candidate"] == Activation("leaky_relu", 0.01)


@pytest.mark.parametrize("name", ["HardSigmoid", "LeakyRelu", "Elu"])
@pytest.mark.parametrize("op", CELLS)
def test_defaults(op: str, name: str) -> None:
    model = agree(single(op, activations=names_with(op, "candidate", name)), {"X": X})
    function = model.layers[0].directions[0].activations["candidate"]
    assert function == Activation(ACTIVATIONS[name], **PARAMETER_DEFAULTS[ACTIVATIONS[name]])
    assert any("default alpha" in note for note in model.notes) == (op == "RNN")


@pytest.mark.parametrize("op", CELLS)
def test_the_default_threshold_is_the_specification_s(op: str) -> None:
    """ONNX Runtime takes 0; the operator ThresholdedRelu has 1."""
    model = import_model(single(op, activations=names_with(op, "candidate", "ThresholdedRelu")), "test")
    assert model.layers[0].directions[0].activations["candidate"].alpha == 1.0
    assert any("default alpha=1; ONNX Runtime takes 0" in note for note in model.notes)


def test_short_lists_leave_the_rest_to_defaults() -> None:
    names = ["HardSigmoid", "Elu", "LeakyRelu"]
    model = agree(single("LSTM", activations=names, activation_alpha=[0.3, 0.7]), {"X": X})
    assert model.layers[0].directions[0].activations == {
        "gate": Activation("hard_sigmoid", pytest.approx(0.3), 0.5),
        "candidate": Activation("elu", pytest.approx(0.7)),
        "output": Activation("leaky_relu", 0.01),
    }


def test_two_names_for_one_direction_of_rnn() -> None:
    """The attribute's own default is ["Tanh", "Tanh"], whatever the direction."""
    model = agree(single("RNN", activations=["Relu", "Tanh"]), {"X": X})
    assert model.layers[0].directions[0].activations["candidate"].kind == "relu"


@pytest.mark.parametrize(
    ("op", "attributes", "says", "error"),
    [
        (
            "GRU",
            {"activations": ["Sigmoid", "Gelu"]},
            "activations=['Sigmoid', 'Gelu']: Gelu for the candidate is not supported, only Affine, Elu, .*; run this layer outside",
            UnsupportedError,
        ),
        ("RNN", {"activations": ["Affine"]}, "Affine for the candidate has no default alpha; re-export with its value in", UnsupportedError),
        ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [1.0]}, "no default beta; .* in activation_beta", UnsupportedError),
        ("GRU", {"activation_alpha": [0.5]}, "activation_alpha=[0.5], .* hold more values than .*; re-export with values", UnsupportedError),
        (
            "LSTM",
            {"activations": ["Sigmoid", "LeakyRelu", "Tanh"], "activation_alpha": [0.0, 0.5, 0.0]},
            "activation_alpha=[0.0, 0.5, 0.0], activation_beta=[] hold more values",
            UnsupportedError,
        ),
        ("RNN", {"activations": ["Elu"], "activation_alpha": [float("nan")]}, "activation_alpha=nan; it must be finite", ModelFileError),
        ("GRU", {"activations": ["Tanh"]}, "activations=['Tanh'] has 1 names, expected 2", ModelFileError),
        ("RNN", {"activations": ["Tanh"] * 3}, "has 3 names, expected 1", ModelFileError),
    ],
)  # fmt: skip
def test_refused(op: str, attributes: dict[str, Any], says: str, error: type[QrnnError]) -> None:
    with pytest.raises(error) as caught:
        import_model(single(op, **attributes), "test")
    message = str(caught.value)
    assert message.startswith(f"node 'node' ({op}, opset 14): ")
    pattern = says.replace("[", r"\[").replace("]", r"\]")
    assert re.search(pattern, message), message
