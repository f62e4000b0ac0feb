"""The folder of a sweep: one JSON file per configuration, written whole or not at all, under a digest of everything that it depends on.

A sweep that was interrupted continues where it was, and one that is changed keeps what it has in common with the last.

    DIR/results/KEY.json   a configuration's record
    DIR/models/KEY.qrnn    its model
    DIR/sweep.json, table.csv, front.csv, *.png, report.html   made of them at the end
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from qrnn.arithmetic import CONTRACT_VERSION
from qrnn.devices.toolchain import find_toolchain
from qrnn.errors import DataError, DeviceError
from qrnn.lab.axes import choices
from qrnn.lab.evaluate import Record, Setting
from qrnn.lab.training import AXIS, epochs_of
from qrnn.quantization.scheme import Scheme
from qrnn.system.atomic import destination, write_atomically
from qrnn.system.files import read_regular, reason
from qrnn.system.version import __version__

FORMAT = "qrnn-sweep-1"
SUMMARY = "sweep.json"
REPORT = "report.html"
TABLES = ("table.csv", "front.csv")
OWN = ("results", "models", SUMMARY)
"""The files by which a sweep's folder is known."""


def versions(setting: Setting, form: str = FORMAT) -> dict[str, str]:
    """Return what may change a figure beside the inputs: qrnn, the contract, NumPy, the target's compiler and whether it is emulated."""
    target = setting.target
    try:
        compiler = find_toolchain(target).version()
    except DeviceError:
        compiler = "none"
    from shutil import which

    emulator = target.emulation.command if target.emulation is not None and which(target.emulation.command) else "none"
    return {
        "format": form,
        "qrnn": __version__,
        "contract": CONTRACT_VERSION,
        "numpy": np.__version__,
        "compiler": compiler,
        "emulator": emulator,
    }


class Results:
    """The records of one setting in a folder, which is made; DataError where it is something else, or cannot be written."""

    def __init__(self, folder: Path, setting: Setting, form: str = FORMAT) -> None:
        check_folder(folder)
        self.folder = folder
        self.versions = versions(setting, form)
        self._common = {**setting.digests, **self.versions}
        self._training = "" if setting.plan is None else setting.plan.digest
        try:
            for part in ("results", "models"):
                os.makedirs(os.path.realpath(folder / part), exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot write to {folder / part}: {reason(error)}; give another folder") from None

    def key(self, scheme: Scheme) -> str:
        """Return the configuration's digest, 16 hexadecimal digits; of the training data only where it is trained."""
        chosen, common = choices(scheme), self._common
        if epochs_of(scheme):
            common = {**common, "training": self._training}
        else:
            chosen.pop(AXIS, None)
        text = json.dumps({**common, "scheme": chosen}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def read(self, key: str) -> Record | None:
        """Return a record, or None where there is none; DataError for a damaged file, which sweeps never write."""
        path = self._record(key)
        try:
            record = json.loads(read_regular(path).decode())
            if record["key"] == key:
                return dict(record)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            pass
        raise self.damaged(key)

    def damaged(self, key: str) -> DataError:
        """Return the error for a record that sweeps and searches never write."""
        return DataError(
            f"{self._record(key)}: not a record of qrnn sweep or tune; delete it, and it is measured again"
        )

    def write(self, key: str, record: Record, model: bytes | None = None) -> Record:
        """Write a record after its model, so that every record has its model, and return it as it is read."""
        if model is not None:
            write_atomically(self.model_path(key), model)
        text = json.dumps({"key": key, **record}, allow_nan=False, indent=1)
        write_atomically(self._record(key), text.encode())
        return dict(json.loads(text))

    def model_path(self, key: str) -> Path:
        """Return the path of a configuration's model."""
        return self.folder / "models" / f"{key}.qrnn"

    def _record(self, key: str) -> Path:
        return self.folder / "results" / f"{key}.json"


def check_folder(folder: Path) -> None:
    """Refuse a folder that is neither new, empty nor a sweep's, or that cannot be written, with every file that a sweep always leaves."""
    try:
        place = Path(os.path.realpath(folder))  # of a link to nothing, what it points to
        if os.path.lexists(place):
            if not stat.S_ISDIR(os.stat(place).st_mode):
                raise DataError(f"cannot write {folder}: it is a file; give the name of a folder")
            found = {path.name for path in place.iterdir()}
            if found and not found & set(OWN):
                raise DataError(
                    f"cannot write {folder}: it is not empty, and not from an earlier sweep or search; give another folder"
                )
            for name in (*TABLES, SUMMARY, REPORT):
                destination(folder / name)
        elif not stat.S_ISDIR(os.stat(place.parent).st_mode):
            raise DataError(f"cannot write {folder}: no folder {place.parent}; make it first")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"cannot write {folder}: no folder {place.parent}; make it first") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot write {folder}: {reason(error)}; give another folder") from None


def json_bytes(value: Any) -> bytes:
    """Return ``value`` as the bytes of a JSON file."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
