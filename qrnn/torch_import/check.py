"""Compare a module with what was imported of it, on the example and on larger ones: no size of the example may be baked in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.equations.oracle import run_oracle_batch
from qrnn.errors import UnsupportedError
from qrnn.model.axes import from_graph
from qrnn.model.batch import make_batch
from qrnn.model.float_model import Cache, FloatModel, GraphInput, GraphOutput
from qrnn.torch_import.values import Called

TOLERANCE = 1e-3
"""Largest accepted difference between the module and what was imported, of the largest value of an output: far above the rounding of
float32, far below what another computation would give."""

SIZES = ((1, 1), (2, 2), (2, 1))
"""How many times the example's batch and time both are run on; the last one only where the module takes no other number of steps."""


def check(called: Called, model: FloatModel) -> None:
    """Raise UnsupportedError where the model gives something else than the module."""
    known = {i.name: i for i in model.inputs}
    caches = {cache.input: cache for cache in model.caches}
    for batch, time in SIZES:
        if batch > 1 and (known.keys() | caches.keys()) != set(called.inputs):
            return  # an input that is not read has axes unknown
        tensors = {
            key: _grown(value, known.get(key), caches.get(key), model, batch, time)
            for key, value in called.inputs.items()
        }
        try:
            results = called.run(tensors)
        except Exception:  # whatever a module's forward may raise
            if batch == 1:
                raise
            continue  # a module of one size only
        _compare_all(called, model, tensors, dict(zip(called.outputs, results, strict=True)), batch * time)
        if time > 1:
            return


def _grown(value: Any, given: GraphInput | None, cache: Cache | None, model: FloatModel, batch: int, time: int) -> Any:
    """Return a tensor of so many times the batch and the steps; a cache begins with zeros."""
    if cache is not None:
        return value.repeat_interleave(batch, dim=cache.batch_axis) * 0
    if given is None:
        return value
    grown = value
    has_lengths = any(i.kind == "lengths" for i in model.inputs)
    for axis, factor in ((given.batch_axis, batch), (given.time_axis, time)):
        # Padded sequences keep their lengths, and packed ones come back as long as the longest.
        if axis is not None and not (has_lengths and axis == given.time_axis):
            grown = grown.repeat_interleave(factor, dim=axis)
    return grown


def _compare_all(
    called: Called, model: FloatModel, tensors: Mapping[str, Any], want: Mapping[str, Any], factor: int
) -> None:
    arrays = {key: value.detach().cpu().numpy() for key, value in tensors.items()}
    data = {i.name: from_graph(i, arrays[i.name]) for i in model.inputs if i.name in arrays}
    batch = make_batch(model.inputs, data)
    found = run_oracle_batch(model, batch).outputs
    for output in model.outputs:
        rule = next((model.length_rules[name] for name, _, _ in output.parts if name in model.length_rules), None)
        lengths = None if rule is None or not output.has_time else batch.along(rule).lengths
        _compare(model, output, want[output.name], found[output.name], lengths, factor)


def _compare(model: FloatModel, output: GraphOutput, tensor: Any, got: Any, lengths: Any, factor: int) -> None:
    array = from_graph(output, tensor.detach().cpu().double().numpy(), len(got))
    got = got[:, : array.shape[1]] if output.has_time else got
    if output.has_time and lengths is not None and array.shape == got.shape:
        # what a module computes of padding is not looked at; here it is zeros
        valid = np.arange(array.shape[1]) < np.asarray(lengths)[:, None]
        array = np.where(valid.reshape(*valid.shape, *[1] * (array.ndim - 2)), array, 0.0)
    if array.shape == got.shape and np.abs(array - got).max() <= TOLERANCE * max(1.0, np.abs(array).max()):
        return
    what = f"shape {list(got.shape)} for {list(array.shape)}"
    if array.shape == got.shape:
        what = f"a difference of {np.abs(array - got).max():.3g}"
    size = "the example" if factor == 1 else "twice the example's batch and time"
    raise UnsupportedError(
        f"module '{model.name}': the exported graph computes something else than the module, {what} in output '{output.name}' on "
        f"{size}; take out what depends on sizes or values in Python (if, loops)"
    )
