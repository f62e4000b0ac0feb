"""Take a .keras file apart, which is a zip of a config and an HDF5 file of weights: every size is checked before anything is unpacked."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass

from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.keras_import.config import LARGEST_CONFIG
from qrnn.onnx_import.budget import Budget

SIGNATURE = b"PK\x03\x04"

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

MOST_MEMBERS = 10_000

DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    OSError,
    RuntimeError,
    NotImplementedError,
    IndexError,
    OverflowError,
)


@dataclass(frozen=True)
class Archive:
    """The members of a .keras file; ``weights`` is an HDF5 file."""

    config: bytes
    metadata: bytes
    weights: bytes


def open_archive(content: bytes, what: str, budget: Budget) -> Archive:
    """Return the members of a .keras file; ModelFileError for a damaged one."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found: dict[str, zipfile.ZipInfo] = {}
            if len(archive.infolist()) > MOST_MEMBERS:
                raise ModelFileError(f"{what} has {len(archive.infolist())} members, at most {MOST_MEMBERS} are read")
            for info in archive.infolist():
                if info.filename in found:
                    raise ModelFileError(f"{what} has two members '{info.filename[:80]}'; save the model again")
                found[info.filename] = info
            if WEIGHTS not in found and CONFIG in found:
                raise UnsupportedError(
                    f"{what} has no member '{WEIGHTS}'; weights in pieces or in another format are not read, save the model whole"
                )
            if CONFIG not in found:
                raise ModelFileError(
                    f"{what} has no member '{CONFIG}': it is no .keras file; save the model with model.save('NAME.keras')"
                )
            return Archive(
                _read(archive, found[CONFIG], what, budget, LARGEST_CONFIG),
                _read(archive, found[METADATA], what, budget, LARGEST_CONFIG) if METADATA in found else b"{}",
                _read(archive, found[WEIGHTS], what, budget),
            )
    except DAMAGE as error:
        raise ModelFileError(f"{what} is a damaged .keras file ({str(error)[:120]}); save the model again") from error


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str, budget: Budget, most: int | None = None) -> bytes:
    """Return the bytes of a member, no more than its directory entry says."""
    member = f"{what}: member '{info.filename}'"
    if info.flag_bits & 1:
        raise UnsupportedError(f"{member} is encrypted; save the model without a password")
    if most is not None and info.file_size > most:
        raise ModelFileError(f"{member} has {info.file_size} bytes, at most {most} are read")
    budget.hold(member, info.file_size)
    with archive.open(info) as file:
        content = file.read(info.file_size + 1)
    if len(content) != info.file_size:
        raise ModelFileError(f"{member} is longer or shorter than the archive says; save the model again")
    return content
