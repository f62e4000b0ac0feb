"""The folder that ``qrnn export`` writes has C, self-test, build files, README and the model; it is written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, get_args

from qrnn.errors import DataError, ModelFileError
from qrnn.export import golden
from qrnn.export.expected import host_results, integer_sequences, random_sequences
from qrnn.export.names import model_identifier
from qrnn.export.readme import readme_fields
from qrnn.export.source import Exported, export_source
from qrnn.model.file import load, save
from qrnn.model.integers_only import check_integers
from qrnn.model.quant_model import QuantModel
from qrnn.system.atomic import sync_file, sync_folder
from qrnn.system.files import kind_of, read_regular, reason
from qrnn.targets import Kernels, Target, load_target, target_names, targets_folder

MANIFEST = "manifest.json"
FORMAT = "qrnn-export-3"
MOST_BYTES = 1 << 20
"""The most bytes that a manifest may have; qrnn's own have about two thousand."""

TEST = "test"
"""The subfolder of the self-test: a library's tests, which PlatformIO and Arduino leave out of a build by this name or by its depth."""


@dataclass(frozen=True)
class ExportedFolder:
    """A folder that was exported: its model and its C. ``target`` is where it is to run, which need not be the export's own target."""

    path: Path
    name: str
    target: Target
    model: QuantModel
    exported: Exported

    @property
    def source(self) -> Path:
        """Return the path of the model's C."""
        return self.path / f"{self.name}.c"


def export_model(
    model: QuantModel, target: Target, folder: Path, name: str, data: Mapping[str, Any] | None = None
) -> Exported:
    """Write ``model`` as C for ``target`` to ``folder``, which must be new, empty, or made by an earlier export.

    ``name`` begins all names in C. The golden vectors are of random numbers, and of the first sequences of ``data`` where it is given.
    Raises UnsupportedError for what C cannot hold, and DataError for a folder that holds something else.
    """
    check_integers(model, "export")
    place = _place(folder)
    name = model_identifier(name)
    exported = export_source(
        model, name, target.core.kernels, [f"{name}: made by qrnn for {target.name}"], _purpose(target)
    )
    lengths: tuple[int, ...] = golden.RANDOM_LENGTHS
    if golden.wants_long(exported):
        lengths += (golden.LONG,)
    apart = any(s.port.has_time for s in exported.given)  # NAME_run has no state for each row
    lengths = (1,) * len(lengths) if apart else lengths
    sequences = random_sequences(model, exported, lengths, golden.SEED)
    if data is not None:
        most = golden.MOST_STEPS if model.rows else golden.MOST_SEQUENCES
        real = integer_sequences(model, exported, data, most)
        timed = {p.name for p in (*exported.inputs, *(s.port for s in exported.given)) if p.has_time}
        steps = 1 if apart else golden.MOST_STEPS
        sequences += [{k: v[:steps] if k in timed else v for k, v in s.items()} for s in real]
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
        # What is there already is not moved: it may be a mount point, or the folder in which a shell stands.
        with tempfile.TemporaryDirectory(dir=place if place.exists() else place.parent, prefix=".qrnn.") as temporary:
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
                "contract": model.contract,
                "files": {file: _digest(made / file) for file in _files(made)},
            }
            _write(made / MANIFEST, json.dumps(manifest, indent=2) + "\n")
            for path in _files(made):
                sync_file(made / path)
            if place.exists():
                _replace(place, made, Path(temporary) / "before")
            else:
                made.rename(place)
        sync_folder(place / TEST)
        sync_folder(place)
        sync_folder(place.parent)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {reason(error)}; give another folder") from None
    return exported


def read_folder(folder: Path, target: Target | None = None) -> ExportedFolder:
    """Read an exported folder; ModelFileError names the file that is missing, damaged or changed. ``target`` replaces the export's own."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(read_regular(path, MOST_BYTES).decode())
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
        if not _is_within(file) or not _is_as_exported(folder / file, digest):
            raise ModelFileError(f"{folder / file}: missing or changed since the export; export the model again")
    model = load(folder / f"{name}.qrnn")
    return ExportedFolder(
        folder, name, target or _own_target(path, manifest), model, export_source(model, name, kernels)
    )


def _is_within(file: str) -> bool:
    """Return whether a manifest's name of a file is that of one in the folder itself or in `TEST`."""
    return Path(file.removeprefix(f"{TEST}/")).name == file.removeprefix(f"{TEST}/") and "\\" not in file


