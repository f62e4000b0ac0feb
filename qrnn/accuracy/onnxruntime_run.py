"""Run the model's own ONNX graph by ONNX Runtime on the same batch-first data, whatever layout and baked sizes the graph has."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from qrnn.errors import QrnnError
from qrnn.model.axes import from_graph, to_graph
from qrnn.model.batch import Batch
from qrnn.model.float_model import Cache, FloatModel, GraphOutput
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.parts import FloatArray
from qrnn.model.states import initial_states, state_pairs
from qrnn.model.time import LengthRule

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(bool)": np.bool_,
}


class RuntimeRefusedError(QrnnError):
    """ONNX Runtime does not run the graph on this data, for example because a sequence length is baked into the graph."""


def onnxruntime_installed() -> bool:
    """Return whether `run_onnxruntime` can be called."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True


def run_onnxruntime(model: FloatModel, path: str | bytes | os.PathLike[str], batch: Batch) -> dict[str, FloatArray]:
    """Return the graph outputs by name, batch first, zero on padded steps; ``path`` names the file, or is its bytes.

    Sequences are run in groups of equal length (so that padding is never seen), as many in a call as the graph's batch is baked to, and step
    by step with the states carried where the graph runs one step per call, or as many as it takes where it has caches. Sequences without
    steps need a graph with sequence_lens. Raises RuntimeRefusedError where ONNX Runtime fails.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(
            path if isinstance(path, bytes) else os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
        return _run_all(model, session, batch)
    except Exception as error:  # its errors have no common base but Exception
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RuntimeRefusedError(f"ONNX Runtime could not run this data: {reason[:200]}") from error


def _run_all(model: FloatModel, session: Any, batch: Batch) -> dict[str, FloatArray]:
    declared = {i.name: i for i in session.get_inputs()}
    known = [i for i in model.inputs if i.name in declared]
    sizes = [declared[i.name].shape[i.batch_axis] for i in known if i.batch_axis is not None and declared[i.name].shape]
    sizes += [1] * any(i.batch_axis is None for i in known)
    fixed = next((size for size in sizes if isinstance(size, int)), None)
    outputs: dict[str, FloatArray] = {}
    for output in model.outputs:
        lead = (batch.size, batch.along(_rule(model, output)).steps) if output.has_time else (batch.size,)
        outputs[output.name] = np.zeros((*lead, *output.shape))
    every = np.stack([axis.lengths for axis in batch.axes.values()], axis=1)
    for own in np.unique(every, axis=0):
        members = np.nonzero((every == own).all(axis=1))[0]
        lengths = dict(zip(batch.axes, own.tolist(), strict=True))
        for group in _groups(members, fixed):
            results = _run_group(model, session, declared, batch, group, lengths)
            for output in model.outputs:
                if output.has_time:
                    steps = int(_rule(model, output).of(lengths))
                    outputs[output.name][group, :steps] = results[output.name][:, :steps]
                else:
                    outputs[output.name][group] = results[output.name]
    return outputs


def _groups(members: np.ndarray[Any, Any], size: int | None) -> list[np.ndarray[Any, Any]]:
    """Return ``members`` in groups of ``size``, of which the last is filled up with its last member; one group where any size runs."""
    if size is None:
        return [members]
    return [np.resize(members[k : k + size], size) for k in range(0, len(members), size)]


def _nothing(declared: Any) -> np.ndarray[Any, Any]:
    """Return zeros for an input that no output depends on, which ONNX Runtime asks for all the same."""
    return np.zeros([size if isinstance(size, int) else 1 for size in declared.shape or ()], _TYPES[declared.type])


def _rule(model: FloatModel, output: GraphOutput) -> LengthRule:
    """Return how many steps a graph output over time has."""
    return model.length_rules[output.parts[0][0]]


def _run_group(
    model: FloatModel,
    session: Any,
    declared: dict[str, Any],
    batch: Batch,
    group: np.ndarray[Any, Any],
    lengths: dict[str, int],
) -> dict[str, FloatArray]:
    feeds: dict[str, Any] = {}
    counted = {i.axis for i in model.inputs if i.kind == "lengths"}
    if any(length == 0 and axis not in counted for axis, length in lengths.items()):
        raise ValueError("a sequence of no steps, in a graph without sequence_lens")
    steps = max(lengths[batch.axis], 1)
    for graph_input in model.inputs:
        name = graph_input.name
        if graph_input.kind == "lengths":
            feeds[name] = np.full(len(group), lengths[graph_input.axis])
        elif graph_input.kind == "state":
            given = batch.states.get(name, np.zeros((batch.size, graph_input.features)))[group]
            feeds[name] = given.reshape(len(group), *graph_input.shape)
        else:
            values = batch.features[name] if graph_input.kind == "features" else batch.tokens[name]
            piece = values[group, : max(lengths[graph_input.axis], 1)] if graph_input.has_time else values[group]
            feeds[name] = piece.reshape(*piece.shape[: 2 if graph_input.has_time else 1], *graph_input.shape)
    names = [o.name for o in model.outputs]
    by_name = {i.name: i for i in model.inputs}
    fixed = {name: _fixed(declared[name], value) for name, value in model.values.items() if name in declared}
    known = {*by_name, *fixed, *(c.input for c in model.caches)}
    fixed |= {name: _nothing(i) for name, i in declared.items() if name not in known}
    past: dict[str, Any] = {c.input: _zeros(c, len(group)).astype(_TYPES[declared[c.input].type]) for c in model.caches}

    def call(arrays: dict[str, Any]) -> dict[str, FloatArray]:
        graph: dict[str, Any] = {k: to_graph(by_name[k], v).astype(_TYPES[declared[k].type]) for k, v in arrays.items()}
        results = session.run([*names, *(c.output for c in model.caches)], graph | past | fixed)
        past.update(zip(past, results[len(names) :], strict=True))
        return {
            o.name: from_graph(o, np.asarray(r, np.float64), len(group))
            for o, r in zip(model.outputs, results, strict=False)
        }

    each = 1 if model.one_step else _steps_of_a_call(model, declared)
    if each is None:
        return call(feeds)
    if steps % each:
        raise ValueError(f"a sequence of {steps} steps, in a graph of {each} steps per call")
    collected: dict[str, list[FloatArray]] = {name: [] for name in names}
    pairs = state_pairs(model)
    if steps > 1:
        _refuse_lost_states(model, pairs)
    for t in range(0, steps, each):
        arrays = {k: v[:, t : t + each] if by_name[k].has_time else v for k, v in feeds.items()}
        results = call(arrays)
        for name in names:
            collected[name].append(results[name])
        for state_input, state_output in pairs.items():
            feeds[state_input] = results[state_output].reshape(len(group), *by_name[state_input].shape)
    return {
        o.name: np.concatenate(collected[o.name], axis=1) if o.has_time else collected[o.name][-1]
        for o in model.outputs
    }


def _fixed(declared: Any, value: Any) -> np.ndarray[Any, Any]:
    """Return what an input is fixed to; a size that the graph leaves free is the value's own, or 1."""
    given = np.asarray(value)
    own = given.shape if given.ndim == len(declared.shape) else (1,) * len(declared.shape)
    shape = [size if isinstance(size, int) else n for size, n in zip(declared.shape, own, strict=True)]
    return np.broadcast_to(given, shape).astype(_TYPES[declared.type])


def _zeros(cache: Cache, size: int) -> np.ndarray[Any, Any]:
    """Return what a cache holds before the first call, for a batch of ``size``."""
    shape = list(cache.shape)
    shape[cache.batch_axis] = size
    return np.zeros(shape)


def _steps_of_a_call(model: FloatModel, declared: dict[str, Any]) -> int | None:
    """Return how many steps a graph with caches takes in a call; None where it takes any number, or has no cache."""
    if not model.caches:
        return None
    sizes = {declared[i.name].shape[i.time_axis] for i in model.inputs if i.has_time and i.time_axis is not None}
    return next((size for size in sizes if isinstance(size, int)), None)


def _refuse_lost_states(model: FloatModel, pairs: dict[str, str]) -> None:
    """Raise ValueError where the model carries a state that the graph does not give from one call to the next."""
    for layer in model.layers:
        if (
            isinstance(layer, Recurrent)
            and layer.memory
            and layer.keeps_state
            and any(s.source not in pairs for s, _, _ in initial_states(layer))
        ):
            raise ValueError(
                f"the graph starts layer {layer.name!r} anew at every call, the model, which was converted with --stream, carries its state on"
            )
