"""`python tools/gpu_check --fit`: constants that are known are found again from times made with them, and the choice gets better."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qrnn.backends.cuda.costs import NAMES, Constants, load_costs
from qrnn.errors import BackendError
from sweep.made_up import H100, OLD, constants, document, folder_of, sweep_result

from gpu_check.fit import FEWEST_RUNS, Measured, fit, fit_folder, measured_runs, nonnegative_least_squares, quality  # isort: skip


@cache
def runs_of(seed: int) -> tuple[Constants, tuple[Measured, ...]]:
    true = constants(seed)
    _, runs = measured_runs("here", sweep_result(true, seed=seed))
    return true, tuple(runs)


@pytest.mark.parametrize("seed", [*(pytest.param(seed, marks=pytest.mark.matrix) for seed in range(3)), 3])
def test_known_constants_are_found_again(seed: int) -> None:
    """The constants that the times depend on are found; the estimate is then as good as the noise lets it be."""
    true, runs = runs_of(seed)
    made = fit(runs, OLD.constants)
    assert "launch_cycles" in made.undetermined, "no plan of a device with cooperative launches has it"
    for name in NAMES:
        if name not in made.undetermined:
            ratio = getattr(made.constants, name) / getattr(true, name)
            loose = 1.6 if name.startswith(("dp4a", "shuffle", "tensor_latency")) else 1.15
            assert 1 / loose < ratio < loose, f"{name} {ratio:.3f}"
    for name in ("cache_bytes_per_cycle", "update_cycles", "grid_barrier_cycles"):
        assert getattr(made.constants, name) == pytest.approx(getattr(true, name), rel=0.03), name
    before, after = quality(runs, OLD.constants), quality(runs, made.constants)
    assert after.error < 0.04 < 0.15 < before.error
    assert after.mean_regret <= min(1.01, 1.01 * before.mean_regret)
    assert after.worst_regret < 1.15


@pytest.mark.matrix
def test_the_regret_falls() -> None:
    """On every simulated device the present constants choose worse than those that were fitted."""
    before = np.prod([quality(runs_of(seed)[1], OLD.constants).mean_regret for seed in range(4)])
    after = np.prod(
        [quality(runs, fit(runs, OLD.constants).constants).mean_regret for _, runs in map(runs_of, range(4))]
    )
    assert after < 1.02 < before


def test_what_was_fitted_holds_for_cases_that_were_not() -> None:
    """Constants from half of the cases choose well in the other half."""
    _, runs = runs_of(3)
    cases = list(dict.fromkeys((run.layout, run.batch) for run in runs))
    half = set(cases[::2])
    made = fit([run for run in runs if (run.layout, run.batch) in half], OLD.constants)
    others = [run for run in runs if (run.layout, run.batch) not in half]
    before, after = quality(others, OLD.constants), quality(others, made.constants)
    assert after.error < before.error / 3
    assert after.mean_regret < before.mean_regret


def test_without_noise_the_present_constants_stay() -> None:
    _, runs = measured_runs("here", sweep_result(OLD.constants, noise=0.0))
    made = fit(runs, OLD.constants)
    assert all(getattr(made.constants, n) == pytest.approx(getattr(OLD.constants, n), rel=1e-3) for n in NAMES)
    assert quality(runs, OLD.constants).mean_regret == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_nonnegative_least_squares(seed: int) -> None:
    """The conditions that hold at the least and nowhere else: a gradient of zero where x is above 0, and not below it elsewhere."""
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(5, 40)), int(rng.integers(1, 5))
    a, b = rng.normal(size=(rows, columns)), rng.normal(size=rows)
    x = nonnegative_least_squares(a, b)
    gradient = a.T @ (a @ x - b)
    assert (x >= 0).all()
    assert (gradient > -1e-8).all()
    assert np.abs(gradient[x > 0]).max(initial=0.0) < 1e-8


def test_a_folder_becomes_a_file(tmp_path: Path) -> None:
    true = constants(1)
    folder = folder_of(tmp_path / "results", document(sweep=sweep_result(true), device={}))
    said = fit_folder(folder, tmp_path)
    costs = load_costs(tmp_path / "costs_sm_9x.json")
    assert (costs.device, costs.date, costs.revision) == (H100.name, "2026-01-31", "0123456")
    assert costs.source.startswith("least squares over ")
    assert "the runs say little of" in costs.source
    assert costs.constants.grid_barrier_cycles == pytest.approx(true.grid_barrier_cycles, rel=0.05)
    assert "regret, geometric mean" in said
    assert str(tmp_path / "costs_sm_9x.json") in said


def test_worse_constants_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpu_check import fit as module

    monkeypatch.setattr(module, "fit", lambda *_: module.Fit(constants(5, 3.0), ()))
    folder = folder_of(tmp_path / "results", document(sweep=sweep_result(OLD.constants, noise=0.0)))
    with pytest.raises(
        BackendError, match=r"the fit chooses worse than the present constants \(regret .*\); they stay"
    ):
        fit_folder(folder, tmp_path)
    assert not list(tmp_path.glob("*.json"))


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "dry": (lambda d: d.update(dry_run=True), "a dry run in the simulator tells nothing of a GPU"),
    "date": (lambda d: d.pop("date"), "date is None, expected a string"),
    "parts": (lambda d: d.update(parts=[]), "not a file of results"),
    "sweep": (lambda d: d["parts"].pop("sweep"), "the part sweep wrote no results"),
    "runs": (lambda d: d["parts"]["sweep"]["result"].pop("runs"), "no runs"),
    "few": (lambda d: d["parts"]["sweep"]["result"]["runs"].clear(), f"0 runs were exact and timed, a fit needs at least {FEWEST_RUNS}"),
    "run": (lambda d: d["parts"]["sweep"]["result"]["runs"][3].update(hidden="64"), r"runs\[3\]: hidden is '64', expected int"),
    "time": (lambda d: d["parts"]["sweep"]["result"]["runs"][3].update(us_per_step=-1.0), "us_per_step is -1.0, expected a number above 0"),
    "clock": (lambda d: d["parts"]["sweep"]["result"]["device"].update(megahertz=0), "megahertz is 0.0"),
    "zero": (lambda d: d["parts"]["sweep"]["result"]["runs"][0].update(warps=0), "warps is 0, expected a whole number above 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_results_are_refused_by_name(name: str, tmp_path: Path) -> None:
    change, says = BROKEN[name]
    content = document(sweep=sweep_result(OLD.constants, most=FEWEST_RUNS))
    change(content)
    with pytest.raises(BackendError, match=says) as error:
        fit_folder(folder_of(tmp_path / "results", content), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.json"))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no such file"):
        fit_folder(tmp_path / "nowhere", tmp_path)
