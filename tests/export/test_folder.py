"""The exported folder by itself: its Makefile, CMake file and self-test, which fails when a bit is wrong."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from installed import tool

from export.building import COMPILERS, WARNINGS, compile_program, compiler
from export.kinds import kind
from qrnn.devices.toolchain import toolchains
from qrnn.errors import ModelFileError, TargetError
from qrnn.export.folder import export_model, read_folder
from qrnn.targets import load_target


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("make"), *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("which", ["lstm", "bidirectional", "embedded"])
def test_make_builds_a_library_and_the_self_test_passes(which: str, cc: str, tmp_path: Path) -> None:
    exported = export_model(kind(which), load_target("generic"), tmp_path / "out", "net")
    done = make(tmp_path / "out", "libqrnn_net.a", "check", f"CC={compiler(cc)}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warning
    assert done.stdout.endswith("every bit is right\n")
    assert f"{cc} " in done.stdout.splitlines()[-2]
    assert (tmp_path / "out" / "libqrnn_net.a").stat().st_size > exported.weight_bytes
    assert make(tmp_path / "out", "clean").returncode == 0
    assert not [p for p in (tmp_path / "out").rglob("*") if p.suffix in (".o", ".a") or p.name == "selftest"]


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("name", ["cortex-m3", "cortex-m4", "cortex-m55", "rv32imc"])
def test_make_builds_for_a_device(name: str, tmp_path: Path) -> None:
    """And runs the self-test here, where the target's kernels run here."""
    target = load_target(name)
    if "gnu" not in [t.family for t in toolchains(target)]:
        pytest.skip(f"no GNU compiler for {name} is installed")
    compiler("cc")
    export_model(kind("lstm"), target, tmp_path / "out", "net")
    done = make(tmp_path / "out", "libqrnn_net.a", "check")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    says = "every bit is right" if target.core.kernels == "plain" else "qrnn verify . --emulate"
    assert says in done.stdout.splitlines()[-1]


