"""The files of an exported folder: where it may be written, how all of them appear at once, and whether they are still what was written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from qrnn.errors import DataError
from qrnn.system.atomic import sync_file, sync_folder
from qrnn.system.files import kind_of, read_regular, reason

MANIFEST = "manifest.json"
MOST_BYTES = 1 << 24
"""The most bytes that a manifest may have; qrnn's own have about two thousand, and more where every feature has a name or a scale of codes."""

MOST_PARTS = 8
"""The most folders and names in the path of a file of an exported folder."""


def is_inner(file: str) -> bool:
    """Return whether a manifest's name of a file is that of one in the folder or its subfolders."""
    parts = file.split("/")
    odd = any(part in ("", ".", "..") or part != part.strip() for part in parts)
    return not odd and len(parts) <= MOST_PARTS and not set(file) & set("\\:\0") and not Path(file).is_absolute()


def place_of(folder: Path) -> Path:
    """Return where ``folder`` really lies; DataError where something would be lost, or cannot be written."""
    try:
        place = folder.resolve()
        if place.exists() and not place.is_dir():
            raise DataError(f"cannot write {folder}: it is a file; give the name of a folder")
        if place.is_dir() and any(place.iterdir()) and earlier_files(place) is None:
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


@contextlib.contextmanager
def written_whole(folder: Path, place: Path) -> Iterator[Path]:
    """Return a new folder beside ``place``, whose files take the place of an earlier export's when the block ends, all or none.

    ``place`` is what `place_of` says of ``folder``. Raises DataError, which names ``folder``, where something cannot be written.
    """
    try:
        # What is there already is not moved: it may be a mount point, or the folder in which a shell stands.
        with tempfile.TemporaryDirectory(dir=place if place.exists() else place.parent, prefix=".qrnn.") as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            yield made
            folders = _folders(files_in(made))
            for path in files_in(made):
                sync_file(made / path)
            if place.exists():
                _replace(place, made, Path(temporary) / "before")
            else:
                made.rename(place)
        for inner in folders:
            sync_folder(place / inner)
        sync_folder(place)
        sync_folder(place.parent)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {reason(error)}; give another folder") from None


def earlier_files(folder: Path) -> frozenset[str] | None:
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


def files_in(folder: Path) -> list[str]:
    """Return the names of all files in a folder and its subfolders, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _replace(place: Path, made: Path, before: Path) -> None:
    """Move the files of ``made`` to the folder ``place``, the manifest last, and what an earlier export left there to ``before``.

    Other files in the folder stay. Where a move fails, those before it are taken back.
    """
    new = sorted(files_in(made), key=lambda name: (name == MANIFEST, name))
    old = earlier_files(place) or frozenset()
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


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 with plain line ends, in a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(read_regular(path)).hexdigest()


def is_as_exported(path: Path, digest: object) -> bool:
    """Return whether a file is there and has the digest that a manifest says."""
    try:
        return digest_of(path) == digest
    except OSError:
        return False


def _folders(files: Iterable[str]) -> list[str]:
    """Return all folders in which files lie, but for the top, each before those in it."""
    found = {parent.as_posix() for file in files for parent in PurePosixPath(file).parents}
    return sorted(found - {"."})
