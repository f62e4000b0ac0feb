"""The folder that ``qrnn export`` writes: C, self-test, build files, README and the model, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from qrnn.arithmetic import CONTRACT_VERSION
from qrnn.errors import DataError, ModelFileError
from qrnn.export import golden
from qrnn.export.expected import host_results, integer_sequences, random_sequences
from qrnn.export.names import identifier
from qrnn.export.readme import readme_fields
from qrnn.export.source import Exported, export_source
from qrnn.model.file import load, save
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Target, load_target, targets_folder

MANIFEST = "manifest.json"
FORMAT = "qrnn-export-1"


@dataclass(frozen=True)
class ExportedFolder:
    """A folder that was exported: its model, and the C in it. ``sources`` are the .c files of the model itself."""

    path: Path
    name: str
    target: Target
    model: QuantModel
    exported: Exported

    @property
    def source(self) -> Path:
        """The model's C."""
        return self.path / f"{self.name}.c"


def export_model(
    model: QuantModel, target: Target, folder: Path, name: str, data: Mapping[str, Any] | None = None
) -> Exported:
    """Write ``model`` as C for ``target`` to ``folder``, which must be new, empty, or made by an earlier export.

    ``name`` begins all names in C. The golden vectors are of random numbers, and of the first sequences of ``data`` where it is given.
    """
    _check_folder(folder)
    name = identifier(name)
    exported = export_source(model, name, target.core.kernels, [f"{name}: made by qrnn for {target.name}"])
    sequences = random_sequences(model, exported, golden.RANDOM_LENGTHS, golden.SEED)
    if data is not None:
        real = integer_sequences(model, exported, data, golden.MOST_SEQUENCES)
        timed = {p.name for p in exported.inputs if p.has_time}
        sequences += [{k: v[: golden.MOST_STEPS] if k in timed else v for k, v in s.items()} for s in real]
    results = host_results(model, exported, sequences, "reference")
    runtime = targets_folder() / "runtime"
    files = {
        f"{name}.h": exported.header,
        f"{name}.c": exported.source,
        f"{name}_golden.h": golden.golden_header(exported, sequences, results),
        f"{name}_selftest.c": golden.selftest_source(exported, sequences),
        "main.c": golden.main_source(name),
        **{header: (runtime / header).read_text(encoding="utf-8") for header in exported.runtime},
    }
    with tempfile.TemporaryDirectory(dir=_parent(folder), prefix=".qrnn.") as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        for file, text in files.items():
            (made / file).write_text(text, encoding="utf-8", newline="\n")
        save(model, made / f"{name}.qrnn")
        values = readme_fields(model, exported, target, _digest(made / f"{name}.qrnn"))
        for template in ("README.md", "Makefile", "CMakeLists.txt"):
            text = (targets_folder() / "templates" / template).read_text(encoding="utf-8")
            (made / template).write_text(Template(text).substitute(values), encoding="utf-8", newline="\n")
        manifest = {
            "format": FORMAT,
            "name": name,
            "target": target.name,
            "contract": CONTRACT_VERSION,
            "files": {path.name: _digest(path) for path in sorted(made.iterdir())},
        }
        (made / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        made.chmod(0o755)
        if folder.exists():
            folder.rename(Path(temporary) / "before")
        made.rename(folder)
    return exported


def read_folder(folder: Path, target: Target | None = None) -> ExportedFolder:
    """An exported folder; ModelFileError names the file that is missing, damaged or changed. ``target`` in place of the export's own."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}; expected a folder made by qrnn export") from None
    except ValueError as error:
        raise ModelFileError(f"{path}: not JSON ({error}); export the model again") from None
    try:
        found, name, files = manifest["format"], manifest["name"], dict(manifest["files"])
        target = target or load_target(manifest["target"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelFileError(f"{path}: not a manifest of qrnn export; export the model again") from None
    if found != FORMAT:
        raise ModelFileError(f"{path}: format {found!r}, expected {FORMAT!r}; export the model again")
    for file, digest in files.items():
        if "/" in file or not (folder / file).is_file() or _digest(folder / file) != digest:
            raise ModelFileError(f"{folder / file}: missing or changed since the export; export the model again")
    model = load(folder / f"{name}.qrnn")
    return ExportedFolder(folder, name, target, model, export_source(model, name, target.core.kernels))


def _check_folder(folder: Path) -> None:
    """DataError where something would be lost, or cannot be written."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise DataError(f"cannot write {folder}: it is not empty, and not from an earlier export; give another folder")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"cannot write {folder}: it is a file; give the name of a folder")
    if not _parent(folder).is_dir():
        raise DataError(f"cannot write {folder}: no folder {_parent(folder)}; make it first")


def _parent(folder: Path) -> Path:
    return folder.absolute().parent


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
