"""The kernels of tools/gpu_check compile for Hopper: on the one machine where they run nothing should be new."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools"))

from backends.cuda.ptx import HOPPER, LONGS, WORDS, WORDS2, N, WORDS3, ptx_of  # isort: skip  (skips the module without a compiler)

from gpu_check import probes, timed_kernels

ARGUMENTS = {
    probes: {
        "_add_one": (LONGS,), "_dots": (WORDS2, WORDS2), "_tiles": (WORDS2, WORDS3), "_shuffle": (WORDS2, WORDS2),
        "_shared": (WORDS, N), "_meet": (LONGS.copy(ndim=2), N),
    },
    timed_kernels: {
        "block_barriers": (N,), "grid_barriers": (N,), "grid_exchanges": (N, WORDS2), "no_work": (N,),
        "no_work_on_arrays": (*[WORDS] * 10, N), "chase": (WORDS, N, WORDS),
    },
}  # fmt: skip
KERNELS = [(module, name) for module, kernels in ARGUMENTS.items() for name in kernels]
MEET = ("_meet", "grid_barriers", "grid_exchanges")


def is_kernel(module: Any, value: Any) -> bool:
    return getattr(value, "__module__", "") == module.__name__ and hasattr(value, "targetoptions")


def test_every_kernel_is_here() -> None:
    for module, kernels in ARGUMENTS.items():
        assert {name for name, value in vars(module).items() if is_kernel(module, value)} == set(kernels)


@pytest.mark.parametrize(("module", "name"), KERNELS, ids=lambda value: getattr(value, "__name__", value))
def test_compiles(module: Any, name: str) -> None:
    ptx = ptx_of(getattr(module, name), ARGUMENTS[module][name], HOPPER)
    assert ("cudaCGSynchronize" in ptx) == (name in MEET)
    if name == "block_barriers":
        assert "bar.sync" in ptx  # a loop of nothing else is not taken away
    if name == "chase":
        assert "ld.global" in ptx or "ld.u32" in ptx or "ld.s32" in ptx or "ld.b32" in ptx
