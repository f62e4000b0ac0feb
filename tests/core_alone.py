"""Run a converted model with the core of the package alone: ``python core_alone.py MODEL.qrnn`` where no extra is installed.

`.ci/run` runs this in an environment of its own; `test_core_alone.py` runs it with the libraries of the extras hidden.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np

import qrnn

ABSENT = ("onnx", "typer", "rich", "elftools")


def check(model: str) -> None:
    """Load, run, stream and describe a model, and see what the rest says of a missing library."""
    assert all(importlib.util.find_spec(name) is None for name in ABSENT), "an extra is installed"
    loaded = qrnn.load(model)
    x = np.random.default_rng(0).normal(size=(2, 6, 8))
    session = qrnn.Session(loaded)
    whole = session.run({"x": x}).outputs["logits"]
    stream = session.stream()
    steps = [stream.step({"x": x[:1, t]})["logits"][0].copy() for t in range(6)]
    np.testing.assert_array_equal(np.stack(steps), whole[0])
    assert "GRU 32" in repr(loaded)
    difference = qrnn.diff(loaded, loaded)
    assert "pip install 'qrnn[cli]'" in str(difference)
    for name in ("load_onnx", "load_keras", "cut_onnx"):
        assert said(name) == f"qrnn.{name} needs onnx, which is not installed: pip install 'qrnn[onnx]'"


def said(name: str) -> str:
    """Return what is said where a public name needs a library that is not there."""
    try:
        getattr(qrnn, name)
    except qrnn.MissingLibraryError as error:
        return str(error)
    return ""


def check_command() -> None:
    """See that the command line says in one line what it needs."""
    done = subprocess.run([sys.executable, "-m", "qrnn", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done
    assert done.stderr == "error: the command line needs typer, which is not installed: pip install 'qrnn[cli]'\n", done


if __name__ == "__main__":
    check(sys.argv[1])
    check_command()
    print(f"qrnn {qrnn.__version__}: the core runs alone")
