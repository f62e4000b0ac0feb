"""``qrnn demo``."""

from __future__ import annotations

import shutil
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
    from qrnn.errors import DataError
    from qrnn.examples import digits_calibration, digits_model, digits_test

    out = console()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if output is None else output
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in (digits_model(), digits_calibration(), digits_test()):
                shutil.copy(path, folder)
        except OSError as error:
            raise DataError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
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
