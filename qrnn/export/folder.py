"""The folder that ``qrnn export`` writes: C, self-test, build files, README and the model, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, get_args

from qrnn.arithmetic import CONTRACT_VERSION
from qrnn.errors import DataError, ModelFileError
from qrnn.export import golden
from qrnn.export.expected import host_results, integer_sequences, random_sequences
from qrnn.export.names import model_identifier
from qrnn.export.readme import readme_fields
from qrnn.export.source import Exported, export_source
from qrnn.model.file import load, save
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Kernels, Target, load_target, target_names, targets_folder

MANIFEST = "manifest.json"
FORMAT = "qrnn-export-2"

TEST = "test"
"""The subfolder of the self-test: a library's tests, which PlatformIO and Arduino leave out of a build by this name or by its depth."""


@dataclass(frozen=True)
class ExportedFolder:
    """A folder that was exported: its model, and the C in it. ``target`` is where it is to run, not always the export's own."""

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
    place = _place(folder)
    name = model_identifier(name)
    exported = export_source(
        model, name, target.core.kernels, [f"{name}: made by qrnn for {target.name}"], _purpose(target)
    )
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
        f"{TEST}/{name}_golden.h": golden.golden_header(exported, sequences, results),
        f"{TEST}/{name}_selftest.h": golden.selftest_header(name),
        f"{TEST}/{name}_selftest.c": golden.selftest_source(exported, sequences),
        f"{TEST}/main.c": golden.main_source(name),
        "LICENSE": _licence(),
        **{header: (runtime / header).read_text(encoding="utf-8") for header in exported.runtime},
    }
    try:
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".qrnn.") as temporary:
            made = Path(temporary) / "made"
            (made / TEST).mkdir(parents=True)
            for file, text in files.items():
                _write(made / file, text)
            save(model, made / f"{name}.qrnn")
            values = readme_fields(model, exported, target, _digest(made / f"{name}.qrnn"))
            for template in ("README.md", "Makefile", "CMakeLists.txt"):
                text = (targets_folder() / "templates" / template).read_text(encoding="utf-8")
                _write(made / template, Template(text).substitute(values))
            manifest = {
                "format": FORMAT,
                "name": name,
                "target": target.name,
                "kernels": exported.kernels,
                "contract": CONTRACT_VERSION,
                "files": {
                    path.relative_to(made).as_posix(): _digest(path)
                    for path in sorted(made.rglob("*"))
                    if path.is_file()
                },
            }
            _write(made / MANIFEST, json.dumps(manifest, indent=2) + "\n")
            for place_made in (made, made / TEST):
                place_made.chmod(0o755)
            _replace(place, made, Path(temporary) / "before")
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}; give another folder") from None
    return exported


def read_folder(folder: Path, target: Target | None = None) -> ExportedFolder:
    """An exported folder; ModelFileError names the file that is missing, damaged or changed. ``target`` in place of the export's own."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}; expected a folder made by qrnn export") from None
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: not JSON ({error}); export the model again") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise ModelFileError(f"{path}: format {found!r}, expected {FORMAT!r}; export the model again")
    name, kernels, files = (manifest.get(key) for key in ("name", "kernels", "files"))
    if not (
        isinstance(name, str)
        and name == model_identifier(name)
        and kernels in get_args(Kernels)
        and isinstance(files, dict)
        and {f"{name}.c", f"{name}.h", f"{name}.qrnn"} <= files.keys()
    ):
        raise ModelFileError(f"{path}: not a manifest of qrnn export; export the model again")
    for file, digest in files.items():
        if not (_is_within(file) and (folder / file).is_file()) or _digest(folder / file) != digest:
            raise ModelFileError(f"{folder / file}: missing or changed since the export; export the model again")
    model = load(folder / f"{name}.qrnn")
    return ExportedFolder(
        folder, name, target or _own_target(path, manifest), model, export_source(model, name, kernels)
    )


def _is_within(file: str) -> bool:
    """Whether a manifest's name of a file is that of one in the folder itself or in `TEST`."""
    return Path(file.removeprefix(f"{TEST}/")).name == file.removeprefix(f"{TEST}/") and "\\" not in file


def _purpose(target: Target) -> str:
    """What C for ``target`` is for and how to compile it."""
    flags = " ".join(target.build.gnu_flags)
    return f"{target.name} (compile it with {flags})" if flags else target.name


def _licence() -> str:
    """The text of the licence of exported code: in a wheel beside the targets, in a checkout beside their folder."""
    places = (targets_folder() / "LICENSE", targets_folder().parent / "LICENSE")
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")


def _own_target(path: Path, manifest: dict[str, Any]) -> Target:
    """The target that a folder was exported for; one that is not among qrnn's must be given by its file."""
    name = manifest.get("target")
    if name not in target_names():
        raise ModelFileError(f"{path}: target {name!r} is none of qrnn's own; give its file (--target PATH.toml)")
    return load_target(name)


def _place(folder: Path) -> Path:
    """Where ``folder`` really lies; DataError where something would be lost, or cannot be written."""
    try:
        place = folder.resolve()
        if place.exists() and not place.is_dir():
            raise DataError(f"cannot write {folder}: it is a file; give the name of a folder")
        if place.is_dir() and any(place.iterdir()) and not _is_export(place):
            raise DataError(
                f"cannot write {folder}: it is not empty, and not from an earlier export; give another folder"
            )
        if not place.parent.is_dir():
            raise DataError(f"cannot write {folder}: no folder {place.parent}; make it first")
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go round in circles
        raise DataError(f"cannot write {folder}: {error}; give another folder") from None
    return place


def _is_export(folder: Path) -> bool:
    """Whether an earlier export, of any version, wrote a folder."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and str(manifest.get("format")).startswith("qrnn-export-")


def _replace(place: Path, made: Path, before: Path) -> None:
    """Move ``made`` to ``place``, and what was there to ``before``; it comes back where that fails."""
    existed = place.exists()
    if existed:
        place.rename(before)
    try:
        made.rename(place)
    except OSError:
        if existed:
            before.rename(place)
        raise


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
