"""The outcome of one way to run a model on a case's test data: SQNR against the float64 oracle, and correct labelled decisions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import qrnn
from qrnn.accuracy.metrics import sqnr_db, wilson_interval
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import Batch, make_batch
from qrnn.model.given_lengths import RESERVED
from qrnn.model.parts import FloatArray

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The accuracy of one way to run a model.

    ``db`` is its SQNR. Of ``total`` labelled decisions (0: no labels) ``right`` are correct in the float64 oracle and here; ``lost`` are
    correct only in the oracle and ``won`` only here.
    """

    db: float
    float_right: int
    right: int
    lost: int
    won: int
    total: int

    @property
    def points(self) -> float:
        """Accuracy lost, in percentage points."""
        return 100 * (self.lost - self.won) / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of `points`.

        Both decide the same items, so that (lost - won) / total varies. Half a pair more is counted of each of the four kinds, so that no
        difference in a small set is no certainty (Agresti, Min: "Simple improved confidence intervals for comparing matched proportions",
        Statistics in Medicine 24, 2005).
        """
        n, lost, won = self.total + 2, self.lost + 0.5, self.won + 0.5
        centre, spread = (lost - won) / n, 1.959964 * math.sqrt(lost + won - (lost - won) ** 2 / n) / n
        return 100 * (centre - spread), 100 * (centre + spread)

    def cell(self) -> str:
        """Return the text of a table's cell."""
        if not self.total:
            return f"{self.db:.1f}"
        low, high = self.interval
        return f"{self.db:.1f}; {self.points:+.2f} ({low:+.1f} … {high:+.1f})"

    def accuracy(self) -> str:
        """Return the accuracy with its own interval."""
        low, high = wilson_interval(self.right, self.total)
        return f"{100 * self.right / self.total:.2f} % ({100 * low:.1f} – {100 * high:.1f})"


@dataclass(frozen=True)
class Truth:
    """A case's test data and the float64 oracle's results on it, computed once for all ways to run it."""

    model: qrnn.FloatModel
    path: Path
    test: Arrays
    output: str

    @cached_property
    def batch(self) -> Batch:
        """The test data as a batch."""
        return make_batch(self.model.inputs, self.test)

    @cached_property
    def want(self) -> FloatArray:
        """The oracle's values of the judged output."""
        pieces = [run_oracle_batch(self.model, piece).outputs[self.output] for _, _, piece in self.batch.chunks(500)]
        if pieces[0].ndim == 3:  # pieces end with their own longest sequence
            pieces = [np.pad(p, ((0, 0), (0, self.batch.steps - p.shape[1]), (0, 0))) for p in pieces]
        return np.concatenate(pieces)

    def of(self, got: FloatArray) -> Outcome:
        """Return the outcome of outputs in the oracle's form."""
        want, labels = self.want, self.test.get("labels")
        db = sqnr_db(want, got)
        if labels is None:
            return Outcome(db, 0, 0, 0, 0, 0)
        if want.ndim == 3:
            ends = np.arange(len(labels)), self.batch.lengths - 1
            want, got = want[ends], got[ends]
        a, b = (v.reshape(len(v), -1).argmax(axis=1) == labels for v in (want, got))
        return Outcome(db, int(a.sum()), int(b.sum()), int((a & ~b).sum()), int((b & ~a).sum()), len(labels))

    def quantized(self, model: qrnn.QuantModel) -> Outcome:
        """Return the outcome of a quantized model."""
        inputs = {name: value for name, value in self.test.items() if name not in RESERVED}
        return self.of(qrnn.Session(model).run(inputs, self.test.get("lengths"), real="float64").outputs[self.output])
