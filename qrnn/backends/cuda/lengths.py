"""Sequences on the device have lengths on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda

from qrnn.backends.cuda import elements
from qrnn.backends.cuda.filled import ones
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.work import device_array
from qrnn.model.batch import shortest
from qrnn.model.parts import IndexArray


@dataclass(frozen=True)
class Lengths:
    """The lengths of N sequences on the device, N ones for kernels, and bounds: no length is below ``shortest`` or above ``longest``.

    ``host`` has the lengths on the host, [N] int64, or is None where a kernel computed them and nobody has copied them.
    """

    device: Any
    ones: Any
    count: int
    shortest: int
    longest: int
    host: IndexArray | None = None

    @classmethod
    def of(cls, lengths: IndexArray) -> Lengths:
        """Copy lengths of the host, [N], to the device."""
        whole = np.ascontiguousarray(lengths, np.int64)
        return cls(cuda.to_device(whole), ones(len(whole)), len(whole), *_bounds(whole), whole)

    def known(self) -> Lengths:
        """Return the same lengths, copied to the host, with the bounds that they reach; wait for the device where they have not been copied."""
        if self.host is not None:
            return self
        host: IndexArray = self.device.copy_to_host()
        return Lengths(self.device, self.ones, self.count, *_bounds(host), host)

    def each_step(self, steps: int) -> Lengths:
        """Return each of ``steps`` steps of every sequence as a sequence of its own, [N · steps]: of one step, or of none past the end."""
        count = self.count * steps
        device = device_array(count, np.int64)
        for_each(elements.mark_steps, count, self.device, steps, device)
        return Lengths(device, ones(count), count, int(self.shortest >= steps), min(self.longest, 1))

    def of_bands(self, bands: int) -> Lengths:
        """Return the length of every sequence once for each of its bands, [N · bands]."""
        count = self.count * bands
        device = device_array(count, np.int64)
        for_each(elements.band_lengths, count, self.device, bands, device)
        return Lengths(device, ones(count), count, self.shortest, self.longest)

    def each_step_of(self, steps: int, bands: int) -> Lengths:
        """Return each of ``steps`` steps of every sequence as a sequence of its ``bands``, [N · steps], or of none past the end."""
        count = self.count * steps
        device = device_array(count, np.int64)
        for_each(elements.step_lengths, count, self.device, steps, bands, device)
        shortest = bands if self.shortest >= steps else 0
        return Lengths(device, ones(count), count, shortest, bands if self.longest > 0 else 0)


def _bounds(lengths: IndexArray) -> tuple[int, int]:
    return shortest(lengths), int(lengths.max(initial=0))
