"""Measures inside the layers: errors of gates and states against the oracle's, saturation counts, and how much of each range is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.accuracy.clipping import Saturation, narrowed_values
from qrnn.accuracy.metrics import decibels
from qrnn.arithmetic import gates
from qrnn.backends.base import LayerState, Trace
from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.model.gate_values import gate_values
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.parts import FloatArray, GateFunction, Int16Array, Int32Array
from qrnn.model.quant_model import QuantModel
from qrnn.model.time import TimeAxis
from qrnn.running.input_ranges import inputs_beyond

Mask = npt.NDArray[np.bool_]

Integers = Mapping[str, Int16Array | Int32Array]
"""The integer tensors of a run, by their names."""


class ErrorSum:
    """Running sums of want² and (want - got)², in all and by time step; ``steps`` is 0 where there is no time axis."""

    def __init__(self, steps: int = 0) -> None:
        self.signal, self.noise, self.count, self.largest = 0.0, 0.0, 0, 0.0
        self.signal_at, self.noise_at = np.zeros(steps), np.zeros(steps)
        self._sums: FloatArray | float = 0.0  # Σ want by feature
        self.count_at = np.zeros(steps, np.int64)

    def add(self, want: FloatArray, got: FloatArray, mask: Mask | None) -> None:
        """Add ``want`` and ``got`` [N, T, F] with the mask of real steps [N, T], or [N, F] without a mask."""
        error = want - got
        if mask is not None:
            steps = want.shape[1]
            self.signal_at[:steps] += np.where(mask[:, :, None], want**2, 0.0).sum(axis=(0, 2))
            self.noise_at[:steps] += np.where(mask[:, :, None], error**2, 0.0).sum(axis=(0, 2))
            self.count_at[:steps] += mask.sum(axis=0) * want.shape[2]
            want, error = want[mask], error[mask]
        self._sums = self._sums + want.reshape(-1, want.shape[-1]).sum(axis=0)
        self.signal += float((want**2).sum())
        self.noise += float((error**2).sum())
        self.count += error.size
        self.largest = max(self.largest, float(np.abs(error).max(initial=0.0)))

    @property
    def sqnr_db(self) -> float:
        """Return the ratio 10·log10(Σ want² / Σ error²)."""
        return decibels(self.signal, self.noise)

    @property
    def about_mean_db(self) -> float:
        """Return the same with each feature's own mean taken off the signal: 10·log10(Σ (want - mean)² / Σ error²).

        A large constant makes any error look small beside it; about the mean, only what varies counts as the signal. Where nothing varies,
        and for a single value, it is `sqnr_db`.
        """
        return decibels(self.varying, self.noise)

    @property
    def varying(self) -> float:
        """Return the energy of the signal about each feature's own mean; the signal's own where nothing varies, and for a single value."""
        sums = np.atleast_1d(self._sums)
        rows = self.count / len(sums)
        if rows < 2 or not math.isfinite(self.signal):
            return self.signal
        varies = self.signal - float((sums**2).sum()) / rows
        return varies if varies > 1e-12 * self.signal else self.signal

    @property
    def rmse(self) -> float:
        """Return the root of the mean squared error."""
        return math.sqrt(self.noise / self.count) if self.count else 0.0

    def rmse_at(self) -> FloatArray:
        """Return the root mean squared error at each step, [T]; 0 where no sequence reaches."""
        result: FloatArray = np.sqrt(self.noise_at / np.maximum(self.count_at, 1))
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return numbers for JSON, which has no infinity: an infinite SQNR (no error at all) becomes None."""
        figures = {
            "sqnr_db": self.sqnr_db,
            "sqnr_about_mean_db": self.about_mean_db,
            "rmse": self.rmse,
            "max_error": self.largest,
        }
        out: dict[str, Any] = {name: _finite(value) for name, value in figures.items()}
        if self.count_at.size:
            out["rmse_by_step"] = [_finite(value) for value in self.rmse_at().tolist()]
        return out


