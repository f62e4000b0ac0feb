"""What a comparison writes: as JSON, and on a terminal."""

from __future__ import annotations

import io
import json
from typing import Any

from rich.console import Console

from qrnn.accuracy.comparison import Comparison


def strict(result: Comparison) -> Any:
    return json.loads(json.dumps(result.to_dict(), allow_nan=False))


def text(result: Comparison, width: int = 80) -> str:
    out = io.StringIO()
    result.render(Console(file=out, width=width, highlight=False))
    return out.getvalue()
