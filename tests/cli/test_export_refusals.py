"""What ``qrnn export``, ``verify`` and ``fit`` refuse."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.exported import edit, emulator, export, renew_digests, without_tools
from cli.running import Workplace, tree

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def foreign(place: Workplace, manifest: str | None = None) -> None:
    place.path("c").mkdir()
    (place.path("c") / "thesis.txt").write_text("years of work")
    if manifest is not None:
        (place.path("c") / "manifest.json").write_text(manifest)


BAD_PLACES: dict[str, tuple[Callable[[Workplace], object], str, str]] = {
    "foreign files": (foreign, "c", "it is not empty, and not from an earlier export"),
    "a foreign manifest": (lambda p: foreign(p, '{"name": "web app"}'), "c", "not from an earlier export"),
    "no manifest at all": (lambda p: foreign(p, "no JSON"), "c", "not from an earlier export"),
    "a list as manifest": (lambda p: foreign(p, "[]"), "c", "not from an earlier export"),
    "a file": (lambda p: p.path("c").write_text("years of work"), "c", "it is a file"),
    "no parent": (lambda p: None, "none/c", "make it first"),
    "a file as parent": (lambda p: None, "gru.qrnn/c", "gru.qrnn"),
    "a link in a circle": (lambda p: p.path("c").symlink_to(p.path("c")), "c", "cannot write"),
    "a link to nowhere": (lambda p: p.path("c").symlink_to(p.path("none/c")), "c", "make it first"),
}


@pytest.mark.parametrize("kind", BAD_PLACES)
def test_places_that_are_not_written(place: Workplace, kind: str) -> None:
    prepare, name, says = BAD_PLACES[kind]
    prepare(place)
    place.refused("export", place.path("gru.qrnn"), "-o", place.path(name), says=("cannot write", says))


def test_a_failure_while_writing_leaves_the_old_export(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export(place)
    before = tree(place.folder)
    real = Path.rename

    def failing(self: Path, target: Any) -> Any:
        if self.name == "manifest.json":  # the last of the new files
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    place.refused("export", place.path("ids.qrnn"), "-o", folder, says=("cannot write", "No space left on device"))
    assert tree(place.folder) == before


@pytest.mark.parametrize("command", ["export", "fit"])
@pytest.mark.parametrize(("content", "says"), [(b"", "gru.qrnn"), (b"no model", "gru.qrnn"), (None, "gru.qrnn")])
def test_models_that_are_none(place: Workplace, command: str, content: bytes | None, says: str) -> None:
    place.path("gru.qrnn").unlink()
    if content is not None:
        place.path("gru.qrnn").write_bytes(content)
    options = ["-o", place.path("c")] if command == "export" else []
    place.refused(command, place.path("gru.qrnn"), *options, says=says)


@pytest.mark.parametrize("command", ["export", "verify", "fit"])
def test_targets_that_are_unknown(place: Workplace, command: str) -> None:
    what = export(place) if command == "verify" else place.path("gru.qrnn")
    options = ["-o", place.path("d")] if command == "export" else []
    place.refused(command, what, *options, "--target", "none", says=("target 'none' is unknown", "cortex-m4"))
    place.refused(command, what, *options, "--target", place.path("none.toml"), says="No such file")
    place.path("bad.toml").write_text("name = 1")
    place.refused(command, what, *options, "--target", place.path("bad.toml"), says="bad.toml: name = 1, expected str")


def outside(folder: Path, name: str) -> None:
    """A manifest that names a file with its digest under a name that leads there."""
    secret = folder.parent / "secret.txt"
    secret.write_text("x")
    files = json.loads((folder / "manifest.json").read_text())["files"]
    edit(folder, files={**files, name: hashlib.sha256(b"x").hexdigest()})


def append(folder: Path, name: str) -> None:
    with (folder / name).open("a") as file:
        file.write(" ")


def without(folder: Path, name: str) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    del files[name]
    edit(folder, files=files)


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "expected a folder made by qrnn export"),
    "not JSON": (lambda f: (f / "manifest.json").write_text("{"), "not JSON"),
    "not text": (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe{"), "not JSON"),
    "deep JSON": (lambda f: (f / "manifest.json").write_text("[" * 100_000), "not JSON"),
    "a list": (lambda f: (f / "manifest.json").write_text("[]"), "format None"),
    "another format": (lambda f: edit(f, format="qrnn-export-9"), "format 'qrnn-export-9', expected 'qrnn-export-"),
    "no format": (lambda f: edit(f, format=None), "format None"),
    "no name": (lambda f: edit(f, name=None), "not a manifest"),
    "a name of another type": (lambda f: edit(f, name=["gru"]), "not a manifest"),
    "a name that leads out": (lambda f: edit(f, name="../gru"), "not a manifest"),
    "another name": (lambda f: edit(f, name="main2"), "not a manifest"),
    "no kernels": (lambda f: edit(f, kernels=None), "not a manifest"),
    "unknown kernels": (lambda f: edit(f, kernels="sse"), "not a manifest"),
    "kernels of another type": (lambda f: edit(f, kernels=["plain"]), "not a manifest"),
    "no files": (lambda f: edit(f, files=None), "not a manifest"),
    "files of another type": (lambda f: edit(f, files=[["gru.c", "0"]]), "not a manifest"),
    "no digest of the C": (lambda f: without(f, "gru.c"), "not a manifest"),
    "no digest of the model": (lambda f: without(f, "gru.qrnn"), "not a manifest"),
    "no target": (lambda f: edit(f, target=None), "target None is none of qrnn's own"),
    "a target of another type": (lambda f: edit(f, target=[1]), "is none of qrnn's own"),
    "a target that leads out": (lambda f: edit(f, target="../my.toml"), "is none of qrnn's own"),
    "changed C": (lambda f: append(f, "gru.c"), "gru.c: missing or changed since the export"),
    "a changed header": (lambda f: append(f, "qrnn_types.h"), "qrnn_types.h: missing or changed"),
    "a changed README": (lambda f: append(f, "README.md"), "README.md: missing or changed"),
    "a missing file": (lambda f: (f / "gru.h").unlink(), "gru.h: missing or changed"),
    "a file that is a folder": (lambda f: ((f / "gru.h").unlink(), (f / "gru.h").mkdir()), "gru.h: missing or changed"),
    "a file outside": (lambda f: outside(f, "../secret.txt"), "missing or changed"),
    "a file of the root": (lambda f: outside(f, str(f.parent / "secret.txt")), "missing or changed"),
    "a file named ..": (lambda f: outside(f, ".."), "missing or changed"),
    "a file of no name": (lambda f: outside(f, ""), "missing or changed"),
    "a file with a NUL": (lambda f: outside(f, "a\0b"), "missing or changed"),
    "a model that is none": (
        lambda f: ((f / "gru.qrnn").write_bytes(b"no model"), renew_digests(f)),
        "gru.qrnn",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_folders_that_are_damaged(place: Workplace, exported: Path, kind: str) -> None:
    folder = place.path("c")
    shutil.copytree(exported, folder)
    damage, says = DAMAGED[kind]
    damage(folder)
    place.refused("verify", folder, says=says)


def test_what_is_no_folder(place: Workplace) -> None:
    place.refused("verify", place.path("none"), says="expected a folder made by qrnn export")
    place.refused("verify", place.path("gru.qrnn"), says="expected a folder made by qrnn export")


def test_kernels_that_do_not_run_here(place: Workplace) -> None:
    folder = export(place, "--target", "cortex-m4")
    place.refused("verify", folder, says=("exported for dsp instructions, which host-cpu has not", "use --emulate"))
    place.refused("verify", folder, "--target", "generic", says="use --emulate")
    place.refused("verify", folder, "--target", "cortex-m3", "--emulate", says="export the model for cortex-m3")


def test_a_target_without_a_board_or_an_emulator(place: Workplace) -> None:
    folder = export(place, "--target", "esp32-s3")
    place.refused("verify", folder, "--emulate", says="target esp32-s3: no board starts it")
    assert place.cli("verify", folder).status == 0


def test_compilers_that_are_unknown(place: Workplace) -> None:
    folder = export(place)
    place.refused("verify", folder, "--compiler", "msvc", says=("'msvc'", "expected one of gnu, clang, zig"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "apt-get install gcc or pip install 'qrnn[cross]'"),
        (("--emulate",), "apt-get install gcc-arm-none-eabi or pip install 'qrnn[cross]'"),
        (("--emulate", "--compiler", "clang"), "apt-get install gcc-arm-none-eabi clang"),
        (("--compiler", "zig"), "pip install 'qrnn[cross]'"),
    ],
)
def test_tools_that_are_missing(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], says: str
) -> None:
    folder = export(place, "--target", "cortex-m0plus")
    without_tools(monkeypatch)
    place.refused("verify", folder, *options, says=says)


def test_an_emulator_that_is_missing(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    emulator()
    folder, real = export(place, "--target", "cortex-m3"), shutil.which
    monkeypatch.setattr("shutil.which", lambda name: None if name.startswith("qemu") else real(name))
    place.refused("verify", folder, "--emulate", says="apt-get install qemu-system-arm")


@pytest.mark.matrix
def test_no_tools_on_the_path(place: Workplace) -> None:
    """The command runs in a process of its own, whose PATH is empty."""
    folder = export(place)
    code = "import importlib.util as u, sys; u.find_spec = lambda *_: None; from qrnn.cli import main; main()"
    command = [sys.executable, "-c", code, "verify", str(folder)]
    done = subprocess.run(
        command, env={"PATH": "", "PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no C compiler (any) is installed; apt-get install gcc" in done.stderr


X = np.zeros((2, 3, 4), np.float32)


BAD_DATA: dict[str, tuple[dict[str, Any], str]] = {
    "another size": ({"x": np.zeros((2, 3, 5))}, "[2, 3, 5]"),
    "no input": ({"lengths": np.array([1, 1])}, "'x' is missing"),
    "an unknown name": ({"x": X, "z": X}, "'z' is not an input"),
    "not a number": ({"x": np.full((2, 3, 4), np.nan)}, "finite"),
    "lengths": ({"x": X, "lengths": np.array([1, 9])}, "lengths"),
}


@pytest.mark.wide
@pytest.mark.parametrize("command", ["export", "verify"])
@pytest.mark.parametrize("kind", BAD_DATA)
def test_data_that_do_not_fit(place: Workplace, command: str, kind: str) -> None:
    arrays, says = BAD_DATA[kind]
    data = place.npz(**arrays)
    what = [export(place)] if command == "verify" else [place.path("gru.qrnn"), "-o", place.path("d")]
    place.refused(command, *what, "--data", data, says=says)


def test_data_without_a_step(place: Workplace) -> None:
    folder = export(place)
    data = place.npz(x=X, lengths=np.array([0, 0]))
    place.refused("verify", folder, "--data", data, says="no sequence has a step")
    place.refused("verify", folder, "--data", place.path("none.npz"), says="no such file")


def test_data_with_states(place: Workplace) -> None:
    """States of the data are set in the C, and golden vectors have them."""
    from export.building import quantized
    from models import Shape, make_model

    from qrnn.model.file import save

    save(quantized(make_model(Shape("gru", 4, 5, states=True), np.random.default_rng(0))), place.path("gru.qrnn"))
    folder = export(place)
    data = place.npz("states.npz", x=X, state=np.random.default_rng(1).normal(size=(2, 2, 1, 1, 5)))
    for given in (data, place.npz(x=X)):
        assert place.cli("verify", folder, "--data", given).status == 0
    assert place.cli("export", place.path("gru.qrnn"), "-o", place.path("d"), "--data", data).status == 0
    assert (place.path("d") / "README.md").read_text().count("_set_state") == 1
