"""Compiling kernels for devices that are not here: to PTX by NVVM, and on to machine code by ptxas where that is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (pip install -e '.[dev]')")

from qrnn.backends.cuda import device

if (missing := device.missing_library()) is not None:
    pytest.skip(f"CUDA's library {missing} is not found (pip install -e '.[dev]')", allow_module_level=True)

from numba import cuda
from numba.cuda import types

Capability = tuple[int, int]
TURING, AMPERE, HOPPER = (7, 5), (8, 0), (9, 0)
CAPABILITIES = (TURING, AMPERE, HOPPER)

PTXAS = shutil.which("ptxas")

N = types.int64
FLAG = types.boolean
WORDS, OCTETS, SHORTS, LONGS = types.int32[::1], types.int8[::1], types.int16[::1], types.int64[::1]
WORDS2, OCTETS2, SHORTS2, LONGS2 = types.int32[:, ::1], types.int8[:, ::1], types.int16[:, ::1], types.int64[:, ::1]
WORDS3, SHORTS3 = types.int32[:, :, ::1], types.int16[:, :, ::1]
SHORTS4 = types.int16[:, :, :, ::1]
REALS, REALS2 = types.float64[::1], types.float64[:, ::1]

GATES = (LONGS2, WORDS2)
"""params and tables."""

STEPS = (
    WORDS, WORDS2, *GATES, WORDS2, LONGS, WORDS3, LONGS, SHORTS2, WORDS2, WORDS, OCTETS, WORDS2, SHORTS3, N, SHORTS, N, FLAG,
    N, N, N, N, N,
)  # fmt: skip
GENERAL = (
    N, N, FLAG, OCTETS2, WORDS2, *GATES, WORDS2, LONGS, OCTETS2, WORDS2, *GATES, LONGS, WORDS3, LONGS, SHORTS2, WORDS2, SHORTS3, N,
    SHORTS3, WORDS3, SHORTS, SHORTS2, WORDS3, WORDS2, N, N, N,
)  # fmt: skip
PACK = (SHORTS3, LONGS, FLAG, N, N, N, N, N, WORDS)
ORDER = (SHORTS3, LONGS, FLAG, N, N, N, SHORTS2)
PLAIN_PRODUCT = (OCTETS2, WORDS2, SHORTS2, FLAG, WORDS2)
PLAIN_DENSE = (OCTETS2, WORDS2, SHORTS2, FLAG, SHORTS2)
ELEMENTS = {
    "elements.fill_zero": (WORDS,),
    "elements.fill_one": (LONGS,),
    "elements.last_step": (LONGS, SHORTS, SHORTS3, SHORTS2),
    "elements.begin": (LONGS, SHORTS2, SHORTS2, LONGS, LONGS, N, N, N, N, WORDS2),
    "elements.mark_begun": (LONGS, SHORTS2),
    "elements.mark_steps": (LONGS, N, LONGS),
    "elements.band_lengths": (LONGS, N, LONGS),
    "elements.step_lengths": (LONGS, N, N, LONGS),
    "elements.swap_axes": (SHORTS4, SHORTS4),
    "elements.zero_empty": (LONGS, WORDS2, WORDS2),
    "elements.copy_columns": (WORDS2, N, WORDS2, N, N),
    "elements.repeat": (SHORTS2, SHORTS3),
    "elements.quantize": (REALS, REALS, N, types.float32[:, ::1], SHORTS2, WORDS),
    "elements.check_state": (N, N, SHORTS, WORDS),
    "elements.check_tokens": (N, LONGS, LONGS, WORDS),
    "elements.write_output": (WORDS2, REALS, REALS, LONGS, LONGS, LONGS, N, REALS2),
    "kinds.pointwise.run_pointwise": (*GATES, N, N, SHORTS, SHORTS),
    "kinds.softmax.run_softmax": (WORDS, N, SHORTS2, SHORTS2),
    "kinds.add.run_add": (N, N, N, SHORTS, SHORTS, SHORTS),
    "kinds.concat.run_align": (N, N, LONGS, SHORTS2, N, SHORTS2),
    "kinds.embedding.run_embedding": (SHORTS2, LONGS, SHORTS2),
}
"""The arguments of each kernel with a thread an element or a row, by the place of the kernel in `qrnn.backends.cuda`."""


@cache
def ptx_of(kernel: Any, arguments: tuple[Any, ...], capability: Capability) -> str:
    """PTX of a kernel. Device functions ask which device they are compiled for, and there is none: they are told."""
    here = SimpleNamespace(compute_capability=capability)
    with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=here):
        text, _ = cuda.compile_ptx(
            kernel.py_func, arguments, cc=capability, launch_bounds=kernel.targetoptions["launch_bounds"]
        )
    return str(text)


def instructions(ptx: str, name: str) -> set[str]:
    """The instructions, with their types, that begin so."""
    return set(re.findall(rf"\b({re.escape(name)}[\w.]*)", ptx))


def assemble(ptx: str, capability: Capability, folder: Path) -> str:
    """What ptxas -v says of it. PTX of a newer toolkit than ptxas's is given ptxas's version: it uses nothing newer, or ptxas would say so."""
    assert PTXAS is not None
    source = folder / "kernel.ptx"
    said = ""
    for text in (ptx, None):
        if text is None:
            newest = re.search(r"current version is '(\d+\.\d+)'", said)
            if newest is None:
                break
            text = re.sub(r"^\.version .*$", f".version {newest[1]}", ptx, count=1, flags=re.MULTILINE)
        source.write_text(text, encoding="utf-8")
        arch = f"sm_{capability[0]}{capability[1]}"
        command = [PTXAS, "-v", "-c", f"-arch={arch}", str(source), "-o", str(folder / "kernel.cubin")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        said = done.stderr + done.stdout
        if done.returncode == 0:
            return said
    raise AssertionError(said)


def linker() -> tuple[str, str] | None:
    """Return nvlink and CUDA's device runtime beside it, in the places where a toolkit may be; None where there is none."""
    roots = [Path(root) for root in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")) if root]
    roots += sorted(Path("/usr/local").glob("cuda*"))
    for root in roots:
        for folder in ("lib64", "lib", "targets/x86_64-linux/lib"):
            if (root / "bin" / "nvlink").is_file() and (root / folder / "libcudadevrt.a").is_file():
                return str(root / "bin" / "nvlink"), str(root / folder)
    return None


def assert_registers_suffice(said: str) -> None:
    """No local memory: nothing spilled, no array that could not be kept in registers."""
    found = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert found
    assert all(set(sizes) == {"0"} for sizes in found), said
