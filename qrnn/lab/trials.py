"""The trials of a search: a configuration's accuracy is measured, and its cost is estimated until it is built."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qrnn.accuracy.compare import compare
from qrnn.errors import QuantizationError, UnsupportedError
from qrnn.lab.axes import choices, label
from qrnn.lab.budgets import ORDER, Bound, Cheapest
from qrnn.lab.cost_estimates import CostEstimates
from qrnn.lab.evaluate import Record, Setting, accuracy_figures, cost_figures, device_needs, made
from qrnn.lab.kept_trials import KeptTrials
from qrnn.lab.latency import latency_batch, measure_latency
from qrnn.lab.moves import Space
from qrnn.lab.training import epochs_of
from qrnn.lab.trial import Trial
from qrnn.model.file import save
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme

_log = logging.getLogger(__name__)


@dataclass
class Trials:
    """Measures configurations of ``setting`` at most once each, and orders them by ``bounds`` and then by the cost ``cheapest``.

    All trainings together take at most as long as the setting's plan allows; configurations that would be trained after that are left out.
    """

    setting: Setting
    bounds: list[Bound]
    cheapest: Cheapest
    space: Space
    kept: KeptTrials | None = None
    tried: dict[Scheme, Trial | None] = field(default_factory=dict)
    trained_seconds: float = 0.0
    costs: CostEstimates = field(init=False)

    def __post_init__(self) -> None:
        self.costs = CostEstimates(self.setting.model, self.space)

    def trial(self, scheme: Scheme) -> Trial | None:
        """Measure a configuration's accuracy and estimate its cost; return None for a configuration that this model cannot have."""
        if scheme not in self.tried:
            found = None if self.kept is None else self.kept.read(scheme)
            found = self._measure(scheme) if found is None else self._complete(found)
            if found is not None and self.kept is not None and not found.earlier:
                self.kept.write(found)
            self.tried[scheme] = found
            if found is not None:
                _log.debug("tried %s%s: %s", label(scheme), " before" if found.earlier else "", found.figures)
        return self.tried[scheme]

    def count(self, trial: Trial) -> Trial:
        """Build and run a trial for the target, where that can be done here, and replace the estimates of its cost."""
        if not trial.counted:
            if not trial.built:
                trial.built_needs, _ = device_needs(self.setting, trial.quantized)
                trial.built = True
                if self.kept is not None:
                    self.kept.write(trial, model=False)
            needs = trial.needs = trial.built_needs
            trial.figures |= cost_figures(needs)
            trial.counted = needs is not None and needs.counted
            if needs is not None:
                self.costs.add(trial.scheme, needs)
        return trial

    def learn(self, trial: Trial) -> None:
        """Count a trial whose features no counted one has, where the first trial could be counted."""
        if any(one.needs.counted for one in self.costs.built) and not self.costs.known(trial.scheme):
            self.count(trial)

    def estimate_all(self) -> None:
        """Estimate again every cost that is not counted, by what was learnt."""
        for trial in self.tried.values():
            if trial is not None:
                self._estimate(trial)

    def score(self, trial: Trial) -> tuple[float, ...]:
        """Return a key by which trials are sorted, less is better: shortfalls of all budgets, then the costs in their order, then the noise."""
        short = sum(min(bound.shortfall(trial.figures) / bound.scale, 1e6) for bound in self.bounds)
        cost = tuple(float(trial.figures.get(key) or 0.0) for key in ORDER[self.cheapest])
        sqnr = trial.figures["sqnr_db"]
        return (short, *cost, -(1e6 if sqnr is None else sqnr))

    def best(self) -> list[Trial]:
        """Return all trials, the best first; of equal ones, the first that was tried."""
        return sorted((t for t in self.tried.values() if t is not None), key=self.score)

    def record(self, trial: Trial) -> Record:
        """Return a trial as plain values: what it is, its figures, whether its costs are counted, and whether it meets all budgets."""
        return {
            "label": label(trial.scheme),
            "scheme": choices(trial.scheme),
            "figures": dict(trial.figures),
            "counted": trial.counted,
            "met": all(bound.shortfall(trial.figures) == 0.0 for bound in self.bounds),
        }

    def _measure(self, scheme: Scheme) -> Trial | None:
        left = None
        if epochs_of(scheme) and self.setting.plan is not None and self.setting.plan.seconds:
            left = self.setting.plan.seconds - self.trained_seconds
            if left <= 0:
                return None
        try:
            quantized, trained = made(self.setting, scheme, left)
        except (QuantizationError, UnsupportedError) as error:
            _log.debug("%s is not for this model: %s", label(scheme), error)
            return None
        comparison = compare(
            self.setting.model, quantized, self.setting.data, progress=False, reference=self.setting.reference
        )
        trial = Trial(scheme, quantized, accuracy_figures(comparison), training=trained)
        trial.estimate = trial.needs = device_needs(self.setting, quantized, count=False)[0]
        return self._complete(trial)

    def _complete(self, trial: Trial) -> Trial:
        """Add to a trial what depends on the search: the estimate of its cost, its latency where that is wanted; and count its training."""
        self.trained_seconds += 0.0 if trial.training is None else trial.training["seconds"]
        self._estimate(trial)
        if self.cheapest == "latency" and trial.figures.get("latency_us") is None:
            trial.figures["latency_us"] = self._latency(trial.quantized)
            trial.earlier = False
        return trial

    def _estimate(self, trial: Trial) -> None:
        """Estimate a cost that is not counted, by the target's cost model and what was counted of other trials."""
        if not trial.counted and trial.needs is not None:
            trial.figures |= self.costs.figures(trial.scheme, trial.needs)

    def _latency(self, quantized: QuantModel) -> float:
        with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
            path = Path(temporary) / "model.qrnn"
            save(quantized, path)
            return float(measure_latency(path, latency_batch(self.setting))["us"])


def changes(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    """Return ``other`` minus ``first``, for every figure that both have."""
    keys = ("sqnr_db", "accuracy", "flash_bytes", "ram_bytes", "instructions")
    return {key: None if first.get(key) is None or other.get(key) is None else other[key] - first[key] for key in keys}
