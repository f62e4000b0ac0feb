"""Write the kernels that a run on a GPU confirmed into qrnn/backends/cuda/data/proved.json: `python tools/gpu_check --adopt FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qrnn.backends.cuda.device import SIMULATED_DEVICE, Device
from qrnn.backends.cuda.proofs import PROVED, DeviceProofs, Evidence, code_digest, document_of, promoted, read_proofs
from qrnn.backends.cuda.records import as_json, capability_of, checked, read_json, require
from qrnn.errors import BackendError, QrnnError
from qrnn.system.atomic import write_atomically

RESULTS = "gpu_check.json"
MOST_BYTES = 1 << 26
"""The largest file of results that is read."""


def evidence_head(device: Device) -> dict[str, Any]:
    """Return what a part whose result has ``kernels`` (`Evidence.records`) writes beside it: the device that ran them, and the code."""
    return {
        "evidence": {
            "device": device.name,
            "capability": list(device.capability),
            "driver": _driver(),
            "code": code_digest(),
        }
    }


def _driver() -> str:
    """Return the CUDA version of the driver."""
    from numba import cuda

    from qrnn.backends.cuda.intrinsics import SIMULATED

    if SIMULATED:
        return "simulator"
    return "CUDA " + ".".join(map(str, cuda.cudadrv.driver.driver.get_version()))


def read_results(folder: Path) -> dict[str, Any]:
    """Return the results in a folder that `python tools/gpu_check` wrote, or in one of its files; BackendError where there are none."""
    path = folder / RESULTS if folder.is_dir() else folder
    document = read_json(path, MOST_BYTES)
    if not isinstance(document, dict) or not isinstance(document.get("parts"), dict):
        raise BackendError(f"{path}: not a file of results; expected the {RESULTS} of python tools/gpu_check")
    for key in ("date", "revision"):
        require(isinstance(document.get(key), str), str(path), key, document.get(key), "a string")
    if document.get("dry_run") is not False:
        raise BackendError(
            f"{path}: a dry run in the simulator tells nothing of a GPU; run python tools/gpu_check on one"
        )
    return document


def part_results(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what each part wrote."""
    found = {name: part.get("result") for name, part in document["parts"].items() if isinstance(part, dict)}
    return {name: result for name, result in found.items() if isinstance(result, dict)}


def command(work: Callable[[Path], str], folder: Path) -> int:
    """Print what ``work`` says of a folder (`adopt` or `gpu_check.fit.fit_folder`); print one line on stderr and return 2 where it refuses."""
    try:
        print(work(folder))
    except (QrnnError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def adopt(folder: Path, path: Path = PROVED) -> str:
    """Promote the kernels that were exact in the results, take out those that were not, and say in one line what was done.

    BackendError where the results name no kernel, or where the kernels that ran are not those of this checkout. Nothing is written then.
    """
    document = read_results(folder)
    evidence, run = Evidence(), None
    for name, result in part_results(document).items():
        if "kernels" not in result:
            continue
        where = f"{folder}: part {name}"
        evidence.add_records(f"{where}: kernels", result["kernels"])
        head = checked(
            f"{where}: evidence",
            result.get("evidence"),
            {"device": str, "capability": list, "driver": str, "code": str},
        )
        if head["device"] == SIMULATED_DEVICE.name:
            raise BackendError(f"{where}: ran in the simulator, which tells nothing of a GPU")
        found = DeviceProofs(
            head["device"],
            capability_of(where, head["capability"]),
            head["driver"],
            document["date"],
            document["revision"],
            head["code"],
            {},
        )
        if run is not None and found != run:
            raise BackendError(f"{where}: ran on another device or from other code than the parts before it")
        run = found
    if run is None:
        raise BackendError(
            f"{folder}: no part says which kernels ran; run python tools/gpu_check with all of its parts"
        )
    if run.code != code_digest():
        raise BackendError(
            f"{folder}: the kernels that ran are not those of this checkout; check out revision {run.revision}, or run again"
        )
    before = read_proofs(path)
    after = promoted(before, evidence, run)
    write_atomically(path, as_json(document_of(after)))
    known = {kind for one in before if one.code == run.code for kind in one.cases}
    held = {kind for one in after if one.code == run.code for kind in one.cases}
    few = len(set(evidence.exact) - set(evidence.wrong) - held)
    return (
        f"{path}: {len(held - known)} kernels added, {len(known - held)} taken out, {len(held)} proved in all; "
        f"{len(evidence.wrong)} were wrong, {few} had too few runs"
    )
