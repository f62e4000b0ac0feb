"""Fit the constants of the estimate by which kernels are chosen to the times that the sweep measured: `python tools/gpu_check --fit FOLDER`.

The estimate of a step is a sum of counts times prices, but for one place where the longest of three sums counts (`Work` of
`qrnn.backends.cuda.costs`). For a given guess of which of the three is the longest in each run, the best prices are a nonnegative
least-squares problem; the prices that it gives make the next guess. Prices on which the runs have no bearing stay as they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_check.adopt import part_results, read_results
from qrnn.backends.cuda.costs import NAMES, Constants, Costs, Work, costs_of, costs_path
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.kernel_variants import StepKind
from qrnn.backends.cuda.plan import Layout, StepPlan, work_of
from qrnn.backends.cuda.proofs import kind_of
from qrnn.backends.cuda.records import DATA, as_json, capability_of, checked, require
from qrnn.errors import BackendError
from qrnn.system.atomic import write_atomically

Reals = npt.NDArray[np.float64]

FEWEST_RUNS = 30
"""Runs that a fit needs at least."""

STARTS = 32
"""First guesses: the present prices, and these times random factors."""

ROUNDS = 60
"""Guesses of which sum is the longest, at most."""

PULL = 0.1
"""How much a price that is twice its old value weighs against a run whose estimate is off by its whole time."""

TRIED = (0.7, 1.4)
"""A price is undetermined where one of these times its value explains the runs as well, which is to `AS_WELL` times the sum of squares."""

AS_WELL = 1.01

NOISE = 1.01
"""Constants whose mean regret is this many times the present one's or less do not choose worse: times are not more exact."""

LEAST = 1e-3
"""No price falls below this part of its old value: a price of nothing would be a rate without end."""


@dataclass(frozen=True)
class Measured:
    """One run: the shape it belongs to, what its step does, and the cycles that a step took."""

    layout: Layout
    batch: int
    plan: StepPlan
    work: Work
    cycles: float


@dataclass(frozen=True)
class Quality:
    """The quality of constants: the error of the estimate (root mean square of its logarithm), and the regret of the choice.

    The regret of a case is the time of the plan that has the least estimate over the least time of any plan that was measured.
    """

    error: float
    mean_regret: float
    worst_regret: float
    cases: int


@dataclass(frozen=True)
class Fit:
    """The constants of a fit, and those of them on which the runs have little bearing, which stay near the old ones."""

    constants: Constants
    undetermined: tuple[str, ...]


def nonnegative_least_squares(a: Reals, b: Reals) -> Reals:
    """Return the x ≥ 0 with the least |a·x - b|², by Lawson and Hanson's active sets; a [M, N] has full column rank."""
    count = a.shape[1]
    gram, right = a.T @ a, a.T @ b
    x, free = np.zeros(count), np.zeros(count, bool)
    tolerance = 1e-10 * max(1.0, float(np.abs(right).max()))
    for _ in range(10 * count):
        gradient = right - gram @ x
        gradient[free] = -np.inf
        if gradient.max(initial=-np.inf) <= tolerance:
            break
        free[int(gradient.argmax())] = True
        while True:
            trial = np.zeros(count)
            trial[free] = np.linalg.solve(gram[np.ix_(free, free)], right[free])
            if (trial[free] > 0).all():
                break
            blocked = free & (trial <= 0)
            step = float((x[blocked] / (x[blocked] - trial[blocked])).min())
            x += step * (trial - x)
            free &= x > tolerance * 1e-3
            x[~free] = 0.0
        x = trial
    return x


def fit(runs: Sequence[Measured], old: Constants, seed: int = 0) -> Fit:
    """Return the constants that explain the runs best, by the relative error of their times."""
    rng = np.random.default_rng(seed)
    counts = _Counts(runs, old)
    best, least = np.ones(len(NAMES)), np.inf
    for number in range(STARTS):
        factors = np.ones(len(NAMES)) if number == 0 else np.exp(rng.uniform(-1.4, 1.4, len(NAMES)))
        found, loss = counts.improved(factors)
        if loss < least:
            best, least = found, loss
    undetermined = []
    for place, name in enumerate(NAMES):
        if any(
            counts.squares(_replaced(best, place, best[place] * by)) <= AS_WELL * counts.squares(best) for by in TRIED
        ):
            undetermined.append(name)
        back = _replaced(best, place, 1.0)
        if counts.loss(back) <= counts.loss(best):
            best = back
    prices = old.prices()
    constants = Constants.of_prices({name: prices[name] * float(best[place]) for place, name in enumerate(NAMES)})
    return Fit(constants, tuple(undetermined))


