"""Sizes of blocks by which kernels are written, and scratch is laid out."""

from __future__ import annotations

BLOCK = 64
"""Steps whose input products W·x are computed ahead in one go."""

AMX_LEAST = 3
"""Operand vectors worth AMX's tiles, which take as long for one as for many."""
