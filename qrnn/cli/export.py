"""The command ``qrnn export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qrnn.cli.codes import CODES, NAMES
from qrnn.cli.common import check_folder_output, console, read_arrays, target_file
from qrnn.cli.generating import (
    BlankOption,
    FeedOption,
    OneHotOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    feed_of,
    sampling_of,
)
from qrnn.errors import DataError, QrnnError
from qrnn.export.packages import package_names
from qrnn.system.sizes import size_text

if TYPE_CHECKING:
    from qrnn.export.choices import Choices
    from qrnn.export.info import Measured
    from qrnn.model.quant_model import QuantModel
    from qrnn.targets import Target


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
    package: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"The layout that a build system expects: {', '.join(package_names())}.",
        ),
    ] = "folder",
    codes: Annotated[
        list[str] | None,
        typer.Option(
            metavar=CODES,
            help="A function that takes the integers of a converter for an input: what one code is worth and what code 0 is, one for all "
            "features or one for each, parted by colons (x=3.3/4096,-1.65); int16, uint16 or int32; q15 and q31 for fractions. May be "
            "repeated.",
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            metavar=NAMES,
            help="Names of an input's or output's features, such as classes, for the header. May be repeated.",
        ),
    ] = None,
    scratch: Annotated[
        str,
        typer.Option(
            metavar="stack|argument", help="Where functions work: on the stack, or in room that they are given."
        ),
    ] = "stack",
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Build and run the C in the target's emulator; the header has its flash and stack."
        ),
    ] = False,
    bench: Annotated[
        bool,
        typer.Option(
            "--bench",
            help="Add NAME_bench, which runs the self-test on a board, times steps, and prints a line for qrnn verify --serial.",
        ),
    ] = False,
    library: Annotated[
        bool,
        typer.Option(
            "--library",
            help="Build a static and a shared library, or a WebAssembly module, for a target with an operating system.",
        ),
    ] = False,
    library_version: Annotated[
        str | None,
        typer.Option(
            metavar="MAJOR.MINOR.PATCH",
            help="The version of the library, 1.0.0 when left out; MAJOR is its interface's.",
        ),
    ] = None,
    generate: Annotated[
        bool,
        typer.Option(
            "--generate", help="Add functions that choose tokens and feed an output back; the options below say how."
        ),
    ] = False,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    feed: FeedOption = None,
    one_hot: OneHotOption = False,
    blank: BlankOption = None,
) -> None:
    """Write a model as C99 for a device."""
    from qrnn.cli.codes import choices
    from qrnn.export.folder import export_model
    from qrnn.export.generation import Generation
    from qrnn.export.packages import load_package
    from qrnn.model.codes import codes_within
    from qrnn.model.file import load
    from qrnn.targets import load_target

    check_folder_output(output, (model, *target_file(target), *(() if data is None else (data,))))
    generation = None
    if generate:
        sampling = sampling_of(temperature, top_k, top_p)
        generation = Generation(sampling, feed_of(feed), True if one_hot else None, blank)
    elif any(option is not None for option in (temperature, top_k, top_p, feed, blank)) or one_hot:
        raise DataError(
            "--temperature, --top-k, --top-p, --feed, --one-hot and --blank say how --generate does; give it, too"
        )
    hardware, laid_out = load_target(target), load_package(package)
    quantized = load(model)
    if library:
        others: dict[str, object] = {
            "--data": data,
            "--codes": codes,
            "--names": names,
            "--measure": measure or None,
            "--bench": bench or None,
            "--generate": generate or None,
        }
        others |= {
            "--package": None if package == "folder" else package,
            "--scratch": None if scratch == "stack" else scratch,
        }
        if given := next((option for option, value in others.items() if value is not None), None):
            raise QrnnError(f"{given} and --library: a library has one layout and no self-test; leave {given} out")
        _library(quantized, hardware, output, name or model.stem, library_version or "1.0.0")
        return
    if library_version is not None:
        raise QrnnError("--library-version without --library; add --library, or leave it out")
    chosen = choices(quantized, codes or (), names or (), scratch)
    arrays = read_arrays(data, quantized.inputs) if data is not None else None
    own = name or model.stem
    measured = _measured(quantized, hardware, chosen) if measure else None
    exported = export_model(quantized, hardware, output, own, arrays, chosen, package, measured, generation, bench)
    out = console()
    kind = "step by step" if exported.whole is None else f"whole sequences, for {exported.whole.why}"
    out.print(f"wrote {output}: {exported.name}.c for {hardware.name}, {kind}", soft_wrap=True)
    if package != "folder":
        out.print(f"it is {laid_out.title} ({laid_out.status})", soft_wrap=True)
    for port, found in chosen.codes.items():
        count, low, high = codes_within(found)
        out.print(
            f"codes of {port}: {low} to {high} are within its range, of {count:,} of {found.kind}", soft_wrap=True
        )
    if measured is not None:
        out.print(f"measured: {measured.flash_bytes:,} bytes of flash, {measured.stack_bytes:,} of stack")
    saved = f" ({size_text(exported.fewer_bytes)} less by lists of tiles)" if exported.fewer_bytes else ""
    out.print(
        f"weights {size_text(exported.weight_bytes)}{saved}; how to call it: {output / 'README.md'}", soft_wrap=True
    )


def _measured(model: QuantModel, target: Target, chosen: Choices) -> Measured:
    """Return the flash and the stack of a model on a target; DeviceError where they cannot be measured here."""
    import tempfile

    from qrnn.devices.measure import measure
    from qrnn.errors import DeviceError
    from qrnn.export.folder import export_model, read_folder
    from qrnn.export.info import Measured

    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        folder = Path(temporary) / "model"
        export_model(model, target, folder, "model", choices=chosen)
        needs = measure(read_folder(folder, target), target, 1, phases=False, cycles=False)
    if needs.flash_bytes is None or needs.stack_bytes is None:
        raise DeviceError(f"--measure: {needs.problem}")
    return Measured(needs.flash_bytes, needs.stack_bytes)


def _library(model: QuantModel, target: Target, folder: Path, name: str, version: str) -> None:
    """Write a model as a library, and say what it is."""
    from qrnn.devices.library import export_library

    source = export_library(model, target, folder, name, version)
    kernels = ", ".join(variant.kernels for variant in source.variants)
    out = console()
    out.print(
        f"wrote {folder}: the library of {source.name} {source.version} for {target.name}, kernels {kernels}",
        soft_wrap=True,
    )
    out.print(f"how to call it: {folder / 'README.md'}", soft_wrap=True)
