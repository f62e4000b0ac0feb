"""Which kernels a model's calls need: they are laid out as they would be made, and none is made."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, Protocol

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.dense import DenseRun
from qrnn.backends.cpu.layer_calls import CallMaker, SequenceData
from qrnn.backends.cpu.matrix import GROUP_LEAST
from qrnn.backends.cpu.native import Collector
from qrnn.backends.cpu.packed import FusedForms
from qrnn.backends.cpu.sequences import CpuSequences
from qrnn.backends.cpu.streams import CpuStreams
from qrnn.backends.cpu.wanted import Wanted
from qrnn.model.kinds.concat import QuantConcat
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.parts import Int64Array

REAL = (np.float32, np.float64)
"""Types of real values, as a user may give them."""


class WarmEngine(CallMaker, Protocol):
    """The engine, as far as what it would call is concerned."""

    fused: dict[tuple[str, int], FusedForms]
    packed_dense: dict[str, DenseRun]
    gangs_work: bool

    def plain_call(
        self, layer: QuantRecurrent, number: int, place: Int64Array, data: SequenceData, members: int
    ) -> Call:
        """One direction by the plain loops."""


def wanted_by(
    engine: WarmEngine, batch: int | None = None, steps: int | None = None, streams: int | None = None
) -> list[Wanted]:
    """The kernels for runs of so many sequences of so many steps, padded or not, and for so many streams.

    None stands for any number; where all three are None, for everything. With only ``streams``, nothing is compiled for runs, and with
    only the others nothing for streams. What is not a matter of these numbers is always there, such as both types of real values.
    """
    collector, own = Collector(), copy(engine)
    own.code = collector
    runs = streams is None or batch is not None or steps is not None
    stepped = streams is not None or not runs or (batch is None and steps is None)
    forward = not any(d.reverse for layer in engine.model.recurrent_layers for d in layer.directions)
    if runs:
        for size in (1, GROUP_LEAST) if batch is None or batch >= GROUP_LEAST else (1,):
            for real in REAL:
                CpuSequences(own, size, 1, np.dtype(real), 1)
        collector.addresses([wanted for call in _padded(own) for wanted in call.wanted])
    if stepped and forward and not engine.model.rows:
        CpuStreams(own, 1)
    extra = [*_dense(own), *_forms(own, runs, stepped and forward)]
    collector.addresses([wanted for call in extra for wanted in call.wanted])
    return list(collector.wanted)


def _padded(engine: WarmEngine) -> Iterator[Call]:
    """What runs of sequences of several lengths need beside: `Engine.run` goes from tensor to tensor."""
    place, model = np.zeros(3, np.int64), engine.model
    for output in model.outputs:
        for tensor, _, _ in output.parts:
            fmt = model.tensors[tensor]
            kind = np.int32 if any(layer.c_n == tensor for layer in model.recurrent_layers) else np.int16
            if len(fmt.scale) == 1:
                rows = np.zeros((1, fmt.features)), np.zeros((1, fmt.features), kind)
                yield engine.rows_call("dequantize_whole", place, *rows, fmt.scales)
    if any(isinstance(layer, QuantConcat) for layer in model.layers):
        row = np.zeros((1, 1), np.int16)
        yield engine.rows_call("align", place, 0, 0, row, row)


def _dense(engine: WarmEngine) -> Iterator[Call]:
    """Dense layers over many rows."""
    place = np.zeros(3, np.int64)
    for layer in engine.model.layers:
        if isinstance(layer, QuantDense) and layer.name in engine.packed_dense:
            rows, columns = layer.matrix.weight.shape
            x, out = np.zeros((1, columns), np.int16), np.zeros((1, rows), np.int16)
            yield engine.packed_dense[layer.name].call(place, x, out)


def _forms(engine: WarmEngine, runs: bool, stepped: bool) -> Iterator[Call]:
    """Recurrent layers in every form that their weights are read in, alone and by a gang."""
    for layer in engine.model.recurrent_layers:
        for number, d in enumerate(layer.directions):
            forms, place = engine.fused.get((layer.name, number)), np.zeros(3, np.int64)
            data = _data(layer, 1)
            if forms is None:
                if runs and d.projection is None and engine.gangs_work:
                    yield engine.plain_call(layer, number, place, data, 2)
                continue
            for fused in forms.every():
                if runs:
                    yield fused.whole_call(place, *data)
                    if engine.gangs_work and d.projection is None:
                        yield fused.shared_call(place, data, 2, 0)
                if stepped:
                    yield fused.call(place, place, data[0][:, 0], data[2], data[3], data[4][:, 0])


def _data(layer: QuantRecurrent, sequences: int) -> tuple[Any, ...]:
    """x, lengths, h, c, y of one step."""
    return (
        np.zeros((sequences, 1, layer.input_size), np.int16),
        np.ones(sequences, np.int64),
        np.zeros((sequences, layer.output_size), np.int16),
        np.zeros((sequences, layer.cell_size), np.int32),
        np.zeros((sequences, 1, layer.output_size), np.int16),
    )
