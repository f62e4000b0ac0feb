"""A recurrent layer over time for each band: the bands are sequences of the kernels of recurrent layers."""

from __future__ import annotations

from typing import Any

from qrnn.backends.cuda import elements
from qrnn.backends.cuda.device_layer import Run, State
from qrnn.backends.cuda.filled import copy_into
from qrnn.backends.cuda.kinds.recurrent import DeviceRecurrent
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.work import device_array
from qrnn.model.kinds.per_band import QuantPerBand


class DevicePerBand(DeviceRecurrent):
    """Such a layer on the device."""

    kind = QuantPerBand

    def sequences(self, run: Run, x: Any, state: State, lengths: Lengths, in_place: bool) -> tuple[Any, State]:
        """Return Y [N, T, B·D·P] and the final state of all bands; see `DeviceRecurrent.sequences`."""
        (N, T, F), B, D = x.shape, self.layer.bands, len(self.layer.directions)
        own = _swapped(x.reshape(N, T, B, F // B)).reshape(N * B, T, F // B)
        begin = tuple(_apart(array, B) for array in state)
        y, after = super().sequences(run, own, begin, lengths.of_bands(B), in_place)
        y = _swapped(y.reshape(N, B, T, y.shape[2])).reshape(N, T, B * y.shape[2])
        last = tuple(_together(array, N, B) for array in after)
        if in_place and D > 1 and self.layer.memory:
            for found, place in zip(last, state, strict=True):
                copy_into(found, place)
            last = state
        return y, last


def _swapped(x: Any) -> Any:
    """Return x [N, A, B, F] as [N, B, A, F]."""
    N, A, B, F = x.shape
    if 1 in (A, B):
        return x.reshape(N, B, A, F)
    out = device_array((N, B, A, F), x.dtype)
    for_each(elements.swap_axes, x.size, x, out)
    return out


def _apart(state: Any, bands: int) -> Any:
    """Return a state [N, D, B·W] as [N·B, D, W]."""
    N, D, W = state.shape
    return _swapped(state.reshape(N, D, bands, W // bands)).reshape(N * bands, D, W // bands)


def _together(state: Any, size: int, bands: int) -> Any:
    """Return a state [N·B, D, W] as [N, D, B·W]."""
    _, D, W = state.shape
    return _swapped(state.reshape(size, bands, D, W)).reshape(size, D, bands * W)
