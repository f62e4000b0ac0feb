"""Run the float model once, by the float64 oracle and by ONNX Runtime, so that many quantized models can be compared with the results."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qrnn.accuracy.onnxruntime_run import RuntimeRefusedError, onnxruntime_installed, run_onnxruntime
from qrnn.accuracy.probe import ErrorSum
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.parts import FloatArray
from qrnn.quantization.floor import FloorWidths

LEAST_PIECE, MOST_PIECE, PIECE_BYTES = 64, 1024, 1 << 26
"""Sequences compared at a time, and the bytes that their quantities take about: the more at a time, the less each step of them costs."""

KEPT_BYTES = 1 << 30
"""The most bytes of results that a `FloatRun` keeps; further pieces are run again whenever they are asked for."""


@dataclass
class Runtime:
    """ONNX Runtime on the file ``path``, or its bytes, until it refuses; ``note`` says why it is not ``usable``."""

    path: str | bytes | os.PathLike[str] | None
    usable: bool = field(init=False)
    note: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self.usable = self.path is not None and onnxruntime_installed()
        if self.path is not None and not self.usable:
            self.note = "ONNX Runtime is not installed: pip install 'qrnn[ort]'"

    def run(self, model: FloatModel, piece: Batch) -> dict[str, FloatArray] | None:
        """Return the graph outputs by name, or None where ONNX Runtime cannot run them."""
        if not self.usable or self.path is None:
            return None
        try:
            return run_onnxruntime(model, self.path, piece)
        except RuntimeRefusedError as error:
            self.usable, self.note = False, str(error)
            return None


@dataclass(frozen=True)
class FloatPiece:
    """The results for a piece of a batch: graph outputs, gates and states of recurrent layers, and ONNX Runtime's outputs, if any."""

    outputs: dict[str, FloatArray]
    observed: dict[str, FloatArray]
    runtime: dict[str, FloatArray] | None

    @property
    def nbytes(self) -> int:
        """Return the memory of the arrays in bytes."""
        return sum(a.nbytes for part in (self.outputs, self.observed, self.runtime or {}) for a in part.values())


@dataclass(frozen=True)
class FloatRun:
    """The results for every piece of `piece_size` sequences; None for pieces that were too large to keep."""

    pieces: tuple[FloatPiece | None, ...]
    runtime: Runtime
    floors: dict[FloorWidths, dict[str, ErrorSum]] = field(default_factory=dict)
    """The errors of outputs at the floor (`qrnn.quantization.floor`) by the widths of recurrent weights, once they have been measured."""


def piece_size(model: FloatModel, batch: Batch) -> int:
    """Return how many sequences of a batch are compared at a time: as many as have quantities of `PIECE_BYTES`, within bounds."""
    recurrent = [layer for layer in model.layers if isinstance(layer, Recurrent)]
    quantities = sum(len(r.directions) * (2 * len(r.gates) + 3) * r.hidden_size for r in recurrent)
    numbers = batch.steps * (quantities + sum(tensor.features for tensor in model.tensors.values()))
    return max(LEAST_PIECE, min(MOST_PIECE, PIECE_BYTES // (8 * max(1, numbers))))


def run_piece(model: FloatModel, piece: Batch, runtime: Runtime) -> FloatPiece:
    """Run the oracle and, where usable, ONNX Runtime."""
    wanted = {
        f"{layer.name}[{number}].{quantity}"
        for layer in model.layers
        if isinstance(layer, Recurrent)
        for number in range(len(layer.directions))
        for quantity in (*layer.gates, "h", "c")
    }
    observed: dict[str, FloatArray] = {}

    def observe(name: str, values: FloatArray, _mask: Any) -> None:
        if name in wanted:
            observed[name] = values

    outputs = run_oracle_batch(model, piece, observe).outputs
    return FloatPiece(outputs, observed, runtime.run(model, piece))


def run_float(
    model: FloatModel,
    batch: Batch,
    onnx_path: str | bytes | os.PathLike[str] | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> FloatRun:
    """Run ``batch`` by the oracle and, with ``onnx_path``, by ONNX Runtime where it is installed.

    ``progress`` is called with (done, all) sequences.
    """
    runtime = Runtime(onnx_path)
    pieces: list[FloatPiece | None] = []
    kept = 0
    for _, stop, piece in batch.chunks(piece_size(model, batch)):
        found = run_piece(model, piece, runtime) if kept < KEPT_BYTES else None
        kept += 0 if found is None else found.nbytes
        pieces.append(found if kept < KEPT_BYTES else None)
        if progress is not None:
            progress(stop, batch.size)
    return FloatRun(tuple(pieces), runtime)
