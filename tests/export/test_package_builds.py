"""Packages are built by the tools that they are for, where these are at hand, and run."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from installed import compiler, tool

from export.kinds import kind
from export.packaged import every_file, export, run
from qrnn.devices.board_result import read_result
from qrnn.export.choices import Choices
from qrnn.model.codes import code_format

NAMES = ("no", "yes", "may/be", 'a "b"', "e")


ARDUINO = Path("/usr/share/arduino/hardware/arduino/avr")
"""Where Debian's package arduino-core-avr has the core."""


def test_make(exported: Any, tmp_path: Path) -> None:
    """The library, the example, and an installed library in a program of another folder, found by pkg-config's file."""
    tool("make")
    compiler("cc")
    folder = shutil.copytree(exported("make"), tmp_path / "out")
    out = run("make", "-C", folder, "all", "check", "install", f"DESTDIR={tmp_path}/root", "PREFIX=/opt")
    assert out.count("every bit is right") == 3
    text = (tmp_path / "root/opt/lib/pkgconfig/qrnn_net.pc").read_text()
    assert "prefix=/opt\nName: qrnn_net\n" in text
    assert "Libs: -L${prefix}/lib -lqrnn_net\n" in text
    (tmp_path / "app.c").write_text(
        "#include <net.h>\nint main(void) { static net_state s; net_init(&s); return 0; }\n"
    )
    root = tmp_path / "root" / "opt"
    run("cc", f"-I{root}/include", tmp_path / "app.c", f"-L{root}/lib", "-lqrnn_net", "-o", tmp_path / "app")
    run(tmp_path / "app")
    run("make", "-C", folder, "clean")
    assert every_file(folder) == every_file(exported("make"))


def test_make_for_another_core(tmp_path: Path) -> None:
    """The library is built, and the example says where it runs."""
    tool("make")
    tool("arm-none-eabi-gcc")
    out = run("make", "-C", export("make", tmp_path / "out", target="cortex-m4"), "all", "check")
    assert out.splitlines()[-2].endswith("net runs on cortex-m4 alone: qrnn verify . --emulate")


def test_cmake(exported: Any, tmp_path: Path) -> None:
    """Its own test passes; installed, it is found by find_package, and in the tree by add_subdirectory."""
    cmake = tool("cmake")
    compiler("cc")
    own = tmp_path / "own"
    run(cmake, "-S", exported("cmake"), "-B", own, f"-DCMAKE_INSTALL_PREFIX={tmp_path}/root")
    run(cmake, "--build", own)
    run("ctest", "--test-dir", own)
    run(cmake, "--install", own)
    app = tmp_path / "app"
    app.mkdir()
    (app / "app.c").write_text("#include <net.h>\nint main(void) { static net_state s; net_init(&s); return 0; }\n")
    head = "cmake_minimum_required(VERSION 3.13)\nproject(app C)\nadd_executable(app app.c)\n"
    for number, line in enumerate(("find_package(qrnn_net REQUIRED)", f'add_subdirectory("{exported("cmake")}" net)')):
        (app / "CMakeLists.txt").write_text(f"{head}{line}\ntarget_link_libraries(app PRIVATE qrnn::net)\n")
        build = tmp_path / f"build{number}"
        run(cmake, "-S", app, "-B", build, f"-DCMAKE_PREFIX_PATH={tmp_path}/root")
        run(cmake, "--build", build)
        run(build / "app")
        assert not (build / "net" / "net_example").exists()


def arduino_program(folder: Path, place: Path, sketch_name: str) -> Path:
    """A sketch with its library and the core, compiled and linked as platform.txt of the core says; without a warning of the library's own."""
    place.mkdir()
    common = [
        "-Os",
        "-ffunction-sections",
        "-fdata-sections",
        "-mmcu=atmega2560",
        "-DF_CPU=16000000L",
        "-DARDUINO=10819",
    ]
    common += [
        "-DARDUINO_AVR_MEGA2560",
        "-DARDUINO_ARCH_AVR",
        f"-I{ARDUINO}/cores/arduino",
        f"-I{ARDUINO}/variants/mega",
    ]
    common += [f"-I{folder / 'src'}", f"-I{folder / 'examples' / sketch_name}"]
    flags = {
        ".c": ["-std=gnu11"],
        ".cpp": ["-std=gnu++11", "-fpermissive", "-fno-exceptions", "-fno-threadsafe-statics", "-w", "-DDECIMAL_DIG=9"],
        ".S": ["-x", "assembler-with-cpp"],
    }
    sketch = place / f"{sketch_name}.ino.cpp"
    sketch.write_text("#include <Arduino.h>\n" + (folder / "examples" / sketch_name / f"{sketch_name}.ino").read_text())
    own = [*sorted((folder / "src").glob("*.c")), *sorted((folder / "examples" / sketch_name).glob("*.c"))]
    core = [p for p in sorted((ARDUINO / "cores/arduino").iterdir()) if p.suffix in flags]
    objects = []
    for number, source in enumerate([*own, sketch, *core]):
        objects.append(place / f"{number}.o")
        strict = ["-Wall", "-Wextra", "-Werror"] if source in own else ["-w"]
        run("avr-gcc", "-c", *common, *strict, *flags[source.suffix], source, "-o", objects[-1])
    run("avr-gcc", "-Os", "-Wl,--gc-sections", "-mmcu=atmega2560", *objects, "-lm", "-o", place / "sketch.elf")
    return place / "sketch.elf"


