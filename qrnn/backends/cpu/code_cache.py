"""The folder of compiled code: files that are read only where nobody else can have written them, and whose content is whole.

Whoever can write compiled code can run code in the process that reads it. So the folder is made for its user alone, and a
folder or file that another user owns or may write is not read. Each file begins with a digest of all that follows it and of what it is the
code of. What cannot be read counts as not there. Where nothing can be kept, one warning says why, and every process compiles.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import warnings
from pathlib import Path

from qrnn.system.files import open_regular, reason

_DIGEST = hashlib.sha256
_DIGEST_BYTES = 32
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class CompileCacheWarning(UserWarning):
    """Compiled code cannot be kept, or is not read for want of trust: every process compiles. Results are the same.

    It is given once in a process. Where warnings are errors it is raised once, by the first call that compiles, and the next call works;
    ``ignore::qrnn.backends.cpu.code_cache.CompileCacheWarning`` as a filter lets it pass.
    """


_warned = False


def cache_directory() -> Path | None:
    """Return where compiled code is kept: ``QRNN_CACHE_DIR``, or the user's cache folder. It is None where the user has no home."""
    if chosen := os.environ.get("QRNN_CACHE_DIR"):
        return Path(os.path.abspath(chosen))
    try:
        if sys.platform == "win32":
            found = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "qrnn" / "cache"
        elif sys.platform == "darwin":
            found = Path.home() / "Library" / "Caches" / "qrnn"
        else:
            given = os.environ.get("XDG_CACHE_HOME", "")
            found = (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "qrnn"
    except RuntimeError:  # There is no HOME, and the system does not know the user.
        return None
    return found if found.is_absolute() else None  # An empty HOME is the working directory.


class CodeFolder:
    """The folder ``name`` in ``parent``, both of which may be missing; ``parent`` is None where there is no place for it."""

    def __init__(self, parent: Path | None, name: str) -> None:
        self._parent = parent
        self.path = None if parent is None else parent / name

    def read(self, name: str, key: str) -> bytes | None:
        """Return what was written under a name for a key; None where it is missing, damaged, another key's or not to be trusted."""
        if self.path is None or not self._trusted():
            return None
        try:
            with open_regular(self.path / name) as file:
                if not _is_own(os.fstat(file.fileno())):
                    return None
                content = file.read()
        except OSError:
            return None
        body = content[_DIGEST_BYTES:]
        return body if content[:_DIGEST_BYTES] == _digest(key, body) else None

    def may_write(self) -> bool:
        """Return whether it is worth while to prepare something for `write`. It is False after a warning."""
        if found := self.problem():
            _warn(found)
        return not found

    def problem(self) -> str:
        """Return why nothing can be written, or an empty text. The folders are made where they are missing."""
        if self.path is None or self._parent is None:
            return "there is no home folder to keep it in"
        if found := self._distrust():
            return found
        try:
            self._parent.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self._parent, self.path):
                folder.mkdir(mode=0o700, exist_ok=True)
            return "" if os.access(self.path, os.W_OK | os.X_OK) else f"{self.path} may not be written"
        except (OSError, ValueError) as error:
            return f"{self.path}: {reason(error)}"

    def write(self, name: str, key: str, body: bytes) -> None:
        """Keep ``body``, whole or not at all; a warning says where that fails."""
        try:
            self.put(name, key, body)
        except OSError as error:
            _warn(f"{self.path}: {error.strerror}")

    def put(self, name: str, key: str, body: bytes) -> None:
        """Write as `write` does, but raise OSError where that fails."""
        assert self.path is not None
        temporary = self.path / f".{os.urandom(8).hex()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_digest(key, body) + body)
            os.replace(temporary, self.path / name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def open_to_readers(self) -> None:
        """Let every user read what is there, as the image of a container wants it."""
        for folder in (self._parent, self.path):
            assert folder is not None
            folder.chmod(0o755)

    def _trusted(self) -> bool:
        """Return whether nobody but this user and root can have written what is there. A warning says where that is not so."""
        if found := self._distrust():
            _warn(found)
        return not found

    def _distrust(self) -> str:
        for folder in (self._parent, self.path):
            try:
                found = os.stat(folder)  # type: ignore[arg-type]
            except (OSError, ValueError):  # It is missing or cannot be entered, so nothing is read from it.
                return ""
            if not _is_own(found):
                return f"{folder} belongs to another user or may be written by others, who could put any code there"
        return ""


def _digest(key: str, body: bytes) -> bytes:
    """Return a digest that covers the code and its key, so that a file under another file's name is noticed."""
    return _DIGEST(_DIGEST(key.encode()).digest() + body).digest()


def _is_own(found: os.stat_result) -> bool:
    """Return whether this user or root owns a file or folder, and nobody else may write it."""
    if not hasattr(os, "geteuid"):  # Windows keeps others out of a user's folders by other means.
        return True
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & _OTHERS


def _warn(why: str) -> None:
    """Warn once in a process. Under ``-W error`` the warning is raised, once: code that was compiled is used by the next call."""
    global _warned
    if _warned:
        return
    _warned = True
    warnings.warn(
        f"compiled code is not kept ({why}): each process compiles for some seconds; "
        "set QRNN_CACHE_DIR to a folder that only you can write",
        CompileCacheWarning,
        stacklevel=2,
    )
