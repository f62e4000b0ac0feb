"""The numbers that stand for cells, forget gates and projections in compiled code: one table for every backend."""

from __future__ import annotations

from qrnn.model.kinds.recurrent.quantized import QuantRecurrentDefinition

LSTM, GRU_RESET_AFTER, GRU_RESET_BEFORE, RNN = 0, 1, 2, 3
"""Cells. The two GRU forms are linear_before_reset 1 and 0."""

OWN_GATE, ONE, COUPLED = 0, 1, 2
"""The LSTM's forget gate: one of its own, the constant 1, or 1 minus the input gate."""

NONE, IDENTITY, FUNCTION, SOFTMAX = 0, 1, 2, 3
"""What a projection does to its sums; NONE where there is no projection."""

CELLS = {
    ("lstm", False): LSTM,
    ("lstm", True): LSTM,
    ("gru", False): GRU_RESET_BEFORE,
    ("gru", True): GRU_RESET_AFTER,
    ("rnn", False): RNN,
    ("rnn", True): RNN,
}
"""(cell, linear_before_reset) → its code."""

FORGETS = {"gate": OWN_GATE, "one": ONE, "coupled": COUPLED}
"""The LSTM's forget gate → its code."""


def codes_of(layer: QuantRecurrentDefinition) -> tuple[int, int]:
    """The codes of a layer's cell and of its forget gate."""
    return CELLS[layer.cell, layer.linear_before_reset], FORGETS[layer.forget]
