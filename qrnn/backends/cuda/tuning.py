"""A tuning chooses kernels for those who measure or test the CUDA backend: ``qrnn.Session(model, "cuda", tuning=Tuning(unproved=True))``.

Without a tuning, the environment's ``QRNN_CUDA_UNPROVED=1`` allows kernels that no GPU has confirmed, for programs that make sessions of
their own: the command line, and tests of every backend that `tools/gpu_check` runs on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from qrnn.backends.cuda.costs import Costs, costs_of
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.kernel_variants import Kind
from qrnn.backends.cuda.plan import Layout, StepPlan
from qrnn.backends.cuda.proofs import Proofs, committed_proofs
from qrnn.errors import BackendError

UNPROVED = "QRNN_CUDA_UNPROVED"
"""The variable of the environment that allows kernels which no GPU has confirmed."""

INPUT_BYTES = 1 << 28
SCRATCH_BYTES = 1 << 28


@dataclass(frozen=True)
class Tuning:
    """Thresholds and choices of the CUDA backend. None of them changes a bit of a result, as long as the kernels are right."""

    unproved: bool = False
    """Whether kernels may run that no GPU has confirmed."""
    proofs: Proofs | None = None
    """The kernels that a GPU has confirmed; None for those that are recorded with the package."""
    costs: Costs | None = None
    """The constants of the estimate that kernels are chosen by; None for those of the device's family."""
    choose: Callable[[Layout, int, Device], StepPlan | None] | None = None
    """Chooses the plan of a layout, a batch and a device in the place of `choose_plan`; whether a kernel is proved is not asked then.
    It answers None for the general kernel."""
    input_bytes: int = INPUT_BYTES
    """Bytes of W·x that are kept at a time: longer batches go through in pieces of some steps."""
    scratch_bytes: int = SCRATCH_BYTES
    """Bytes of scratch memory of the general kernel: larger batches go through in pieces of some sequences."""

    @classmethod
    def of_environment(cls) -> Tuning:
        """Return the tuning of a session that is given none; BackendError where the variable is neither 0 nor 1."""
        found = os.environ.get(UNPROVED, "")
        if found not in ("", "0", "1"):
            raise BackendError(f"the environment's {UNPROVED} is {found!r}, expected 1 to allow unproved kernels, or 0")
        return cls(unproved=found == "1")

    def allows(self, kind: Kind) -> bool:
        """Return whether a kernel may run."""
        return self.unproved or kind in self.known_proofs

    @property
    def known_proofs(self) -> Proofs:
        """Return ``proofs``, or the recorded ones."""
        return committed_proofs() if self.proofs is None else self.proofs

    def costs_for(self, device: Device) -> Costs:
        """Return ``costs``, or those of the device's family."""
        return costs_of(device.capability) if self.costs is None else self.costs
