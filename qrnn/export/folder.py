"""The folder that ``qrnn export`` writes has C, self-test, build files, README and the model; it is written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from qrnn.errors import DataError, ModelFileError
from qrnn.export import golden, selftest
from qrnn.export.bench import bench_files, bench_main
from qrnn.export.choices import Choices, read_choices
from qrnn.export.expected import host_results, integer_sequences, random_sequences
from qrnn.export.generation import Generation
from qrnn.export.generation_golden import golden_arrays, selftest_function
from qrnn.export.generation_replay import cases_of, host_generated
from qrnn.export.info import Measured, info_header
from qrnn.export.names import model_identifier
from qrnn.export.packages import FOLDER, NAME, Layout, load_package, readme_template, substituted
from qrnn.export.readme import readme_fields
from qrnn.export.real_functions import float_header
from qrnn.export.replay import Vectors
from qrnn.export.source import Exported, export_source
from qrnn.model.file import load, save
from qrnn.model.integers_only import check_integers
from qrnn.model.quant_model import QuantModel
from qrnn.system.atomic import sync_file, sync_folder
from qrnn.system.files import kind_of, read_regular, reason
from qrnn.targets import Kernels, ListCosts, Target, chip_names, load_target, target_names, targets_folder

MANIFEST = "manifest.json"
FORMAT = "qrnn-export-4"
MOST_BYTES = 1 << 24
"""The most bytes that a manifest may have; qrnn's own have about two thousand, and more where every feature has a name or a scale of codes."""

MOST_PARTS = 8
"""The most folders and names in the path of a file of an exported folder."""

MOST_GENERATED = 2
"""The golden sequences from which the self-test generates."""


@dataclass(frozen=True)
class ExportedFolder:
    """A folder that was exported: its model and its C. ``target`` is where it is to run, which need not be the export's own target.

    ``source`` is the path of the model's C, ``header`` that of its header, and ``model_sha256`` the digest of the model's file.
    """

    path: Path
    name: str
    target: Target
    model: QuantModel
    exported: Exported
    source: Path
    header: Path
    model_sha256: str = ""

    @property
    def include_dirs(self) -> list[Path]:
        """Return the folders of the headers."""
        return list(dict.fromkeys((self.header.parent, self.source.parent)))


