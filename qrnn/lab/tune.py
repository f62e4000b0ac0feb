"""Find the cheapest configuration that meets every budget (``qrnn.tune``): try single changes, then greedy, then local search."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from qrnn.errors import DataError, DeviceError
from qrnn.lab.axes import label
from qrnn.lab.budgets import Bound, Budgets, Cheapest
from qrnn.lab.evaluate import Record, Setting, with_reference
from qrnn.lab.kept_trials import KeptTrials
from qrnn.lab.moves import Move, apply, gates_of, moves, space, with_gates
from qrnn.lab.training import Configuration, TrainingPlan
from qrnn.lab.trial import Trial
from qrnn.lab.trials import Trials, changes
from qrnn.lab.tune_result import Sensitivity, TuneResult
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel, check_float
from qrnn.model.user_values import check_count
from qrnn.quantization.scheme import Scheme
from qrnn.system.progress import Wanted, reporting
from qrnn.targets import Target, load_target

_log = logging.getLogger(__name__)

MOST_COUNTED = 24
"""Models that are built at the end, until the best one is counted; each corrects the estimates of those that are like it."""


def tune(
    model: FloatModel | str | os.PathLike[str],
    calibration: Mapping[str, Any],
    data: Mapping[str, Any],
    budgets: Budgets,
    *,
    target: Target | str = "cortex-m4",
    cheapest: Cheapest = "instructions",
    most: int = 150,
    stream: bool = False,
    training: TrainingPlan | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Wanted = None,
) -> TuneResult:
    """Search for the cheapest model that meets ``budgets`` on ``data``: its widths, by layer too, calibrator, input scheme and gate functions.

    Parameters
    ----------
    model: a float model, or the path of an ONNX file, which is then imported with ``stream`` as by `qrnn.load_onnx`.
    calibration, data: arrays by graph input name, batch first, as for `qrnn.quantize` and `qrnn.compare`.
    budgets: the figures that must be met.
    target: a device, or its name.
    cheapest: what counts first: ``instructions`` per step on the target, ``flash``, ``ram``, or ``latency`` on this machine; the others follow
        (`qrnn.lab.budgets.ORDER`), and of equal models the one with the higher SQNR comes first.
    most: the most configurations to measure, at least 1.
    training: where given, configurations are tried as they are and trained, for as many epochs as it says; its ``seconds`` are for all
        trainings together, after which none is tried.
    folder: where trials are kept. Those that it has are not measured again, whatever the budgets are.
    progress: called with (done, all at most); None shows a bar where stderr is a terminal, and False shows none.

    The result is the same every time, but for ``latency``, which is measured, and for what a limit of time leaves out. Raises DataError for
    budgets and data that do not fit (a drop of accuracy needs labels), and DeviceError for a budget of instructions where nothing can tell
    them.
    """
    from qrnn.trained_files import load_trained

    if cheapest not in get_args(Cheapest):
        raise DataError(f"cheapest={cheapest!r}, expected one of {', '.join(get_args(Cheapest))}")
    check_count("most", most)
    device = load_target(target) if isinstance(target, str) else target
    if not isinstance(budgets, Budgets):
        raise DataError(f"budgets={budgets!r}, expected qrnn.Budgets, such as qrnn.Budgets(min_sqnr=30.0)")
    if budgets.max_accuracy_drop is not None and data.get("labels") is None:
        raise DataError(
            "--max-accuracy-drop needs labels in the data; expected labels [N] or [N, T], or use --min-sqnr"
        )
    if not isinstance(model, str | os.PathLike):
        check_float(model, "tune")
    float_model = model if isinstance(model, FloatModel) else load_trained(model, stream)
    make_batch(float_model.inputs, calibration)
    if training is not None:
        training.check(float_model)
    setting = with_reference(Setting(float_model, dict(calibration), dict(data), device, plan=training))
    found = space(float_model, 0 if training is None else training.choices.epochs)
    kept = None if folder is None else KeptTrials(Path(folder), setting)
    trials = Trials(setting, budgets.bounds(), cheapest, found, kept)
    base = Scheme(**device.scheme) if training is None else Configuration(**device.scheme)
    base = with_gates(base, gates_of(base, found.kinds)) if found.kinds else base
    with reporting(progress, "searching") as report:
        search = _Search(trials, most, report)
        start = search.measure(base)
        if start is None:
            raise DataError(f"the scheme of target {device.name} is not for this model; convert it to see why")
        first = trials.count(start).figures.copy()
        _check(budgets, first, device)
        sensitivity = search.sensitivity(start)
        search.greedy(start, [move for move, _ in sensitivity])
        chosen = search.counted_best()
    _log.info("%s chosen, of %d configurations tried for %s", label(chosen.scheme), len(trials.tried), device.name)
    problems = _problems(trials, chosen)
    listed = [Sensitivity(str(move), differences) for move, differences in sensitivity]
    result = TuneResult(
        chosen.quantized,
        chosen.scheme,
        chosen.figures,
        chosen.counted,
        first,
        listed,
        trials.bounds,
        problems,
        len(trials.tried),
        device.name,
        chosen.training,
        [trials.record(trial) for trial in sorted(trials.best(), key=lambda trial: trial is not chosen)],
        sum(trial is not None and trial.earlier for trial in trials.tried.values()),
    )
    if kept is not None:
        kept.write_result(result.to_dict())
    return result


def _check(budgets: Budgets, figures: Record, device: Target) -> None:
    """Refuse a bound on a figure that cannot be known at all."""
    if budgets.instructions is not None and figures["instructions"] is None:
        raise DeviceError(
            f"instructions on {device.name} are not known here: nothing to count them with, and no cost model; "
            "install its compiler and emulator (see: qrnn targets), or leave out --instructions"
        )
    if (budgets.flash is not None or budgets.ram is not None) and figures["flash_bytes"] is None:
        raise DeviceError(f"this model cannot be exported to {device.name}; leave out --flash and --ram")
    if budgets.min_agreement is not None and figures["agreement"] is None:
        raise DataError("--min-agreement: no output of the model decides anything; use --min-sqnr")


class _Search:
    """The steps of the search, over the trials that they share."""

    def __init__(self, trials: Trials, most: int, report: Callable[[int, int], Any]) -> None:
        self.trials, self.most, self.report = trials, most, report

    def measure(self, scheme: Scheme) -> Trial | None:
        """Measure a trial, as long as there may be more of them, else return None."""
        if scheme not in self.trials.tried and len(self.trials.tried) >= self.most:
            return None
        found = self.trials.trial(scheme)
        self.report(len(self.trials.tried), self.most)
        return found

    def sensitivity(self, start: Trial) -> list[tuple[Move, dict[str, float | None]]]:
        """Measure every single change of the start, and count it where that teaches the cost model something."""
        found = []
        for move, scheme in moves(start.scheme, self.trials.space):
            trial = self.measure(scheme)
            if trial is not None:
                self.trials.learn(trial)
                found.append((move, trial))
        self.trials.costs.learn()
        self.trials.estimate_all()
        return [(move, changes(start.figures, trial.figures)) for move, trial in found]

    def greedy(self, start: Trial, candidates: list[Move]) -> None:
        """Apply changes in the order of what each was worth alone, and keep those that improve the result."""
        score = self.trials.score
        alone = {}
        for move in candidates:
            scheme = apply(move, start.scheme, self.trials.space)
            trial = None if scheme is None else self.trials.tried.get(scheme)
            if trial is not None:
                alone[move] = score(trial)
        now = start
        for move in sorted(alone, key=lambda m: alone[m]):
            scheme = apply(move, now.scheme, self.trials.space)
            trial = None if scheme is None else self.measure(scheme)
            if trial is not None and score(trial) < score(now):
                now = trial

    def local(self) -> None:
        """Go from the best trial so far to its best neighbour, until none is better."""
        now = self.trials.best()[0]
        while True:
            for _, scheme in moves(now.scheme, self.trials.space):
                self.measure(scheme)
            best = self.trials.best()[0]
            if self.trials.score(best) >= self.trials.score(now):
                return
            now = best

    def counted_best(self) -> Trial:
        """Search from the best trial so far, and count what is found; where that moves it behind another one, go on from there."""
        for _ in range(MOST_COUNTED):
            self.local()
            best = self.trials.best()[0]
            if best.counted or not self.trials.count(best).counted:  # the latter where nothing can be counted here
                return best
            self.trials.estimate_all()
        return next((trial for trial in self.trials.best() if trial.counted), self.trials.best()[0])


def _problems(trials: Trials, chosen: Trial) -> list[str]:
    """Return one sentence for each budget that is not met: by how much, and whether it could be without the others."""
    found = []
    for bound in trials.bounds:
        missed = bound.shortfall(chosen.figures)
        if missed == 0.0:
            continue
        nearest = min((t for t in trials.tried.values() if t is not None), key=lambda t: bound.shortfall(t.figures))
        least = bound.shortfall(nearest.figures)
        limit, side = f"{bound.name} of {_amount(bound, bound.limit)}", "below" if bound.at_least else "above"
        if least > 0.0:
            have = _amount(bound, nearest.figures[bound.key])
            found.append(
                f"{limit} cannot be met: the best found, whatever it costs, is {have}, {_amount(bound, least)} {side}"
            )
        else:
            have = _amount(bound, chosen.figures[bound.key])
            found.append(
                f"{limit} cannot be met together with the other budgets: the nearest has {have}, {_amount(bound, missed)} {side}"
            )
    return found


def _amount(bound: Bound, value: float) -> str:
    """Return a figure with its unit."""
    digits = 0 if bound.unit in ("bytes", "") else 2
    return f"{value:,.{digits}f} {bound.unit}".rstrip()