def _purpose(target: Target) -> str:
    """Return what C for ``target`` is for and how to compile it."""
    flags = " ".join(target.build.gnu_flags)
    return f"{target.name} (compile it with {flags})" if flags else target.name


def _licence() -> str:
    """Return the text of the licence of exported code: in a wheel beside the targets, in a checkout beside their folder."""
    places = (targets_folder() / "LICENSE", targets_folder().parent / "LICENSE")
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")


def _own_target(path: Path, manifest: dict[str, Any]) -> Target:
    """Return the target that a folder was exported for; one that is not among qrnn's must be given by its file."""
    name = manifest.get("target")
    if name not in target_names():
        raise ModelFileError(f"{path}: target {name!r} is none of qrnn's own; give its file (--target PATH.toml)")
    return load_target(name)


def _place(folder: Path) -> Path:
    """Return where ``folder`` really lies; DataError where something would be lost, or cannot be written."""
    try:
        place = folder.resolve()
        if place.exists() and not place.is_dir():
            raise DataError(f"cannot write {folder}: it is a file; give the name of a folder")
        if place.is_dir() and any(place.iterdir()) and _earlier(place) is None:
            raise DataError(
                f"cannot write {folder}: it is not empty, and not from an earlier export; give another folder"
            )
        if not place.parent.is_dir():
            raise DataError(f"cannot write {folder}: no folder {place.parent}; make it first")
    except RuntimeError:
        raise DataError(f"cannot write {folder}: its links go round in circles; give another folder") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot write {folder}: {reason(error)}; give another folder") from None
    return place


def _earlier(folder: Path) -> frozenset[str] | None:
    """Return the names of the files that an earlier export, of any version, wrote to a folder; None where none did."""
    try:
        manifest = json.loads(read_regular(folder / MANIFEST, MOST_BYTES).decode())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(manifest, dict) or not str(manifest.get("format")).startswith("qrnn-export-"):
        return None
    files = manifest.get("files")
    names = files if isinstance(files, dict) else ()
    return frozenset(name for name in names if _is_within(name))


def _files(folder: Path) -> list[str]:
    """Return the names of all files in a folder and its subfolders, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _replace(place: Path, made: Path, before: Path) -> None:
    """Move the files of ``made`` to the folder ``place``, the manifest last, and what an earlier export left there to ``before``.

    Other files in the folder stay. Where a move fails, those before it are taken back.
    """
    new = sorted(_files(made), key=lambda name: (name == MANIFEST, name))
    old = _earlier(place) or frozenset()
    stale = sorted(name for name in old if name not in new and (place / name).is_file())
    if os.path.lexists(place / TEST) and not stat.S_ISDIR((place / TEST).lstat().st_mode):
        raise OSError(errno.EEXIST, f"{TEST} is there already, and is not a folder")
    for name in new:
        if os.path.lexists(place / name):
            words = kind_of((place / name).lstat())
            if words is None and name not in old and name != MANIFEST:
                words = "is there already, and not from an earlier export"
            if words is not None:
                raise OSError(errno.EEXIST, f"{name} {words}")
    (before / TEST).mkdir(parents=True)
    had_test = (place / TEST).exists()
    moved: list[tuple[Path, Path]] = []
    try:
        (place / TEST).mkdir(exist_ok=True)
        for name in (*new, *stale):
            steps = [(place / name, before / name)] if os.path.lexists(place / name) else []
            if name in new:
                steps.append((made / name, place / name))
            for source, target in steps:
                source.rename(target)
                moved.append((source, target))
    except BaseException:
        for source, target in reversed(moved):
            target.rename(source)
        if not had_test:
            with contextlib.suppress(OSError):  # it was not made, or others have filled it
                (place / TEST).rmdir()
        raise


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def _digest(path: Path) -> str:
    return hashlib.sha256(read_regular(path)).hexdigest()


def _is_as_exported(path: Path, digest: object) -> bool:
    try:
        return _digest(path) == digest
    except OSError:
        return False
