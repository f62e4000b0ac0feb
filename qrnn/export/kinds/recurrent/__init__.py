"""The C of recurrent layers: targets/runtime/qrnn_lstm.h, qrnn_gru.h and qrnn_rnn.h."""

from qrnn.export.kinds.recurrent.layer import RecurrentCode

LAYER_CODE = RecurrentCode
