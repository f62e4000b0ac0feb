"""Tools that are missing or fail, and files that are no programs: one clear error each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qrnn.devices import EmulatorRun, Image, Toolchain, find_toolchain, read_image, run, toolchains
from qrnn.devices.toolchain import FAMILIES, boards_folder, linker_script
from qrnn.errors import DeviceError, MissingToolError
from qrnn.targets import Target, load_target


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)


def host() -> tuple[Target, Toolchain]:
    target = load_target("host-cpu")
    if not toolchains(target):
        pytest.skip("no compiler for the host is installed")
    return target, toolchains(target)[0]


def build(folder: Path, text: str) -> tuple[Target, Image]:
    target, toolchain = host()
    source = folder / "program.c"
    source.write_text(text)
    return target, toolchain.build(target, [source], output=folder / "program")


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("name", "family", "says"),
    [
        ("cortex-m4", None, r"apt-get install gcc-arm-none-eabi or pip install 'qrnn\[cross\]'"),
        ("cortex-m4", "gnu", r"\(gnu\) is installed; apt-get install gcc-arm-none-eabi$"),
        ("cortex-m4", "clang", r"apt-get install gcc-arm-none-eabi clang$"),
        ("cortex-m4", "zig", r"\(zig\) is installed; pip install 'qrnn\[cross\]'$"),
        ("rv32imc", "gnu", r"apt-get install gcc-riscv64-unknown-elf$"),
        ("host-cpu", None, r"apt-get install gcc or pip install 'qrnn\[cross\]'$"),
    ],
)
def test_no_compiler(name: str, family: Any, says: str) -> None:
    target = load_target(name)
    assert toolchains(target) == ()
    with pytest.raises(MissingToolError, match=says):
        find_toolchain(target, family)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(("name", "package"), [("cortex-m4", "qemu-system-arm"), ("rv32imc", "qemu-system-misc")])
def test_no_emulator(name: str, package: str) -> None:
    image = Image(Path("program.elf"))
    with pytest.raises(
        MissingToolError, match=f"target {name}: emulator .* is not installed; apt-get install {package}$"
    ):
        run(image, load_target(name))


def test_a_target_that_nothing_starts() -> None:
    target = load_target("esp32-s3")
    assert toolchains(target) == ()
    with pytest.raises(DeviceError, match=r"target esp32-s3: no board starts it.*build\.board"):
        find_toolchain(target)
    with pytest.raises(DeviceError, match="target esp32-s3: no emulator is known"):
        run(Image(Path("program.elf")), target)
    with pytest.raises(DeviceError, match="no memory map"):
        linker_script(target)


def test_a_target_without_flags() -> None:
    target = load_target("cortex-m4")
    target = replace(target, build=replace(target.build, zig_flags=()))
    assert "zig" not in [toolchain.family for toolchain in toolchains(target)]
    with pytest.raises(MissingToolError, match=r"names no flags for zig; expected in \[build\]"):
        find_toolchain(target, "zig")


def test_wrong_c_is_an_error_with_the_compilers_words(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"(?s)program\.c.*exit status 1.*error"):
        build(tmp_path, "int main(void) { return nothing; }")


def test_what_does_not_fit_is_not_linked(tmp_path: Path) -> None:
    target = load_target("cortex-m0plus")
    try:
        toolchain = find_toolchain(target)
    except MissingToolError as error:
        pytest.skip(str(error))
    source = tmp_path / "program.c"
    source.write_text("volatile char much[16000]; int main(void) { return much[0]; }")
    with pytest.raises(DeviceError, match="less than 512 bytes of RAM are left for the stack"):
        toolchain.build(target, [source], output=tmp_path / "program.elf")


def test_a_crash_is_an_error(tmp_path: Path) -> None:
    target, image = build(tmp_path, "#include <stdlib.h>\nint main(void) { abort(); }")
    with pytest.raises(DeviceError, match=r"target host-cpu: .*ended by signal 6"):
        run(image, target)


def test_two_sources_of_one_name_and_defines(tmp_path: Path) -> None:
    target, toolchain = host()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "part.c").write_text("int three(void);\nint three(void) { return THREE; }")
    (tmp_path / "part.c").write_text('#include "part.h"\nint main(void) { return three(); }')
    (tmp_path / "a" / "part.h").write_text("int three(void);")
    sources = [tmp_path / "part.c", tmp_path / "a" / "part.c"]
    image = toolchain.build(target, sources, [tmp_path / "a"], {"THREE": 3}, tmp_path / "program")
    assert run(image, target) == EmulatorRun(b"", 3)
    with pytest.raises(DeviceError, match="0 functions or objects are named 'four'"):
        image.symbol("four")


def test_files_that_are_no_programs(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="No such file"):
        read_image(tmp_path / "none.elf")
    text = tmp_path / "text.elf"
    text.write_text("no program")
    with pytest.raises(DeviceError, match="not a linked ELF file"):
        read_image(text)
    with pytest.raises(DeviceError, match="cannot run"):
        run(Image(text), load_target("host-cpu"))


@pytest.mark.parametrize("family", FAMILIES)
def test_version(family: Any) -> None:
    try:
        toolchain = find_toolchain(load_target("host-cpu"), family)
    except MissingToolError as error:
        pytest.skip(str(error))
    assert any(character.isdigit() for character in toolchain.version())


def test_boards_come_with_the_targets() -> None:
    assert (boards_folder() / "board.h").is_file()
