"""A kind of layer has one place in the CUDA backend: the module with its name."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (pip install -e '.[dev]')")

from qrnn.backends.cuda.kinds import device_kinds
from qrnn.model.kinds import kind_name, quantized_kinds

FOLDER = Path(__file__).parents[3] / "qrnn" / "backends" / "cuda"


@cache
def named() -> dict[str, set[str | None]]:
    """The names in the code of each file of the backend."""
    return {
        path.relative_to(FOLDER).as_posix(): {
            getattr(node, word, None)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for word in ("id", "attr", "name")
        }
        for path in FOLDER.rglob("*.py")
    }


def test_modules_have_the_names_of_kinds() -> None:
    modules = {path.stem for path in (FOLDER / "kinds").glob("*.py")} - {"__init__"}
    assert {kind_name(kind) for kind in device_kinds()} == modules
    for kind, own in device_kinds().items():
        assert own.__module__.rpartition(".")[2] == kind_name(kind)


@pytest.mark.parametrize("kind", sorted(quantized_kinds()))
def test_a_kind_is_named_in_one_file_at_most(kind: str) -> None:
    """The walk, the engine and arrays of users ask for no kind: they call what the kind's module gives."""
    naming = {path for path, words in named().items() if kind in words}
    own = kind_name(quantized_kinds()[kind])
    assert naming <= {f"kinds/{own}.py"}