def arduino_heard(program: Path, place: Path, end: str) -> str:
    """What a sketch prints on the serial port of an emulated Mega 2560, up to a text."""
    heard = place / "serial.txt"
    options = ["-display", "none", "-monitor", "none", "-serial", f"file:{heard}"]
    command = [tool("qemu-system-avr"), "-M", "mega2560", "-bios", str(program), *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                if heard.exists() and end.encode() in heard.read_bytes():
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
                    break
        finally:
            process.kill()
    return heard.read_text()


def arduino_tools() -> None:
    tool("avr-gcc")
    tool("qemu-system-avr")
    if not (ARDUINO / "cores" / "arduino").is_dir():
        pytest.skip("arduino-core-avr is not installed")


def test_arduino(tmp_path: Path) -> None:
    """The sketch is built with the AVR core and prints on the serial port of an emulated Mega 2560, whose int has 16 bits."""
    arduino_tools()
    codes = {"profile": code_format(kind("embedded"), "profile", 2.0**-9, 0.25, "uint16")}
    choices = Choices(codes, {"y": NAMES[:4]}, scratch=True)
    folder = export("arduino", tmp_path / "out", choices=choices)
    heard = arduino_heard(arduino_program(folder, tmp_path / "build", "net_golden"), tmp_path, "done")
    lines = heard.splitlines()
    assert lines[-1] == "done"
    assert len(lines) == 4
    assert all(
        re.fullmatch(r"sequence \d: steps \d, class (0 no|1 yes|2 may/be|3 a \"b\"), every bit is right", line)
        for line in lines[:-1]
    )


@pytest.mark.matrix
def test_arduino_bench(tmp_path: Path) -> None:
    """The other sketch prints the line of NAME_bench; QEMU's timer counts its own time."""
    arduino_tools()
    folder = export("arduino", tmp_path / "out", target="arduino-mega", bench=True)
    heard = arduino_heard(arduino_program(folder, tmp_path / "build", "net_bench"), tmp_path, "}")
    result = read_result(heard, "sketch")
    assert (result.right, result.counter, result.clock_hz) == (True, "Timer 1", 16_000_000)
    assert result.min is not None
    assert result.min > 0


STUBS = {
    "zephyr": (
        "set(CONFIG_QRNN_NET y)\nset(CONFIG_QRNN_NET_SPEED y)\n"
        "macro(zephyr_include_directories)\ninclude_directories(${ARGV})\nendmacro()\n"
        "macro(zephyr_library_named name)\nset(it ${name})\nadd_library(${name} STATIC)\nendmacro()\n"
        "macro(zephyr_library_sources)\ntarget_sources(${it} PRIVATE ${ARGV})\nendmacro()\n"
        "macro(zephyr_library_compile_options_ifdef option)\n"
        "if(${option})\ntarget_compile_options(${it} PRIVATE ${ARGN})\nendif()\nendmacro()\n"
    ),
    "esp-idf": (
        'macro(idf_component_register)\ncmake_parse_arguments(one "" "" "SRCS;INCLUDE_DIRS" ${ARGN})\n'
        "set(COMPONENT_LIB qrnn_net)\nadd_library(qrnn_net STATIC ${one_SRCS})\n"
        "target_include_directories(qrnn_net PUBLIC ${one_INCLUDE_DIRS})\nendmacro()\n"
    ),
    "pico-sdk": "",
}
"""What the build systems offer of what the packages' CMake files call, as far as these files can tell."""


@pytest.mark.wide(cover=False, keep=1)
@pytest.mark.parametrize("package", STUBS)
def test_cmake_files_that_call_a_build_system_s_functions(package: str, exported: Any, tmp_path: Path) -> None:
    """They are CMake's language, and compile the model for this machine where the functions do what their documentation says."""
    cmake = tool("cmake")
    compiler("cc")
    app, folder = tmp_path / "app", exported(package)
    app.mkdir()
    (app / "app.c").write_text("#include <net.h>\nint main(void) { static net_state s; net_init(&s); return 0; }\n")
    (app / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.20)\nproject(app C)\n{STUBS[package]}"
        f'add_subdirectory("{folder}" net)\nadd_executable(app app.c)\ntarget_link_libraries(app PRIVATE qrnn_net)\n'
        f'target_include_directories(app PRIVATE "{folder}/include")\n'
    )
    run(cmake, "-S", app, "-B", tmp_path / "build", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
    run(cmake, "--build", tmp_path / "build")
    run(tmp_path / "build" / "app")
    commands = json.loads((tmp_path / "build" / "compile_commands.json").read_text())
    (own,) = [c["command"] for c in commands if Path(c["file"]).name == "net.c"]
    assert " -O2 " in own
