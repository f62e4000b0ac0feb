"""Recurrent layers: LSTM, GRU and RNN, of one or two directions."""

from qrnn.model.kinds.recurrent.layer import Recurrent
from qrnn.model.kinds.recurrent.quantized import QuantRecurrent

__all__ = ["QuantRecurrent", "Recurrent"]
