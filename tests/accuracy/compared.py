"""A comparison that tests share, and what one writes: as JSON, and on a terminal."""

from __future__ import annotations

import io
import json
from functools import cache
from typing import Any

from models import Shape
from rich.console import Console

from accuracy.pairs import X, pair
from qrnn.accuracy.compare import compare
from qrnn.accuracy.comparison import Comparison


@cache
def some_report() -> Comparison:
    model, quantized = pair(Shape("gru", head=3), X)
    return compare(model, quantized, {"x": X[:2]})


def strict(result: Comparison) -> Any:
    return json.loads(json.dumps(result.to_dict(), allow_nan=False))


def text(result: Comparison, width: int = 80) -> str:
    out = io.StringIO()
    result.render(Console(file=out, width=width, highlight=False))
    return out.getvalue()
