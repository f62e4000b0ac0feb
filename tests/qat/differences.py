"""Check gradients against central differences of the float64 equations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.qat.arrays import model_arrays, with_model_arrays
from qrnn.qat.backward import backward
from qrnn.qat.values import FloatValues

STEP = 2e-5
"""The distance of the four places whose difference has an error of its fourth power."""


def largest_difference(model: FloatModel, batch: Batch, rng: np.random.Generator, places: int = 3) -> float:
    """Return the largest error of gradients, relative to gradients above 1, at some places of every array and input, drawn by ``rng``.

    What is differentiated is a sum of all outputs with weights drawn by ``rng``.
    """
    values = FloatValues(model, batch)
    weights = {name: rng.normal(size=y.shape) for name, y in values.result.outputs.items()}
    found = backward(values, weights)

    def total(changed: FloatModel, data: Batch) -> float:
        outputs = run_oracle_batch(changed, data).outputs
        return float(sum((outputs[name] * weight).sum() for name, weight in weights.items()))

    worst = 0.0
    for gradient, at in _looks(model, batch, found.arrays, found.inputs, found.states):
        for place in (tuple(int(rng.integers(0, size)) for size in gradient.shape) for _ in range(places)):
            near, far = (total(*at(place, by)) - total(*at(place, -by)) for by in (STEP, 2 * STEP))
            want, got = (8 * near - far) / (12 * STEP), float(gradient[place])
            worst = max(worst, abs(want - got) / max(1.0, abs(want)))
    return worst


def _looks(
    model: FloatModel, batch: Batch, arrays: Mapping[str, Any], inputs: Mapping[str, Any], states: Mapping[str, Any]
) -> Iterator[tuple[Any, Any]]:
    """Yield each gradient, and what gives the model and the batch with one number changed."""

    def moved(array: Any, place: Any, by: float) -> Any:
        changed = array.copy()
        changed[place] += by
        return changed

    for layer, own in model_arrays(model).items():
        for path, array in own.items():
            gradient = arrays.get(layer, {}).get(path, np.zeros_like(array))

            def weight(place: Any, by: float, where: Any = (layer, path, array)) -> tuple[FloatModel, Batch]:
                name, own_path, old = where
                other = {own_path: moved(old, place, by)}
                return with_model_arrays(model, lambda asked: other if asked == name else {}), batch

            yield gradient, weight
    for kind, given, found in (("features", batch.features, inputs), ("states", batch.states, states)):
        for name, array in given.items():

            def data(place: Any, by: float, where: Any = (kind, given, name, array)) -> tuple[FloatModel, Batch]:
                field, whole, own, old = where
                changed: Any = {field: {**whole, own: moved(old, place, by)}}
                return model, replace(batch, **changed)

            yield found.get(name, np.zeros_like(array)), data
