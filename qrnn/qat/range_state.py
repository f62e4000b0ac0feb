"""Calibrated ranges as plain arrays by name, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.errors import DataError
from qrnn.model.float_model import FloatModel
from qrnn.quantization.calibrate import Histogram, Ranges

_FIELDS = ("counts", "top", "largest", "least", "greatest")


def ranges_state(ranges: Ranges) -> dict[str, Any]:
    """Return everything that ranges hold, as nested dicts of arrays and numbers."""
    return {
        "total": {name: _fields(h) for name, h in ranges.total.items()},
        "per_feature": {name: _fields(h) for name, h in ranges.per_feature.items()},
        "rows": dict(ranges.rows),
        "sequences": ranges.sequences,
        "steps": ranges.steps,
    }


def _fields(histogram: Histogram) -> dict[str, Any]:
    return {field: getattr(histogram, field) for field in _FIELDS}


def ranges_of(model: FloatModel, state: Mapping[str, Any]) -> Ranges:
    """Return the ranges of `ranges_state`; DataError where they are not those of the tensors of ``model``."""
    made, wanted = Ranges(model), set(model.tensors) - {i.name for i in model.inputs if i.kind == "tokens"}
    if missing := wanted - set(state["total"]):
        raise DataError(f"checkpoint: its formats know nothing of tensor {min(missing)!r}; it is one of another model")
    for kind, target in (("total", made.total), ("per_feature", made.per_feature)):
        for name, fields in state[kind].items():
            target[name] = histogram = Histogram(len(fields["top"]))
            for field in _FIELDS:
                setattr(histogram, field, np.asarray(fields[field]))
    made.rows = {name: np.asarray(rows) for name, rows in state["rows"].items()}
    made.sequences, made.steps = int(state["sequences"]), int(state["steps"])
    return made
