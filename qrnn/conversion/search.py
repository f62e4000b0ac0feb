"""Choose the widths of a conversion by what the model that is written will be.

A search (`qrnn.conversion.greedy`) begins with the cheapest widths and spends more where that removes most noise for its cost. Every model is
measured with the ranges that it will really get, those of all calibration data (`qrnn.conversion.noise`); the one that is chosen is run too,
and the search goes on where it has more noise than the oracle told.

Ranges fit the data that they were made of. So what is chosen is tried on each half of the data with ranges from the other half too. Where
scales for each feature do no better there than one scale, they are not taken. Where the model has more noise there than the tolerance allows,
most often because new values lie beyond narrow ranges, the search is made once more, and every choice of widths is measured on both.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from qrnn.accuracy.metrics import decibels
from qrnn.conversion.greedy import Greedy, Point
from qrnn.conversion.noise import ENOUGH_DB, SEEN, STEPS, TOLERANCE_DB, UNSEEN, Margins, Noise
from qrnn.conversion.prices import step_instructions
from qrnn.errors import DataError, QuantizationError
from qrnn.model.batch import Batch, evenly
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.build import Builder
from qrnn.quantization.calibrate import Ranges, calibrate
from qrnn.quantization.choices import Choice, choices
from qrnn.quantization.inputs import source_tensors
from qrnn.quantization.scheme import AUTO, InputScheme, Scheme
from qrnn.quantization.widths import bits_of

_log = logging.getLogger(__name__)

NEAR_BEST_DB = 0.5
"""Where no widths come within the tolerance of the floor, how much worse than the best of them the chosen ones may be.

