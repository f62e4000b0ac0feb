"""Importing the package and asking for help stay light: the costly libraries are imported when first needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qrnn
from qrnn.examples import digits_calibration, digits_model

COSTLY = ("numba", "llvmlite", "onnx", "onnxruntime", "scipy", "matplotlib", "safetensors", "torch", "google.protobuf")


def loaded(code: str) -> set[str]:
    """Modules in ``sys.modules`` after running ``code`` in a fresh interpreter."""
    script = f"import sys\n{code}\nprint('\\n\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.rpartition("\n\n")[2].split())


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize(
    "code",
    [
        "import qrnn\nqrnn.__version__",
        "import qrnn.errors, qrnn.targets\nqrnn.targets.target_names()",
        *(
            f"from qrnn.cli import main\nsys.argv = ['qrnn', {arguments}]\ntry: main()\nexcept SystemExit as e: assert not e.code"
            for arguments in (
                "'--help'",
                "'convert', '--help'",
                "'run', '--help'",
                "'compare', '--help'",
                "'sweep', '--help'",
                "'tune', '--help'",
            )
        ),
    ],
)
def test_light(code: str) -> None:
    modules = loaded(code)
    assert "qrnn" in modules
    assert modules.isdisjoint(COSTLY)


def test_import_of_the_package_needs_no_numpy() -> None:
    assert "numpy" not in loaded("import qrnn")


def test_a_target_is_checked_without_the_oracle() -> None:
    """Its scheme is all that a target needs of the quantization."""
    modules = loaded("import qrnn.targets\nqrnn.targets.load_target('cortex-m4')")
    assert "qrnn.quantization.scheme" in modules
    assert modules.isdisjoint({"qrnn.equations.oracle", "qrnn.quantization.calibrate", "qrnn.model.float_model"})


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as a file."""
    path = tmp_path_factory.mktemp("digits") / "digits.qrnn"
    with np.load(digits_calibration()) as data:
        qrnn.save(qrnn.quantize(qrnn.load_onnx(digits_model()), {"x": data["x"][:10]}, qrnn.Scheme(input="8")), path)
    return path


ABOVE_THE_MODEL = ("onnx", "google.protobuf", "typer", "click", "rich", "onnxruntime", "torch", "matplotlib")
"""Importers, the command line, and what only measures and pictures need."""

RUN = """
import numpy, qrnn
model = qrnn.load({path!r})
session = qrnn.Session(model, {backend!r})
x = numpy.zeros((2, 3, 8))
state = session.run({{"x": x}}).state
session.step({{"x": x[:, 0]}}, state=state)
stream = session.stream(2)
stream.step({{"x": x[:, 0]}})
pool = session.pool()
pool.step([pool.open()], {{"x": x[:1, 0]}})
"""


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_running_a_file_needs_neither_importers_nor_the_command_line(backend: str, digits: Path) -> None:
    """It needs the packages up to `qrnn.running`, and the reader of files, and no more."""
    modules = loaded(RUN.format(path=str(digits), backend=backend))
    assert modules.isdisjoint(ABOVE_THE_MODEL)
    own = {name.split(".")[1] for name in modules if name.startswith("qrnn.")}
    assert own == {"arithmetic", "backends", "errors", "hybrid", "model", "running", "system"}


def test_exporting_a_file_needs_neither_importers_nor_the_command_line(digits: Path, tmp_path: Path) -> None:
    code = """
import pathlib, qrnn
qrnn.export_model(qrnn.load({path!r}), qrnn.load_target("generic"), pathlib.Path({folder!r}), "digits")
"""
    modules = loaded(code.format(path=str(digits), folder=str(tmp_path / "digits")))
    assert (tmp_path / "digits" / "digits.c").is_file()
    assert modules.isdisjoint(ABOVE_THE_MODEL)
    own = {name.split(".")[1] for name in modules if name.startswith("qrnn.")}
    assert own.isdisjoint({"refinement", "accuracy", "conversion", "devices", "onnx_import", "lab", "cli"})


def test_the_measure_works() -> None:
    """A costly import is seen."""
    assert "typer" in loaded("import qrnn.cli.commands")
    assert {"numba", "onnx"} & loaded("import qrnn\nqrnn.load_onnx") == {"onnx"}


def test_every_public_name_is_there() -> None:
    for name in qrnn.__all__:
        assert getattr(qrnn, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = qrnn.nothing
