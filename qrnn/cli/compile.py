"""The command ``qrnn compile``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qrnn.cli.common import console, print_json
from qrnn.system.sizes import size_text

if TYPE_CHECKING:
    from qrnn.backends.cpu.engine import CpuEngine


def compile(
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="A .qrnn file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the code is kept: made, or added to.")
    ],
    isa: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Instruction set of backend cpu, which this processor need not have; may be repeated. The best here when left out.",
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Sequences of a run, at most; any number when left out.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of a sequence; any number when left out.")] = None,
    streams: Annotated[int | None, typer.Option(min=1, help="Streams; any number when left out.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Compile a model for backend cpu ahead of time: with QRNN_CACHE_DIR=FOLDER nothing is compiled when it runs."""
    from qrnn.backends.cpu.engine import CpuEngine
    from qrnn.backends.cpu.warm_up import wanted_by
    from qrnn.errors import DataError
    from qrnn.model.file import load
    from qrnn.system.files import reason

    quantized = load(model)
    names: list[str | None] = list(isa or []) or [None]
    place = Path(os.path.realpath(output))  # of a link to nothing, what it points to
    engines = [CpuEngine(quantized, isa=name, cache=place, here=False) for name in names]
    folder = engines[0].code.folder()
    if found := folder.problem():
        raise DataError(f"cannot write to {output}: {found}; choose another folder")
    done = []
    try:
        for engine in engines:
            wanted = wanted_by(engine, batch, steps, streams)
            done.append({"isa": _name(engine), "kernels": len(wanted), "compiled": engine.code.keep(wanted)})
        folder.open_to_readers()
    except OSError as error:
        raise DataError(f"cannot write to {output}: {reason(error)}; choose another folder") from None
    size = sum(path.stat().st_size for path in place.rglob("*.o"))
    if json:
        print_json({"output": str(output), "bytes": size, "instruction_sets": done})
        return
    out = console()
    for each in done:
        out.print(f"  {each['isa']}: {each['kernels']} kernels, {each['compiled']} of them compiled now", markup=False)
    out.print(f"{output} holds {size_text(size)}; run with QRNN_CACHE_DIR={output}", markup=False, soft_wrap=True)


def _name(engine: CpuEngine) -> str:
    from qrnn.backends.cpu.isa import PLAIN

    return PLAIN if engine.isa is None else engine.isa.name
