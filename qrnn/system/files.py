"""Open files whose names come from outside: a regular file, or an error that says in plain words what stands there instead.

Opening a FIFO waits for a writer, and a device such as ``/dev/zero`` never ends, so both are refused before a byte is read.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

_PIECE = 1 << 16
"""Bytes that are read at once beyond a file's declared size, since Python allocates them before it reads."""

_KINDS = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a FIFO, not a regular file"),
    (stat.S_ISCHR, "is a character device, not a regular file"),
    (stat.S_ISBLK, "is a block device, not a regular file"),
    (stat.S_ISSOCK, "is a socket, not a regular file"),
)

_PLAIN_WORDS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "a part of its path is not a folder",
    errno.EISDIR: "is a folder",
    errno.ELOOP: "its links go round in circles",
}


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading, following links.

    Every failure is an OSError whose ``strerror`` completes the sentence "PATH: …": "no such file", "is a folder", "is a FIFO, not a
    regular file", "Permission denied". Names that no file can have (a NUL character, characters that the file system cannot encode) are
    such errors too, where `open` raises ValueError. The call never waits and never opens a device.
    """
    name = os.fspath(path)
    try:
        _require_regular(os.stat(name), name)  # before it is opened: opening alone starts some devices
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(name, flags)
        try:
            _require_regular(os.fstat(descriptor), name)  # another file may have taken the place
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise
    except (OSError, ValueError) as error:
        raise plain_error(error, name) from None


def read_regular(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """Read a regular file whole.

    Raises OSError as `open_regular` does, and for a file of more than ``most`` bytes before reading it.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise OSError(errno.EFBIG, f"is larger than {most} bytes", os.fspath(path))
        pieces, held = [], 0
        while piece := file.read(
            max(size + 1 - held, _PIECE)
        ):  # files of /proc, and files that grow, say less than they hold
            pieces.append(piece)
            held += len(piece)
            if most is not None and held > most:
                raise OSError(errno.EFBIG, f"is larger than {most} bytes", os.fspath(path))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def reason(error: OSError | ValueError) -> str:
    """Return why a file cannot be used, in words that follow its name."""
    if isinstance(error, OSError):
        return _PLAIN_WORDS.get(error.errno or 0) or error.strerror or str(error)
    if isinstance(error, UnicodeError):
        return "the name has characters that this system's file names cannot have"
    return "the name has a NUL character" if "null" in str(error) else str(error)


def plain_error(error: OSError | ValueError, name: str) -> OSError:
    """Return the error as an OSError that gives `reason` and names the file."""
    number = error.errno if isinstance(error, OSError) else errno.EINVAL
    return OSError(number or errno.EIO, reason(error), name)


def kind_of(found: os.stat_result) -> str | None:
    """Return what stands where a regular file is expected ("is a FIFO, …"), or None for a regular file."""
    for belongs, words in _KINDS:
        if belongs(found.st_mode):
            return words
    return None if stat.S_ISREG(found.st_mode) else "is not a regular file"


def _require_regular(found: os.stat_result, name: str) -> None:
    words = kind_of(found)
    if words is not None:
        raise OSError(errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL, words, name)
