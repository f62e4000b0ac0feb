"""What ``qrnn verify`` does with the result of a board, from its serial port or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from qrnn.cli.common import console, print_json
from qrnn.errors import QrnnError

if TYPE_CHECKING:
    from qrnn.devices.board_result import BoardResult
    from qrnn.export.folder import ExportedFolder

BAUD, SECONDS = 115_200, 30.0
"""The speed of a serial port, and the seconds to wait for a board, where neither is said."""


def verify_board(
    folder: ExportedFolder, port: str | None, measured: Path | None, baud: int | None, timeout: float | None, json: bool
) -> None:
    """Read what a board says of the folder's model, and print it; exit status 1 where its self-test is wrong."""
    from qrnn.devices.board_result import check_fits, read_result_file
    from qrnn.devices.serial_port import read_board

    if port is not None:
        result, where = read_board(port, baud or BAUD, timeout or SECONDS), port
    else:
        assert measured is not None
        result, where = read_result_file(measured), str(measured)
    check_fits(result, folder, where)
    if json:
        print_json({"equal": result.right, **result.to_dict()})
    else:
        _print(result, folder)
    if not result.right:
        raise typer.Exit(1)


def check_options(
    port: str | None, measured: Path | None, others: dict[str, object], serial: dict[str, object]
) -> None:
    """Refuse options that do not go together; ``others`` are those of a run here, ``serial`` those of a port, by their names."""
    if port is not None and measured is not None:
        raise QrnnError("--serial and --measured: both are results of a board; leave one out")
    if given := next((option for option, value in others.items() if value), None):
        own = "--serial" if port is not None else "--measured"
        raise QrnnError(f"{given} and {own}: the board's program runs its own sequences; leave {given} out")
    if port is None and (given := next((option for option, value in serial.items() if value is not None), None)):
        raise QrnnError(f"{given} is of a serial port; give --serial, too")


def _print(result: BoardResult, folder: ExportedFolder) -> None:
    out = console()
    said = (
        "every output and state of the self-test is equal"
        if result.right
        else str(result.difference or "the self-test is wrong")
    )
    out.print(f"on the board, {result.target} ({result.compiler}): {said}", soft_wrap=True)
    if result.first_layer is not None:
        out.print(f"first in {result.first_layer}", soft_wrap=True)
    elif not result.right and result.counter is None:
        out.print("its layers show no difference in the sequences that are traced", soft_wrap=True)
    elif not result.right:
        macro = f"{result.name.upper()}_TRACE"
        out.print(f"built with {macro} defined, the board's program names the first layer that differs", soft_wrap=True)
    parts = [_times(result, folder)]
    if result.stack_bytes is not None:
        parts.append(f"{result.stack_bytes:,} bytes of stack")
    if text := ", ".join(part for part in parts if part):
        out.print(text, soft_wrap=True)


def _times(result: BoardResult, folder: ExportedFolder) -> str:
    """Return the times of a step in words; nothing where none were measured."""
    if result.counter is None:
        return ""
    if result.min is None or not result.steps:
        return f"no times: the counter {result.counter} does not count there"
    unit = result.unit if result.unit is not None else "counts"
    low, middle, mean, high = (
        f"{(v or 0) / result.steps:,.0f}" for v in (result.min, result.median, result.mean, result.max)
    )
    text = (
        f"{middle} {unit} a step, measured by {result.counter} ({low} to {high}, mean {mean}, of {result.calls} calls)"
    )
    clock, whose = (result.clock_hz, "") if result.clock_hz else (folder.target.memory.clock_hz, "the target's ")
    if result.unit == "cycles" and clock:
        text += f", {(result.median or 0) / result.steps / clock * 1e3:,.3f} ms at {whose}{clock / 1e6:g} MHz"
    return text
