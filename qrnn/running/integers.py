"""Users' arrays as the integers of a model's tensors, which is what exported C takes and gives, in the place of real numbers.

A session that is asked for integers takes real = (q + offset) · scale of what it is given, which the boundary turns into the same q, and
gives the q that its real outputs stand for. Both are exact: with |q + offset| below 2^50 the roundings of a product and of a quotient are
below half a unit. So everything between, on every backend, is as without integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic.reals import round_half_up
from qrnn.errors import DataError
from qrnn.model.boundary import to_reals
from qrnn.model.float_model import GraphInput
from qrnn.model.parts import FloatArray
from qrnn.model.quant_model import QuantModel
from qrnn.model.user_values import as_array, check_mapping, on_cuda_device
from qrnn.running.state import RunResult

_INT16 = 32767

LARGEST_OFFSET = (1 << 50) - (1 << 31)
"""The largest magnitude of an offset whose tensor's integers pass through real numbers exactly."""


@dataclass(frozen=True)
class _Input:
    """The format of a graph input: the unit, the largest magnitude and the offset of each of its elements, [F] or [1].

    There is no unit where elements have none.
    """

    declared: GraphInput
    unit: FloatArray | None
    limit: FloatArray
    offset: FloatArray

    def reals(self, value: Any) -> FloatArray:
        """Return what integers [..., *shape] stand for; DataError for other types, shapes and values."""
        where, shape = f"input {self.declared.name!r}", self.declared.shape
        if self.unit is None:
            raise DataError(
                f"{where} starts states of different formats, which have no integers in common; call with integers=False"
            )
        q = as_array(where, value)
        most = int(self.limit.max())
        if q.dtype.kind not in "iu":
            raise DataError(
                f"{where}: {q.dtype}, expected integers within ±{most}; give the tensor's integers, or call with integers=False"
            )
        if q.ndim < len(shape) or q.shape[q.ndim - len(shape) :] != shape:
            raise DataError(f"{where}: shape {list(q.shape)}, expected […, {', '.join(map(str, shape))}]")
        if np.abs(self.offset).max() > LARGEST_OFFSET:
            raise DataError(
                f"{where} has an offset of {np.abs(self.offset).max():.0f}, whose integers real numbers do not hold exactly; "
                "call with integers=False"
            )
        unit, limit, offset = (v if v.size == 1 else v.reshape(shape) for v in (self.unit, self.limit, self.offset))
        exact = q.astype(np.float64)
        beyond = np.abs(exact) > limit
        if beyond.any():
            at = tuple(int(i) for i in np.argwhere(beyond)[0])
            allowed = int(np.broadcast_to(limit, q.shape)[at])
            raise DataError(f"{where}: {int(q[at])} at {list(at)}, expected integers within ±{allowed}")
        result: FloatArray = to_reals(exact, unit, offset)
        return result


@dataclass(frozen=True)
class _Output:
    """The unit and the offset of each element of a graph output, and the type of its integers."""

    unit: FloatArray
    offset: FloatArray
    dtype: Any

    def integers(self, value: FloatArray) -> npt.NDArray[Any]:
        """Return the integers that real numbers stand for."""
        most = np.iinfo(self.dtype)
        q = np.clip(round_half_up(value / self.unit) - self.offset, most.min, most.max)
        found: npt.NDArray[Any] = q.astype(self.dtype)
        return found


class Integers:
    """The formats of a model's graph inputs and outputs, by which their integers become real numbers and back."""

    def __init__(self, model: QuantModel) -> None:
        self._model = model
        self._inputs = {i.name: _input(model, i) for i in model.inputs if i.kind in ("features", "state")}
        cells = {cell for layer in model.layers for cell in layer.cells}
        self._outputs: dict[str, _Output] = {}
        for output in model.outputs:
            unit, offset = model.scales_and_offsets(output)
            wide = any(tensor in cells for tensor, _, _ in output.parts)
            shape, dtype = output.shape, np.int32 if wide else np.int16
            self._outputs[output.name] = _Output(unit.reshape(shape), offset.reshape(shape), dtype)

    def reals(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return inputs with real numbers in the place of integers; tokens and lengths stay. DataError for what is not of the formats."""
        check_mapping(inputs)
        for name, value in inputs.items():
            if on_cuda_device(value):
                raise DataError(f"input {name!r}: lies on a CUDA device; integers=True takes arrays of the host")
        return {name: self._inputs[name].reals(v) if name in self._inputs else v for name, v in inputs.items()}

    def of_outputs(self, outputs: Mapping[str, FloatArray]) -> dict[str, npt.NDArray[Any]]:
        """Return outputs as integers: int32 where they hold states of LSTM cells, and else int16.

        Padded steps are the integers next to the real 0, which is 0 where there is no offset.
        """
        return {name: self._outputs[name].integers(value) for name, value in outputs.items()}

    def of_result(self, result: RunResult) -> RunResult:
        """Return a result with its outputs as integers."""
        return replace(result, outputs=self.of_outputs(result.outputs))

    def zeros(self, size: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
        """Return arrays of zeros for the integers of one step of ``size`` streams: those of inputs, and those of outputs."""
        inputs = {
            i.name: np.zeros((size, *i.shape), np.int64 if i.kind == "tokens" else np.int16)
            for i in self._model.inputs
            if i.kind in ("features", "tokens")
        }
        outputs = {
            o.name: np.zeros((size, *self._model.step_shape(o)), self._outputs[o.name].dtype)
            for o in self._model.outputs
        }
        return inputs, outputs


def _input(model: QuantModel, given: GraphInput) -> _Input:
    """Return the format of an input of features, or that of the layers' states which the elements of a state input start."""
    if given.kind == "features":
        fmt = model.tensors[given.name]
        scales, offsets = fmt.scales_and_offsets
        return _Input(given, scales, np.array([float(fmt.limit)]), offsets)
    unit, limit = np.zeros(given.features), np.zeros(given.features)
    for layer in model.layers_with_states:
        for declared in layer.states():
            for start in declared.starts:
                if start.source != given.name or start.indices is None:
                    continue
                own, most = unit[start.indices], limit[start.indices]
                if ((own != 0.0) & ((own != 2.0**-declared.frac) | (most != declared.limit))).any():
                    return _Input(given, None, limit, np.zeros(1))
                unit[start.indices], limit[start.indices] = 2.0**-declared.frac, declared.limit
    unused = unit == 0.0
    return _Input(given, np.where(unused, 1.0, unit), np.where(unused, float(_INT16), limit), np.zeros(1))