It is the whole tolerance where 8 bits were asked for and only the sources are left open.
"""

CHECKS = 3
"""How often a search goes on after the model that it chose has run with more noise than is allowed."""

_PER_FEATURE = "-per-feature"


def _floor_bits(scheme: Scheme) -> int:
    """Return the width of weights whose floor is aimed at: with refined roundings of four bits, that of eight."""
    bits = scheme.weights if isinstance(scheme.weights, int) else scheme.matrix_bits
    return max(8, bits) if "rounding" in scheme.methods else bits


@dataclass(frozen=True)
class Search:
    """What a search for widths is about.

    ``real`` is the float model that was given, ``model`` the one that is quantized and ``shown`` the one whose ranges count: all are the same
    unless a refinement method changed weights. ``ranges`` are those of the whole ``batch``.
    """

    real: FloatModel
    model: FloatModel
    shown: FloatModel
    scheme: Scheme
    batch: Batch
    ranges: Ranges
    provenance: Provenance
    progress: Callable[[int, int], object]

    def build(
        self, widths: Mapping[str, str], ranges: Ranges | None = None, reasons: tuple[str, ...] = ()
    ) -> QuantModel:
        """Return the model with ``widths`` beside those that the scheme gives."""
        scheme = with_widths(self.scheme, widths)
        sources: dict[str, InputScheme] = {name: source_width(scheme, name) for name in source_tensors(self.model)}
        provenance = replace(self.provenance, scheme=scheme.to_dict())
        return Builder(self.model, ranges or self.ranges, scheme, sources, list(reasons)).build(provenance)

    def open(self) -> tuple[Choice, ...]:
        """Return what the scheme leaves to the search: the width of each source, and of each hidden operand."""
        given = dict(self.scheme.widths)
        found: dict[str, list[Choice]] = {}
        for choice in choices(self.model):
            if choice.general(self.scheme) == AUTO and choice.key not in given:
                values = tuple(v for v in choice.values if bits_of(v) <= self.scheme.widest_operand)
                found.setdefault(choice.key, []).append(replace(choice, values=values))
        # A key that names both a source and a part of a layer can name neither.
        return tuple(named[0] for named in found.values() if len(named) == 1)

    def choose(self) -> Chosen:
        """Return the widths that are chosen."""
        found = self.open()
        if not found:
            return Chosen({}, ())
        if self.provenance.random_calibration:
            bits = "16" if self.scheme.activations == 16 and self.scheme.widest_operand == 16 else "8"
            text = f"widths: not chosen, since random numbers tell nothing about them; {bits} bits for what is open"
            return Chosen({choice.key: bits for choice in found}, (text,))
        return _Trials(self, found).choose()


class Chosen(NamedTuple):
    """The ``widths`` of all open choices, and ``reasons`` in sentences."""

    widths: dict[str, str]
    reasons: tuple[str, ...]


class _Trials:
    """The trials of one search."""

    def __init__(self, search: Search, found: tuple[Choice, ...]) -> None:
        self.search, self.choices = search, found
        self.bits = _floor_bits(search.scheme)
        """The width of weights whose floor is aimed at. Refined roundings of 4 bits are above the floor of 4 bits, so operands count more."""
        some = evenly(search.batch, STEPS)
        if some.step_count < search.batch.step_count:
            _log.info("widths are judged on %d of %d calibration steps", some.step_count, search.batch.step_count)
        self.noise = self._noise(some)
        self.allowed_unseen: dict[str, float] = {}
        """The noise of each output that is allowed on unseen data, as a share of what `UNSEEN` says; empty while these are not measured."""
        self.unseen_points: dict[tuple[str, ...], Point] = {}
        """What was measured on unseen data, by the values of all choices."""
        self.done, self.expected = 0, 2 + sum(len(choice.values) - 1 for choice in found)
        self.greatest = search.scheme.activations == 16
        """Whether 16 bits were asked for: the best is sought then, whatever it costs."""

    def _noise(self, batch: Batch, margins: Margins = SEEN) -> Noise:
        """Return what measures models on ``batch``, by the floor that is aimed at."""
        refined = "rounding" in self.search.scheme.methods
        widths = {} if refined else dict(self.search.scheme.widths)
        return Noise(self.search.real, batch, self.bits, widths, margins)

    @functools.cached_property
    def _unseen(self) -> tuple[_Unseen, ...]:
        """Return parts of the data as unseen data, each with the ranges of another part."""
        found = []
        for seen, unseen in splits(self.search.batch):
            try:
                found.append(_Unseen(calibrate(self.search.shown, seen), self._noise(unseen, UNSEEN)))
            except DataError:  # a part may be too short for the model, where the whole is not
                continue
        return tuple(found)

    def choose(self) -> Chosen:
        banned: dict[str, set[str]] = {choice.key: set() for choice in self.choices}
        reasons: list[str] = []
        measured: dict[tuple[str, ...], Point] = {}
        while True:
            values = {c.key: tuple(v for v in self._values(c) if v not in banned[c.key]) for c in self.choices}
            greedy, start = Greedy(values, self._measure, self._price, measured=measured), self._start(values)
            widths, outcome = self._found(greedy, start)
            overfitted = self._overfitted(widths)
            if not overfitted:
                if self.allowed_unseen or self.greatest or (noise := self._on_unseen(widths).worst) <= 1.0:
                    break
                reasons.append(
                    f"widths: chosen by unseen data too, since with ranges from one half of the calibration data the other half had noise of "
                    f"{_over(noise)} against what is allowed"
                )
                self.allowed_unseen = self._least_unseen(values)
                measured.clear()
            for key, than in overfitted.items():
                banned[key].add(widths[key])
                reasons.append(
                    f"{key}: {widths[key]} rejected, since scales made from one half of the calibration data do no better on the other "
                    f"half than the width {than}"
                )
        return Chosen(widths, (*reasons, *self._gains(greedy, start, widths), outcome))

    def _values(self, choice: Choice) -> tuple[str, ...]:
        """Return the values of a choice in the order in which they are tried."""
        if self.greatest and "16" in choice.values:
            return ("16", *(value for value in choice.values if value != "16"))
        return choice.values

    def _measure(self, widths: Mapping[str, str]) -> Point:
        """Measure one choice of widths; one that the model cannot have is infinitely noisy."""
        try:
            quantized = self.search.build(widths)
        except QuantizationError:
            return Point(dict.fromkeys(self.noise.allowed, np.inf), np.inf)
        found = self.noise.in_oracle(quantized, self.search.model)
        found |= self._shares_unseen(widths)
        self.done += 1
        self.search.progress(min(self.done, self.expected), self.expected)
        return Point(found, step_instructions(quantized))

    def _price(self, widths: Mapping[str, str]) -> float:
        """Return the cost of one choice of widths; that of one that the model cannot have is infinite."""
        try:
            return step_instructions(self.search.build(widths))
        except QuantizationError:
            return np.inf

    def _start(self, values: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
        """Return the first values, or, where the model cannot have them, the next ones; QuantizationError where it can have none of these."""
        first: QuantizationError | None = None
        for place in range(max(map(len, values.values()))):
            widths = {key: own[min(place, len(own) - 1)] for key, own in values.items()}
            try:
                self.search.build(widths)
            except QuantizationError as error:
                first = first or error
            else:
                return widths
        assert first is not None
        raise first

    def _found(self, greedy: Greedy, start: dict[str, str]) -> tuple[dict[str, str], str]:
        """Return the widths of one search that begins with ``start``, and in words how near they come.

        The model that they make is run, and where it has more noise than the oracle told, the search aims lower by as much. Wider operands
        than the narrowest are kept only where they are better as they run.
        """
        if not self.noise.allowed:
            return start, "widths: the cheapest, since every output is zero on the calibration data"
        if self.greatest:
            greedy.allowed = 0.0
            return greedy.spend(start), "widths: the best for sources, since 16 bits are asked for"
        near = ""
        for _ in range(CHECKS):
            widths = greedy.spend(start)
            if not greedy.met(widths):
                tolerance = NEAR_BEST_DB if self.search.scheme.activations == AUTO else TOLERANCE_DB
                greedy.allowed = greedy.point(widths).worst * 10.0 ** (tolerance / 10)
                near = f"no widths come so near; these come within {tolerance:g} dB of the best"
                widths = greedy.exchange(greedy.take_back(widths))
                break
            widths = greedy.exchange(greedy.take_back(widths))
            run = self._run(widths)
            if run.worst <= 1.0:
                near = "the floor's tolerance is met"
                break
            greedy.allowed *= greedy.point(widths).worst / run.worst
            near = f"the model as it runs has {10 * np.log10(run.worst):.1f} dB more noise than was aimed at"
        if widths != start and self._run(start).worst <= self._run(widths).worst:
            widths, near = start, "no wider ones are better"
        return widths, (
            f"widths: as cheap as they can be within {TOLERANCE_DB:g} dB of the floor of {self.bits}-bit weights, or with "
            f"{ENOUGH_DB:g} dB; {near}"
        )

    def _run(self, widths: Mapping[str, str]) -> Point:
        """Return the noise of the model as it runs, and what is measured on unseen data."""
        return Point(self.noise.as_run(self.search.build(widths)) | self._shares_unseen(widths), 0.0)

    def _gains(self, greedy: Greedy, start: Mapping[str, str], widths: Mapping[str, str]) -> list[str]:
        """Return one sentence for each choice that is not that of ``start``."""
        before, found = greedy.point(start).worst, []
        sources = source_tensors(self.search.model)
        for key, value in widths.items():
            what = f"{key}: {'input scheme ' if key in sources else ''}{value} chosen"
            if value != start[key]:
                after = greedy.point({**start, key: value}).worst
                gain = 100 * (1.0 - after / before) if before else 0.0
                beside = f"{start[key]}: {_over(before)}, {value}: {_over(after)}"
                found.append(f"{what}; alone it removes {gain:.0f} % of the noise (against what is allowed, {beside})")
            elif self.search.scheme.activations != AUTO or key in sources:
                found.append(f"{what} (noise against what is allowed, {value}: {_over(before)})")
        return found

    def _overfitted(self, widths: Mapping[str, str]) -> dict[str, str]:
        """Return which choices have scales for each feature that do no better on data that they were not made from, and than what."""
        fine = {c.key: c.values for c in self.choices if widths[c.key].endswith(_PER_FEATURE)}
        found: dict[str, str] = {}
        if not fine or not self._unseen:
            return found
        for key, values in fine.items():
            for value in (v for v in values if not v.endswith(_PER_FEATURE) and bits_of(v) <= bits_of(widths[key])):
                if self._on_unseen(widths).worst >= self._on_unseen({**widths, key: value}).worst:
                    found[key] = value
        return found

    def _least_unseen(self, values: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        """Return what is allowed on unseen data: 1, or `NEAR_BEST_DB` more noise than the widest of ``values`` have there, if that is more."""

        def widest(last: bool) -> dict[str, str]:
            found = {}
            for key, own in values.items():
                most = max(map(bits_of, own))
                found[key] = [value for value in own if bits_of(value) == most][-1 if last else 0]
            return found

        first, last = (self._on_unseen(widest(which)).noise for which in (False, True))
        near = 10.0 ** (NEAR_BEST_DB / 10)
        return {name: max(1.0, near * min(first[name], last[name])) for name in first}

    def _shares_unseen(self, widths: Mapping[str, str]) -> dict[str, float]:
        """Return the noise of each output on unseen data as a share of what is allowed there; nothing while it is not measured."""
        if not self.allowed_unseen:
            return {}
        noise = self._on_unseen(widths).noise
        return {f"{name}, unseen": noise[name] / allowed for name, allowed in self.allowed_unseen.items()}

    def _on_unseen(self, widths: Mapping[str, str]) -> Point:
        """Return the mean noise on parts of the data, with ranges from other parts."""
        key = tuple(widths[choice.key] for choice in self.choices)
        if key in self.unseen_points:
            return self.unseen_points[key]
        found: dict[str, float] = {}
        for ranges, noise in self._unseen:
            try:
                shares = noise.in_oracle(self.search.build(widths, ranges), self.search.model)
            except QuantizationError:
                shares = dict.fromkeys(noise.allowed, np.inf)
            for name, share in shares.items():
                found[name] = found.get(name, 0.0) + share / len(self._unseen)
        self.unseen_points[key] = Point(found, 0.0)
        return self.unseen_points[key]


class _Unseen(NamedTuple):
    """What measures ``noise`` on a part of the calibration data, and the ``ranges`` of another part."""

    ranges: Ranges
    noise: Noise


def _over(noise: float) -> str:
    """Return a noise, as a share of what is allowed, in decibels."""
    return f"{decibels(max(noise, 1e-30), 1.0):+.1f} dB"


def with_widths(scheme: Scheme, widths: Mapping[str, str]) -> Scheme:
    """Return ``scheme`` with ``widths`` beside its own."""
    return replace(scheme, widths=tuple({**widths, **dict(scheme.widths)}.items()))


def source_width(scheme: Scheme, name: str) -> InputScheme:
    """Return the width of a source by a scheme that leaves none open."""
    general = "8" if scheme.input == AUTO else scheme.input
    return dict(scheme.widths).get(name, general)  # type: ignore[return-value]  # checked by Scheme and `check_widths`


def splits(batch: Batch) -> list[tuple[Batch, Batch]]:
    """Return pairs of data to make ranges of and others to measure on: every other sequence and the rest, both ways round.

    About half of `STEPS` steps of each part are measured on. A single sequence gives its first half, and the whole.
    """
    (some,) = np.nonzero(batch.lengths)
    if len(some) > 1:
        even, odd = batch.take(some[::2]), batch.take(some[1::2])
        return [(even, evenly(odd, STEPS // 2)), (odd, evenly(even, STEPS // 2))]
    return [(replace(batch, lengths=np.maximum(batch.lengths // 2, 1)), evenly(batch, STEPS))]
