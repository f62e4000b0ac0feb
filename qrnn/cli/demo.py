"""The command ``qrnn demo``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.common import console


def demo(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Keep the files in this folder.")] = None,
) -> None:
    """Convert, run and compare the bundled example: a GRU that reads handwritten digits row by row."""
    from qrnn.cli.compare import compare
    from qrnn.cli.convert import convert
    from qrnn.cli.run import run
    from qrnn.examples import digits_calibration, digits_model, digits_test

    out = console()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if output is None else output
        _make(folder)
        for path in (digits_model(), digits_calibration(), digits_test()):
            _copy(path, folder / path.name)
        onnx, calibration, data = (folder / path.name for path in (digits_model(), digits_calibration(), digits_test()))
        model, result = folder / "digits_gru.qrnn", folder / "digits_out.npz"
        out.print(
            f"$ qrnn convert {onnx.name} --calibration {calibration.name} -o {model.name}", style="bold", soft_wrap=True
        )
        convert(onnx, str(calibration), model)
        out.print(f"\n$ qrnn run {model.name} --input {data.name} -o {result.name}", style="bold", soft_wrap=True)
        run(model, data, result)
        out.print(f"\n$ qrnn compare {onnx.name} {model.name} --data {data.name}", style="bold", soft_wrap=True)
        compare(onnx, model, data)
        if output is not None:
            out.print(f"\nthe files are in {folder}", markup=False, soft_wrap=True)


def _make(folder: Path) -> None:
    from qrnn.errors import DataError
    from qrnn.system.files import reason

    try:
        os.makedirs(os.path.realpath(folder), exist_ok=True)  # of a link to nothing, what it points to
    except (OSError, ValueError) as error:
        raise DataError(f"cannot write to {folder}: {reason(error)}; choose another folder") from None
    except RecursionError:  # `os.makedirs` calls itself for every folder of the path
        raise DataError(f"cannot write to {folder}: the path is too deep; choose another folder") from None


def _copy(source: Path, target: Path) -> None:
    """Copy a bundled file; another file of its name is left alone."""
    from qrnn.errors import DataError
    from qrnn.system.atomic import destination, write_atomically
    from qrnn.system.files import read_regular

    content = source.read_bytes()
    to = destination(target)
    if to.found is not None:
        if os.path.samestat(to.found, source.stat()):
            raise DataError(f"cannot write {target}: it is the same file as the bundled one; choose another folder")
        try:
            same = read_regular(target, len(content)) == content
        except OSError:
            same = False
        if not same:
            raise DataError(f"cannot write {target}: another file of that name is there; choose another folder")
        return
    write_atomically(target, content)
