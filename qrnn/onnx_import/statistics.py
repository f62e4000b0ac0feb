"""What features are of other features that were reduced: means, means of squares, and roots of these.

A layer that reduces features, of a step or over time, leaves a `Statistic`: of which features its output holds the mean, or the mean of the
squares, or a root of that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qrnn.model.parts import IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.expressions import Term, term_of
from qrnn.onnx_import.values import Features, Tensor


@dataclass(frozen=True, eq=False)
class Statistic:
    """What the features of a tensor, or those at some places of it, are of the groups ``rows`` [K, R] of features.

    The mean of a group, or factor · (variance + epsilon), or with ``root`` factor · sqrt(variance + epsilon); of the mean of the squares
    where it is not ``centred``. ``which`` [n] has the group of each feature.
    """

    rows: IndexArray
    which: IndexArray
    over_time: bool
    mean: bool = False
    centred: bool = False
    root: bool = False
    sample: bool = False
    factor: float = 1.0
    epsilon: float = 0.0
    digest: bytes = b""
    direct: Statistic | None = None
    """The statistic of the means themselves, where this one is a mean of means; a graph may take it as either."""

    @property
    def variants(self) -> tuple[Statistic, ...]:
        """Return the statistic, and what it is of the means that it is of."""
        return (self,) if self.direct is None else (self, self.direct)

    def at(self, which: IndexArray) -> Statistic:
        """Return the statistic of features that have these groups."""
        return replace(self, which=which, direct=None if self.direct is None else replace(self.direct, which=which))

    @property
    def key(self) -> tuple[bool, bytes, bytes]:
        """Return what statistics of the same groups have in common."""
        return self.over_time, self.digest, self.which.tobytes()


def sources(build: Builder, flat: IndexArray) -> IndexArray:
    """Return ids as layers read them, and where Concat layers gather them from."""
    moment = {part.tensor.kind for part in build.book.parts(flat)} == {"moment"}
    return flat if moment else build.sources(flat)


def resolved(build: Builder, flat: IndexArray) -> Term:
    """Return what is known of features, also behind a repetition over time and behind a Concat."""
    for _ in range(4):
        term = term_of(build, Features(flat, (None,)))
        if term.op or known(build, flat) is not None:
            return term
        parts = build.book.parts(flat)
        vector: Tensor | None = build.vectors.get(parts[0].tensor.start) if len(parts) == 1 else None
        behind = build.sources(flat) if vector is None else parts[0].indices + vector.start
        if np.array_equal(behind, flat):
            return term
        flat = behind
    return Term(flat)


def known(build: Builder, flat: IndexArray | None) -> Statistic | None:
    """Return the statistic that features are; None where they are none, or several tensors."""
    parts = build.book.parts(flat) if build.statistics and flat is not None else []
    found: Statistic | None = build.statistics.get(parts[0].tensor.start) if len(parts) == 1 else None
    return None if found is None else found.at(found.which[parts[0].indices])


def bases(build: Builder, term: Term) -> IndexArray:
    """Return the features of which a term has statistics, sorted."""
    found = []
    waiting, looked = [term], 0
    while waiting and looked < 200:
        part, looked = waiting.pop(), looked + 1
        waiting += part.args
        if part.ids is not None:
            behind = part if part.op else resolved(build, part.ids)
            if behind is not part:
                waiting += behind.args
            if behind.ids is not None and (own := known(build, behind.ids)) is not None:
                found += [variant.rows.reshape(-1) for variant in own.variants]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
