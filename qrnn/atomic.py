"""Files appear whole or not at all: written beside their place under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from qrnn.errors import DataError


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path``; DataError names the path and the reason when that is not possible."""
    target = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".qrnn.")
    except OSError as error:
        raise DataError(
            f"cannot write {target}: {error.strerror}; choose a folder that exists and is writable"
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):  # nothing is left to remove after the renaming
            os.unlink(temporary)
