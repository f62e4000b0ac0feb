"""Write .npz files of arrays, and read them whole; a file may be damaged, hostile or meant for another model.

Everything that can be known without unpacking is checked first: the archive's directory, then each member's header, then whether names,
types and shapes are those of the model, then whether there is enough memory. Only then are values read.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from qrnn.errors import DataError
from qrnn.system.contents import LONGEST, kind_of_content
from qrnn.system.files import open_regular
from qrnn.system.sizes import size_text

if TYPE_CHECKING:
    from qrnn.model.float_model import GraphInput

UNREADABLE = (
    *(ValueError, TypeError, LookupError, OSError, EOFError, RuntimeError, MemoryError, OverflowError, SyntaxError),
    *(RecursionError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
)
"""The exceptions of NumPy and the zip reader on damaged and impossible files."""

METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""The compression methods that NumPy writes. Python's zip reader unpacks bzip2 and LZMA without a bound: kilobytes could fill the memory."""

ENCRYPTED = 1
"""The flag of a member that is encrypted."""

LARGEST_HEADER = 1 << 16
"""The most bytes of an array's header; NumPy itself writes a few hundred."""

LOCAL_HEADER = 30
"""Bytes before a member's name in the archive, the least that stands between two members."""

SHARE_OF_MEMORY = 0.5
"""The share of the available memory that arrays may take; what is made of them needs as much again."""


@dataclass(frozen=True)
class Declared:
    """The header of an array; it has ``shape``, ``dtype``, ``size`` and `reshape` as an array does."""

    name: str
    shape: tuple[int, ...]
    dtype: Any
    header_bytes: int

    def reshape(self, *shape: int) -> Declared:
        """Return the same header with other axes."""
        return replace(self, shape=shape)

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Return the size in bytes."""
        return self.size * int(self.dtype.itemsize)


def read_arrays(
    path: Path, graph_inputs: tuple[GraphInput, ...] | None = None, beside: Collection[str] = ()
) -> dict[str, Any]:
    """Return the arrays of an .npz file; DataError names the file, the array and what is wrong with it.

    ``graph_inputs`` are those of the model that the arrays are for. Arrays that do not fit them by name, shape or type are refused before
    they are read; ``beside`` names arrays that are not for the graph inputs, which the caller checks.
    """
    import numpy as np

    with opened_headers(path) as (archive, members, declared):
        if graph_inputs is not None:
            check_arrays_fit(graph_inputs, {name: array for name, array in declared.items() if name not in beside})
        check_room(declared)
        arrays = {}
        for name, info in members.items():
            with archive.open(info) as member, warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of headers by Python 2
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
        return arrays


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of an .npz file, of which no values are read; DataError as from `read_arrays`."""
    with opened_headers(path) as (_, _, declared):
        return {name: array.shape for name, array in declared.items()}


