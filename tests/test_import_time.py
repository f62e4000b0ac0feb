"""Importing the package and asking for help stay light: the costly libraries are imported when first needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

COSTLY = ("numba", "llvmlite", "onnx", "onnxruntime", "scipy", "matplotlib", "safetensors", "torch", "google.protobuf")


def loaded(code: str) -> set[str]:
    """Modules in ``sys.modules`` after running ``code`` in a fresh interpreter."""
    script = f"import sys\n{code}\nprint('\\n\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.rpartition("\n\n")[2].split())


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


def test_the_measure_works() -> None:
    """What is imported is seen."""
    assert {"numba", "onnx"} & loaded("import qrnn\nqrnn.load_onnx") == {"onnx"}


def test_every_public_name_is_there() -> None:
    import qrnn

    for name in qrnn.__all__:
        assert getattr(qrnn, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = qrnn.nothing
