"""The numbers by which `qrnn.backends.cpu.kernels` is told what a model's cells and projections are."""

from __future__ import annotations

LSTM, GRU_RESET_AFTER, GRU_RESET_BEFORE, RNN = 0, 1, 2, 3
"""Cells: the two GRU forms are linear_before_reset 1 and 0."""

OWN_GATE, ONE, COUPLED = 0, 1, 2
"""Forget gates of an LSTM."""

IDENTITY, FUNCTION, SOFTMAX = 0, 1, 2
"""What a projection does to its sums."""

POINTWISE_BLOCK = 256
"""Values of a pointwise layer that are computed together."""

BLOCK = 64
"""Steps whose input products W·x are computed ahead in one go."""
