"""The command line: one file per command, and no numerics. Mistakes of the user end in one line on stderr and exit status 2."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from qrnn.errors import QrnnError

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 plus the number of SIGINT, as shells have it."""
BROKEN_PIPE = 141
"""Exit status where the reader of stdout has gone, as in ``qrnn inspect … | head -1``: 128 plus the number of SIGPIPE."""

_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Errors that do not name their file: a stream without a buffer raises them where it is printed to."""


def main() -> None:
    """Run the ``qrnn`` command; this is its entry point."""
    warnings.showwarning = _each_once()
    _open_standard_streams()
    sys.exit(_finish(_status()))


def _status() -> int:
    """Run the command and say in one line what stopped it; an exception that is not foreseen here is a fault of qrnn, with its traceback."""
    try:
        from qrnn.cli.commands import execute  # here, since Ctrl-C may come while it is imported

        return execute(sys.argv[1:])
    except ModuleNotFoundError as error:
        from qrnn.system.extras import missing_library

        missing = missing_library(error, "the command line")
        if missing is error:
            raise
        return _fail(str(missing))
    except QrnnError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except OSError as error:
        return _failed_call(error)
    except MemoryError as error:
        return _fail(
            f"not enough memory{f' ({error})' if str(error) else ''}; give smaller models, or fewer or shorter sequences"
        )
    except EOFError:
        return _fail("a file or stream ended too early; make it again")
    except RecursionError:
        return _fail("an input is nested too deeply; expected a file that qrnn or an exporter of ONNX made")
    except Warning as error:  # by python -W error or PYTHONWARNINGS
        return _fail(str(error))


def _failed_call(error: OSError) -> int:
    """Report an error of the system that no command turned into words: of stdout, or of the file that it names."""
    from qrnn.system.files import reason

    try:
        sys.stdout.flush()
    except OSError as of_stdout:
        return _no_stdout(of_stdout)
    if isinstance(error, BrokenPipeError) and error.filename is None:
        return BROKEN_PIPE
    if error.filename is not None:
        return _fail(f"{os.fsdecode(error.filename)}: {reason(error)}")
    return _fail(
        f"cannot print, or write a temporary file: {reason(error)}" if error.errno in _OF_WRITING else reason(error)
    )


def _finish(status: int) -> int:
    """Flush stdout and return the exit status, which says so where that fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _no_stdout(error)
    except KeyboardInterrupt:
        _silence(sys.stdout)
        status = INTERRUPTED
    try:
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)
    return status


def _no_stdout(error: OSError) -> int:
    """Report that stdout takes nothing more; where its reader has gone, stay silent."""
    _silence(sys.stdout)
    return BROKEN_PIPE if isinstance(error, BrokenPipeError) else _fail(f"cannot write to stdout: {error.strerror}")


def _fail(text: str) -> int:
    _say(f"error: {text}")
    return 2


def _say(text: str) -> None:
    """Write one line to stderr, with escapes for characters that would break the line or steer the terminal.

    On a terminal, each of several problems begins a line of its own, and lines are broken between words.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    try:
        print(_laid_out(line) if sys.stderr.isatty() else line, file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def _laid_out(line: str) -> str:
    """Return a message as lines of the terminal's width, or of 100 characters where that is less; a word longer than that stays whole."""
    width = min(shutil.get_terminal_size().columns, 100)
    first, *others = line.split(" | ")
    head, colon, problem = first.partition(" problems: ") if others else (first, "", "")
    parts = [head + colon.rstrip(), *([f"- {p}" for p in (problem, *others)] if colon else [f"| {o}" for o in others])]
    return "\n".join(
        textwrap.fill(part, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for part in parts
    )


def _each_once() -> Callable[..., None]:
    """Return what shows warnings: each text once, however often a command converts the same model."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            _say(f"warning: {message}")

    return show


def _open_standard_streams() -> None:
    """Make the standard streams fit to be printed to, whatever the shell did with them.

    A descriptor that was closed (``>&-``) would be given to the next file that is opened, which would then be printed into. It is opened for
    reading alone, so that printing fails. A terminal or a pipe may know fewer characters than the report: others become question marks.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)  # the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")


def _silence(stream: TextIO) -> None:
    """Discard what cannot be printed; else the interpreter would try again at its end, and report it in its own words."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
