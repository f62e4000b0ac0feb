"""The line of NAME_bench is read from a board's serial port, through pyserial, which is optional (``pip install 'qrnn[serial]'``)."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from qrnn.devices.board_result import BEGIN, MOST_LINE_BYTES, BoardResult, read_result
from qrnn.errors import DeviceError
from qrnn.system.extras import missing_library

START = b"\n"
"""The byte that asks a waiting board to begin; a board that does not wait may ignore it."""

ASK_AGAIN_SECONDS = 2.0
"""The seconds after which a silent board is asked again: one that was reset as the port was opened has not heard the first byte."""


def read_board(port: str, baud: int, timeout: float) -> BoardResult:
    """Return what a board at a serial port says within ``timeout`` seconds.

    Other lines are passed over, and so are lines of NAME_bench that are cut off or damaged, as long as a whole one comes. Raises
    MissingLibraryError where pyserial is not installed, and DeviceError where the port cannot be opened, is closed, or says nothing that is
    whole.
    """
    try:
        import serial
    except ModuleNotFoundError as error:
        raise missing_library(error, "reading a serial port") from None
    try:
        # A read of a port that another program reads, or whose device has gone, raises SerialException, which is an OSError.
        with serial.serial_for_url(port, baudrate=baud, timeout=0.2, write_timeout=1.0) as line:
            return _listen(line, port, timeout, serial.SerialTimeoutException)
    except (OSError, ValueError) as error:
        words = " ".join(str(error).split())
        raise DeviceError(f"{port}: {words[:200]}; expected the serial port of a board") from None


def _listen(line: Any, port: str, timeout: float, full: type[Exception]) -> BoardResult:
    """Return the first whole line of NAME_bench that comes from an open port."""
    lines = _Lines()
    end, asked, problem, heard = time.monotonic() + timeout, float("-inf"), None, 0
    while (now := time.monotonic()) < end:
        if not lines.begun and now - asked >= ASK_AGAIN_SECONDS:
            asked = now
            with contextlib.suppress(full):  # nobody reads at the other end
                line.write(START)
        block = line.read(max(1, min(line.in_waiting, MOST_LINE_BYTES)))
        heard += len(block)
        for text in lines.of(block):
            try:
                return read_result(text, port)
            except DeviceError as error:
                problem = error
    if problem is not None:
        raise problem
    if lines.begun:
        raise DeviceError(
            f"{port}: a line of NAME_bench began and did not end in {timeout:g} s; give more by --timeout"
        )
    if heard == 0:
        raise DeviceError(
            f"{port}: nothing came in {timeout:g} s; reset the board, or give --baud and --timeout (its program calls NAME_bench, or "
            "waits for a byte and then does)"
        )
    raise DeviceError(
        f"{port}: {heard:,} bytes came in {timeout:g} s, and no line of NAME_bench; does --baud fit the board's "
        "program?"
    )


class _Lines:
    """Puts blocks of bytes together to lines, and keeps those that may be of NAME_bench; no more is kept than `MOST_LINE_BYTES`."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def begun(self) -> bool:
        """Return whether the line that has not ended begins as one of NAME_bench."""
        return BEGIN.encode() in self._rest

    def of(self, block: bytes) -> list[str]:
        """Return the lines of NAME_bench that end in a block."""
        *ended, self._rest = (self._rest + block).replace(b"\r", b"\n").split(b"\n")
        if len(self._rest) > MOST_LINE_BYTES:
            ended += [self._rest] if self.begun else []
            self._rest = self._rest[-len(BEGIN) :]
        return [text.decode("utf-8", errors="replace") for text in ended if BEGIN.encode() in text]