@contextmanager
def opened_headers(path: Path) -> Iterator[_Headers]:
    """Open an .npz file and read the header of each array; DataError, here and for what the caller reads, names the file."""
    try:
        opened = open_regular(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected an .npz file of arrays") from None
    with refusing(path), opened as file:
        if file.read(6) == b"\x93NUMPY":
            raise DataError("holds one unnamed array; expected an .npz file with one array per graph input")
        with zipfile.ZipFile(file) as archive:
            members = array_members(archive)
            yield _Headers(archive, members, {name: declared_in(archive, name, info) for name, info in members.items()})


class _Headers(NamedTuple):
    """An archive that is open, its members by the names of their arrays, and their headers."""

    archive: zipfile.ZipFile
    members: Mapping[str, zipfile.ZipInfo]
    declared: Mapping[str, Declared]


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn every error inside into a DataError that begins with the file's name."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except UNREADABLE as error:
        reason = _kind(path) or (str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise DataError(
            f"{path}: not a readable .npz file of plain arrays ({reason}); write it anew with numpy.savez"
        ) from None


def _kind(path: Path) -> str | None:
    """Return what a file is that is no ZIP archive, where its first bytes say it."""
    try:
        with open_regular(path) as file:
            beginning = file.read(LONGEST)
    except OSError:
        return None
    return None if beginning.startswith(b"PK") else kind_of_content(beginning)


def array_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's members by the names of their arrays."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            raise DataError(
                f"member {info.filename!r} is no array (.npy); expected an .npz file as numpy.savez writes it"
            )
        if name in found:
            raise DataError(f"holds array {name!r} twice; expected one array per graph input")
        if info.flag_bits & ENCRYPTED:
            raise DataError(f"array {name!r} is encrypted; save it without a password")
        if info.compress_type not in METHODS:
            raise DataError(
                f"array {name!r} is compressed by method {info.compress_type}, expected none or deflate; "
                "save it with numpy.savez or numpy.savez_compressed"
            )
        found[name] = info
    end = 0
    for name, info in sorted(found.items(), key=lambda item: item[1].header_offset):
        if info.header_offset < end:
            raise DataError(f"array {name!r} lies inside another one; the file is damaged")
        end = info.header_offset + LOCAL_HEADER + info.compress_size
    return found


def declared_in(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Declared:
    """Return the header of an array, which must agree with the size in the archive's directory."""
    with archive.open(info) as member:
        shape, dtype, header_bytes, _ = read_header(name, member)
    found = checked_header(name, shape, dtype, header_bytes)
    if header_bytes + found.nbytes != info.file_size:
        raise DataError(
            f"array {name!r}: its header says {dtype}{list(shape)}, {header_bytes + found.nbytes} bytes in all, "
            f"and the archive {info.file_size}; the file is damaged"
        )
    return found


def checked_header(name: str, shape: tuple[Any, ...], dtype: Any, header_bytes: int) -> Declared:
    """Return what a header says; DataError for sizes that no array has, and for Python objects."""
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise DataError(f"array {name!r}: shape {list(shape)}, expected sizes of at least 0")
    if dtype.hasobject:
        raise DataError(f"array {name!r}: type {dtype}, expected numbers; Python objects are not read")
    return Declared(name, tuple(shape), dtype, header_bytes)


class _Header(NamedTuple):
    """What the header of an array says, and how many bytes it has."""

    shape: tuple[Any, ...]
    dtype: Any
    length: int
    fortran_order: bool = False


def read_header(name: str, member: IO[bytes]) -> _Header:
    """Read the header of an array, and no more of the file."""
    import numpy as np

    start = member.read(8)
    version = tuple(start[6:8])
    if start[:6] != b"\x93NUMPY" or version not in ((1, 0), (2, 0)):
        raise DataError(f"array {name!r} does not begin as an array of plain numbers does; save it with numpy.savez")
    counter = member.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(counter, "little")
    if length > LARGEST_HEADER:
        raise DataError(f"array {name!r}: a header of {length} bytes, expected at most {LARGEST_HEADER}")
    text = io.BytesIO(counter + member.read(length))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        shape, fortran_order, dtype = read(text)
    return _Header(shape, dtype, len(start) + len(counter) + length, fortran_order)


def check_arrays_fit(graph_inputs: tuple[GraphInput, ...], declared: Mapping[str, Declared]) -> None:
    """Refuse arrays that `make_batch` would refuse, as far as names, shapes and types tell."""
    import numpy as np

    from qrnn.model.batch import check_fits, check_names, with_time_axis
    from qrnn.model.given_lengths import check_sizes, time_axes
    from qrnn.model.user_values import check_type

    check_names(graph_inputs, declared)
    declared, _ = with_time_axis(graph_inputs, declared, lambda _, array: array)
    sizes = {}
    known = {i.name: i for i in graph_inputs}
    for name, array in declared.items():
        if name in known and known[name].kind != "lengths":
            kind = np.integer if known[name].kind == "tokens" else np.floating
            sizes[name] = check_fits(known[name], array, kind)
        else:
            check_type(name, array.dtype, np.integer)
    count, _ = check_sizes({name: size[:1] for name, size in sizes.items()})
    steps = [
        check_sizes(own)[1]
        for axis in time_axes(graph_inputs)
        if (own := {name: size for name, size in sizes.items() if len(size) > 1 and known[name].axis == axis})
    ] or [1]
    for name, array in declared.items():
        fits = array.shape == (count,) or (name == "labels" and array.shape in [(count, own) for own in steps])
        if name not in sizes and not fits:
            each = "".join(f" or [{count}, {own}]" for own in dict.fromkeys(steps))
            expected = f"[{count}]{each}" if name == "labels" else f"integers [{count}], one per sequence"
            raise DataError(f"{name}: shape {list(array.shape)}, expected {expected}")


def check_room(declared: Mapping[str, Declared]) -> None:
    """Refuse arrays that would take more than `SHARE_OF_MEMORY` of the memory that is available."""
    total, free = sum(array.nbytes for array in declared.values()), available_memory()
    if free is not None and total > SHARE_OF_MEMORY * free:
        raise DataError(
            f"its arrays take {size_text(total)}, and at most half of the memory that is free ({size_text(free)}) is used for them; "
            "give fewer sequences at a time"
        )


def available_memory() -> int | None:
    """Return the bytes that this process can still have, by Linux and its control group; None where neither says."""
    found: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        most, used = ((group / f"memory.{what}").read_text("utf-8").strip() for what in ("max", "current"))
        if most != "max":
            found.append(max(0, int(most) - int(used)))
    except (OSError, ValueError, LookupError):
        pass
    return min(found, default=None)


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Return the content of an .npz file."""
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:  # np.savez takes no array named "file"
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()