def _replaced(values: Reals, place: int, value: float) -> Reals:
    found = values.copy()
    found[place] = value
    return found


class _Counts:
    """The runs as matrices: what each price, as a multiple of its old value, adds to the estimate over the measured time."""

    def __init__(self, runs: Sequence[Measured], old: Constants) -> None:
        prices = old.prices()
        index = {name: k for k, name in enumerate(NAMES)}
        self.rest = np.zeros((len(runs), len(NAMES)))
        self.overlapping = np.zeros((3, len(runs), len(NAMES)))
        for row, run in enumerate(runs):
            scale = run.work.waves / run.cycles
            for name, count in run.work.rest:
                self.rest[row, index[name]] += scale * count * prices[name]
            for place, terms in enumerate(run.work.overlapping):
                for name, count in terms:
                    self.overlapping[place, row, index[name]] += scale * count * prices[name]

    def chosen(self, factors: Reals) -> tuple[Reals, npt.NDArray[np.int64]]:
        """Return the matrix of the sums that are the longest with these factors, and which they are."""
        longest: npt.NDArray[np.int64] = (self.overlapping @ factors).argmax(axis=0)
        return self.rest + self.overlapping[longest, np.arange(len(longest))], longest

    def loss(self, factors: Reals) -> float:
        """Return what is minimized: squares of relative errors, and of the distance from the old prices."""
        return self.squares(factors) + float(np.square(PULL * (factors - 1.0)).sum())

    def squares(self, factors: Reals) -> float:
        """Return the sum of the squares of the relative errors."""
        matrix, _ = self.chosen(factors)
        return float(np.square(matrix @ factors - 1.0).sum())

    def improved(self, factors: Reals) -> tuple[Reals, float]:
        """Return the best factors between these and the next guess, and their loss."""
        best, least = factors, self.loss(factors)
        seen: set[bytes] = set()
        pull = PULL * np.eye(len(NAMES))
        for _ in range(ROUNDS):
            matrix, longest = self.chosen(factors)
            if longest.tobytes() in seen:
                break
            seen.add(longest.tobytes())
            target = np.concatenate([np.ones(len(matrix)), np.full(len(NAMES), PULL)])
            factors = np.maximum(nonnegative_least_squares(np.vstack([matrix, pull]), target), LEAST)
            if (loss := self.loss(factors)) < least:
                best, least = factors, loss
        return best, least


def quality(runs: Sequence[Measured], constants: Constants) -> Quality:
    """Return how well constants estimate the runs and choose among them."""
    prices = constants.prices()
    cases: dict[tuple[Layout, int], list[tuple[float, float]]] = {}
    squares = []
    for run in runs:
        estimate = run.work.cycles(prices)
        squares.append(math.log(estimate / run.cycles) ** 2)
        cases.setdefault((run.layout, run.batch), []).append((estimate, run.cycles))
    regrets = [min(several)[1] / min(cycles for _, cycles in several) for several in cases.values() if len(several) > 1]
    mean = math.exp(sum(map(math.log, regrets)) / len(regrets)) if regrets else 1.0
    return Quality(math.sqrt(sum(squares) / len(squares)), mean, max(regrets, default=1.0), len(regrets))


def measured_runs(where: str, result: dict[str, Any]) -> tuple[Device, list[Measured]]:
    """Return the exact and timed runs of a sweep; BackendError names what does not fit."""
    facts = {
        "name": str, "capability": list, "processors": int, "shared_per_block": int, "shared_per_processor": int, "cooperative": bool,
        "megahertz": float,
    }  # fmt: skip
    found = dict(checked(f"{where}: device", result.get("device"), facts))  # type: ignore[arg-type]
    megahertz = float(found.pop("megahertz"))
    require(megahertz > 0, f"{where}: device", "megahertz", megahertz, "a number above 0")
    device = Device(**found | {"capability": capability_of(f"{where}: device", found["capability"])})
    runs = result.get("runs")
    if not isinstance(runs, list):
        raise BackendError(f"{where}: no runs")
    every = [_measured(f"{where}: runs[{k}]", run, device, megahertz) for k, run in enumerate(runs)]
    return device, [run for run in every if run is not None]


