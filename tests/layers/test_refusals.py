"""What does not fit is refused with the layer, the array, the shape found and the shape expected; and what handles are."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import qrnn
from qrnn import layers
from qrnn.errors import DataError, UnsupportedError
from qrnn.layers import Activation

X = layers.input("x", 3)
W, U, B = np.ones((20, 3)), np.ones((20, 5)), np.ones(20)  # an LSTM of 5
LSTM = layers.lstm(X, W, U)
GRU = layers.gru(X, np.ones((15, 3)), np.ones((15, 5)))
NO_TIME = layers.input("v", 3, has_time=False)


def lstm(**changes: Any) -> Any:
    arguments = {"weight_ih": W, "weight_hh": U, "name": "enc"} | changes
    return layers.lstm(X, **arguments)


def model(**outputs: Any) -> Any:
    return layers.model("net", outputs)


BAD_DATA: dict[str, tuple[Callable[[], Any], str]] = {
    "rows": (
        lambda: lstm(weight_ih=np.ones((19, 3))),
        "lstm 'enc': weight_ih has shape [19, 3], expected [4·H, I] with I = 3 and the blocks i, f, g, o",
    ),
    "rows without f": (
        lambda: lstm(forget="one"),
        "lstm 'enc': weight_ih has shape [20, 3], expected [3·H, I] with I = 3 and the blocks i, g, o",
    ),
    "rows of min_gru": (
        lambda: layers.min_gru(X, np.ones((9, 3))),
        "min_gru: weight_ih has shape [9, 3], expected [2·H, I] with I = 3 and the blocks z, n",
    ),
    "diagonal": (
        lambda: layers.indrnn(X, np.ones((5, 3)), np.ones((5, 5)), name="enc"),
        "indrnn 'enc': diagonal has shape [5, 5], expected [H] = [5]",
    ),
    "columns": (lambda: lstm(weight_ih=np.ones((20, 4))), "weight_ih has shape [20, 4], expected [4·H, I] with I = 3"),
    "axes": (lambda: lstm(weight_ih=np.ones(20)), "weight_ih has shape [20], expected [4·H, I] with I = 3"),
    "recurrent": (
        lambda: lstm(weight_hh=np.ones((20, 6))),
        "lstm 'enc': weight_hh has shape [20, 6], expected [4·H, H] = [20, 5]",
    ),
    "projected": (
        lambda: lstm(projection=np.ones((2, 5))),
        "weight_hh has shape [20, 5], expected [4·H, P] = [20, 2]",
    ),
    "projection": (lambda: lstm(projection=np.ones((2, 4))), "projection has shape [2, 4], expected [P, H] = [2, 5]"),
    "bias": (lambda: lstm(bias_ih=np.ones(5)), "lstm 'enc': bias_ih has shape [5], expected [4·H] = [20]"),
    "not finite": (lambda: lstm(bias_hh=B * np.nan), "lstm 'enc': bias_hh is nan at [0], expected finite numbers"),
    "complex": (lambda: lstm(bias_hh=B * 1j), "bias_hh has type complex128, expected real numbers"),
    "text": (lambda: lstm(bias_hh=["a"] * 20), "bias_hh has type <U1, expected real numbers"),
    "ragged": (lambda: lstm(weight_ih=[[1], [1, 2]]), "lstm 'enc': weight_ih is not an array"),
    "h_0": (lambda: lstm(h_0=np.ones(4)), "lstm 'enc': h_0 has shape [4], expected [H] = [5]"),
    "state size": (lambda: lstm(c_0=layers.state("c", 4)), "c_0 is the state input 'c' of size 4, expected 5"),
    "forget": (lambda: lstm(forget="none"), "forget='none', expected one of gate, one, coupled"),
    "function": (lambda: lstm(gate="elu"), "lstm 'enc': gate='elu', expected one of sigmoid, tanh, relu,"),
    "parameter": (lambda: lstm(gate=Activation("elu", np.inf)), "alpha is not finite"),
    "peephole": (
        lambda: lstm(peephole={"g": np.ones(5)}),
        "peephole has ['g'], expected a mapping from gates (i, f, o)",
    ),
    "peephole of f": (
        lambda: lstm(weight_ih=W[:15], weight_hh=U[:15], forget="one", peephole={"f": np.ones(5)}),
        "(i, o)",
    ),
    "peephole size": (lambda: lstm(peephole={"i": np.ones(4)}), "peephole i has shape [4], expected [H] = [5]"),
    "clip": (lambda: lstm(clip=0), "lstm 'enc': clip=0, expected a finite number above 0"),
    "clip text": (lambda: lstm(clip="1"), "lstm 'enc': clip='1', expected a number above 0"),
    "empty name": (lambda: lstm(name=""), "lstm: name is '', expected a text that is not empty"),
    "no sequence": (lambda: layers.gru(NO_TIME, W, U), "gru: its input 'v' is [N, 3], expected a sequence [N, T, F]"),
    "a layer": (
        lambda: layers.dense(LSTM, W),
        "dense: its input is a whole layer; give one of its tensors, as .output",
    ),
    "an array": (lambda: layers.dense(np.ones(3), W), "dense: its input is ndarray, expected a Tensor"),
    "tokens": (lambda: layers.dense(layers.tokens("t", 4), W), "is the token input 't'; look it up with embedding"),
    "dense": (lambda: layers.dense(X, U, name="d"), "dense 'd': weight has shape [20, 5], expected [O, F] = [20, 3]"),
    "dense bias": (lambda: layers.dense(X, W, np.ones(3)), "dense: bias has shape [3], expected [O] = [20]"),
    "table": (lambda: layers.embedding(layers.tokens("t", 4), W), "table has shape [20, 3], expected [V, F] = [4, 3]"),
    "embedding": (lambda: layers.embedding(X, W), "embedding: its input is Tensor, expected what tokens() returns"),
    "add": (lambda: layers.add(X, NO_TIME), "add: a is [N, T, 3], b is [N, 3], expected equal shapes"),
    "concat": (lambda: layers.concat(X), "concat: 1 tensors, expected two or more"),
    "activation": (lambda: layers.activation(X, "celu"), "activation: kind='celu', expected one of sigmoid"),
    "features": (lambda: layers.input("x", 0), "input 'x': features=0, expected a whole number of at least 1"),
    "elman": (
        lambda: layers.elman(X, np.ones((5, 3)), np.ones((5, 2)), None, np.ones((2, 5)), None, name="e"),
        "elman 'e': U has shape [5, 2], expected [H, H] = [5, 5]",
    ),
    "jordan": (
        lambda: layers.jordan(X, np.ones((5, 3)), np.ones((5, 5)), None, np.ones((2, 5)), None),
        "jordan: U has shape [5, 5], expected [H, O] = [5, 2]",
    ),
    "scale": (lambda: layers.identity_rnn(X, np.ones((5, 3)), scale=np.nan), "scale=nan, expected a finite number"),
    "order": (lambda: layers.bidirectional(LSTM, LSTM), "backward must be of one direction, made with reverse=True"),
    "two inputs": (
        lambda: layers.bidirectional(LSTM, layers.lstm(layers.input("x2", 3), W, U, reverse=True)),
        "forward reads 'x', backward reads 'x2', expected the same tensor",
    ),
    "two cells": (
        lambda: layers.bidirectional(LSTM, layers.rnn(X, W[:5], U[:5], reverse=True)),
        "bidirectional: cell is 'lstm' forward and 'rnn' backward",
    ),
    "two clips": (
        lambda: layers.bidirectional(LSTM, layers.lstm(X, W, U, clip=1.0, reverse=True)),
        "bidirectional: clip is None forward and 1.0 backward",
    ),
    "no outputs": (model, "model 'net': outputs is {}, expected a mapping from names to tensors"),
    "output is a layer": (lambda: model(y=LSTM), "output 'y' is a whole layer; give one of its tensors"),
    "output is an array": (lambda: model(y=W), "output 'y' is ndarray, expected a Tensor"),
    "two names": (
        lambda: model(y=layers.dense(lstm().output, U, name="enc")),
        "model 'net': two layers or inputs are called 'enc'",
    ),
    "two inputs of a name": (
        lambda: model(a=LSTM.output, b=layers.lstm(layers.input("x", 3), W, U).output),
        "two layers or inputs are called 'x'",
    ),
    "two tensors of a name": (
        lambda: model(a=lstm().output, b=layers.dense(LSTM.output, U, name="enc.h_n")),
        "two tensors are called 'enc.h_n'",
    ),
}

UNSUPPORTED: dict[str, tuple[Callable[[], Any], str]] = {
    "lengths": (lambda: layers.input("lengths", 3), "input 'lengths': lengths and labels are reserved"),
    "labels": (lambda: layers.tokens("labels", 3), "tokens 'labels': lengths and labels are reserved"),
    "reserved state": (lambda: layers.state("labels", 3), "state 'labels': lengths and labels are reserved"),
    "min_gru's update": (
        lambda: layers.min_gru(X, np.ones((10, 3)), gate="tanh", name="m"),
        "min_gru 'm': update_keeps=False with gate=tanh: 1 - z needs a function with values in [0, 1]",
    ),
    "exchanged update": (
        lambda: layers.gru(X, W[:15], U[:15], gate="tanh", update_keeps=False, name="g"),
        "gru 'g': update_keeps=False with gate=tanh: 1 - z needs a function with values in [0, 1]",
    ),
    "no recurrent layer": (lambda: model(y=layers.dense(X, W)), "model 'net' has no layer with a state"),
    "input as output": (lambda: model(y=LSTM.output, x=X), "output 'x' passes the input 'x' through"),
    "time and no time": (lambda: model(y=(LSTM.output, LSTM.h_n)), "output 'y' joins tensors with and without a time"),
    "concat": (
        lambda: layers.concat(LSTM.output, LSTM.h_n),
        "joins tensors with and without a time axis ([N, T, 5], [N, 5])",
    ),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_what_does_not_fit(case: str) -> None:
    call, message = BAD_DATA[case]
    with pytest.raises(DataError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_cannot_be_said(case: str) -> None:
    call, message = UNSUPPORTED[case]
    with pytest.raises(UnsupportedError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gru_has_no_projection() -> None:
    with pytest.raises(TypeError, match="projection"):
        layers.gru(X, W, U, projection=U)  # type: ignore[call-arg]


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid", "step", Activation("hard_sigmoid", 0.3, 0.4)])
def test_exchanged_update_with_values_in_the_unit_interval(gate: Any) -> None:
    assert not layers.gru(X, W[:15], U[:15], gate=gate, update_keeps=False).layer.update_keeps


def test_handles_and_weights_are_immutable() -> None:
    weight = W.copy()
    handle = layers.lstm(X, weight, U)
    weight[:] = 7.0
    built = layers.model("m", {"y": handle.output}).layers[0]
    assert isinstance(built, type(handle.layer))
    np.testing.assert_array_equal(built.directions[0].weight_ih, W)
    with pytest.raises(ValueError, match="read-only"):
        built.directions[0].weight_ih[0, 0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        handle.output.features = 3  # type: ignore[misc]


def test_names_order_and_shapes() -> None:
    """Unnamed layers are numbered around the given names; a handle used twice is one layer; inputs come in the order of use."""
    h_0 = layers.state("h_0", 5)
    a = layers.gru(X, np.ones((15, 3)), np.ones((15, 5)), h_0=h_0)
    b = layers.gru(a.output, np.ones((15, 5)), np.ones((15, 5)), name="gru")
    c = layers.gru(layers.concat(b.output, a.output), np.ones((15, 10)), np.ones((15, 5)))
    net = layers.model("m", {"last": c.h_n, "y": layers.add(b.output, a.output)})
    assert [layer.name for layer in net.layers] == ["gru_2", "gru", "concat", "gru_3", "add"]
    assert [(i.name, i.kind, i.shape) for i in net.inputs] == [("x", "features", (3,)), ("h_0", "state", (5,))]
    assert net.tensors["gru.h_n"] == qrnn.model.float_model.TensorInfo(5, False)
    assert net.tensors["concat"] == qrnn.model.float_model.TensorInfo(10, True)
    assert [(o.name, o.shape, o.has_time, o.time_axis) for o in net.outputs] == [
        ("last", (5,), False, None),
        ("y", (5,), True, 1),
    ]
    assert (a.output.name, a.h_n.name, b.h_n.name) == ("gru", "gru.h_n", "gru.h_n")


def test_a_tower_of_many_layers() -> None:
    """The depth is not limited by recursion."""
    t = LSTM.output
    for _ in range(2000):
        t = layers.activation(t, "tanh")
    assert len(layers.model("m", {"y": t}).layers) == 2001


def test_model_is_that_of_the_importer() -> None:
    """A built model runs as an imported one does: missing inputs are named."""
    net = layers.model("m", {"y": LSTM.output})
    assert isinstance(net, qrnn.FloatModel)
    with pytest.raises(DataError, match="input 'x' is missing"):
        qrnn.run_oracle(net, {})


def test_the_package_knows_its_module() -> None:
    """``qrnn.layers`` is there without an import of its own, in a fresh interpreter that had no other reason to import it."""
    code = "import sys, qrnn; assert 'qrnn.layers' not in sys.modules; print(qrnn.layers.lstm.__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "lstm\n"
