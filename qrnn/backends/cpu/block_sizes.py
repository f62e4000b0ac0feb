"""Sizes of blocks by which kernels are written, and scratch is laid out."""

from __future__ import annotations

BLOCK = 64
"""Steps whose input products W·x are computed ahead in one go."""