def output_error(model: FloatModel, batch: Batch, name: str, want: FloatArray, got: FloatArray) -> ErrorSum:
    """Return the error of graph output ``name`` of ``model`` over the real steps of ``batch``; ``want`` and ``got`` are as its runs give it."""
    output = next(o for o in model.outputs if o.name == name)
    axis = batch.along(model.length_rules[output.parts[0][0]]) if output.has_time else None
    lead = want.shape[: 1 if axis is None else 2]
    error = ErrorSum(0 if axis is None else axis.steps)
    error.add(want.reshape(*lead, -1), got.reshape(*lead, -1), None if axis is None else axis.mask)
    return error


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class LayerProbe:
    """Collects an oracle's observations and an engine's trace of the same batch, and keeps sums of their differences."""

    def __init__(self, model: QuantModel, batch: Batch) -> None:
        """``batch``: all that will be compared, from which the number of steps follows."""
        self.model, self._whole = model, batch
        self.errors: dict[str, ErrorSum] = {}
        self._observed: dict[str, FloatArray] = {}
        self._saturation: dict[str, Saturation] = {}
        self._largest: dict[str, int] = {}

    def start(self) -> None:
        """Forget the last batch's observations."""
        self._observed = {}

    def observe(self, name: str, values: FloatArray, _mask: Mask | None) -> None:
        """Keep what the oracle observes; see `qrnn.equations.oracle.Observer`."""
        self._observed[name] = values

    def count_clipped(self, trace: Trace, tensors: Integers, batch: Batch, start: Mapping[str, LayerState]) -> None:
        """Count the values of graph inputs beyond their calibrated range, and those that operands have no room for; see `compare`."""
        for beyond in inputs_beyond(self.model, batch):
            where = f"input {beyond.name}: beyond its calibrated range"
            entry = self._saturation.setdefault(where, Saturation(where))
            entry.saturated += beyond.clipped
            entry.total += beyond.total
        for found in narrowed_values(self.model, batch, tensors, trace, start):
            self._saturation.setdefault(found.where, Saturation(found.where)).add(found.values, found.limit)

    def compare(self, trace: Trace, tensors: Integers, batch: Batch, start: Mapping[str, LayerState]) -> None:
        """Compare the engine's trace of the batch, which began with the states ``start``, with what was just observed."""
        self.count_clipped(trace, tensors, batch, start)
        axes = {name: batch.along(rule) for name, rule in self.model.length_rules.items()}
        for layer in self.model.layers:
            if isinstance(layer, QuantRecurrent):
                for number in range(len(layer.directions)):
                    self._initial_states(layer, number, batch)
                    self._recurrent(layer, number, trace, layer.grouping.axis(axes[layer.input]))
            elif layer.clamps_output:
                y = tensors[layer.output].astype(np.int64)
                y = axes[layer.output].real(y) if layer.output in axes else y
                low = -32768 if not reads_upper_values_only(self.model, layer.output) else -32769
                self._count(f"{layer.name}: pre-activation", (y >= 32767) | (y <= low))
        for name, tensor in tensors.items():
            used = axes[name].real(tensor) if name in axes else tensor
            self._largest[name] = max(self._largest.get(name, 0), int(np.abs(used.astype(np.int64)).max(initial=0)))

    def _initial_states(self, layer: QuantRecurrent, number: int, batch: Batch) -> None:
        """Count states given as real numbers that their integers cannot hold; calibrating with such states widens the formats."""
        d = layer.directions[number]
        for name, state, frac, limit in (("h", d.h_0, layer.h_frac, 32767), ("c", d.c_0, layer.c_frac, (1 << 31) - 1)):
            if state is not None and state.source is not None and state.source in batch.states:
                given = np.abs(batch.states[state.source][:, state.indices]) * 2.0**frac
                self._count(f"{layer.name}[{number}]: initial {name}", given > limit + 0.5)

    def _recurrent(self, layer: QuantRecurrent, number: int, trace: Trace, axis: TimeAxis) -> None:
        d, key, H = layer.directions[number], f"{layer.name}[{number}]", layer.hidden_size
        whole = self._whole.along(self.model.length_rules[layer.input])
        steps, mask = layer.grouping.axis(whole).steps, axis.mask
        pre = trace.arrays[f"{key}.pre"]
        for k, gate in enumerate(layer.gates):
            block = pre[:, :, k * H : (k + 1) * H]
            self._count(f"{key}: pre-activation {gate}", (block[mask] >= 32767) | (block[mask] <= -32768))
            if gate != layer.declaration.state_gate:
                self._add(f"{key}.{gate}", gate_values(d.gates[k], block), mask, steps)
        h = trace.arrays[f"{key}.h"]
        self._add(f"{key}.h", h.astype(np.float64) * 2.0**-layer.h_frac, mask, steps)
        # elsewhere h is bounded, and its largest value is one like others
        if layer.h_frac < 15 or d.projection is not None:
            self._count(f"{key}: h", np.abs(h[mask].astype(np.int64)) >= 32767)
        if layer.has_cell_state:
            c = trace.arrays[f"{key}.c"]
            self._add(f"{key}.c", c.astype(np.float64) * 2.0**-layer.c_frac, mask, steps)
            self._count(f"{key}: cell", np.abs(c[mask].astype(np.int64)) >= (1 << 31) - 1)

    def _add(self, key: str, got: FloatArray, mask: Mask, steps: int) -> None:
        self.errors.setdefault(key, ErrorSum(steps)).add(self._observed[key], got, mask)

    def _count(self, where: str, hits: Mask) -> None:
        entry = self._saturation.setdefault(where, Saturation(where))
        entry.saturated += int(hits.sum())
        entry.total += hits.size

    def saturation(self) -> list[Saturation]:
        """Return every place of saturation that was looked at."""
        return list(self._saturation.values())

    def weight_ranges(self) -> dict[str, float]:
        """Return the root mean square of each matrix's integer weights, as a fraction of 127.

        It says how well the rows' scales fill int8.
        """
        return {
            m.name: float(np.sqrt(np.mean(m.matrix.weight.astype(np.float64) ** 2))) / 127 for m in self.model.matrices
        }

    def ranges(self) -> dict[str, float]:
        """Return the largest magnitude of each tensor, as a fraction of its format's range."""
        return {
            name: largest / self.model.tensors[name].limit
            for name, largest in self._largest.items()
            if name in self.model.tensors
        }


def reads_upper_values_only(model: QuantModel, tensor: str) -> bool:
    """Return whether a clamp at a tensor's lower end changes nothing: ReLU alone reads it, or a sum that ReLU alone reads.

    Formats of such tensors are chosen by their greatest values (`qrnn.model.formats.needed`).
    """
    left, seen = [tensor], set()
    while left:
        name = left.pop()
        readers = [layer for layer in model.layers if name in layer.inputs]
        if not readers or any(name == part for output in model.outputs for part, _, _ in output.parts):
            return False
        for reader in readers:
            if isinstance(reader, QuantAdd) and reader.output not in seen:
                seen.add(reader.output)
                left.append(reader.output)
            elif not isinstance(reader, QuantAdd) and not (
                isinstance(reader, QuantPointwise) and _is_relu(reader.function)
            ):
                return False
    return True


def _is_relu(function: GateFunction) -> bool:
    """Return whether a function rises from 0, which is its value at the lower end."""
    params = [int(v) for v in function.params]
    return params[gates.KIND] == gates.RAMP and params[gates.SLOPE] > 0 and function.bounds[0] == 0
