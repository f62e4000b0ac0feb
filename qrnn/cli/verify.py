"""The command ``qrnn verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.board import check_options, verify_board
from qrnn.cli.common import console, print_json, read_arrays
from qrnn.cli.cycles import print_cycles, time_and_energy
from qrnn.errors import QrnnError

MOST_SEQUENCES = 100
"""The sequences of the data that are run where no other number is asked for."""


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that qrnn export wrote.")],
    emulate: Annotated[
        bool, typer.Option("--emulate", help="Build for the target and run in its emulator, not for this machine.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA.npz", help="Sequences to run; random ones when left out.")
    ] = None,
    sequences: Annotated[
        int, typer.Option(min=1, help="Run at most this many sequences of the data.")
    ] = MOST_SEQUENCES,
    target: Annotated[
        str | None,
        typer.Option(
            help="The hardware that the folder is read for, and with --emulate run on, in place of the one it was exported for."
        ),
    ] = None,
    compiler: Annotated[
        str | None, typer.Option(help="gnu, clang or zig; the first that is installed when left out.")
    ] = None,
    serial: Annotated[
        str | None,
        typer.Option(
            metavar="PORT", help="Read what NAME_bench says on a board, at this serial port (qrnn export --bench)."
        ),
    ] = None,
    baud: Annotated[int | None, typer.Option(min=1, help="The speed of the port; 115200 when left out.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, help="The seconds to wait for the board; 30 when left out.")
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same from a file with the line that the board has printed.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Build exported C, run it, and compare every output and state with the host: exit status 1 unless all bits are equal."""
    from typing import get_args

    import numpy as np

    from qrnn.devices.toolchain import Family
    from qrnn.devices.verify import verify as compare
    from qrnn.export.expected import integer_sequences, random_sequences
    from qrnn.export.folder import read_folder
    from qrnn.model.batch import make_batch
    from qrnn.targets import load_target

    if compiler is not None and compiler not in get_args(Family):
        raise QrnnError(f"--compiler {compiler!r}, expected one of {', '.join(get_args(Family))}")
    board = serial is not None or measured is not None
    here: dict[str, object] = {
        "--emulate": emulate,
        "--data": data,
        "--compiler": compiler,
        "--sequences": sequences != MOST_SEQUENCES,
    }
    check_options(serial, measured, here if board else {}, {"--baud": baud, "--timeout": timeout})
    found = read_folder(folder, load_target(target) if target is not None else None)
    if board:
        verify_board(found, serial, measured, baud, timeout, json)
        return
    hardware = found.target if emulate else load_target("host-cpu")
    given = None
    if data is not None:
        arrays = read_arrays(data, found.model.inputs)
        given = int(np.count_nonzero(make_batch(found.model.inputs, arrays).lengths))
        vectors = integer_sequences(found.model, found.exported, arrays, sequences)
    else:
        vectors = random_sequences(found.model, found.exported, [1, 2, 7, 30], seed=1)
    result = compare(found, hardware, vectors, compiler, cycles=emulate)  # type: ignore[arg-type]
    equal = result.difference is None
    counts = hardware.emulation.counts if hardware.emulation is not None else "instructions"
    if json:
        counted = {
            f"{counts}_per_step": result.counts.instructions / result.steps,
            "stack_bytes": result.counts.stack_bytes,
            "timing": None if result.cycles is None else result.cycles.to_dict(),
            **({} if result.cycles is None else time_and_energy(result.cycles, hardware)),
        }
        print_json(
            {
                "equal": equal,
                "difference": result.difference,
                "layer": None if result.layer is None else result.layer.to_dict(),
                "target": hardware.name,
                "compiler": result.compiler,
                "sequences": result.sequences,
                "steps": result.steps,
                **({} if given is None else {"of_sequences": given}),
                **({"generated": result.generated} if result.generated else {}),
                **(counted if hardware.emulation is not None else {}),
            }
        )
    else:
        out = console()
        amount = f"{result.steps} rows" if found.model.rows else f"{result.sequences} sequences, {result.steps} steps"
        what = f"{amount} on {hardware.name} ({result.compiler})"
        if given is not None and given > sequences:
            out.print(
                f"only the first {sequences} of the data's {given}; give --sequences {given} for all of them",
                soft_wrap=True,
            )
        if result.generated:
            what = f"{what}, {result.generated} generated steps"
        out.print(f"{what}: {'every output and state is equal' if equal else result.difference}", soft_wrap=True)
        if result.layer is not None or result.untraced is not None:
            out.print(
                str(result.layer or f"the first layer that differs is not known: {result.untraced}"), soft_wrap=True
            )
        if hardware.emulation is not None:
            known = counts == "cycles" and result.cycles is not None  # their line comes next
            count = "" if known else f"{result.counts.instructions / result.steps:,.0f} {counts} a step, "
            out.print(f"{count}{result.counts.stack_bytes} bytes of stack")
        if result.cycles is not None:
            print_cycles(out, result.cycles, hardware)
    if not equal:
        raise typer.Exit(1)