def _measured(where: str, run: Any, device: Device, megahertz: float) -> Measured | None:
    """Return one run, or None for one that was not exact or has no time."""
    types: dict[str, type | tuple[type, ...]] = {
        "cell": str, "hidden": int, "batch": int, "operand_bytes": int, "kernel": dict, "plan": str, "unit_blocks": int, "batch_blocks": int,
        "warps": int, "shared_bytes": int, "estimate_cycles": float, "estimate_us": float, "us_per_step": (float, type(None)),
        "steps": list, "spread": (float, type(None)), "exact": bool,
    }  # fmt: skip
    found = checked(where, run, types)
    if not found["exact"] or found["us_per_step"] is None:
        return None
    for key in ("hidden", "batch", "unit_blocks", "batch_blocks", "warps"):
        require(0 < found[key] < 1 << 31, where, key, found[key], "a whole number above 0")
    require(found["us_per_step"] > 0, where, "us_per_step", found["us_per_step"], "a number above 0")
    kind = kind_of(f"{where}: kernel", found["kernel"], device.capability)
    if not isinstance(kind, StepKind):
        raise BackendError(f"{where}: kernel is not of steps")
    layout = Layout(kind.cell, kind.gates, found["hidden"], kind.operand_bytes)
    plan = StepPlan(
        kind,
        found["unit_blocks"],
        found["batch_blocks"],
        found["warps"],
        found["shared_bytes"],
        found["estimate_cycles"],
    )
    work = work_of(plan, layout, found["batch"], device)
    return Measured(layout, found["batch"], plan, work, found["us_per_step"] * megahertz)


def fit_folder(folder: Path, data: Path = DATA) -> str:
    """Fit the constants to a folder of results, write them into the file of the device's family, and return what came of it.

    BackendError where there are too few runs, or where the new constants choose worse than the old ones; nothing is written then.
    """
    document = read_results(folder)
    result = part_results(document).get("sweep")
    if not result:
        raise BackendError(f"{folder}: the part sweep wrote no results")
    device, runs = measured_runs(f"{folder}: part sweep", result)
    if len(runs) < FEWEST_RUNS:
        raise BackendError(f"{folder}: {len(runs)} runs were exact and timed, a fit needs at least {FEWEST_RUNS}")
    old = costs_of(device.capability).constants
    made = fit(runs, old)
    before, after = quality(runs, old), quality(runs, made.constants)
    text = report(before, after, old, made)
    if after.mean_regret > NOISE * before.mean_regret:
        raise BackendError(
            f"{folder}: the fit chooses worse than the present constants (regret {after.mean_regret:.3f}, at present "
            f"{before.mean_regret:.3f}); they stay"
        )
    kept = f"; the runs say little of {', '.join(made.undetermined)}" if made.undetermined else ""
    source = f"least squares over {len(runs)} runs of tools/gpu_check on {device.name}{kept}"
    path = costs_path(device.capability, data)
    costs = Costs(made.constants, source, device.name, document["date"], document["revision"])
    write_atomically(path, as_json(costs.to_dict()))
    return f"{text}\n{path}: written; run python -m pytest tests/backends/cuda/test_plan.py, which says what docs/cuda.md has to show"


def report(before: Quality, after: Quality, old: Constants, made: Fit) -> str:
    """Return what a fit changed, as text."""
    lines = [f"{'':24}{'before':>12}{'after':>12}"]
    for name in NAMES:
        note = "  the runs say little of it" if name in made.undetermined else ""
        lines.append(f"{name:24}{getattr(old, name):12.4g}{getattr(made.constants, name):12.4g}{note}")
    for title, key in (
        ("error of the estimate", "error"), ("regret, geometric mean", "mean_regret"), ("regret, worst", "worst_regret")
    ):  # fmt: skip
        lines.append(f"{title:24}{getattr(before, key):12.3f}{getattr(after, key):12.3f}")
    lines.append(f"over {after.cases} cases of which more than one plan was measured")
    return "\n".join(lines)
