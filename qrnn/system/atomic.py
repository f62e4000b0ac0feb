"""Files appear whole or not at all: they are written beside their place under a temporary name, then renamed.

Only regular files are replaced. A symbolic link stays, and what it points to is written. A character device or a FIFO cannot be replaced
without destroying it, so its bytes go straight into it; ``/dev/stdout`` and ``/dev/fd/N`` mean this process's own descriptors. A file that is
replaced keeps its permissions and, where the system allows it, its owner; its other names (hard links) keep the old content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from qrnn.errors import DataError
from qrnn.system.files import kind_of, reason

_MOST_LINKS = 40
"""The most links that are followed to one file, as in Linux."""
_MOST_TRIES = 100
"""How many temporary names are tried; if all are taken, another process must be making them."""
_SPOOL_PIECE = 1 << 20
"""The bytes that go from a temporary file to what is no regular file at a time."""
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS, errno.EBADF, errno.EACCES, errno.EPERM)
"""The errors of file systems that cannot flush to the disk on request."""


@dataclass(frozen=True)
class Destination:
    """The place where an output goes.

    ``place`` is the path with all links followed. ``found`` is the status of what stands there, None where there is nothing. ``descriptor``
    is the number of this process's own descriptor where the path names one.
    """

    path: str | os.PathLike[str]
    place: str
    found: os.stat_result | None
    descriptor: int | None = None

    @property
    def is_file(self) -> bool:
        """Return whether writing makes or replaces a regular file here."""
        return self.descriptor is None and (self.found is None or stat.S_ISREG(self.found.st_mode))

    def is_same(self, other: Destination) -> bool:
        """Return whether both destinations are one regular file or one stream.

        A second output would overwrite the first in the file, and be mixed with it in the stream.
        """
        if self.descriptor is not None and self.descriptor == other.descriptor:
            return True
        if self.found is not None and other.found is not None:
            return stat.S_ISREG(self.found.st_mode) and os.path.samestat(self.found, other.found)
        missing = self.found is None and other.found is None
        return missing and os.path.realpath(self.place) == os.path.realpath(other.place)


def destination(path: str | os.PathLike[str]) -> Destination:
    """Find out where an output goes, without opening or changing anything.

    DataError names the path and the reason where it cannot be written.
    """
    try:
        found = _follow(path)
        if found.found is None:
            folder = os.path.dirname(found.place) or os.curdir
            if not stat.S_ISDIR(_stat(folder, found.path).st_mode):
                raise _refusal(path, f"no folder {folder}", "make it first")
        _check(found)
    except (OSError, ValueError) as error:
        raise _refusal(path, reason(error), "give another name") from None
    return found


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path``; DataError names the path and the reason where that is not possible.

    A regular file has its old content or the new one at every moment, also when the disk is full or the process is stopped. What is no
    regular file is written straight, as the module says; folders, block devices and sockets are refused, and a FIFO that nothing reads.
    """
    to = destination(path)
    with _refusing(path, to):
        if to.is_file:
            with _replacing(to) as descriptor:
                _write_all(descriptor, content)
        else:
            _write_through(to, (content,))


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing, of which `path` has the content when the body ends, and nothing when it raises; see `write_atomically`.

    What is no regular file gets its bytes at the end, from a temporary file.
    """
    to = destination(path)
    with _refusing(path, to, (OSError,)):
        if to.is_file:
            with _replacing(to) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as file:
                yield file
        else:
            with tempfile.TemporaryFile() as file:
                yield file
                file.seek(0)
                _write_through(to, iter(lambda: file.read(_SPOOL_PIECE), b""))


@contextlib.contextmanager
def _refusing(
    path: str | os.PathLike[str],
    to: Destination,
    errors: tuple[type[OSError] | type[ValueError], ...] = (OSError, ValueError),
) -> Iterator[None]:
    """Turn errors of the system into a DataError that names the path."""
    try:
        yield
    except errors as error:
        if isinstance(error, OSError) and error.errno == errno.ENXIO and to.found is not None:
            raise _refusal(path, "it is a FIFO that no process reads", "start its reader first") from None
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise _refusal(path, reason(error), "make room or write elsewhere" if full else "give another name") from error


def _refusal(path: str | os.PathLike[str], why: str, remedy: str) -> DataError:
    return DataError(f"cannot write {os.fspath(path)}: {why}; {remedy}")


def _follow(path: str | os.PathLike[str]) -> Destination:
    """Return the destination behind all links; it need not exist."""
    place = os.fspath(path)
    for _ in range(_MOST_LINKS):
        number = _descriptor(place)
        if number is not None:
            return Destination(path, place, os.fstat(number), number)
        try:
            link = os.readlink(place)
        except OSError:  # not a link, or nothing there
            break
        place = os.path.join(os.path.dirname(place), link)
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    try:
        return Destination(path, place, os.stat(place))
    except (FileNotFoundError, NotADirectoryError):
        return Destination(path, place, None)


def _descriptor(place: str) -> int | None:
    """Return the number in a name of one of this process's own descriptors, such as ``/dev/stdout`` or ``/proc/self/fd/1``."""
    name = os.path.normpath(place).replace(os.sep, "/")
    found = re.fullmatch(rf"/(?:dev|proc/(?:self|thread-self|{os.getpid()}))/fd/(\d{{1,9}})", name)
    return int(found[1]) if found else _STREAMS.get(name)


