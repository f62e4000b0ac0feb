"""What a conversion came to: the written model's SQNR beside the floor of its weights' width, and what costs the difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qrnn.accuracy.explain import judged_output
from qrnn.accuracy.parts import Integers, model_parts
from qrnn.accuracy.probe import output_error
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import Batch, evenly, make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.layer_facts import Part
from qrnn.model.parts import FloatArray
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.fine_weights import as_written
from qrnn.quantization.floor import floor_of
from qrnn.quantization.methods import parse_refine
from qrnn.running.session import Session

STEPS = 2048
"""About how many steps are run; sequences are taken evenly from all."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "operands": ("x operand", "h operand"),
    "gate functions": ("gate function", "function"),
    "states": ("h state", "c state"),
    "tensors": ("output",),
    "biases and other constants": ("biases", "peepholes", "norm"),
}
"""What the integers beside the weights are, in words, and the kinds of parts (`qrnn.model.layer_facts.Part`) that each is of."""


@dataclass(frozen=True)
class Verdict:
    """Figures of one graph output, in dB about the mean.

    ``shares``: what each group of integers costs alone, as a share of the noise of all of them, the largest first; empty where the float
    model was changed before it was quantized, so that its parts have no counterparts, and where they were not asked for.
    """

    output: str
    bits: int
    floor_db: float
    model_db: float
    shares: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        """Return one line for a terminal."""
        text = f"{self.output}: SQNR {self.model_db:.1f} dB; floor of {self.bits}-bit weights {self.floor_db:.1f} dB"
        if self.shares and self.floor_db > self.model_db + 0.1:
            named = ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.shares[:2])
            text += f"; beside the weights, the noise is of {named}"
        return text


def judge(real: FloatModel, model: QuantModel, data: Mapping[str, Any], shares: bool = True) -> Verdict:
    """Return the verdict on a quantized model and the float model that it was made of, on ``data`` as for `qrnn.compare`.

    Without ``shares`` they are left out, which takes a quarter of the time.
    """
    batch = evenly(make_batch(real.inputs, data), STEPS)
    output = judged_output(model)
    bits = int(model.provenance.scheme.get("weights", 8))
    want = run_oracle_batch(real, batch).outputs[output]

    def db(got: FloatArray) -> float:
        return output_error(real, batch, output, want, got).about_mean_db

    floor = run_oracle_batch(floor_of(real, model.provenance.scheme, batch), batch).outputs[output]
    got = Session(model).run_batch(batch)[0].outputs[output]
    costs = _shares(real, model, batch, output, want) if shares else ()
    return Verdict(output, bits, db(floor), db(got), costs)


def _shares(
    real: FloatModel, model: QuantModel, batch: Batch, output: str, want: FloatArray
) -> tuple[tuple[str, float], ...]:
    """Return the noise energy of each group of parts alone, as a share of the sum of all groups' energies."""
    if {"equalize", "channels", "gates"} & set(parse_refine(str(model.provenance.scheme.get("refine", "none")))):
        return ()
    real = as_written(real, model.provenance.scheme)
    parts, energies = model_parts(model), {}
    for name, kinds in GROUPS.items():
        chosen: list[Part] = [part for part in parts if part.kind in kinds]
        if chosen:
            integers = Integers(model, chosen)
            alone = run_oracle_batch(integers.weights(real), batch, substitutes=integers).outputs[output]
            energies[name] = float(((want - alone) ** 2).sum())
    total = sum(energies.values())
    found = [(name, energy / total) for name, energy in energies.items()] if total else []
    return tuple(sorted(found, key=lambda item: -item[1]))
