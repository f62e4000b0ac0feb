"""The command ``qrnn export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.common import check_folder_output, console, read_arrays, target_file
from qrnn.system.sizes import size_text


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="A model that qrnn convert wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")],
    target: Annotated[
        str, typer.Option(help="Known hardware, or the path of a .toml file (see: qrnn targets).")
    ] = "generic",
    name: Annotated[
        str | None, typer.Option(help="What begins all names in C; the model's file name when left out.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA.npz", help="Sequences for the self-test, beside random ones.")
    ] = None,
) -> None:
    """Write a model as C99 for a device."""
    from qrnn.export.folder import export_model
    from qrnn.model.file import load
    from qrnn.targets import load_target

    check_folder_output(output, (model, *target_file(target), *(() if data is None else (data,))))
    hardware = load_target(target)
    quantized = load(model)
    arrays = read_arrays(data, quantized.inputs) if data is not None else None
    exported = export_model(quantized, hardware, output, name or model.stem, arrays)
    out = console()
    kind = "step by step" if exported.whole is None else f"whole sequences, for {exported.whole.why}"
    out.print(f"wrote {output}: {exported.name}.c for {hardware.name}, {kind}", soft_wrap=True)
    out.print(f"weights {size_text(exported.weight_bytes)}; how to call it: {output / 'README.md'}", soft_wrap=True)
