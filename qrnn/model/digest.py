"""Arrays are hashed in one way, for calibration data and for model files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def array_digest(arrays: Mapping[str, Any], text: str = "") -> str:
    """Return the SHA-256 over ``text`` and then, in the order of their names, every array's name, type, shape and values."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
