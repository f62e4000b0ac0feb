"""Which kernels a model's calls need: they are laid out as they would be made, and none is made."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import numpy as np

from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.defined import choice_call
from qrnn.backends.cpu.layer_calls import whole_output
from qrnn.backends.cpu.layer_run import LayerRunner
from qrnn.backends.cpu.matrix import GROUP_LEAST
from qrnn.backends.cpu.native import Collector
from qrnn.backends.cpu.sequences import CpuSequences
from qrnn.backends.cpu.streams import CpuStreams
from qrnn.backends.cpu.threads.team import ListsCall, most_workers
from qrnn.backends.cpu.wanted import Wanted
from qrnn.model.choosing import ChoiceNumbers, choice_loop

REAL = (np.float32, np.float64)
"""Types of real values, as a user may give and get them."""


def wanted_by(
    engine: LayerRunner, batch: int | None = None, steps: int | None = None, streams: int | None = None
) -> list[Wanted]:
    """Return the kernels for runs of so many sequences of so many steps, padded or not, and for so many streams.

    None stands for any number. Where all three are None, kernels for everything are returned. With only ``streams``, nothing is compiled for
    runs, and with only the others nothing for streams. What is not a matter of these numbers is always there, such as both types of real
    values.
    """
    collector, own = Collector(), copy(engine)
    own.code = collector
    runs = streams is None or batch is not None or steps is not None
    stepped = streams is not None or not runs or (batch is None and steps is None)
    forward = not any(layer.whole_sequences for layer in engine.model.layers)
    if runs:
        for size in (1, GROUP_LEAST) if batch is None or batch >= GROUP_LEAST else (1,):
            for real in REAL:
                CpuSequences(own, size, 1, np.dtype(real), np.dtype(real), 1)
        collector.addresses([wanted for call in _padded(own) for wanted in call.wanted])
    if stepped and forward and not engine.model.rows:
        for real in REAL:
            CpuStreams(own, 1, real)
        # Such an input may be fed the tokens that are drawn.
        if any(i.kind == "tokens" and i.has_time for i in engine.model.inputs):
            collector.addresses(choice_call(choice_loop(ChoiceNumbers(1), False), engine.tasks).wanted)
    if most_workers(engine.tasks.tuning) > 1:
        collector.addresses(ListsCall(np.zeros(3, np.int64), (), 1, engine.tasks.tuning).wanted)
    extra = [call for run in engine.layer_runs.values() for call in run.ahead(runs, stepped and forward)]
    collector.addresses([wanted for call in extra for wanted in call.wanted])
    return list(collector.wanted)


def _padded(engine: LayerRunner) -> Iterator[Call]:
    """Yield what runs of sequences of several lengths need beside: `Engine.run` goes from tensor to tensor."""
    place, model = np.zeros(3, np.int64), engine.model
    cells = {tensor for layer in model.layers for tensor in layer.cells}
    for output in model.outputs:
        for tensor, _, _ in output.parts:
            fmt = model.tensors[tensor]
            kind = np.int32 if tensor in cells else np.int16
            if len(fmt.scales_and_offsets[0]) == 1:
                for real in REAL:
                    rows = np.zeros((1, fmt.features), real), np.zeros((1, fmt.features), kind)
                    yield whole_output(engine.tasks, place, fmt, *rows)