def _stat(folder: str, path: str | os.PathLike[str]) -> os.stat_result:
    try:
        return os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise _refusal(path, f"no folder {folder}", "make it first") from None


def _check(to: Destination) -> None:
    """Refuse a destination that cannot be written, as far as that can be known without opening it."""
    if to.descriptor is not None:
        return
    if to.found is not None:
        if stat.S_ISDIR(to.found.st_mode):
            raise _refusal(to.path, "it is a folder", "give a file name")
        if stat.S_ISBLK(to.found.st_mode) or stat.S_ISSOCK(to.found.st_mode):
            raise _refusal(to.path, f"it {kind_of(to.found)}", "give a file name")
        if not _allowed(to.place, os.W_OK):
            raise _refusal(to.path, "it is write-protected", "give another name")
    if to.is_file:
        folder = os.path.dirname(to.place) or os.curdir
        if not _allowed(folder, os.W_OK | os.X_OK):
            raise _refusal(
                to.path,
                f"the folder {folder} may not be written, and files are made beside their place",
                "choose another",
            )


def _allowed(place: str, mode: int) -> bool:
    return os.access(place, mode, effective_ids=os.access in os.supports_effective_ids)


@contextlib.contextmanager
def _replacing(to: Destination) -> Iterator[int]:
    """Open a descriptor of a new file that takes the place of the old one when the body ends."""
    folder = os.path.dirname(to.place) or os.curdir
    # The kernel applies the umask to a new file. The temporary file of a private one is never open to others.
    descriptor, temporary = _temporary(folder, 0o666 if to.found is None else 0o600)
    try:
        try:
            yield descriptor
            if to.found is not None:
                _keep_owner_and_mode(descriptor, temporary, to.found)
            _sync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, to.place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def _temporary(folder: str, mode: int) -> tuple[int, str]:
    """Open a new file in ``folder`` for writing; its name is short, however long the target's name is."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    for _ in range(_MOST_TRIES):
        name = os.path.join(folder, f".qrnn.{os.urandom(8).hex()}")
        with contextlib.suppress(FileExistsError):
            return os.open(name, flags, mode), name
    raise FileExistsError(errno.EEXIST, "no temporary name is free")


def _keep_owner_and_mode(descriptor: int, temporary: str, old: os.stat_result) -> None:
    if not hasattr(os, "fchown"):  # Windows
        os.chmod(temporary, stat.S_IMODE(old.st_mode))
        return
    owner = (old.st_uid, old.st_gid)
    if _owner(descriptor) != owner:
        for uid, gid in ((-1, old.st_gid), (old.st_uid, -1)):
            with contextlib.suppress(OSError):  # only root gives files away
                os.fchown(descriptor, uid, gid)
    mode = stat.S_IMODE(old.st_mode)
    os.fchmod(descriptor, mode if _owner(descriptor) == owner else mode & 0o777)  # set-user-id is the old owner's alone


def _owner(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_uid, found.st_gid


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # a descriptor that was handed to this process may be one that does not wait
            select.select([], [descriptor], [])


def _write_through(to: Destination, pieces: Iterable[bytes]) -> None:
    """Write into this process's own descriptor, a character device, or a FIFO that a process reads (ENXIO where none does)."""
    if to.descriptor is not None:
        _flush_stream(to.descriptor)
        for piece in pieces:
            _write_all(to.descriptor, piece)
        return
    place = to.place
    flags = os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(place, flags)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EEXIST, "another file has taken its place")
        os.set_blocking(descriptor, True)
        for piece in pieces:
            _write_all(descriptor, piece)
    finally:
        os.close(descriptor)


def _flush_stream(descriptor: int) -> None:
    """Flush what was printed to a standard stream, so that it stands before what is written next."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or no descriptor of its own
            if stream.fileno() == descriptor:
                stream.flush()


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise


def sync_file(path: str | os.PathLike[str]) -> None:
    """Flush a file's content to the disk."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flush the names in a folder to the disk, on systems that can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
