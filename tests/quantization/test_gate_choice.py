"""What --gates says: texts that are read, texts that are refused, and what each gate of a model gets."""

from __future__ import annotations

import pytest

from qrnn.errors import QuantizationError
from qrnn.model.activation import Activation
from qrnn.quantization.gate_choice import DEFAULT_GATES, GATE_KEYS, GateChoice, GateChoices, parse_gates
from qrnn.quantization.scheme import Scheme

SIGMOID, TANH = Activation("sigmoid"), Activation("tanh")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (DEFAULT_GATES, "pwl:128"),
        ("pwl:8", "pwl:8"),
        ("step", "step"),
        ("hard", "hard"),
        ("hard:0.25,0.5", "hard:0.25,0.5"),
        ("hard: 1e-1 , -.5", "hard:0.1,-0.5"),
        ("forget=step", "forget=step"),
        ("forget=step,pwl:64", "pwl:64,forget=step"),
        (" head = pwl:1024 , input=hard:0.2,0.5 , step", "step,input=hard:0.2,0.5,head=pwl:1024"),
        ("tanh=pwl:16,sigmoid=hard,cell=hard,update=step,reset=hard:1,0", None),
        ("hard:0.2,0.5,candidate=hard", "hard:0.2,0.5,candidate=hard"),
        ("input=step,output=pwl:32", "input=step,output=pwl:32"),
    ],
)
def test_texts(text: str, canonical: str | None) -> None:
    choices = parse_gates(text)
    assert str(choices) == (canonical or "sigmoid=hard,tanh=pwl:16,cell=hard,reset=hard:1.0,0.0,update=step")
    assert parse_gates(str(choices)) == choices
    assert Scheme(gates=text).gates == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "''"),
        ("pwl", "pwl:N"),
        ("pwl:7", "8, 16, 32"),
        ("pwl:2048", "1024"),
        ("pwl:-8", "pwl:N"),
        ("pwl:٨", "pwl:N"),
        ("lut:256", "lut:256"),
        ("hard:", "hard:ALPHA,BETA"),
        ("hard:0.2", "hard:ALPHA,BETA"),
        ("hard:0.2,", "hard:"),
        ("hard:0.2,0.5,0.7", "0.7"),
        ("hard:a,b", "hard:ALPHA,BETA"),
        ("hard:nan,0.5", "hard:ALPHA,BETA"),
        ("hard:1e999,0.5", "finite"),
        ("step,hard", "second choice without a key"),
        ("forget=step,forget=step", "second choice for forget"),
        ("gate=step", "'gate' is unknown"),
        ("=step", "unknown"),
        ("forget=", "forget="),
        ("forget=step=hard", "unknown"),
        ("forget=step,,", "''"),
        ("tanh=step", "does not stand for a tanh"),
        ("tanh=hard:0.2,0.5", "does not stand for a tanh"),
        ("STEP", "STEP"),
    ],
)
def test_refused_texts(text: str, says: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        parse_gates(text)
    assert says in str(caught.value)
    assert "expected" in str(caught.value) or "give one" in str(caught.value) or "use hard" in str(caught.value)
    with pytest.raises(QuantizationError):
        Scheme(gates=text)


def resolved(text: str, gate: str, activation: Activation) -> tuple[str, str]:
    function, choice = parse_gates(text).resolve(gate, activation)
    return str(function), str(choice)


@pytest.mark.parametrize(
    ("text", "gate", "activation", "function", "choice"),
    [
        ("pwl:64", "i", SIGMOID, "sigmoid", "pwl:64"),
        ("pwl:64", "head", TANH, "tanh", "pwl:64"),
        ("step", "f", SIGMOID, "step", "pwl:128"),
        ("step", "g", TANH, "tanh", "pwl:128"),
        ("step", "head", SIGMOID, "sigmoid", "pwl:128"),
        ("hard", "r", SIGMOID, "hard_sigmoid(0.2, 0.5)", "pwl:128"),
        ("hard:0.25,0.5", "z", SIGMOID, "hard_sigmoid(0.25, 0.5)", "pwl:128"),
        ("hard:0.25,0.5", "n", TANH, "hard_tanh", "pwl:128"),
        ("hard", "output", TANH, "hard_tanh", "pwl:128"),
        ("hard", "head", SIGMOID, "sigmoid", "pwl:128"),
        ("head=hard", "head", SIGMOID, "hard_sigmoid(0.2, 0.5)", "pwl:128"),
        ("pwl:32,forget=step", "f", SIGMOID, "step", "pwl:32"),
        ("pwl:32,forget=step", "i", SIGMOID, "sigmoid", "pwl:32"),
        ("forget=pwl:8,sigmoid=step,hard", "f", SIGMOID, "sigmoid", "pwl:8"),
        ("forget=pwl:8,sigmoid=step,hard", "o", SIGMOID, "step", "pwl:128"),
        ("forget=pwl:8,sigmoid=step,hard", "g", TANH, "hard_tanh", "pwl:128"),
        ("sigmoid=step", "head", SIGMOID, "step", "pwl:128"),
        ("output=step", "output", TANH, "tanh", "pwl:128"),
        ("output=step", "o", SIGMOID, "step", "pwl:128"),
        ("cell=hard", "output", TANH, "hard_tanh", "pwl:128"),
        ("candidate=pwl:16", "h", TANH, "tanh", "pwl:16"),
        ("candidate=step", "g", SIGMOID, "step", "pwl:128"),
        ("hard", "f", Activation("hard_sigmoid", 0.3, 0.5), "hard_sigmoid(0.3, 0.5)", "pwl:128"),
        ("step,candidate=pwl:16", "g", Activation("elu", 1.0), "elu(1)", "pwl:16"),
        ("pwl:16", "g", Activation("softsign"), "softsign", "pwl:16"),
        ("hard", "g", Activation("softsign"), "softsign", "pwl:128"),
    ],
)
def test_what_a_gate_gets(text: str, gate: str, activation: Activation, function: str, choice: str) -> None:
    assert resolved(text, gate, activation) == (function, choice)


@pytest.mark.parametrize("choice", ["step", "hard:0.2,0.5"])
def test_a_tanh_is_no_step_and_no_hard_sigmoid(choice: str) -> None:
    with pytest.raises(QuantizationError, match=r"candidate: .* use hard"):
        parse_gates(f"candidate={choice}").resolve("n", TANH)


def test_keys_that_a_model_does_not_have() -> None:
    choices = parse_gates("reset=step,head=pwl:8,candidate=hard,sigmoid=pwl:8,cell=hard")
    assert choices.unused(("i", "f", "g", "o", "output")) == ("reset", "head")
    assert choices.unused(("r", "z", "n", "head")) == ("cell",)
    assert choices.unused(("h",)) == ("cell", "reset", "head")
    assert parse_gates("step").unused(()) == ()


def test_no_choice_is_the_default() -> None:
    assert str(GateChoices()) == DEFAULT_GATES
    for gate in GATE_KEYS:
        assert GateChoices().resolve(gate, TANH) == (TANH, GateChoice())
    with pytest.raises(QuantizationError, match="segments"):
        GateChoice(segments=12)


@pytest.mark.parametrize("choice", ["hard", "step", "hard:0.3,0.5"])
def test_a_named_gate_with_a_function_of_its_own_is_not_passed_over(choice: str) -> None:
    with pytest.raises(QuantizationError, match=f"candidate={choice}.*the model's own function there is softsign"):
        parse_gates(f"candidate={choice}").resolve("g", Activation("softsign"))
