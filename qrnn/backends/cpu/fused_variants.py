"""Which variant of a direction's fused steps a run takes: with weights as bytes, as four bits, or by lists, where these take less time."""

from __future__ import annotations

import os
from functools import partial

from qrnn.backends.cpu.block_lists import LISTED, list_limit, listed_share
from qrnn.backends.cpu.isa import Isa
from qrnn.backends.cpu.matrix import AHEAD, GROUP_LEAST, VECTORS
from qrnn.backends.cpu.native import DEFAULT, Code
from qrnn.backends.cpu.packed import FusedRun
from qrnn.backends.cpu.tuning import Tuning
from qrnn.model.kinds.recurrent.quantized import QuantDirection, QuantRecurrentDefinition
from qrnn.model.parts import QuantMatrix4


def cache_bytes(tuning: Tuning) -> int:
    """Return the size of the second-level cache."""
    if tuning.cache_bytes is not None:
        return tuning.cache_bytes
    try:
        return max(os.sysconf("SC_LEVEL2_CACHE_SIZE"), tuning.least_cache_bytes)
    except (AttributeError, OSError, ValueError):
        return tuning.unknown_cache_bytes


class FusedVariants:
    """A direction's `FusedRun`, in as many variants as its weights are read in; each is packed when first needed.

    Four-bit weights are read as they are by sequences that run alone, where their bytes are what takes the time: they outgrow the cache and
    are read anew at every step. A group of sequences shares each read of them, and multiplies by instructions or tiles that want bytes; a
    long sequence so reads the weights of its inputs.

    Matrices most of whose tiles are zero are read by lists of the others (`qrnn.backends.cpu.block_lists`).
    """

    def __init__(
        self,
        isa: Isa,
        layer: QuantRecurrentDefinition,
        d: QuantDirection,
        model_bytes: int,
        code: Code = DEFAULT,
        tuning: Tuning | None = None,
    ) -> None:
        self.direction, self._tuning = d, tuning or Tuning()
        self._make = lambda bits: FusedRun(isa, layer, d, bits, code, self._tuning)
        self._four = isinstance(d.ih, QuantMatrix4), isinstance(d.hh, QuantMatrix4)
        self._hh_bytes, self._model_bytes = d.matrix_hh.weight.size, model_bytes
        share = self._tuning.byte_cache_share if isa.operand_bits == 8 else self._tuning.word_cache_share
        self._cached = int(share * cache_bytes(self._tuning))
        self._limit = partial(list_limit, isa, self._tuning)
        gates = len(layer.gates)
        self._shares = listed_share(isa, d.ih.weight, gates), listed_share(isa, d.matrix_hh.weight, gates)
        self._runs: dict[tuple[int, int], FusedRun] = {}
        if not any(self._four) and min(self._shares) > self._limit(1):
            self.choose(0, 0, 1)

    def every(self) -> list[FusedRun]:
        """Return all variants, of which `choose` takes one, on this machine or on another with other caches."""
        few, long = (4 if self._four[0] else 8), (4 if self._four[1] else 8)
        stored = {(8, 8), (few, long), (8, long)}
        return [
            self._of(bits)
            for bits in sorted(
                {self._listed(b, *v) for b in stored for v in ((1, 1), (VECTORS, 1), (VECTORS, VECTORS))}
            )
        ]

    def choose(self, sequences: int, steps: int, threads: int) -> FusedRun:
        """Return the form for a run of so many sequences of up to so many steps, a sequence shared by ``threads``."""
        vectors = sequences if sequences >= GROUP_LEAST else 1
        return self._of(self._listed(self._bits(sequences, steps, threads), max(vectors, min(steps, AHEAD)), vectors))

    def _listed(self, bits: tuple[int, int], *vectors: int) -> tuple[int, int]:
        """Return ``bits`` of ih and hh, or `LISTED` where lists of tiles take less time with so many vectors at a time.

        Weights that would be read as four bits are half as many bytes, so lists have to be half as long.
        """
        ih, hh = (
            LISTED if share <= self._limit(count) * of / 8 else of
            for of, count, share in zip(bits, vectors, self._shares, strict=True)
        )
        return ih, hh

    def _of(self, bits: tuple[int, int]) -> FusedRun:
        if bits not in self._runs:  # Two threads may both make it, since either serves.
            self._runs[bits] = self._make(bits)
        return self._runs[bits]

    def _bits(self, sequences: int, steps: int, threads: int) -> tuple[int, int]:
        few = steps < self._tuning.few_steps
        # Single steps go through the whole model between two reads of a weight.
        size = self._model_bytes if few else self._hh_bytes
        if sequences >= GROUP_LEAST or size <= self._cached * threads:
            return 8, 8
        return (4 if few and self._four[0] else 8), (4 if self._four[1] else 8)
