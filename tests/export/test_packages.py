"""Packages: each is laid out as its format's documentation says, replaces another one whole, and is built where its tools are at hand."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from installed import compiler, tool

from export.building import WARNINGS, compile_program
from export.kinds import kind
from qrnn.devices.board_result import read_result
from qrnn.devices.verify import verify
from qrnn.errors import DataError, TargetError
from qrnn.export.choices import Choices
from qrnn.export.expected import random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.export.folder_files import MANIFEST
from qrnn.export.packages import FOLDER, load_package, package_names
from qrnn.model.codes import code_format
from qrnn.targets import load_target

PACKAGES = [name for name in package_names() if name != FOLDER]
BUILT = {"arduino", "cmake", "make"}
NAMES = ("no", "yes", "may/be", 'a "b"', "e")
ARDUINO = Path("/usr/share/arduino/hardware/arduino/avr")
"""Where Debian's package arduino-core-avr has the core."""


def export(package: str, folder: Path, which: str = "embedded", target: str = "generic", **more: Any) -> Path:
    export_model(kind(which), load_target(target), folder, "net", package=package, **more)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a package, exported once for all tests that only read it."""
    root = tmp_path_factory.mktemp("packages")

    @cache
    def made(package: str) -> Path:
        return export(package, root / package)

    return made


def run(*command: Any, **more: Any) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def every_file(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


# what all have


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


# Make, CMake, Arduino: built


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


def test_arduino_s_rules(exported: Any) -> None:
    """The library specification, revision 2.2: required fields, names, categories, and sketches in folders of their name."""
    folder = exported("arduino")
    lines = (folder / "library.properties").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert len(found) == len(lines)
    required = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert required <= found.keys() <= required | {"includes", "depends", "dot_a_linkage", "precompiled", "ldflags"}
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", found["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"])
    assert found["category"] in (
        "Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage", "Data Processing", "Other",
    )  # fmt: skip
    assert (folder / "src" / found["includes"]).is_file()
    for sketch in folder.rglob("*.ino"):
        assert sketch.stem == sketch.parent.name
    for line in (folder / "keywords.txt").read_text().splitlines():
        assert re.fullmatch(r"\w+\t(KEYWORD1|KEYWORD2|LITERAL1)", line)


# PlatformIO, Zephyr, ESP-IDF, CMSIS-Pack, Pico SDK: laid out


def test_platformio_s_rules(exported: Any) -> None:
    """library.json: the required fields, their lengths, and paths that exist."""
    folder = exported("platformio")
    found = json.loads((folder / "library.json").read_text())
    assert {"name", "version", "description", "keywords", "license"} <= found.keys()
    assert len(found["name"]) <= 50
    assert not set(found["name"]) & set(":;/,@<>")
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"])
    assert len(found["description"]) <= 255
    assert (folder / found["build"]["includeDir"] / found["headers"]).is_file()
    assert (folder / found["build"]["srcDir"] / "net.c").is_file()
    for example in found["examples"]:
        assert all((folder / example["base"] / file).is_file() for file in example["files"])
    assert all((folder / path).exists() for path in found["export"]["include"])


def yaml(path: Path) -> Any:
    return pytest.importorskip("yaml").safe_load(path.read_text())


def test_zephyr_s_rules(exported: Any) -> None:
    """module.yml names folders that exist; options of the sample and of the CMake file are those of Kconfig; Twister's pattern fits."""
    folder = exported("zephyr")
    module = yaml(folder / "zephyr" / "module.yml")
    assert module["name"] == "qrnn_net"
    assert (folder / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert all((folder / path).is_dir() for path in module["samples"])
    options = set(re.findall(r"^config (\w+)$", (folder / module["build"]["kconfig"]).read_text(), re.MULTILINE))
    assert options == {"QRNN_NET", "QRNN_NET_SPEED"}
    used = re.findall(
        r"CONFIG_(QRNN_\w+)", (folder / "CMakeLists.txt").read_text() + (folder / "samples/golden/prj.conf").read_text()
    )
    assert set(used) == options
    sample = yaml(folder / "samples" / "golden" / "sample.yaml")
    assert {"sample", "tests"} == sample.keys()
    (case,) = sample["tests"].values()
    (pattern,) = case["harness_config"]["regex"]
    text = (folder / "samples/golden/src/main.c").read_text()
    assert '"net: %s\\n"' in text
    assert re.search(pattern, "net: every bit is right")


def test_esp_idf_s_rules(exported: Any) -> None:
    """The manifests: a version, a licence, dependencies by their rules; the example depends on the component above it."""
    folder = exported("esp-idf")
    found = yaml(folder / "idf_component.yml")
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"])
    assert found["license"] == "Apache-2.0"
    assert found["dependencies"] == {"idf": {"version": ">=4.4"}}
    (example,) = found["examples"]
    main = folder / example["path"] / "main"
    ((name, dependency),) = yaml(main / "idf_component.yml")["dependencies"].items()
    assert name == "qrnn_net"
    assert (main / dependency["override_path"]).resolve() == folder.resolve()


def test_cmsis_pack_s_rules(exported: Any) -> None:
    """The description: file name, required elements and attributes, conditions that exist, files that exist."""
    folder = exported("cmsis-pack")
    (path,) = folder.glob("*.pdsc")
    root = ElementTree.parse(path).getroot()
    assert root.tag == "package"
    assert re.fullmatch(r"1\.\d+(\.\d+)?", root.attrib["schemaVersion"])
    vendor, name = (root.findtext(tag) or "" for tag in ("vendor", "name"))
    assert path.name == f"{vendor}.{name}.pdsc"
    assert re.fullmatch(r"[A-Za-z0-9_-]+", vendor + name)
    for tag in ("description", "url", "license", "releases", "components"):
        assert root.find(tag) is not None, tag
    assert (folder / (root.findtext("license") or "none")).is_file()
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", r.attrib["version"]) for r in root.iterfind("releases/release"))
    conditions = {c.attrib["id"] for c in root.iterfind("conditions/condition")}
    known = set()
    for component in root.iterfind("components/component"):
        assert {"Cclass", "Cgroup", "Cversion"} <= component.attrib.keys()
        assert component.attrib["condition"] in conditions
        known.add(tuple(component.attrib[k] for k in ("Cclass", "Cgroup", "Csub")))
        for file in component.iterfind("files/file"):
            assert file.attrib["category"] in {"doc", "header", "include", "sourceC"}
            assert (folder / file.attrib["name"]).exists()
            assert ("attr" in file.attrib) == ("select" in file.attrib)
    for require in root.iterfind("conditions/condition/require"):
        assert tuple(require.attrib[k] for k in ("Cclass", "Cgroup", "Csub")) in known
    listed = {
        f.attrib["name"] for f in root.iterfind("components/component/files/file") if f.attrib["category"] == "sourceC"
    }
    assert listed == {p for p in every_file(folder) if p.endswith(".c")}


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


@pytest.mark.parametrize("package", ["esp-idf", "pico-sdk", "zephyr"])
def test_paths_in_cmake_files_exist(package: str, exported: Any) -> None:
    for path in exported(package).rglob("CMakeLists.txt"):
        for name in re.findall(r"[\w./]+\.c\b", path.read_text().replace("${CMAKE_CURRENT_LIST_DIR}/", "")):
            assert (path.parent / name).is_file(), f"{path}: {name}"
