"""One example model of every recurrent cell that qrnn runs, with weights drawn so that the cells behave like trained ones.

`catalogue` is for tests and for tables over all cells::

    python tools/cell_catalogue.py          # names, sizes

Every model reads ``x`` [N, T, input_size] (values about the standard normal distribution) and has an output ``y``: [N, T, ·], or
[N, ·] for ``many_to_one``.

How the weights are drawn: recurrent matrices that carry the state are orthogonal times 0.95, so that nothing explodes and memories
last for tens of steps; gates' own recurrent matrices are orthogonal times 0.5; inputs are scaled by the root of their number; forget
gates are biased by 1.5 (about 0.8 is kept) and update gates by 1, towards keeping, as gates of trained networks are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import numpy as np

from qrnn import layers
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent.definition import Forget, gate_blocks
from qrnn.model.parts import FloatArray

STATE_RADIUS, GATE_RADIUS = 0.95, 0.5
FORGET_BIAS, UPDATE_BIAS = 1.5, 1.0
INPUT_BIAS_1997 = -3.0
"""Without a forget gate the cell is a sum over all steps: an input gate about 0.05 keeps it within a few units for hundreds of them."""

RECURRENT_GAIN = 0.3
"""The gain of a normalized U h: at 1, a state of 0.1 is made ten times as large, and the cell forgets its past in noise."""

HIDDEN_FUNCTIONS = ("tanh", "sigmoid", "relu")
OUTPUT_FUNCTIONS = ("linear", "softmax", "sigmoid")


class Draw:
    """Random weights of one model with ``H`` hidden units, ``I`` inputs and ``O`` outputs."""

    def __init__(self, hidden_size: int, input_size: int, rng: np.random.Generator) -> None:
        self.H, self.I, self.O, self.rng = hidden_size, input_size, max(2, hidden_size // 4), rng

    def orthogonal(self, rows: int, columns: int) -> FloatArray:
        """Return [rows, columns] with orthonormal rows or columns, whichever are fewer."""
        q, r = np.linalg.qr(self.rng.normal(size=(max(rows, columns), min(rows, columns))))
        tall: FloatArray = np.asarray(q * np.sign(np.diag(r)), np.float64)  # uniform over all such matrices
        return tall if rows >= columns else tall.T

    def matrix(self, rows: int, columns: int, gain: float = 1.0) -> FloatArray:
        """Return [rows, columns] whose products with unit-variance vectors have variance gain²."""
        result: FloatArray = gain * self.rng.normal(size=(rows, columns)) / np.sqrt(columns)
        return result

    def vector(self, size: int, mean: float = 0.0) -> FloatArray:
        """Return [size] normal numbers around ``mean``."""
        return mean + 0.1 * self.rng.normal(size=size)

    def gated(
        self, gates: tuple[str, ...], means: dict[str, float], inputs: int = 0, fed_back: int = 0, bias: bool = True
    ) -> list[FloatArray]:
        """Return weight_ih, weight_hh and, with ``bias``, bias_ih, bias_hh; candidates carry the state, other blocks are gates."""
        radius = {gate: STATE_RADIUS if gate in ("g", "n") else GATE_RADIUS for gate in gates}
        weights = [
            np.concatenate([self.matrix(self.H, inputs or self.I) for _ in gates]),
            np.concatenate([radius[gate] * self.orthogonal(self.H, fed_back or self.H) for gate in gates]),
        ]
        if bias:
            weights.append(np.concatenate([self.vector(self.H, means.get(gate, 0.0)) for gate in gates]))
            weights.append(np.concatenate([self.vector(self.H) for _ in gates]))
        return weights

    def lstm(self, forget: Forget = "gate", inputs: int = 0, fed_back: int = 0) -> list[FloatArray]:
        """Return the weights of an LSTM."""
        means = {"f": FORGET_BIAS}
        if forget == "one":
            means["i"] = INPUT_BIAS_1997
        elif forget == "coupled":
            means["i"] = -FORGET_BIAS  # f = 1 - i
        return self.gated(gate_blocks("lstm", forget), means, inputs, fed_back)

    def gru(self, inputs: int = 0, update_keeps: bool = True, bias: bool = True) -> list[FloatArray]:
        """Return the weights of a GRU."""
        means = {"z": UPDATE_BIAS if update_keeps else -UPDATE_BIAS}
        return self.gated(gate_blocks("gru"), means, inputs, bias=bias)

    def min_gru(self) -> tuple[FloatArray, FloatArray]:
        """Return the weights and biases of a minGRU."""
        weight = np.concatenate([self.matrix(self.H, self.I) for _ in "zn"])
        return weight, np.concatenate([self.vector(self.H, -UPDATE_BIAS), self.vector(self.H)])

    def norm(self, size: int, bias: FloatArray | None = None, gain: float = 1.0) -> layers.Normalization:
        """Return a layer normalization with gains about ``gain``."""
        return layers.normalization(gain * self.rng.uniform(0.5, 1.5, size), bias)

    def indrnn(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the weights, the diagonal and the biases of an IndRNN."""
        return (
            self.matrix(self.H, self.I, 0.5),
            self.rng.uniform(-STATE_RADIUS, STATE_RADIUS, self.H),
            self.vector(self.H),
        )

    def rnn(self, inputs: int = 0) -> list[FloatArray]:
        """Return the weights of an RNN."""
        H = self.H
        return [self.matrix(H, inputs or self.I), STATE_RADIUS * self.orthogonal(H, H), self.vector(H), self.vector(H)]

    def head(self, output: str = "linear") -> tuple[FloatArray, FloatArray]:
        """Return weight and bias of an output layer; logits of a softmax reach further, so that it decides."""
        return self.matrix(self.O, self.H, 4.0 if output == "softmax" else 1.0), self.vector(self.O)


