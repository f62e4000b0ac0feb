"""Run a float part by ONNX Runtime, one sequence and where possible one step at a time.

How ONNX Runtime adds up a product depends on the sizes of its operands, so a call never holds more than one sequence. The values of a
sequence are then the same ones alone, in a batch, in a pool and, of a part that takes single steps, in a stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qrnn.errors import BackendError, DataError
from qrnn.hybrid.carried import Carried, together
from qrnn.model.axes import from_graph, to_graph
from qrnn.model.float_model import GraphOutput
from qrnn.model.parts import FloatArray

TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(bool)": np.bool_,
}


def open_runtime(content: bytes | str, name: str, threads: int = 1) -> Any:
    """Return ONNX Runtime's session of a model, given by its bytes or its path.

    Raises BackendError where ONNX Runtime is not installed, or does not take the model.
    """
    try:
        import onnxruntime as ort
    except ImportError:
        raise BackendError(
            f"{name} runs in float by ONNX Runtime, which is not installed: pip install 'qrnn[ort]'"
        ) from None
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base but Exception
        raise BackendError(f"{name}: ONNX Runtime does not take this graph: {_first(error)}") from error


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


class RunsByParts(Protocol):
    """What `Runtime` needs of a part; see `qrnn.hybrid.model.FloatPart`."""

    @property
    def name(self) -> str:
        """Return the part's name."""

    @property
    def inputs(self) -> tuple[GraphOutput, ...]:
        """Return the tensors that the part reads, with their axes in its graph."""

    @property
    def outputs(self) -> tuple[GraphOutput, ...]:
        """Return the tensors that the part gives."""

    @property
    def by_steps(self) -> bool:
        """Return whether each step is computed by itself."""

    @property
    def fixed(self) -> Mapping[str, Any]:
        """Return numbers that inputs of the graph are fixed to."""


def _least(shape: Sequence[Any]) -> list[int]:
    """Return a declared shape with 1 for each size that it leaves free."""
    return [size if isinstance(size, int) else 1 for size in shape]


class Runtime:
    """A float part ready to run. It keeps nothing between calls, so that threads may share it.

    With ``fill``, inputs of the graph that the part does not have are zeros.
    """

    def __init__(self, part: RunsByParts, content: bytes | str, fill: bool = False) -> None:
        self.part = part
        self.session = open_runtime(content, f"float part {part.name!r}")
        declared = {i.name: i for i in self.session.get_inputs()}
        self._types = {name: TYPES.get(i.type, np.float32) for name, i in declared.items()}
        sizes = {
            declared[i.name].shape[i.batch_axis]
            for i in part.inputs
            if i.name in declared and i.batch_axis is not None and not i.merged
        }
        self.rows = max((size for size in sizes if isinstance(size, int)), default=1)
        """How many sequences a call of the graph takes; all of them are the same one."""
        nothing = {name: 0 for name in declared if name not in {i.name for i in part.inputs}} if fill else {}
        self._fixed: dict[str, npt.NDArray[Any]] = {
            name: np.broadcast_to(np.asarray(value), _least(declared[name].shape)).astype(self._types[name])
            for name, value in {**nothing, **part.fixed}.items()
            if name in declared
        }

    def call(self, arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the graph once on arrays of one sequence, [1, T, *shape] or [1, *shape], and return its outputs likewise."""
        if self.rows > 1:
            arrays = {name: np.repeat(values, self.rows, axis=0) for name, values in arrays.items()}
        results = self._run([o.name for o in self.part.outputs], arrays)
        return {
            place.name: from_graph(place, np.asarray(result, np.float64), self.rows)[:1]
            for place, result in zip(self.part.outputs, results, strict=True)
        }

    def raw_shapes(self, names: Sequence[str], arrays: Mapping[str, FloatArray]) -> dict[str, tuple[int, ...]]:
        """Return the shapes that the graph's own outputs have for these arrays, of any number of sequences."""
        results = self._run(names, arrays)
        return {name: np.shape(result) for name, result in zip(names, results, strict=True)}

    def _run(self, names: Sequence[str], arrays: Mapping[str, FloatArray]) -> list[Any]:
        feeds = dict(self._fixed)
        for place in self.part.inputs:
            feeds[place.name] = np.ascontiguousarray(to_graph(place, arrays[place.name]), self._types[place.name])
        try:
            return list(self.session.run(list(names), feeds))
        except Exception as error:
            shapes = ", ".join(f"{name!r} {list(value.shape)}" for name, value in feeds.items())
            raise DataError(
                f"float part {self.part.name!r}: ONNX Runtime could not run it on {shapes}: {_first(error)}"
            ) from error

    def run(self, carried: Mapping[str, Carried], by_steps: bool | None = None) -> dict[str, Carried]:
        """Run sequences, each by itself, and return the tensors that the part gives; ``by_steps`` is the part's own where it is left out."""
        single = self.part.by_steps if by_steps is None else by_steps
        own = {i.name: carried[i.name] for i in self.part.inputs}
        lengths = [c.lengths for c in own.values() if c.lengths is not None]
        size = len(next(iter(own.values())).values)
        longest = max((c.values.shape[1] for c in own.values() if c.lengths is not None), default=1)
        pieces: dict[str, list[FloatArray | None]] = {o.name: [] for o in self.part.outputs}
        for n in range(size):
            arrays = {name: c.one(n) for name, c in own.items()}
            if any(length[n] == 0 for length in lengths):
                for found in pieces.values():
                    found.append(None)
                continue
            results = self._by_steps(own, arrays) if single and lengths else self.call(arrays)
            for name, found in pieces.items():
                found.append(results[name])
        steps = longest if single else 1
        return {o.name: together(pieces[o.name], o.has_time, steps, o.shape) for o in self.part.outputs}

    def _by_steps(self, own: Mapping[str, Carried], arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        timed = [name for name, c in own.items() if c.lengths is not None]
        steps = min(arrays[name].shape[1] for name in timed)
        found: dict[str, list[FloatArray]] = {}
        for t in range(steps):
            step = {name: a[:, t : t + 1] if name in timed else a for name, a in arrays.items()}
            for name, value in self.call(step).items():
                found.setdefault(name, []).append(value)
        return {
            o.name: np.concatenate(found[o.name], axis=1) if o.has_time else found[o.name][-1]
            for o in self.part.outputs
        }
