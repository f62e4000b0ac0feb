"""The part of the calibration data that refinement does not see, which decides layer by layer what is kept.

What a method fits to calibration data can be worse on any other data: few steps, or steps that are much alike, show less than a layer has
numbers to choose. So a part of the data is held out. A layer is refined on the rest, and kept where the outputs on the held-out part come
no further from the reference than without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel, GraphOutput
from qrnn.model.parts import FloatArray
from qrnn.model.quant_graph import Provenance
from qrnn.quantization.build import Builder
from qrnn.quantization.calibrate import calibrate
from qrnn.quantization.inputs import source_tensors
from qrnn.quantization.scheme import InputScheme, Scheme
from qrnn.running.session import Session

CHUNK = 64
"""The number of sequences that run at a time."""

_GOLDEN = 2654435769
"""2^32 over the golden ratio: its multiples modulo 2^32 are spread evenly, and do not follow an order by classes as every fourth would."""


@dataclass(frozen=True)
class Parts:
    """Calibration data in two parts.

    ``fitted`` is what methods see. ``judged`` is held out but for its first ``seen`` steps, which one sequence that is cut in two needs
    for its states.
    """

    fitted: Batch
    judged: Batch
    seen: int = 0


def split(batch: Batch) -> Parts | None:
    """Return about a fourth of the sequences as held out, or the last fourth of a single one; None where there is one step alone."""
    batch = batch.take(np.flatnonzero(batch.lengths))
    if batch.size > 1:
        held = np.arange(batch.size, dtype=np.int64) * _GOLDEN % (1 << 32) < 1 << 30
        return Parts(batch.take(np.flatnonzero(~held)), batch.take(np.flatnonzero(held)))
    steps = int(batch.lengths.max(initial=0))
    seen = steps * 3 // 4
    if seen == 0 or batch.others:
        return None
    first = replace(batch, lengths=np.minimum(batch.lengths, seen)).take(np.arange(1))
    return Parts(first, batch, seen)


def noise(
    run: Callable[[Batch], Mapping[str, Any]],
    outputs: tuple[GraphOutput, ...],
    batch: Batch,
    want: Mapping[str, FloatArray],
    seen: int = 0,
) -> float:
    """Return noise over signal, summed over the outputs; the first ``seen`` steps of outputs at the rate of the input do not count."""
    found, signal = dict.fromkeys(want, 0.0), dict.fromkeys(want, 1e-30)
    start = 0
    for _, stop, piece in batch.chunks(CHUNK):
        got = run(piece)
        for output in outputs:
            wanted, given = want[output.name][start:stop], got[output.name]
            if output.has_time:
                wanted = wanted[:, : given.shape[1]]
                from_step = seen if given.shape[1] == piece.steps else 0
                wanted, given = wanted[:, from_step:], given[:, from_step:]
            found[output.name] += float(((wanted - given) ** 2).sum())
            signal[output.name] += float((wanted**2).sum())
        start = stop
    return sum(found[name] / signal[name] for name in want)


class Judge:
    """Measure how far float models are from ``reference`` once they are quantized, with inputs of 16 bits, by the data of ``parts``."""

    def __init__(self, reference: FloatModel, parts: Parts, scheme: Scheme) -> None:
        self.parts, self.scheme = parts, scheme
        self.want = run_oracle_batch(reference, parts.judged).outputs

    def __call__(self, model: FloatModel, shown: FloatModel | None = None) -> float:
        """Return the `noise` of ``model``; ``shown`` is what the oracle runs for its ranges, ``model`` when left out."""
        sources: dict[str, InputScheme] = dict.fromkeys(source_tensors(model), "16")
        ranges = calibrate(model if shown is None else shown, self.parts.fitted)
        nowhere = Provenance("", 0, "", 0, 0, self.scheme.calibrator, False, "", {})
        session = Session(Builder(model, ranges, self.scheme, sources, []).build(nowhere))
        return noise(
            lambda piece: session.run_batch(piece)[0].outputs,
            model.outputs,
            self.parts.judged,
            self.want,
            self.parts.seen,
        )
