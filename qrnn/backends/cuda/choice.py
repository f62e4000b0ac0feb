"""A direction is run by the plan of least estimated time among those whose kernels may run (docs/cuda.md)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.plan import Layout, StepPlan, plans
from qrnn.backends.cuda.tuning import Tuning


@dataclass(frozen=True)
class Choice:
    """What runs a direction: a plan, or None for the general kernel; and why, in a phrase."""

    plan: StepPlan | None
    why: str

    def __str__(self) -> str:
        return f"{'general kernel' if self.plan is None else self.plan.name}: {self.why}"


@lru_cache(maxsize=1024)
def choose_plan(layout: Layout, batch: int, device: Device, tuning: Tuning) -> Choice:
    """Return the plan of least estimated time for ``batch`` sequences among those that the tuning allows, or the general kernel."""
    if tuning.choose is not None:
        return Choice(tuning.choose(layout, batch, device), "chosen by the tuning")
    costs = tuning.costs_for(device)
    every = sorted(plans(layout, batch, device, costs), key=lambda plan: plan.cycles)
    if not every:
        return Choice(None, "no step kernel fits the device's shared memory")
    by = f"estimated {'by measured constants' if costs.device else 'without measurement'}"
    allowed = [plan for plan in every if tuning.allows(plan.kind)]
    if not allowed:
        lapsed = any(plan.kind in tuning.known_proofs.lapsed for plan in every)
        state = "its code has changed since a GPU confirmed it" if lapsed else "no GPU has confirmed it"
        return Choice(None, f"the step kernel is unproved, {state}; the best one, {by}, is {every[0].name}")
    best = allowed[0]
    if best is every[0]:
        proved = "proved" if best.kind in tuning.known_proofs else "unproved, as the tuning allows"
        return Choice(best, f"the best of {len(every)} plans, {by}; {proved}")
    return Choice(best, f"the best of {len(allowed)} plans with proved kernels, {by}; {every[0].name} is unproved")
