"""How long sequences on the device are."""

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


@dataclass(frozen=True)
class Lengths:
    """The lengths of N sequences on the device, as many ones, and bounds: no length is below ``shortest`` or above ``longest``.

    Lengths that the host has given have the bounds that they reach. Those that a kernel computes are not copied to the host for them.
    """

    device: Any
    ones: Any
    count: int
    shortest: int
    longest: int

    @classmethod
    def of(cls, lengths: Any) -> Lengths:
        """Copy lengths of the host, [N], to the device."""
        return cls(
            cuda.to_device(np.ascontiguousarray(lengths, np.int64)),
            ones(len(lengths)),
            len(lengths),
            shortest(lengths),
            int(lengths.max(initial=0)),
        )

    def each_step(self, steps: int) -> Lengths:
        """Each of ``steps`` steps of every sequence as a sequence of its own, [N · steps]: of one step, or of none past the end."""
        count = self.count * steps
        device = device_array(count, np.int64)
        for_each(elements.mark_steps, count, self.device, steps, device)
        return Lengths(device, ones(count), count, int(self.shortest >= steps), min(self.longest, 1))
