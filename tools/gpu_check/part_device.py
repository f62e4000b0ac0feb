"""Record what the machine is (device, driver, versions and libraries), and test each thing that the kernels need by itself."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gpu_check.frame import CheckError, Options, Result, Write

ORDER = 10
SECONDS = 20.0
TITLE = "Device and versions"

PACKAGES = (
    "numba", "numba-cuda", "llvmlite", "numpy", "cuda-bindings", "cuda-core", "cuda-pathfinder", "cuda-toolkit", "nvidia-cuda-runtime",
    "nvidia-cuda-nvrtc", "nvidia-nvvm", "nvidia-nvjitlink", "torch", "nvidia-cudnn-cu13", "cupy-cuda13x", "onnx", "safetensors", "typer",
    "hypothesis", "pytest", "pytest-xdist",
)  # fmt: skip
PROGRAMS = ("nvidia-smi", "nvcc", "ptxas", "compute-sanitizer", "ncu")
LIBRARIES = ("cudart", "nvvm", "nvrtc", "nvJitLink")
VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "NUMBA_ENABLE_CUDASIM")
QUERY = (
    "name", "driver_version", "memory.total", "power.limit", "clocks.max.sm", "clocks.max.mem", "clocks.sm", "temperature.gpu",
    "ecc.mode.current", "mig.mode.current", "compute_mode", "persistence_mode",
)  # fmt: skip
ATTRIBUTES = (
    "MULTIPROCESSOR_COUNT", "CLOCK_RATE", "MEMORY_CLOCK_RATE", "GLOBAL_MEMORY_BUS_WIDTH", "L2_CACHE_SIZE", "WARP_SIZE",
    "MAX_THREADS_PER_BLOCK", "MAX_THREADS_PER_MULTI_PROCESSOR", "MAX_REGISTERS_PER_BLOCK", "MAX_REGISTERS_PER_MULTIPROCESSOR",
    "MAX_SHARED_MEMORY_PER_BLOCK", "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN", "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR", "COOPERATIVE_LAUNCH",
    "CONCURRENT_KERNELS", "COMPUTE_MODE",
)  # fmt: skip


def measure(options: Options, write: Write) -> None:
    """Measure the part; see `gpu_check.frame`."""
    facts: Result = {
        "python": f"{platform.python_version()} at {sys.executable}",
        "system": f"{platform.platform()}, {os.cpu_count()} CPU cores",
        "packages": {name: _version(name) for name in PACKAGES},
        "programs": {name: shutil.which(name) for name in PROGRAMS},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "probes": {},
    }
    write(facts)
    for name, find in (("nvidia_smi", _nvidia_smi), ("libraries", _libraries), ("qrnn", _qrnn)):
        facts[name] = _or_problem(find)
        write(facts)
    facts["device"] = _or_problem(_simulated if options.dry_run else _device)
    write(facts)
    from gpu_check import probes

    for name, probe in probes.PROBES.items():
        if options.dry_run and name not in probes.SIMULATED:
            continue
        began = time.monotonic()
        try:
            said = probe()
        except Exception as error:  # noqa: BLE001  (each probe is there to find out what goes wrong)
            traceback.print_exc()
            said = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
        facts["probes"][name] = {"said": said, "seconds": time.monotonic() - began}
        write(facts)
    failed = [name for name, probe in facts["probes"].items() if probe["said"].startswith("FAILED")]
    if failed:
        raise CheckError(f"these do not work here: {', '.join(failed)}")


def page(result: Result) -> str:
    """Return Markdown of the section."""
    text = ["| | |", "|---|---|"]
    for name in ("device", "nvidia_smi"):
        found = result.get(name)
        text += [f"| {key} | {value} |" for key, value in found.items()] if isinstance(found, dict) else []
        text += [f"| {name} | {found} |"] if isinstance(found, str) else []
    text += [f"| {name} | {result[name]} |" for name in ("python", "system", "qrnn") if name in result]
    packages = ", ".join(f"{name} {found}" for name, found in result["packages"].items() if found)
    absent = ", ".join(name for name, found in result["packages"].items() if not found)
    text += [f"| packages | {packages} |", f"| not installed | {absent or 'none of those looked for'} |"]
    libraries = result.get("libraries", {})
    if isinstance(libraries, dict):
        text += [f"| library {name} | {place} |" for name, place in libraries.items()]
    text += [f"| program {name} | {place or 'not found'} |" for name, place in result["programs"].items()]
    text += [f"| variable {name} | {value} |" for name, value in result["variables"].items()]
    text += [
        "",
        "What the kernels need, each by itself:",
        "",
        "| | outcome | seconds, compilation included |",
        "|---|---|---|",
    ]
    text += [f"| {name} | {probe['said']} | {probe['seconds']:.2f} |" for name, probe in result["probes"].items()]
    return "\n".join(text)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _or_problem(find: Callable[[], Any]) -> Any:
    """Return what ``find`` finds, or a line that says what went wrong."""
    try:
        return find()
    except Exception as error:  # noqa: BLE001  (the next fact is looked for whatever this is)
        traceback.print_exc()
        return f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:500]}"


def _nvidia_smi() -> dict[str, str] | str:
    if shutil.which("nvidia-smi") is None:
        return "nvidia-smi is not found"
    every = _ask(",".join(QUERY))
    if len(values := every.split(", ")) == len(QUERY):
        return dict(zip(QUERY, values, strict=True))
    return {
        name: _ask(name) or "unknown" for name in QUERY
    }  # a driver that does not know one of them answers the others


def _ask(fields: str) -> str:
    """Return what nvidia-smi says of the first device, an empty text where it does not know one of the fields."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _libraries() -> dict[str, str]:
    from cuda.pathfinder import load_nvidia_dynamic_lib

    found = {}
    for name in LIBRARIES:
        try:
            loaded = load_nvidia_dynamic_lib(name)
            found[name] = f"{loaded.abs_path} ({loaded.found_via})"
        except Exception as error:  # noqa: BLE001
            found[name] = f"FAILED: {type(error).__name__}"
    try:
        from numba.cuda.cudadrv import libs

        place = libs.get_cudalib("cudadevrt", static=True)
        found["cudadevrt"] = f"{place}{'' if Path(place).is_file() else ' (does not exist)'}"
    except Exception as error:  # noqa: BLE001
        found["cudadevrt"] = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return found


def _qrnn() -> str:
    import qrnn

    return f"{qrnn.__version__} at {Path(qrnn.__file__).parent}"


def _simulated() -> dict[str, Any]:
    from qrnn.backends.cuda.device import find_device

    return dict(vars(find_device()))


def _device() -> dict[str, Any]:
    from numba import cuda

    from qrnn.backends.cuda.device import find_device

    found = dict(vars(find_device()))
    current = cuda.get_current_device()
    for name in ATTRIBUTES:
        found[name.lower()] = _or_problem(partial(getattr, current, name))
    found["memory"] = _or_problem(lambda: [int(size) for size in cuda.current_context().get_memory_info()])
    found["cuda_of_driver"] = _or_problem(_driver_version)
    return found


def _driver_version() -> str:
    from numba.cuda.cudadrv.driver import driver

    return ".".join(map(str, driver.get_version()))
