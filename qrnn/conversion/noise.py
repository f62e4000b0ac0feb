"""The noise of a quantized model on calibration data, and how much of it a conversion allows.

Most models are measured in the float64 oracle with all of their integers in the place of real numbers (`qrnn.accuracy.parts`), which leaves
out only the rounding of partial sums and compiles nothing. What is written is run as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from qrnn.accuracy.parts import Integers, model_parts
from qrnn.accuracy.probe import output_error
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import Batch
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.parts import FloatArray
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.floor import floor_model

STEPS = 2048
"""About how many calibration steps a conversion is judged on; sequences are taken evenly from all (`qrnn.model.batch.evenly`)."""

TOLERANCE_DB = 1.5
"""How far below the floor of its weights a model may lie: the one tolerance of a conversion."""

ENOUGH_DB = 45.0
"""The SQNR about the mean that is good enough, however high the floor is."""


class Margins(NamedTuple):
    """How much nearer to its ``floor``, and by how much further above `ENOUGH_DB`, a model is made than it must be, in dB."""

    floor: float
    enough: float


SEEN = Margins(1.0, 2.0)
"""The margins on the data that ranges are made of, since other data differ. Operands are the larger part of the noise at `ENOUGH_DB`."""

UNSEEN = Margins(0.5, 0.0)
"""The margins on data beside those that ranges are made of."""


class Noise:
    """Measures models of ``real`` on ``batch``: the noise energy of each output, as a share of what is allowed there.

    Outputs that carry states count only where nothing else comes out. What is allowed lies `TOLERANCE_DB` below the floor of weights of
    ``bits`` bits, or those of ``widths``, or is what leaves `ENOUGH_DB`, whichever is more. ``margins`` says by how much each is stricter.
    """

    def __init__(
        self, real: FloatModel, batch: Batch, bits: int, widths: Mapping[str, str], margins: Margins = SEEN
    ) -> None:
        self.real, self.batch = real, batch
        self.want = run_oracle_batch(real, batch).outputs
        floor = run_oracle_batch(floor_model(real, batch, bits, widths), batch).outputs
        self.allowed = {}
        for name in judged_outputs(real):
            if not self.want[name].size:
                continue
            error = output_error(real, batch, name, self.want[name], floor[name])
            if error.signal > 0.0:  # of an output that is zero throughout, nothing can be told
                enough = error.varying * 10.0 ** (-(ENOUGH_DB + margins.enough) / 10)
                self.allowed[name] = max(error.noise * 10.0 ** ((TOLERANCE_DB - margins.floor) / 10), enough)

    def in_oracle(self, quantized: QuantModel, model: FloatModel) -> dict[str, float]:
        """Return the noise of ``quantized``, which was made of ``model``, by the oracle with integers for all parts."""
        integers = Integers(quantized, model_parts(quantized))
        return self._shares(run_oracle_batch(integers.weights(model), self.batch, substitutes=integers).outputs)

    def as_run(self, quantized: QuantModel) -> dict[str, float]:
        """Return the noise of ``quantized`` as it runs."""
        from qrnn.running.session import (
            Session,  # pulls in the compiler, which conversions that search nothing do not need
        )

        return self._shares(Session(quantized).run_batch(self.batch)[0].outputs)

    def _shares(self, got: Mapping[str, FloatArray]) -> dict[str, float]:
        return {
            name: output_error(self.real, self.batch, name, self.want[name], got[name]).noise / allowed
            for name, allowed in self.allowed.items()
        }


def judged_outputs(model: FloatModel) -> tuple[str, ...]:
    """Return the graph outputs that carry no state, or all where there is no other."""
    states = {name for layer in model.layers if isinstance(layer, Recurrent) for name in (layer.h_n, layer.c_n)}
    results = tuple(o.name for o in model.outputs if not any(tensor in states for tensor, _, _ in o.parts))
    return results or tuple(o.name for o in model.outputs)
