"""The integers that the examples of a library feed, which follow from a formula, and the room that they need."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qrnn.export.library_source import LibrarySource
from qrnn.export.ports import Port
from qrnn.export.real_values import port_values
from qrnn.model.quant_model import QuantModel

STEPS = 5
"""The time steps of an example."""


def span(model: QuantModel, port: Port) -> tuple[int, int]:
    """Return how many integers an input of an example takes, and the least of them."""
    values = port_values(model, port)
    if values is None:
        return next(i.vocabulary for i in model.inputs if i.name == port.graph_name), 0
    return 2 * values.limit + 1, -values.limit


def example_inputs(model: QuantModel, source: LibrarySource) -> dict[str, npt.NDArray[np.int64]]:
    """Return the integers that examples feed, by input: [steps, features], or [features] of an input without time."""
    found = {}
    for port in source.model.inputs:
        count, least = span(model, port)
        step = np.arange(STEPS if port.has_time else 1)[:, None]
        values = 37 * (np.arange(port.count)[None] + 1) * (step + 1) % count + least
        found[port.name] = values if port.has_time else values[0]
    return found


def room(source: LibrarySource, port: Port, outputs: bool) -> int:
    """Return how many integers of a port an example has room for."""
    exported = source.model
    if not port.has_time:
        return port.count
    if exported.whole is not None:
        return port.count * (exported.rows_of(STEPS) if outputs else STEPS)
    return port.count * (exported.most_rows if outputs else 1)