def test_cmake_builds_the_self_test(tmp_path: Path) -> None:
    compiler("cc")
    export_model(kind("embedded"), load_target("generic"), tmp_path / "out", "net")
    configure = [tool("cmake"), "-S", tmp_path / "out", "-B", tmp_path / "build", "-DNET_SELFTEST=ON"]
    for command in (configure, [tool("cmake"), "--build", tmp_path / "build"], [tmp_path / "build" / "net_selftest"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.matrix
def test_cmake_optimizes_without_touching_the_project_around_it(tmp_path: Path) -> None:
    """By itself: Release. Within a project of no build type, or of Debug: -O2 for the model alone. Within MinSizeRel: nothing."""
    compiler("cc")
    export_model(kind("lstm"), load_target("generic"), tmp_path / "out", "m")
    parent = tmp_path / "parent"
    parent.mkdir()
    (parent / "app.c").write_text('#include "m.h"\nint main(void) { static m_state s; m_init(&s); return 0; }\n')
    (parent / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(app C)\nadd_subdirectory(../out m)\nadd_executable(app app.c)\n"
        "target_link_libraries(app PRIVATE qrnn::m m)\n"  # the model, and the system's library of that name
    )

    def flags(source: Path, *options: str) -> dict[str, list[str]]:
        build = tmp_path / f"build{len(list(tmp_path.iterdir()))}"
        configure = ["-S", str(source), "-B", str(build), "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *options]
        for arguments in (configure, ["--build", str(build)]):
            done = subprocess.run([tool("cmake"), *arguments], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        commands = json.loads((build / "compile_commands.json").read_text())
        return {Path(c["file"]).name: [w for w in c["command"].split() if w.startswith("-O")] for c in commands}

    assert flags(tmp_path / "out") == {"m.c": ["-O3"]}
    assert flags(tmp_path / "out", "-DM_OPTIMIZATION=-Os") == {"m.c": ["-O3", "-Os"]}
    assert flags(parent) == {"m.c": ["-O2"], "app.c": []}
    assert flags(parent, "-DCMAKE_BUILD_TYPE=Debug") == {"m.c": ["-O2"], "app.c": []}
    assert flags(parent, "-DCMAKE_BUILD_TYPE=MinSizeRel") == {"m.c": ["-Os"], "app.c": ["-Os"]}


@pytest.mark.parametrize("name", ["generic", "cortex-m4", "cortex-m55"])
def test_every_file_has_a_licence_line(name: str, tmp_path: Path) -> None:
    export_model(kind("embedded"), load_target(name), tmp_path / "out", "net")
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert {"LICENSE", "net.qrnn", "manifest.json"} < {p.name for p in files}
    for path in files:
        if path.name not in ("LICENSE", "net.qrnn", "manifest.json"):
            assert "SPDX-License-Identifier: Apache-2.0" in path.read_text().splitlines()[0], path
    assert "Apache License" in (tmp_path / "out" / "LICENSE").read_text()


def test_all_sources_of_the_folder_and_a_main_make_one_program(tmp_path: Path) -> None:
    """What build systems do that compile a folder; with Arduino's macro also its subfolder."""
    export_model(kind("lstm"), load_target("generic"), tmp_path / "out", "net")
    main = tmp_path / "main.c"
    main.write_text('#include "net.h"\nint main(void) { static net_state s; net_init(&s); return 0; }\n')
    for sources in ((tmp_path / "out").glob("*.c"), (tmp_path / "out").rglob("*.c")):
        flags = ["-DARDUINO=10819", f"-I{tmp_path / 'out'}", "-o", tmp_path / "program"]
        compile_program([compiler("gcc"), *WARNINGS, *flags, main, *sources])
        assert subprocess.run([tmp_path / "program"], check=False).returncode == 0


def test_a_folder_of_an_earlier_layout_says_so(tmp_path: Path) -> None:
    export_model(kind("lstm"), load_target("generic"), tmp_path / "out", "net")
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("qrnn-export-4", "qrnn-export-1"))
    with pytest.raises(ModelFileError, match=r"format 'qrnn-export-1', .*; export the model again"):
        read_folder(tmp_path / "out")


@pytest.mark.parametrize(
    "file", ["../net.c", "test/../net.c", "/etc/passwd", "test/a/b", "..", "test/", "test\\main.c"]
)
def test_files_elsewhere_are_not_read(file: str, tmp_path: Path) -> None:
    export_model(kind("lstm"), load_target("generic"), tmp_path / "out", "net")
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][file] = manifest["files"]["net.c"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelFileError, match="missing or changed since the export"):
        read_folder(tmp_path / "out")


def flip(name: str) -> Callable[[str], str]:
    """Change the first number of an array by one of its middle bits."""

    def change(text: str) -> str:
        found = re.search(rf"{name}\[\d+\][ \w]* = {{[^\n]*\n +(-?[0-9A-Fx]+)(U?),", text)
        assert found is not None, name
        value = int(found[1], 0)
        hexadecimal = found[1].startswith("0x")
        new = f"0x{value ^ 0x40:08X}" if hexadecimal else str(value - 64 if value > 0 else value + 64)
        return text[: found.start(1)] + new + text[found.end(1) :]

    return change


@pytest.mark.wide("file")
@pytest.mark.parametrize(
    ("file", "array"),
    [
        *(("net.c", f"net_layer0_{name}") for name in ("ih_weight", "hh_weight", "ih_row")),
        *(
            ("test/net_golden.h", f"golden_{name}")
            for name in ("in_x", "out_y", "out_c", "state_h_layer0", "state_c_layer0")
        ),
    ],
)
def test_the_self_test_fails_when_a_number_is_wrong(file: str, array: str, tmp_path: Path) -> None:
    export_model(kind("lstm"), load_target("generic"), tmp_path / "out", "net")
    path = tmp_path / "out" / file
    changed = flip(array)(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    compiler("gcc")
    done = make(tmp_path / "out", "check", "CC=gcc", "CFLAGS=-std=c99 -O0")
    assert done.returncode != 0
    assert "error:" not in done.stderr  # it was built, and ended with 1
    assert "\nevery bit is right\n" not in done.stdout


FIRST = """#include "test/net_selftest.h"
#include <stdio.h>
#include <string.h>
int main(void)
{
    net_difference first;
    const int wrong = net_compare(&first);
    if (first.what != NULL) {
        printf("%d|%s|%s|%u|%u|%u|%d|%d", wrong, first.what, (first.layer == NULL) ? "" : first.layer, (unsigned)first.sequence,
               (unsigned)first.step, (unsigned)first.unit, (int)first.got, (int)first.expected);
    }
    return 0;
}
"""


@pytest.mark.parametrize(
    ("which", "array", "at", "says"),
    [
        ("stacked", "out_y", 12 * 2 + 5, "output y|concat|1|1|5"),  # the steps are 1, 2, 5
        ("stacked", "out_h", 6 * 2 + 3, "output h|layer1|2|0|3"),
        ("stacked", "state_h_layer0", 6 * 1 + 4, "state h_layer0|layer0|1|0|4"),
        ("embedded", "out_several", 9 * 2 + 1, "output several||2|0|1"),
    ],
)
def test_the_self_test_tells_the_first_value_that_differs(
    which: str, array: str, at: int, says: str, tmp_path: Path
) -> None:
    export_model(kind(which), load_target("generic"), tmp_path / "out", "net")
    path = tmp_path / "out" / "test" / "net_golden.h"
    (tmp_path / "main.c").write_text(FIRST)
    sources = [tmp_path / "out" / "net.c", tmp_path / "out" / "test" / "net_selftest.c", tmp_path / "main.c"]

    def told() -> str:
        compile_program([compiler("gcc"), *WARNINGS, f"-I{tmp_path / 'out'}", *sources, "-o", tmp_path / "program"])
        return subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True).stdout

    assert told() == ""
    head, begin, rest = re.split(rf"(golden_{array}\[\d+\] = {{)", path.read_text())
    numbers, end, tail = rest.partition("}")
    values = [int(v) for v in numbers.replace("\n", " ").split(",")[:-1]]
    right, values[at] = values[at], values[at] + 1
    path.write_text(f"{head}{begin}{', '.join(map(str, values))}{end}{tail}")
    assert told() == f"1|{says}|{right}|{right + 1}"


def test_the_self_test_has_the_users_data(tmp_path: Path) -> None:
    """Two sequences of it, of at most 16 steps, after the random ones; sequences of no steps are left out."""
    model, rng = kind("embedded"), np.random.default_rng(0)
    data = {"ids": rng.integers(0, 11, (4, 20)), "profile": rng.normal(size=(4, 3)), "lengths": np.array([0, 20, 3, 9])}
    export_model(model, load_target("generic"), tmp_path / "out", "net", data)
    text = (tmp_path / "out" / "test" / "net_golden.h").read_text()
    assert "golden_length[5] = {\n    1U, 2U, 5U, 16U, 3U,\n}" in text
    ids = re.search(r"golden_in_ids\[27\] = {\n([^}]*)}", text)
    assert ids is not None
    want = [*data["ids"][1, :16].tolist(), *data["ids"][2, :3].tolist()]
    assert [int(v.strip(" U\n")) for v in ids[1].split(",")[:-1]][8:] == want


def test_the_readme_s_example_compiles(tmp_path: Path) -> None:
    for which in ("embedded", "bidirectional"):
        export_model(kind(which), load_target("generic"), tmp_path / which, "net")
        text = (tmp_path / which / "README.md").read_text()
        example = text.split("```c\n")[1].split("\n```")[0]
        begin, body = example.split("\n\nnet_init", 1) if "\n\nnet_init" in example else example.rsplit("\n\n", 1)
        program = tmp_path / which / "example.c"
        body = f"net_init{body}" if not body.startswith("net_init") else body
        program.write_text(f"#define LENGTH 7\n{begin}\nint main(void)\n{{\n{body}\n}}\n")
        command = [compiler("gcc"), "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", program]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        export_model(kind("lstm"), load_target("generic"), tmp_path / name, "net")
    first, second = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in "ab"
    )
    assert len(first) > 10
    assert first == second


def test_a_target_by_its_name_and_a_folder_as_text(tmp_path: Path) -> None:
    export_model(kind("lstm"), "stm32f407", str(tmp_path / "net"), "net")
    assert read_folder(tmp_path / "net").target.name == "stm32f407vg"
    with pytest.raises(TargetError, match="'cortex-m44' is unknown; did you mean cortex-m4"):
        export_model(kind("lstm"), "cortex-m44", tmp_path / "other", "net")
