"""Runs of Dask arrays: each block of sequences is a task, which any machine of a cluster may compute."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends import DEFAULT_BACKEND
from qrnn.errors import DataError
from qrnn.model.batch import make_batch
from qrnn.model.file import model_digest
from qrnn.model.float_model import GraphInput
from qrnn.model.given_lengths import lengths_names
from qrnn.model.integers_only import check_integers
from qrnn.model.quant_model import QuantModel
from qrnn.running.in_pieces import PieceRuns
from qrnn.running.session import Session
from qrnn.system.extras import missing_library

SESSIONS = 4
"""The models whose sessions a process keeps."""


def run_dask(
    model: QuantModel,
    inputs: Any,
    lengths: Any = None,
    *,
    backend: str = DEFAULT_BACKEND,
    threads: int = 1,
    isa: str | None = None,
    real: str | None = None,
) -> dict[str, Any]:
    """Return the outputs of a model for Dask arrays, as Dask arrays that are computed when they are asked for.

    Parameters
    ----------
    model: a quantized model.
    inputs: Dask arrays by graph input name, batch first, [N, T, …], as `Session.run` takes NumPy's; of a model with one input, the array alone.
    lengths: a Dask or NumPy array of the lengths [N], where sequences are padded.
    backend, isa: as of `Session`, on the machines that compute.
    threads: the cores that one block uses. Dask computes several blocks side by side.
    real: "float32" or "float64", the type of the outputs; without it that of the inputs, as for `Session.run`.

    The blocks are those of the first array along N; other axes are put into one block. Their bits are those of one run of all sequences.
    Each process makes one session for the model. Raises DataError for arrays that do not fit the model; what their values say is found when
    they are computed. MissingLibraryError where Dask is not installed.
    """
    try:
        import dask
        import dask.array as da
    except ModuleNotFoundError as error:
        raise missing_library(error, "run_dask") from None
    check_integers(model, "run_dask")
    given = _named(model.inputs, inputs)
    if lengths is not None:
        names = lengths_names(model.inputs)
        if len(names) > 1:
            raise DataError(f"lengths: the model has several time axes; give {', '.join(names)} among inputs")
        given["lengths"] = lengths
    arrays = {name: value if isinstance(value, da.Array) else da.asarray(value) for name, value in given.items()}
    first = next(iter(arrays.values()))
    if any(np.isnan(size) for array in arrays.values() for size in array.shape):
        raise DataError("inputs: the number of sequences is not known; call compute_chunk_sizes() of the arrays")
    if first.ndim < 1 or any(array.ndim < 1 or array.shape[0] != first.shape[0] for array in arrays.values()):
        shapes = {name: list(array.shape) for name, array in arrays.items()}
        raise DataError(f"inputs: arrays of shapes {shapes}, expected the same N first")
    sizes = first.chunks[0]
    blocks = {
        name: array.rechunk((sizes, *((n,) for n in array.shape[1:]))).to_delayed().reshape(-1)
        for name, array in arrays.items()
    }
    likes = _outputs_of(model, arrays, real)
    digest = model_digest(model)
    sent = dask.delayed(model, pure=True, traverse=False, name=f"qrnn-model-{digest}")
    compute = dask.delayed(_run_block, pure=True, nout=None)
    firsts = np.concatenate([[0], np.cumsum(sizes)])
    found: dict[str, list[Any]] = {name: [] for name in likes}
    for number, size in enumerate(sizes):
        own = {name: parts[number] for name, parts in blocks.items()}
        result = compute(sent, digest, own, int(firsts[number]), real, backend, threads, isa)
        for name, like in likes.items():
            found[name].append(da.from_delayed(result[name], (size, *like.shape[1:]), like.dtype))
    return {name: da.concatenate(parts) for name, parts in found.items()}


def _named(graph_inputs: tuple[GraphInput, ...], inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, Mapping):
        return dict(inputs)
    wanted = [i.name for i in graph_inputs if i.kind in ("features", "tokens")]
    if len(wanted) != 1:
        raise DataError(f"inputs: one array, and the model has the inputs {', '.join(wanted)}; give a mapping by name")
    return {wanted[0]: inputs}


def _outputs_of(model: QuantModel, arrays: Mapping[str, Any], real: str | None) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs of one sequence of zeros with the arrays' shapes and types; DataError where they do not fit."""
    zeros = {name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in arrays.items()}
    make_batch(model.inputs, zeros)
    return PieceRuns(Session(model, "cpu", 1), real=real).outputs(zeros)


_sessions: dict[tuple[Any, ...], Session] = {}
_lock = threading.Lock()


def _session(model: QuantModel, digest: str, *how: Any) -> Session:
    """Return this process's session of a model, which its threads share."""
    with _lock:
        key = (digest, *how)
        if key not in _sessions:
            if len(_sessions) >= SESSIONS:
                del _sessions[next(iter(_sessions))]
            backend, threads, isa = how
            _sessions[key] = Session(model, backend, threads, isa)
        return _sessions[key]


def _run_block(
    model: QuantModel,
    digest: str,
    arrays: Mapping[str, Any],
    first: int,
    real: str | None,
    backend: str,
    threads: int,
    isa: str | None,
) -> dict[str, npt.NDArray[Any]]:
    """Run the sequences from ``first`` on, and return their outputs."""
    return PieceRuns(_session(model, digest, backend, threads, isa), real=real).outputs(arrays, first)
