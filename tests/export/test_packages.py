"""Packages: each is laid out as its format's documentation says, replaces another one whole, and is built where its tools are at hand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from installed import compiler

from export.building import WARNINGS, compile_program
from export.kinds import kind
from export.packaged import every_file, export, run
from qrnn.devices.verify import verify
from qrnn.errors import DataError, TargetError
from qrnn.export.expected import random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.export.folder_files import MANIFEST
from qrnn.export.packages import FOLDER, load_package, package_names
from qrnn.targets import load_target

PACKAGES = [name for name in package_names() if name != FOLDER]


BUILT = {"arduino", "cmake", "make"}


def test_the_packages() -> None:
    assert set(PACKAGES) == {"arduino", "cmake", "cmsis-pack", "esp-idf", "make", "pico-sdk", "platformio", "zephyr"}
    assert {name for name in PACKAGES if load_package(name).built} == BUILT
    with pytest.raises(TargetError, match="package 'mbed' is not known; expected one of folder, arduino, cmake"):
        load_package("mbed")
    with pytest.raises(TargetError, match="is not known"):
        load_package("../runtime")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_files(package: str, exported: Any) -> None:
    """The manifest has every file, the README names each path that it lists, and the library has no main."""
    folder, laid_out = exported(package), load_package(package)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert every_file(folder) == set(manifest["files"]) | {MANIFEST}
    assert manifest["package"] == package
    text = (folder / "README.md").read_text()
    assert laid_out.title in text
    assert ("laid out by the format's documentation, not built" in text) == (package not in BUILT)
    assert "$" not in re.sub(r"`[^`]*`", "", text)
    for path in laid_out.rows:
        assert (folder / path.replace("NAME", "net")).exists(), path
    layout = laid_out.layout
    source = folder / layout.source
    assert not [p for p in source.rglob("*.c") if re.search(r"\bmain\s*\(", p.read_text())]
    assert [p.name for p in source.glob("*.c")] == ["net.c"]
    for name in ("net.h", "net_float.h", "net_info.h"):
        assert 'extern "C"' in (folder / layout.header / name).read_text()
    for path in every_file(folder):
        if path.endswith((".c", ".h", ".ino", ".txt", ".yml", ".yaml", ".conf", ".cmake")) and path != "keywords.txt":
            assert "SPDX-License-Identifier: Apache-2.0" in (folder / path).read_text().splitlines()[0], path


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("package", PACKAGES)
def test_verify(package: str, exported: Any) -> None:
    found = read_folder(exported(package))
    compiler("gcc")
    result = verify(
        found, load_target("host-cpu"), random_sequences(found.model, found.exported, (1, 6), seed=4), "gnu"
    )
    assert result.difference is None


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("package", PACKAGES)
def test_the_example_prints(package: str, exported: Any, tmp_path: Path) -> None:
    """Golden sequences and a program of C99, from the package's own folders, without a warning."""
    folder, layout = exported(package), load_package(package).layout
    tests = folder / layout.test.replace("NAME", "net")
    shutil.copy(exported("make") / "example" / "main.c", tmp_path)
    include = [f"-I{folder / place}" for place in (layout.header, layout.source)] + [f"-I{tests}"]
    sources = [folder / layout.source / "net.c", tests / "net_selftest.c", tmp_path / "main.c"]
    compile_program([compiler("gcc"), *WARNINGS, *include, *sources, "-o", tmp_path / "program"])
    lines = run(tmp_path / "program").splitlines()
    assert [line.split(":")[0] for line in lines] == ["sequence 0", "sequence 1", "sequence 2"]
    assert all(re.fullmatch(r"sequence \d: steps \d, class [0-4], every bit is right", line) for line in lines)


def test_the_example_tells_what_differs(tmp_path: Path) -> None:
    """A wrong golden output: its sequence's line says where it is, and the other lines stay."""
    folder = export("make", tmp_path / "out")
    path = next(folder.rglob("net_golden.h"))
    text, count = re.subn(
        r"(golden_out_\w+\[\d+\] = {\n    )(-?\d+)", lambda m: f"{m[1]}{int(m[2]) + 3}", path.read_text()
    )
    assert count
    path.write_text(text)
    include = [f"-I{folder / place}" for place in ("include", "src", "test")]
    sources = [folder / "src" / "net.c", folder / "test" / "net_selftest.c", folder / "example" / "main.c"]
    compile_program([compiler("gcc"), *WARNINGS, *include, *sources, "-o", tmp_path / "program"])
    done = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=False)
    first, *others = done.stdout.splitlines()
    assert done.returncode == 1
    said = re.fullmatch(
        r"sequence 0: steps 1, class \d, WRONG: output \w+ of layer \w+, step 0, unit 0: (-?\d+), expected (-?\d+)",
        first,
    )
    assert said is not None, first
    assert int(said[2]) == int(said[1]) + 3
    assert all(line.endswith("every bit is right") for line in others)


def test_packages_replace_each_other_whole(tmp_path: Path) -> None:
    """What the one before wrote is gone, folders too, and what somebody else put there stays."""
    folder = export("arduino", tmp_path / "out")
    (folder / "src" / "own.txt").write_text("mine")
    for package in ("cmake", FOLDER, "zephyr"):
        before = every_file(folder)
        export(package, folder)
        files = set(json.loads((folder / MANIFEST).read_text())["files"])
        assert every_file(folder) == files | {MANIFEST, "src/own.txt"}
        assert before != every_file(folder)
    assert not (folder / "examples").exists()
    assert read_folder(folder).source == folder / "src" / "net.c"


def test_a_file_in_the_way_leaves_the_folder_as_it_is(tmp_path: Path) -> None:
    folder = export("arduino", tmp_path / "out")
    (folder / "include").write_text("no folder")
    before = {p: (folder / p).read_bytes() for p in every_file(folder)}
    with pytest.raises(DataError, match="include is there already, and is not a folder"):
        export("cmake", folder)
    assert {p: (folder / p).read_bytes() for p in every_file(folder)} == before
    assert not [p for p in folder.iterdir() if p.name.startswith(".qrnn")]


def test_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    """A folder of an earlier export that has become a link is not emptied."""
    folder, elsewhere = export("arduino", tmp_path / "out"), tmp_path / "elsewhere"
    (folder / "src").rename(elsewhere)
    (folder / "src").symlink_to(elsewhere)
    before = every_file(elsewhere)
    export(FOLDER, folder)
    assert every_file(elsewhere) == before
    assert (folder / "src").is_symlink()
    with pytest.raises(DataError, match="src is there already, and is not a folder"):
        export("cmake", folder)
    assert every_file(elsewhere) == before


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has 51 characters, and package platformio takes 50; give a shorter one \(--name\)"
    ):
        export_model(kind("lstm"), load_target("generic"), tmp_path / "out", "n" * 51, package="platformio")
    assert not (tmp_path / "out").exists()
