from __future__ import annotations

from typing import Any


def fast_of(layer: Any, d: Any) -> Any:
    return None