Cell = Callable[[Draw, layers.Tensor], layers.Tensor]
"""Draws the weights and gives the output y."""


def _lstm_1997(d: Draw, x: layers.Tensor) -> layers.Tensor:
    """Build the LSTM of Hochreiter, Schmidhuber 1997: no forget gate, g = 4σ - 2, h = 2σ - 1."""
    candidate, output = layers.FOUR_SIGMOID_MINUS_TWO, layers.TWO_SIGMOID_MINUS_ONE
    return layers.lstm(x, *d.lstm("one"), forget="one", candidate=candidate, output=output).output


def _lstm_two_sigmoid(d: Draw, x: layers.Tensor) -> layers.Tensor:
    return layers.lstm(x, *d.lstm(), candidate=layers.TWO_SIGMOID_MINUS_ONE).output


def _lstm(d: Draw, x: layers.Tensor, gate: str = "sigmoid", clip: float | None = None) -> layers.Tensor:
    return layers.lstm(x, *d.lstm(), gate=gate, clip=clip).output


def _lstm_coupled(d: Draw, x: layers.Tensor) -> layers.Tensor:
    return layers.lstm(x, *d.lstm("coupled"), forget="coupled").output


def _lstm_peephole(d: Draw, x: layers.Tensor) -> layers.Tensor:
    """Build the LSTM of Gers, Schmidhuber 2000."""
    peephole = {gate: 0.3 * d.rng.normal(size=d.H) for gate in ("i", "f", "o")}
    return layers.lstm(x, *d.lstm(), peephole=peephole).output


