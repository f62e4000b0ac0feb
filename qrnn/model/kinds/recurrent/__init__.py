"""Recurrent layers: LSTM, GRU and RNN, of one or two directions."""

from qrnn.model.kinds.recurrent.layer import Recurrent
from qrnn.model.kinds.recurrent.quantized_layer import QuantRecurrent

__all__ = ["QuantRecurrent", "Recurrent"]
