"""An LSTM with a dense layer that fakes the quantization in float32, step by step; `tools/bench_qat.py` compares with it.

It is the simplest module that is honest: weights are rounded once for a batch, by rows; x, h, the gates' arguments and values, c and the
output are rounded at every step. Every rounding is PyTorch's own fused operator, whose gradient is straight through.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

WORD, BYTE = 32767, 127


def faked(x: Any, scale: float, limit: int) -> Any:
    """Return x rounded to integers within ±limit times ``scale``."""
    return torch.fake_quantize_per_tensor_affine(x, scale, 0, -limit, limit)


def faked_rows(weight: Any) -> Any:
    """Return the rows of a matrix in eight bits, each with the scale of its largest weight."""
    scale = weight.detach().abs().amax(dim=1) / BYTE
    return torch.fake_quantize_per_channel_affine(
        weight, scale, torch.zeros_like(scale, dtype=torch.int32), 0, -BYTE, BYTE
    )


class FakeQuantizedLstm(nn.Module):  # type: ignore[misc]  # PyTorch is not there for the type checker
    """A dense layer on the last h of an LSTM, [N, T, I] to [N, O]."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.lstm, self.dense = nn.LSTM(features, hidden, batch_first=True), nn.Linear(hidden, classes)

    def forward(self, x: Any) -> Any:
        """Return the output after the last step."""
        own = self.lstm
        weight_ih, weight_hh = faked_rows(own.weight_ih_l0), faked_rows(own.weight_hh_l0)
        bias = own.bias_ih_l0 + own.bias_hh_l0
        x = faked(x, 8.0 / BYTE, BYTE)
        h = c = x.new_zeros(len(x), own.hidden_size)
        for t in range(x.shape[1]):
            sums = x[:, t] @ weight_ih.T + faked(h, 1.0 / BYTE, BYTE) @ weight_hh.T + bias
            i, f, g, o = faked(sums, 2.0**-12, WORD).chunk(4, dim=1)
            i, f, o = (faked(torch.sigmoid(gate), 2.0**-15, WORD) for gate in (i, f, o))
            g = faked(torch.tanh(g), 2.0**-15, WORD)
            c = faked(f * c + i * g, 2.0**-12, WORD)
            h = faked(o * faked(torch.tanh(c), 2.0**-15, WORD), 2.0**-15, WORD)
        return faked(faked(h, 1.0 / BYTE, BYTE) @ faked_rows(self.dense.weight).T + self.dense.bias, 2.0**-10, WORD)
