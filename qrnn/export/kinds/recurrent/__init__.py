"""Recurrent layers are computed by targets/runtime/qrnn_lstm.h, qrnn_gru.h and qrnn_rnn.h, or by their definition, translated."""

from qrnn.export.kinds.recurrent.layer import RecurrentCode

LAYER_CODE = RecurrentCode
