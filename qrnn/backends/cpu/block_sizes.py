"""Sizes of blocks by which kernels are written, and scratch is laid out."""

from __future__ import annotations

POINTWISE_BLOCK = 256
"""Values of a pointwise layer that are computed together."""

BLOCK = 64
"""Steps whose input products W·x are computed ahead in one go."""
