"""These numbers stand for cells, forget gates and projections in compiled code: one table for every backend."""

from __future__ import annotations

from qrnn.model.kinds.recurrent.quantized import QuantRecurrentDefinition

LSTM, GRU_RESET_AFTER, GRU_RESET_BEFORE, RNN = 0, 1, 2, 3
"""The codes of cells. The two GRU forms are linear_before_reset 1 and 0."""

OWN_GATE, ONE, COUPLED = 0, 1, 2
"""The codes of an LSTM's forget gate: one of its own, the constant 1, or 1 minus the input gate."""

NONE, IDENTITY, FUNCTION, SOFTMAX = 0, 1, 2, 3
"""The codes of what a projection does to its sums; NONE where there is no projection."""

CODES = {"lstm": LSTM, "gru_reset_after": GRU_RESET_AFTER, "gru_reset_before": GRU_RESET_BEFORE, "rnn": RNN}
"""The code of each form of a cell (`qrnn.model.kinds.recurrent.cell.Cell.form`)."""

FORGETS = {"gate": OWN_GATE, "one": ONE, "coupled": COUPLED}
"""The code of each forget gate of an LSTM."""


def codes_of(layer: QuantRecurrentDefinition) -> tuple[int, int]:
    """Return the codes of a layer's cell and of its forget gate."""
    return CODES[layer.declaration.form(layer)], FORGETS[layer.forget]