def export_model(
    model: QuantModel,
    target: Target,
    folder: Path,
    name: str,
    data: Mapping[str, Any] | None = None,
    choices: Choices | None = None,
    package: str = FOLDER,
    measured: Measured | None = None,
    generation: Generation | None = None,
    bench: bool = False,
) -> Exported:
    """Write ``model`` as C for ``target`` to ``folder``, which must be new, empty, or made by an earlier export.

    ``name`` begins all names in C. The golden vectors are of random numbers, and of the first sequences of ``data`` where it is given.
    ``choices`` are what the C has beside the model's own functions, ``package`` the layout of the folder, ``measured`` what is known of
    the model on the target; ``generation`` asks for functions that feed an output back (docs/decoding.md), and ``bench`` for a measurement
    on a board (docs/firmware.md). Raises UnsupportedError for what C cannot hold, and DataError for a folder that holds something else, and
    for a model that does not generate.
    """
    check_integers(model, "export")
    place, laid_out = _place(folder), load_package(package)
    name = model_identifier(name)
    if len(name) > laid_out.longest_name:
        raise DataError(
            f"the name {name!r} has {len(name)} characters, and package {package} takes {laid_out.longest_name}; give a shorter one (--name)"
        )
    exported = export_source(
        model,
        name,
        target.core.kernels,
        [f"{name}: made by qrnn for {target.name}"],
        _purpose(target),
        choices,
        generation,
        target.lists,
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
    layout, runtime = _filled(laid_out.layout, name), targets_folder() / "runtime"
    arrays, again = _generated(model, exported, sequences)
    tests = {
        f"{name}_golden.h": golden.golden_header(exported, sequences, results, arrays),
        f"{name}_selftest.h": selftest.selftest_header(name, laid_out.prints),
        f"{name}_selftest.c": selftest.selftest_source(
            model, exported, sequences, _upwards(layout), laid_out.prints, again, bench
        ),
        **({"main.c": selftest.main_source(name)} if layout.test_main else {}),
    }
    measured_by = bench_files(model, exported, target, sequences, _upwards(layout)) if bench else {}
    if bench and layout.test_main:
        measured_by["bench_main.c"] = bench_main(name)
    public = {
        f"{name}.h": exported.header,
        f"{name}_float.h": float_header(name, model, exported.inputs, exported.outputs, exported.given),
    }
    own = {f"{name}.c": exported.source}
    own |= {header: (runtime / header).read_text(encoding="utf-8") for header in exported.runtime}
    placed = [(layout.header, public), (layout.source, own), (layout.test, tests)]
    placed.append(
        (laid_out.bench.replace(NAME, name), tests | measured_by)
        if bench and laid_out.bench
        else (layout.test, measured_by)
    )
    files = {_within(inner, file): text for inner, texts in placed for file, text in texts.items()}
    files["LICENSE"] = _licence()
    try:
        # What is there already is not moved: it may be a mount point, or the folder in which a shell stands.
        with tempfile.TemporaryDirectory(dir=place if place.exists() else place.parent, prefix=".qrnn.") as temporary:
            made = Path(temporary) / "made"
            saved = made / _within(layout.model, f"{name}.qrnn")
            saved.parent.mkdir(parents=True)
            save(model, saved)
            digest = _digest(saved)
            files[_within(layout.header, f"{name}_info.h")] = info_header(model, exported, target, digest, measured)
            values = readme_fields(model, exported, target, digest, laid_out, layout, bench)
            files |= laid_out.files(values, bench)
            files["README.md"] = substituted(readme_template(), values)
            for file, text in files.items():
                _write(made / file, text)
            manifest = {
                "format": FORMAT,
                "name": name,
                "target": target.name,
                "kernels": exported.kernels,
                "lists": asdict(target.lists),
                "contract": model.contract,
                "package": package,
                "choices": exported.choices.to_dict(),
                **({} if generation is None else {"generate": generation.to_dict()}),
                "files": {file: _digest(made / file) for file in _files(made)},
            }
            _write(made / MANIFEST, json.dumps(manifest, indent=2) + "\n")
            for path in _files(made):
                sync_file(made / path)
            if place.exists():
                _replace(place, made, Path(temporary) / "before")
            else:
                made.rename(place)
        for inner in _folders(files):
            sync_folder(place / inner)
        sync_folder(place)
        sync_folder(place.parent)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {reason(error)}; give another folder") from None
    return exported


def read_folder(folder: Path, target: Target | None = None) -> ExportedFolder:
    """Read an exported folder; ModelFileError names the file that is missing, damaged or changed. ``target`` replaces the export's own."""
    path = folder / MANIFEST
    if folder.is_file():
        raise ModelFileError(
            f"{folder}: is a file, expected a folder made by qrnn export; a converted model becomes one by: qrnn export MODEL.qrnn --target "
            "NAME -o FOLDER"
        )
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
    own: dict[str, Path] = {}
    if not (
        isinstance(name, str)
        and name == model_identifier(name)
        and kernels in get_args(Kernels)
        and isinstance(files, dict)
        and len(own := _of_model(name, files)) == len(OF_MODEL)
    ):
        raise ModelFileError(f"{path}: not a manifest of qrnn export; export the model again")
    for file, digest in files.items():
        if not is_inner(file) or not _is_as_exported(folder / file, digest):
            raise ModelFileError(f"{folder / file}: missing or changed since the export; export the model again")
    model = load(folder / own[".qrnn"])
    choices = read_choices(manifest.get("choices"), model)
    if choices is None:
        raise ModelFileError(f"{path}: not a manifest of qrnn export; export the model again")
    generation = Generation.from_dict(manifest["generate"], str(path)) if "generate" in manifest else None
    return ExportedFolder(
        folder,
        name,
        target or _own_target(path, manifest),
        model,
        export_source(model, name, kernels, choices=choices, generation=generation, lists=_list_costs(path, manifest)),
        folder / own[".c"],
        folder / own[".h"],
        files[own[".qrnn"].as_posix()],
    )


def _list_costs(path: Path, manifest: dict[str, Any]) -> ListCosts:
    """Return the costs of lists that a folder was exported with; those of no target where it says none."""
    given = manifest.get("lists", {})
    try:
        found = ListCosts(**given)
        fits = all(isinstance(v, float) and 0 <= v < float("inf") for v in asdict(found).values())
    except TypeError:
        fits = False
    if not fits:
        raise ModelFileError(f"{path}: lists {given!r} are not costs of lists; export the model again")
    return found


OF_MODEL = (".c", ".h", ".qrnn")
"""The ends of the names of the files that a model's folder has in any layout."""


def _generated(model: QuantModel, exported: Exported, sequences: Sequence[Vectors]) -> tuple[list[str], list[str]]:
    """Return the arrays and the function of the self-test that generate, or nothing where the model's C does not."""
    if exported.generates is None:
        return [], []
    cases = cases_of(exported, sequences[:MOST_GENERATED])
    generated = host_generated(model, exported, cases, "reference")
    return golden_arrays(exported, cases, generated), selftest_function(exported, cases, generated)


def _of_model(name: str, files: Mapping[str, object]) -> dict[str, Path]:
    """Return the paths of a model's own files, by the ends of their names."""
    paths = {file: PurePosixPath(file) for file in files if isinstance(file, str) and is_inner(file)}
    return {end: Path(file) for end in OF_MODEL for file, path in paths.items() if path.name == f"{name}{end}"}


def is_inner(file: str) -> bool:
    """Return whether a manifest's name of a file is that of one in the folder or its subfolders."""
    parts = file.split("/")
    odd = any(part in ("", ".", "..") or part != part.strip() for part in parts)
    return not odd and len(parts) <= MOST_PARTS and not set(file) & set("\\:\0") and not Path(file).is_absolute()


def _within(folder: str, file: str) -> str:
    """Return the path of a file in a folder of a layout, whose name may be empty."""
    return f"{folder}/{file}" if folder else file


def _filled(layout: Layout, name: str) -> Layout:
    """Return a layout for a model's name."""
    source, header, test, model = (
        folder.replace(NAME, name) for folder in (layout.source, layout.header, layout.test, layout.model)
    )
    return Layout(source, header, test, model, layout.test_main)


def _upwards(layout: Layout) -> str:
    """Return where the self-test finds the model's header: above it, or where a build file says."""
    return "../" if not layout.header and layout.test else ""


def _folders(files: Iterable[str]) -> list[str]:
    """Return all folders in which files lie, but for the top, each before those in it."""
    found = {parent.as_posix() for file in files for parent in PurePosixPath(file).parents}
    return sorted(found - {"."})


def _purpose(target: Target) -> str:
    """Return what C for ``target`` is for and how to compile it."""
    flags = " ".join(target.compiler_flags)
    return f"{target.name} (compile it with {flags})" if flags else target.name


def _licence() -> str:
    """Return the text of the licence of exported code: in a wheel beside the targets, in a checkout beside their folder."""
    places = (targets_folder() / "LICENSE", targets_folder().parent / "LICENSE")
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")


def _own_target(path: Path, manifest: dict[str, Any]) -> Target:
    """Return the target that a folder was exported for; one that is not among qrnn's must be given by its file."""
    name = manifest.get("target")
    if name not in (*target_names(), *chip_names()):
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
    return frozenset(name for name in names if isinstance(name, str) and is_inner(name))


def _files(folder: Path) -> list[str]:
    """Return the names of all files in a folder and its subfolders, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _replace(place: Path, made: Path, before: Path) -> None:
    """Move the files of ``made`` to the folder ``place``, the manifest last, and what an earlier export left there to ``before``.

    Other files in the folder stay. Where a move fails, those before it are taken back.
    """
    new = sorted(_files(made), key=lambda name: (name == MANIFEST, name))
    old = _earlier(place) or frozenset()
    folders, linked = _folders(new), {f for f in _folders(old) if (place / f).is_symlink()}
    stale = sorted(n for n in old if n not in new and (place / n).is_file() and linked.isdisjoint(_folders([n])))
    earlier = [f for f in _folders(old) if (place / f).is_dir() and f not in linked]
    for inner in folders:
        if os.path.lexists(place / inner) and not stat.S_ISDIR((place / inner).lstat().st_mode):
            raise OSError(errno.EEXIST, f"{inner} is there already, and is not a folder")
    for name in new:
        if os.path.lexists(place / name):
            words = kind_of((place / name).lstat())
            if words is None and name not in old and name != MANIFEST:
                words = "is there already, and not from an earlier export"
            if words is not None:
                raise OSError(errno.EEXIST, f"{name} {words}")
    for inner in ("", *_folders([*new, *stale])):
        (before / inner).mkdir(parents=True, exist_ok=True)
    added = [inner for inner in folders if not (place / inner).exists()]
    moved: list[tuple[Path, Path]] = []
    try:
        for inner in added:
            (place / inner).mkdir()
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
        _remove_empty(place, added)
        raise
    _remove_empty(place, [inner for inner in earlier if inner not in folders])


def _remove_empty(place: Path, folders: Sequence[str]) -> None:
    """Remove those of the folders in which nothing lies."""
    for inner in reversed(folders):
        with contextlib.suppress(OSError):  # it was not made, or others have filled it
            (place / inner).rmdir()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def _digest(path: Path) -> str:
    return hashlib.sha256(read_regular(path)).hexdigest()


def _is_as_exported(path: Path, digest: object) -> bool:
    try:
        return _digest(path) == digest
    except OSError:
        return False