def _lstm_projection(d: Draw, x: layers.Tensor, peephole: bool = False) -> layers.Tensor:
    """Build the LSTMP of Sak, Senior, Beaufays 2014, which has peepholes there."""
    P = max(2, d.H // 2)
    peepholes = {gate: 0.3 * d.rng.normal(size=d.H) for gate in ("i", "f", "o")} if peephole else None
    # The output h = o·tanh(c) is about half as large as the state that the other cells feed back.
    weight = 2.0 * d.orthogonal(P, d.H)
    return layers.lstm(x, *d.lstm(fed_back=P), peephole=peepholes, projection=weight).output


def _gru(d: Draw, x: layers.Tensor, after: bool, keeps: bool, bias: bool = True) -> layers.Tensor:
    weights = d.gru(update_keeps=keeps, bias=bias)
    return layers.gru(x, *weights, linear_before_reset=after, update_keeps=keeps).output


def _min_gru(d: Draw, x: layers.Tensor) -> layers.Tensor:
    """Feng et al. 2024, whose candidate is linear."""
    return layers.min_gru(x, *d.min_gru()).output


def _min_gru_tanh(d: Draw, x: layers.Tensor) -> layers.Tensor:
    return layers.min_gru(x, *d.min_gru(), candidate="tanh").output


def _layer_norm_lstm(d: Draw, x: layers.Tensor, of_c: bool = False, reverse: bool = False) -> layers.Recurrent:
    """Ba, Kiros, Hinton 2016. The gains of U h keep what is small in h from growing from step to step."""
    norm_x, norm_h, norm_c = d.norm(4 * d.H), d.norm(4 * d.H, gain=RECURRENT_GAIN), d.norm(d.H) if of_c else None
    return layers.layer_norm_lstm(x, *d.lstm(), norm_x=norm_x, norm_h=norm_h, norm_c=norm_c, reverse=reverse)


def _layer_norm_lstm_sum(d: Draw, x: layers.Tensor, of_c: bool = False) -> layers.Tensor:
    """Build the cell of TensorFlow 1: each gate's sum is normalized by itself."""
    weight_ih, weight_hh, bias, _ = d.lstm()
    norm_c = d.norm(d.H, d.vector(d.H)) if of_c else None
    return layers.layer_norm_lstm(x, weight_ih, weight_hh, norm_sum=d.norm(4 * d.H, bias), norm_c=norm_c).output


def _layer_norm_gru(d: Draw, x: layers.Tensor, after: bool = True, reverse: bool = False) -> layers.Recurrent:
    """Ba, Kiros, Hinton 2016, or the same with the reset gate before the recurrent matrix."""
    norm_x, norm_h = d.norm(3 * d.H), d.norm(3 * d.H, gain=RECURRENT_GAIN)
    return layers.layer_norm_gru(x, *d.gru(), norm_x=norm_x, norm_h=norm_h, linear_before_reset=after, reverse=reverse)


def _layer_norm_gru_sum(d: Draw, x: layers.Tensor, after: bool) -> layers.Tensor:
    weight_ih, weight_hh, bias, _ = d.gru(update_keeps=False)
    norm = d.norm(3 * d.H, bias)
    return layers.layer_norm_gru(
        x, weight_ih, weight_hh, norm_sum=norm, linear_before_reset=after, update_keeps=False
    ).output


def _indrnn(d: Draw, x: layers.Tensor, activation: str) -> layers.Tensor:
    """Li et al. 2018: units remember for different times, some of them with alternating signs."""
    return layers.indrnn(x, *d.indrnn(), activation=activation).output


def _rnn(d: Draw, x: layers.Tensor, activation: str) -> layers.Tensor:
    return layers.rnn(x, *d.rnn(), activation=activation).output


def _elman(d: Draw, x: layers.Tensor, hidden: str, output: str) -> layers.Tensor:
    W, U, b, _ = d.rnn()
    return layers.elman(x, W, U, b, *d.head(output), hidden=hidden, output=output).output


def _jordan(d: Draw, x: layers.Tensor, hidden: str, output: str) -> layers.Tensor:
    U = STATE_RADIUS * d.orthogonal(d.H, d.O)
    return layers.jordan(x, d.matrix(d.H, d.I), U, d.vector(d.H), *d.head(output), hidden=hidden, output=output).output


def _irnn(d: Draw, x: layers.Tensor) -> layers.Tensor:
    """Build a sum of small inputs, cut off at 0; the bias, slightly below it, keeps it from growing for ever."""
    return layers.identity_rnn(x, d.matrix(d.H, d.I, 0.1), np.full(d.H, -0.01)).output


def _residual(d: Draw, x: layers.Tensor) -> layers.Tensor:
    """Build two recurrent layers, each added to what it reads."""
    first = layers.gru(x, *d.gru()).output
    second = layers.gru(first, *d.gru(inputs=d.H)).output
    third = layers.lstm(layers.add(first, second), *d.lstm(inputs=d.H)).output
    return layers.add(layers.add(first, second), third)


def _bidirectional(d: Draw, x: layers.Tensor, cell: str) -> layers.Tensor:
    if cell == "lstm":
        both = layers.lstm(x, *d.lstm()), layers.lstm(x, *d.lstm(), reverse=True)
    elif cell == "min_gru":
        both = layers.min_gru(x, *d.min_gru()), layers.min_gru(x, *d.min_gru(), reverse=True)
    elif cell == "layer_norm_lstm":
        both = _layer_norm_lstm(d, x, True), _layer_norm_lstm(d, x, True, reverse=True)
    elif cell == "layer_norm_gru":
        both = _layer_norm_gru(d, x), _layer_norm_gru(d, x, reverse=True)
    elif cell == "indrnn":
        both = layers.indrnn(x, *d.indrnn()), layers.indrnn(x, *d.indrnn(), reverse=True)
    else:
        both = layers.gru(x, *d.gru()), layers.gru(x, *d.gru(), reverse=True)
    return layers.bidirectional(*both).output


def _many_to_one(d: Draw, x: layers.Tensor) -> layers.Tensor:
    """Build a stack of two layers, read after each sequence's last step."""
    first = layers.lstm(x, *d.lstm()).output
    return layers.dense(layers.gru(first, *d.gru(inputs=d.H)).h_n, *d.head())


CELLS: dict[str, Cell] = {
    "lstm": _lstm,
    "lstm_1997": _lstm_1997,
    "lstm_step_gates": partial(_lstm, gate="step"),
    "lstm_two_sigmoid": _lstm_two_sigmoid,
    "lstm_coupled": _lstm_coupled,
    "lstm_peephole": _lstm_peephole,
    "lstm_projection": _lstm_projection,
    "lstm_peephole_projection": partial(_lstm_projection, peephole=True),
    "lstm_clip": partial(_lstm, clip=1.0),
    "lstm_bidirectional": partial(_bidirectional, cell="lstm"),
    "gru": partial(_gru, after=True, keeps=True),
    "gru_cho_2014": partial(_gru, after=False, keeps=True, bias=False),
    "gru_chung_2014": partial(_gru, after=False, keeps=False, bias=False),
    "gru_update_exchanged": partial(_gru, after=True, keeps=False),
    "gru_bidirectional": partial(_bidirectional, cell="gru"),
    "rnn_tanh": partial(_rnn, activation="tanh"),
    "rnn_relu": partial(_rnn, activation="relu"),
    "irnn": _irnn,
    **{f"elman_{h}_{o}": partial(_elman, hidden=h, output=o) for h in HIDDEN_FUNCTIONS for o in OUTPUT_FUNCTIONS},
    **{f"jordan_{h}_{o}": partial(_jordan, hidden=h, output=o) for h in HIDDEN_FUNCTIONS for o in OUTPUT_FUNCTIONS},
    "residual": _residual,
    "many_to_one": _many_to_one,
    "min_gru": _min_gru,
    "min_gru_tanh": _min_gru_tanh,
    "indrnn_relu": partial(_indrnn, activation="relu"),
    "indrnn_tanh": partial(_indrnn, activation="tanh"),
    "indrnn_bidirectional": partial(_bidirectional, cell="indrnn"),
    "min_gru_bidirectional": partial(_bidirectional, cell="min_gru"),
    "layer_norm_lstm": lambda d, x: _layer_norm_lstm(d, x).output,
    "layer_norm_lstm_c": lambda d, x: _layer_norm_lstm(d, x, of_c=True).output,
    "layer_norm_lstm_sum": _layer_norm_lstm_sum,
    "layer_norm_lstm_sum_c": partial(_layer_norm_lstm_sum, of_c=True),
    "layer_norm_lstm_bidirectional": partial(_bidirectional, cell="layer_norm_lstm"),
    "layer_norm_gru": lambda d, x: _layer_norm_gru(d, x).output,
    "layer_norm_gru_before": lambda d, x: _layer_norm_gru(d, x, after=False).output,
    "layer_norm_gru_sum": partial(_layer_norm_gru_sum, after=True),
    "layer_norm_gru_sum_before": partial(_layer_norm_gru_sum, after=False),
    "layer_norm_gru_bidirectional": partial(_bidirectional, cell="layer_norm_gru"),
}


def cell(name: str, hidden_size: int = 32, input_size: int = 8, seed: int = 0) -> FloatModel:
    """Return the model of one of `CELLS`."""
    # The generator depends on the name, not on its place in the table, so that new cells change no others.
    rng = np.random.default_rng([seed, *name.encode()])
    y = CELLS[name](Draw(hidden_size, input_size, rng), layers.input("x", input_size))
    return layers.model(name, {"y": y})


def catalogue(hidden_size: int = 32, input_size: int = 8, seed: int = 0) -> dict[str, FloatModel]:
    """Return every model by name."""
    return {name: cell(name, hidden_size, input_size, seed) for name in CELLS}


def main() -> int:
    """Print the names and sizes of all models."""
    for name, model in catalogue().items():
        print(f"{name:26} {', '.join(type(layer).__name__ for layer in model.layers)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
