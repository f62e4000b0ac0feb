"""After `Session.warm_up` nothing is compiled; what is compiled for an instruction set serves every processor that has it, and no other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from models import Shape, make_model

from qrnn import layers
from qrnn.backends.cpu import isa as isa_module
from qrnn.backends.cpu import native
from qrnn.backends.cpu.calls import Call, CallList, wanted_of
from qrnn.backends.cpu.isa import ISAS, PLAIN, X86, available_isas, choose_isa, target_for
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.wanted import Kernel
from qrnn.conversion import quantize
from qrnn.errors import BackendError, DataError
from qrnn.model.file import save
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session

SHAPES = {
    "gru": Shape("gru", 4, 9, linear_before_reset=True, head=3),
    "lstm": Shape("lstm", 4, 9, directions=(False, True)),
    "plain": Shape("lstm", 4, 9, projection=5),
}


def small(name: str) -> QuantModel:
    """Convert one of `SHAPES`, or a model of a small convolution, whose kernels take little time to compile."""
    rng = np.random.default_rng(0)
    if name == "conv":
        y = layers.conv(layers.input("x", 4), rng.normal(size=(3, 4, 2)))
        return quantize(layers.model("conv", {"y": y}), {"x": rng.normal(size=(3, 9, 4))})
    return quantize(make_model(SHAPES[name], rng), {"x": rng.normal(size=(3, 9, 4))})


@pytest.fixture
def new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and nothing loaded, as in a new process."""
    monkeypatch.setenv("QRNN_CACHE_DIR", str(tmp_path / "cache"))
    with mock.patch.object(native, "_loaded", {}):
        yield tmp_path / "cache"


def calls(session: Session, name: str) -> None:
    """Runs of every kind, checked against the reference."""
    reference = Session(session.model, "reference")
    rng = np.random.default_rng(1)

    def same(x: Any, **more: Any) -> None:
        want = reference.run({"x": x}, **more).outputs
        for key, value in session.run({"x": x}, **more).outputs.items():
            np.testing.assert_array_equal(value, want[key])

    for kind in (np.float64, np.float32, np.float16):
        for size, steps in ((1, 1), (1, 5), (1, 5), (2, 3), (8, 4), (8, 4), (40, 70)):
            same(rng.normal(size=(size, steps, 4)).astype(kind))
    same(rng.normal(size=(1, 400, 4)))
    same(rng.normal(size=(4, 6, 4)), lengths=np.array([6, 1, 0, 3]))
    if name == "lstm":
        return  # reads backwards
    frame = rng.normal(size=(4, 4))
    for count in (1, 4, 1, 4):
        session.step({"x": frame[:count]})
        session.step({"x": frame[:count]})
        session.stream(count).step({"x": frame[:count]})
    pool = session.pool(2)
    pool.step([pool.open() for _ in range(4)], {"x": frame})


# An empty cache makes every case compile for about 15 s.
@pytest.mark.matrix
@pytest.mark.parametrize("name", SHAPES)
def test_nothing_is_compiled_after_it(name: str, new_process: Path) -> None:
    session = Session(small(name), threads=2)
    session.warm_up()
    before = native.compilations
    calls(session, name)
    assert native.compilations == before
    with mock.patch.object(native, "_loaded", {}):  # another process
        again = Session(session.model, threads=2)
        again.warm_up()
        calls(again, name)
    assert native.compilations == before


@pytest.mark.parametrize("name", ["conv", pytest.param("gru", marks=pytest.mark.matrix)])
@pytest.mark.usefixtures("loops")
def test_only_what_is_asked_for(name: str, new_process: Path) -> None:
    """Fewer kernels for one sequence, or for streams alone; nothing beyond them is needed by such calls."""
    model, x = small(name), np.zeros((1, 5, 4))
    everything, found = Session(model), dict[str, int]()
    for key, numbers in (("one", {"batch": 1}), ("streams", {"streams": 3}), ("all", {})):
        with mock.patch.object(native, "_loaded", {}) as loaded:
            session = Session(model)
            session.warm_up(**numbers)
            found[key] = len(loaded)
            before = native.compilations
            if key == "streams":
                session.stream(3).step({"x": np.zeros((3, 4))})
            else:
                session.run({"x": x})
            assert native.compilations == before
    assert found["one"] < found["all"]
    assert found["streams"] < found["all"]
    everything.warm_up(batch=2, steps=5)
    assert {(2, 5, "f", "f"), (2, 5, "d", "d")} <= everything._host_runs._kept.kinds


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("numbers", [{"batch": 0}, {"steps": -1}, {"streams": 1.5}, {"batch": True}])
def test_numbers_that_are_none(numbers: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="expected a whole number of at least 1"):
        Session(small("gru")).warm_up(**numbers)


@pytest.mark.usefixtures("loops")
def test_other_backends() -> None:
    model = small("gru")
    Session(model, "reference").warm_up(batch=2, steps=3)
    with pytest.raises(BackendError, match=r"keeps no compiled code.*leave it out"):
        Session(model, "reference", cache="folder")


@pytest.mark.usefixtures("loops")
def test_a_session_has_a_folder_of_its_own(new_process: Path, tmp_path: Path) -> None:
    model = small("conv")  # which is run where it is quantized
    shutil.rmtree(new_process)
    with mock.patch.object(native, "_loaded", {}):
        Session(model, cache=tmp_path / "own").run({"x": np.zeros((1, 5, 4))})
    assert list((tmp_path / "own").rglob("*.o"))
    assert not new_process.exists()


# --- processors -------------------------------------------------------------------------------------------------------------------------


@jit
def _double(place: Any) -> None:
    place[2] = 2 * place[0]


