"""The command ``qrnn demo``: the whole path on a bundled model, each command as a user would type it."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.common import console

DEVICE = "cortex-m4"
"""The device for which the demo sweeps, fits, exports and verifies."""


@dataclass(frozen=True)
class Step:
    """One command: what it is for, how it is typed, and the call that it is. ``needs`` says what is missing where it cannot run."""

    purpose: str
    command: str
    run: Callable[[], None]
    needs: str = ""


def demo(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Keep the files in this folder.")] = None,
    short: Annotated[bool, typer.Option("--short", help="Convert, run and compare, and nothing more.")] = False,
) -> None:
    """Take the bundled example, a GRU that reads handwritten digits row by row, from its ONNX file to C that runs on a device.

    Converts, runs and compares; explains the error; sweeps a few configurations; sees whether it fits a device, exports it as C, and
    verifies the C's bits in an emulator, where a compiler and an emulator are installed.
    """
    from qrnn.examples import digits_calibration, digits_model, digits_test
    from qrnn.quantization.source_checks import CalibrationWarning

    out = console()
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)  # of pixels in the corner, which are always 0
        folder = Path(temporary) if output is None else output
        _make(folder)
        for path in (digits_model(), digits_calibration(), digits_test()):
            _copy(path, folder / path.name)
        for step in _accuracy(folder) + ([] if short else _device(folder)):
            out.print(f"\n{step.purpose}", style="bold cyan", soft_wrap=True)
            out.print(f"$ {step.command}", style="bold", soft_wrap=True)
            if step.needs:
                out.print(f"left out: {step.needs}", soft_wrap=True)
            else:
                step.run()
        out.print("\nNext, with a model of your own:", style="bold cyan")
        out.print("$ qrnn inspect MODEL.onnx      # what it holds, and which calibration data it needs", soft_wrap=True)
        if output is None:
            out.print("$ qrnn demo -o FOLDER          # the same once more, with its files kept", soft_wrap=True)
        else:
            out.print(f"the files of this demo are in {folder}", soft_wrap=True)


def _accuracy(folder: Path) -> list[Step]:
    """Return the commands that make the model of integers and measure it."""
    from qrnn.cli.compare import compare
    from qrnn.cli.convert import convert
    from qrnn.cli.run import run

    onnx, calibration, data = _given(folder)
    model, result = folder / "digits_gru.qrnn", folder / "digits_out.npz"
    return [
        Step(
            "Convert: float weights become integers, ranges come from calibration data",
            f"qrnn convert {onnx.name} --calibration {calibration.name} -o {model.name}",
            lambda: convert(onnx, str(calibration), model),
        ),
        Step(
            "Run: whole sequences through the integers",
            f"qrnn run {model.name} --input {data.name} -o {result.name}",
            lambda: run(model, data, result),
        ),
        Step(
            "Compare: the integers against float64 and ONNX Runtime",
            f"qrnn compare {onnx.name} {model.name} --data {data.name}",
            lambda: compare(onnx, model, data),
        ),
    ]


def _device(folder: Path) -> list[Step]:
    """Return the commands that choose a configuration and bring the model onto a device."""
    from qrnn.cli.explain import explain
    from qrnn.cli.export import export
    from qrnn.cli.fit import fit
    from qrnn.cli.sweep import sweep
    from qrnn.cli.verify import verify

    onnx, calibration, data = _given(folder)
    model, swept, exported = folder / "digits_gru.qrnn", folder / "sweep", folder / "digits_gru_m4"
    missing = _missing_tools()
    return [
        Step(
            "Explain: which part costs how much, and what would change it",
            f"qrnn explain {onnx.name} {model.name} --data {data.name} --top 5",
            lambda: explain(onnx, model, data, top=5),
        ),
        Step(
            "Sweep: a few configurations, accuracy against flash, RAM and instructions",
            f"qrnn sweep {onnx.name} --calibration {calibration.name} --data {data.name} --vary weights=8,4 --vary activations=8,16 "
            f"--no-latency -o {swept.name}",
            lambda: sweep(
                onnx, calibration, data, swept, vary=["weights=8,4", "activations=8,16"], latency=False, jobs=1
            ),
        ),
        Step(
            "Fit: flash, RAM and time on a device",
            f"qrnn fit {model.name} --target {DEVICE}",
            lambda: fit(model, [DEVICE]),
        ),
        Step(
            "Export: C99 for the device",
            f"qrnn export {model.name} --target {DEVICE} -o {exported.name}",
            lambda: export(model, exported, target=DEVICE),
        ),
        Step(
            "Verify: the C is built and emulated, and every bit compared with the host",
            f"qrnn verify {exported.name} --emulate --data {data.name}",
            lambda: verify(exported, emulate=True, data=data),
            missing,
        ),
    ]


def _given(folder: Path) -> tuple[Path, Path, Path]:
    """Return the model, the calibration data and the test data."""
    from qrnn.examples import digits_calibration, digits_model, digits_test

    model, calibration, test = (folder / p().name for p in (digits_model, digits_calibration, digits_test))
    return model, calibration, test


def _missing_tools() -> str:
    """Return what is missing for the emulation of the device; nothing where all is there."""
    from qrnn.devices.emulator import find_emulator
    from qrnn.devices.toolchain import find_toolchain
    from qrnn.errors import DeviceError
    from qrnn.targets import load_target

    target = load_target(DEVICE)
    try:
        find_toolchain(target)
        assert target.emulation is not None
        find_emulator(target.name, target.emulation)
    except DeviceError as error:
        return str(error)
    return ""


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
