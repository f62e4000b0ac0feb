"""The compiled code of definitions: what is compiled when, what other processes find, and what its key covers."""

from __future__ import annotations

import os
import pkgutil
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest

from backends.defined_models import chain, cpu, difference, model_of, pooled, zeros_of
from backends.loop_kinds import QuantDifference, difference_rows, pooled_step
from backends.raw_layers import dense_model
from qrnn.backends import cpu as cpu_package
from qrnn.backends.cpu import defined, native
from qrnn.backends.cpu.defined import DefinedRows, definition_of
from qrnn.backends.cpu.engine import CpuEngine
from qrnn.backends.cpu.kinds import run_of
from qrnn.backends.cpu.warm_up import wanted_by
from qrnn.model import kinds as model_kinds
from qrnn.running.session import Session


def test_each_kind_is_named_in_one_file() -> None:
    """Its module in the folder of kinds, whose modules all have the name of a kind's."""
    folder = Path(cpu_package.__file__).parent
    names = {module.name for module in pkgutil.iter_modules(model_kinds.__path__)}
    assert {path.stem for path in (folder / "kinds").glob("*.py")} - {"__init__"} <= names
    kinds_of_layers = model_kinds.quantized_kinds()
    bases = {base for kind in kinds_of_layers.values() for base in kind.__mro__[1:]}
    for name, kind in kinds_of_layers.items():
        if kind in bases:
            continue
        named = re.compile(rf"\b{name}\b")
        files = [path for path in folder.rglob("*.py") if named.search(path.read_text(encoding="utf-8"))]
        own = folder / "kinds" / f"{model_kinds.kind_name(kind)}.py"
        assert files == ([own] if own.exists() else [])


@pytest.fixture
def new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QRNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "_loaded", {})


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("name", ["rows", "steps"])
def test_nothing_is_compiled_after_the_warm_up(name: str, new_process: None) -> None:
    rng = np.random.default_rng(1)
    layer = pooled(rng, 7, 5)
    model = chain(rng) if name == "rows" else model_of((layer,), {"x": 7, "p": 5})

    def calls(session: Session) -> None:
        before = native.compilations
        engine, x = session.engine, rng.normal(size=(4, 9, 7))
        assert isinstance(engine, CpuEngine)
        if name == "rows":
            for kind in (np.float32, np.float64):
                session.run({"x": x.astype(kind)})
                session.run({"x": x.astype(kind)}, lengths=np.array([9, 0, 1, 3]))
            session.stream(2).step({"x": x[:2, 0]})
        else:
            for kind in (np.float32, np.float64):
                engine.quantize(x.astype(kind), model.tensors["x"])
            q = engine.quantize(x, model.tensors["x"])
            y, _ = engine.steps(layer, [q], tuple(zeros_of(layer, 4)), np.full(4, 9), 3, 0)
            engine.dequantize(y, model.tensors["p"])
        assert native.compilations == before

    session = Session(model, threads=2)
    session.warm_up()
    before = native.compilations
    calls(session)
    with mock.patch.object(native, "_loaded", {}):  # another process
        again = Session(model, threads=2)
        again.warm_up()
        calls(again)
    assert native.compilations == before


OTHER = """
import sys
import numpy as np
from backends import defined_models as models
from qrnn.backends.cpu import native
rng = np.random.default_rng(2)
layer = models.difference(rng, 3)
engine = models.cpu(models.model_of((layer,), {"x": 3, "d": 3}))
engine.rows(layer, np.zeros((2, 3), np.int16))
layer = models.pooled(rng, 3, 2)
engine = models.cpu(models.model_of((layer,), {"x": 3, "p": 2}))
engine.steps(layer, [np.zeros((2, 4, 3), np.int16)], tuple(models.zeros_of(layer, 2)), np.array([4, 2]), 2, 0)
print(native.compilations)
"""


@pytest.mark.matrix
def test_another_process_finds_the_code(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"QRNN_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": path}
    for compiled in ("2", "0"):
        done = subprocess.run(
            [sys.executable, "-c", OTHER], env=environment, capture_output=True, text=True, timeout=300
        )
        assert (done.stdout.strip(), done.returncode) == (compiled, 0), done.stderr


def test_models_of_other_kinds_compile_none_of_it() -> None:
    wanted = wanted_by(cpu(dense_model(np.random.default_rng(0), 7, 5, 127)))
    assert wanted
    assert not [w for w in wanted if w.kernel.module.endswith(".defined")]


HELPER = "FACTOR = {}\ndef scaled(x):\n    return FACTOR * x\n"


KIND = """
from helper_of_a_kind import scaled
SHIFT = 3
def rows_of(contract):
    def rows(first, last, x, out):
        for m in range(first, last):
            out[m, 0] = scaled(x[m, 0]) >> SHIFT
    return rows
"""


def made_module(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of this text, as a new process would import it."""
    (folder / f"{name}.py").write_text(text)
    module = ModuleType(name)
    module.__file__ = str(folder / f"{name}.py")
    monkeypatch.setitem(sys.modules, name, module)
    defined._source.cache_clear()
    exec(compile(text, module.__file__, "exec"), module.__dict__)
    return module


def test_the_key_covers_what_the_code_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of the kind, and what its loops use of other modules."""

    def key(helper: str, kind: str) -> str:
        made_module(tmp_path, "helper_of_a_kind", helper, monkeypatch)
        return definition_of(made_module(tmp_path, "a_kind", kind, monkeypatch).rows_of).digest

    first = key(HELPER.format(5), KIND)
    assert key(HELPER.format(5), KIND) == first
    others = {key(HELPER.format(6), KIND), key(HELPER.format(5), KIND.replace("SHIFT = 3", "SHIFT = 4"))}
    assert len(others | {first}) == 3
    defined._source.cache_clear()


def two_makers(number: int, contract: Any) -> Any:
    return partial(difference_rows, contract)


NOT_A_CONSTANT = {"a": 1}


def uses_a_dictionary(contract: Any) -> Any:
    return NOT_A_CONSTANT["a"]


def test_loops_that_have_no_name_are_refused() -> None:
    """Code is kept under a name; two loops with one name would get each other's code."""
    assert definition_of(partial(two_makers, 3)) != definition_of(partial(two_makers, 4))
    for make in (lambda contract: pooled_step(contract), partial(two_makers, np.zeros(3)), partial(int, 3)):
        with pytest.raises(AssertionError, match="expected a function of a module"):
            definition_of(make)
    with pytest.raises(TypeError, match="uses NOT_A_CONSTANT, a dict: expected integers"):
        definition_of(uses_a_dictionary)


def test_kinds_with_modules_have_their_own_runs() -> None:
    """And a kind of another package is not taken for one of them by the name of its module."""
    model = dense_model(np.random.default_rng(0), 7, 5, 127)
    engine = cpu(model)
    assert type(engine.layer_runs["dense"]).__name__ == "DenseRun"
    layer = difference(np.random.default_rng(0), 7)
    with mock.patch.object(QuantDifference, "__module__", "dense"):
        assert isinstance(run_of(layer, model, engine.tasks), DefinedRows)