def compiled_now(isa: str) -> int:
    """Use a kernel compiled for an instruction set, as a new process does; how often it had to be compiled."""
    control, before = np.zeros(3, np.int64), native.compilations
    with mock.patch.object(native, "_loaded", {}):
        call = Call(Kernel(__name__, "_double"), control, isa=choose_isa(isa))
        assert CallList((call,), control).run(21, 0) == 42
    return native.compilations - before


FEATURES = dict(isa_module.host_features())


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch, new_process: Path) -> Iterator[Any]:
    """Lets this be a processor of another name, without some features."""

    def become(name: str, *without: str) -> None:
        here = {feature: on and feature not in without for feature, on in FEATURES.items()}
        monkeypatch.setattr(isa_module, "get_host_cpu_name", lambda: name)
        monkeypatch.setattr(isa_module, "host_features", lambda: here)
        forget()

    def forget() -> None:
        target_for.cache_clear()
        wanted_of.cache_clear()

    yield become
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize("isa", available_isas())
def test_the_name_of_the_processor_does_not_count(isa: str, processor: Any) -> None:
    assert compiled_now(isa) == 1
    processor("cascadelake")
    assert compiled_now(isa) == 0


@pytest.mark.skipif("avx2" not in available_isas(), reason="not an x86 processor with AVX2")
def test_a_feature_that_is_missing_is_a_miss(processor: Any) -> None:
    """What was compiled with it is not used, be it of the instruction set or only usual beside it."""
    assert compiled_now("avx2") == 1
    processor("haswell", "avx512f", "avx512vl", "avx512bw")
    assert compiled_now("avx2") == 0
    processor("a machine that hides a feature", "movbe")
    assert "movbe" not in target_for("avx2").features
    assert compiled_now("avx2") == 1
    assert compiled_now("avx2") == 0
    processor(
        "ivybridge", "avx2", *(feature for feature in FEATURES if feature.startswith(("avx512", "avxvnni", "amx")))
    )
    with pytest.raises(BackendError, match="is not in this processor"):
        compiled_now("avx2")
    assert compiled_now(PLAIN) == 1
    assert "avx2" not in target_for(PLAIN).features


@pytest.mark.skipif(not set(available_isas()) & {"avx2"}, reason="not an x86 processor with AVX2")
def test_targets_are_what_their_instruction_sets_have() -> None:
    for isa in ISAS:
        if set(isa.machines) == set(X86):
            target = target_for(isa.name)
            assert set(isa.features) <= set(target.features)
            assert (target.cpu == "x86-64-v4") == ("avx512f" in isa.features)


# --- folders that were made elsewhere -----------------------------------------------------------------------------------------------------

RUN = """
import sys
import numpy as np
from qrnn.model.file import load
from qrnn.running.session import Session
session = Session(load(sys.argv[1]), isa=sys.argv[2])
session.run({"x": np.zeros((1, 5, 4), np.float32)})
session.run({"x": np.zeros((8, 5, 4))})
session.stream().step({"x": np.zeros((1, 4))})
print("numba" in sys.modules)
"""


@pytest.mark.parametrize(
    ("name", "isa"),
    [
        ("conv", PLAIN),
        pytest.param("gru", PLAIN, marks=pytest.mark.matrix),
        pytest.param("gru", available_isas()[0], marks=pytest.mark.matrix),
    ],
)
def test_a_prepared_folder_needs_no_compiler(name: str, isa: str, tmp_path: Path) -> None:
    """A process that finds its code does not even import Numba; the folder may only be read."""
    save(small(name), tmp_path / "model.qrnn")
    environment = os.environ | {"QRNN_CACHE_DIR": str(tmp_path / "elsewhere")}
    command = [sys.executable, "-m", "qrnn", "compile", str(tmp_path / "model.qrnn"), "--isa", isa, "-o"]
    done = subprocess.run(
        [*command, str(tmp_path / "made")], env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "elsewhere").exists()
    shutil.copytree(tmp_path / "made", tmp_path / "moved")
    for path in ((tmp_path / "moved"), *(tmp_path / "moved").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
        path.chmod(0o555 if path.is_dir() else 0o444)
    environment["QRNN_CACHE_DIR"] = str(tmp_path / "moved")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, str(tmp_path / "model.qrnn"), isa],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (ran.stdout.strip(), ran.stderr) == ("False", "")


@pytest.mark.matrix
def test_layers_and_cells_without_kernels(new_process: Path) -> None:
    """What runs by its own definition is compiled ahead too: whole, ragged, by steps, in streams and pools."""
    rng = np.random.default_rng(0)
    x = layers.input("x", 4)
    c = layers.conv(x, rng.normal(0, 0.4, (5, 4, 3)), rng.normal(size=5), stride=2)
    h = layers.min_gru(layers.layer_norm(c, np.ones(5)), rng.normal(0, 0.4, (12, 5)), rng.normal(size=12))
    y = layers.dense(h.output, rng.normal(size=(3, 6)))
    data = rng.normal(size=(4, 9, 4))
    model = quantize(layers.model("m", {"y": y, "h": h.h_n}), {"x": data})
    session, want = Session(model, threads=2), Session(model, "reference").run({"x": data}, [9, 1, 0, 4])
    session.warm_up()
    before = native.compilations
    for kind in (np.float64, np.float32):
        got = session.run({"x": data.astype(kind)}, [9, 1, 0, 4])
        session.run({"x": data.astype(kind)})
        assert kind is np.float32 or all((got.outputs[name] == want.outputs[name]).all() for name in want.outputs)
    session.step({"x": data[:, 0]})
    session.stream(2).step({"x": data[:2, 0]})
    pool = session.pool(2)
    pool.step([pool.open()], {"x": data[:1, 0]})
    assert native.compilations == before
