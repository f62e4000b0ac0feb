"""Features of several tensors on the CPU, aligned to one format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.layer_calls import LayerCalls, as_int64
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.tasks import Reused, Tasks
from qrnn.model.kinds.concat import QuantConcat
from qrnn.model.parts import Int16Array, Int64Array
from qrnn.model.quant_model import QuantModel


class ConcatRun(LayerRun):
    """See the module."""

    def __init__(self, layer: QuantConcat, model: QuantModel, tasks: Tasks) -> None:
        super().__init__(layer, model, tasks)
        self._layer = layer

    def calls(self, walk: LayerCalls) -> list[Call]:
        """Return the calls that compute the layer's output; see `LayerRun.calls`."""
        layer, calls, first = self._layer, [], 0
        place, out = walk.place_of(layer.output), walk.tensors[layer.output]
        for part in layer.parts:
            formats = (as_int64(part.indices), part.in_frac, layer.out_frac)
            calls.append(
                self.tasks.call("concat", "concat_part", place, first, *formats, walk.tensors[part.tensor], out)
            )
            first += len(part.indices)
        return calls

    def _align(self, fracs: tuple[int, int], control: Int64Array, arrays: Sequence[Any]) -> Call:
        """Copy x to out of ``arrays``, from the first number of fraction bits to the second."""
        return self.tasks.call("concat", "align", control, *fracs, *arrays)

    def rows(self, *inputs: Any) -> Int16Array:
        """Return the rows of the layer's output for rows of its inputs; see `Engine.rows`."""
        found = []
        for part, x in zip(self._layer.parts, inputs, strict=True):
            picked = np.ascontiguousarray(x[:, part.indices])
            picked[:, part.indices < 0] = 0
            out, fracs = np.empty_like(picked), (part.in_frac, self._layer.out_frac)
            self.tasks.alone((picked, out), Reused(("align", *fracs), partial(self._align, fracs), 3))
            found.append(out)
        return np.concatenate(found, axis=1)

    def ahead(self, runs: bool, stepped: bool) -> Iterator[Call]:
        """Yield the calls that have to be compiled ahead; see `LayerRun.ahead`."""
        if runs:
            row = np.zeros((1, 1), np.int16)
            yield self._align((0, 0), np.zeros(3, np.int64), (row, row))


RUN = ConcatRun
