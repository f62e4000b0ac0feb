"""Simulate results of tools/gpu_check from a device with known constants."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from gpu_check.part_sweep import Sweep, Timing
from gpu_check.sweep_jobs import Case, cases, jobs

from qrnn.backends.cuda.costs import NAMES, Constants, costs_of
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.plan import StepPlan, work_of
from qrnn.backends.cuda.proofs import code_digest

H100 = Device("Made-up H100", (9, 0), 132, 227 << 10, 228 << 10, cooperative=True)
OLD = costs_of((9, 0))
MEGAHERTZ = 1500.0


def constants(seed: int, spread: float = 1.0) -> Constants:
    """Return the present constants, each times a random factor of e^±spread at most."""
    rng = np.random.default_rng(seed)
    factors = np.exp(rng.uniform(-spread, spread, len(NAMES)))
    return Constants(**{n: getattr(OLD.constants, n) * float(f) for n, f in zip(NAMES, factors, strict=True)})


class Runner:
    """A device whose times are the estimate's by other constants, with noise."""

    def __init__(self, true: Constants, noise: float, seed: int) -> None:
        self.prices, self.noise, self.rng = true.prices(), noise, np.random.default_rng(seed)

    def prepare(self, *_: Any) -> None:
        """Compiles nothing."""

    def run(self, case: Case, plan: StepPlan) -> Timing:
        cycles = work_of(plan, case.layout, case.batch, H100).cycles(self.prices)
        us = cycles / MEGAHERTZ * float(np.exp(self.noise * self.rng.normal()))
        return Timing(True, us, (2, 8), self.noise, (plan.kind,))

    def alive(self) -> bool:
        return True


def sweep_result(true: Constants, noise: float = 0.03, seed: int = 0, most: int | None = None) -> dict[str, Any]:
    """What the part sweep writes on that device."""
    written: list[dict[str, Any]] = []
    sweep = Sweep(H100, OLD, MEGAHERTZ, Runner(true, noise, seed), lambda: 1e9, lambda: 0.0)
    sweep.go(jobs(cases(), H100, OLD), most, written.append)
    head = {"device": H100.name, "capability": list(H100.capability), "driver": "CUDA 13.0", "code": code_digest()}
    found: dict[str, Any] = json.loads(json.dumps(written[-1] | {"evidence": head}))
    return found


def document(**parts: Any) -> dict[str, Any]:
    """What tools/gpu_check writes, with these parts' results."""
    return {
        "format": "qrnn gpu_check 1",
        "date": "2026-01-31",
        "revision": "0123456",
        "dry_run": False,
        "parts": {name: {"state": "ok", "result": result} for name, result in parts.items()},
    }


def folder_of(path: Path, content: dict[str, Any]) -> Path:
    """The folder ``path`` with these results."""
    path.mkdir(exist_ok=True)
    (path / "gpu_check.json").write_text(json.dumps(content), encoding="utf-8")
    return path
