"""Float models written layer by layer, for recurrent cells that ONNX cannot write.

    from qrnn import layers

    x = layers.input("x", features=16)
    h = layers.lstm(x, weight_ih, weight_hh, forget="coupled", gate="step")
    y = layers.dense(h.output, weight, bias)
    model = layers.model("coupled", outputs={"y": y, "h": h.h_n})       # as from qrnn.load_onnx

Every function checks its arrays and raises `DataError` (an array that does not fit) or `UnsupportedError` (a network that cannot be
said), with the layer, the array, the shape found and the shape expected. Handles are immutable; weights are copied.
"""

from __future__ import annotations

from qrnn.layers.attention import attention, attention_pool, group_softmax, matmul
from qrnn.layers.bands import over_bands, per_band
from qrnn.layers.build import model
from qrnn.layers.by_feature import affine, argmax, log_softmax, prelu
from qrnn.layers.elementwise import indrnn, min_gru
from qrnn.layers.feedforward import (
    activation,
    add,
    concat,
    conv,
    delay,
    dense,
    embedding,
    last_step,
    layer_norm,
    multiply,
    rms_norm,
    softmax,
)
from qrnn.layers.layer_norm_cells import Normalization, layer_norm_gru, layer_norm_lstm, normalization
from qrnn.layers.networks import elman, identity_rnn, jordan
from qrnn.layers.normalizations import group_norm, instance_norm, moment, running_norm
from qrnn.layers.pairs import divide, log_power, magnitude, power, scale_bands, subtract
from qrnn.layers.pools import average_pool, max_pool, reduce, running, spread
from qrnn.layers.recurrent import bidirectional, gru, lstm, projection, rnn
from qrnn.layers.steps import repeat, side_by_side, step_at, time_slice
from qrnn.layers.tensors import Network, Recurrent, State, Tensor, Tokens, input, state, tokens
from qrnn.layers.upsampling import conv_transpose, unstack, upsample
from qrnn.model.activation import Activation

TWO_SIGMOID_MINUS_ONE = Activation("scaled_tanh", 1.0, 0.5)
"""2·sigmoid(x) - 1 = tanh(x/2), the output function of the LSTM of 1997."""

FOUR_SIGMOID_MINUS_TWO = Activation("scaled_tanh", 2.0, 0.5)
"""4·sigmoid(x) - 2 = 2·tanh(x/2), the candidate of the LSTM of 1997."""

__all__ = [
    "FOUR_SIGMOID_MINUS_TWO",
    "TWO_SIGMOID_MINUS_ONE",
    "Activation",
    "Network",
    "Normalization",
    "Recurrent",
    "State",
    "Tensor",
    "Tokens",
    "activation",
    "add",
    "affine",
    "argmax",
    "attention",
    "attention_pool",
    "average_pool",
    "bidirectional",
    "concat",
    "conv",
    "conv_transpose",
    "delay",
    "dense",
    "divide",
    "elman",
    "embedding",
    "group_norm",
    "group_softmax",
    "gru",
    "identity_rnn",
    "indrnn",
    "input",
    "instance_norm",
    "jordan",
    "last_step",
    "layer_norm",
    "layer_norm_gru",
    "layer_norm_lstm",
    "log_power",
    "log_softmax",
    "lstm",
    "magnitude",
    "matmul",
    "max_pool",
    "min_gru",
    "model",
    "moment",
    "multiply",
    "normalization",
    "over_bands",
    "per_band",
    "power",
    "prelu",
    "projection",
    "reduce",
    "repeat",
    "rms_norm",
    "rnn",
    "running",
    "running_norm",
    "scale_bands",
    "side_by_side",
    "softmax",
    "spread",
    "state",
    "step_at",
    "subtract",
    "time_slice",
    "tokens",
    "unstack",
    "upsample",
]
