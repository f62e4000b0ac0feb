"""Each package is laid out as its format's documentation says."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from export.packaged import every_file


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


@pytest.mark.parametrize("package", ["esp-idf", "pico-sdk", "zephyr"])
def test_paths_in_cmake_files_exist(package: str, exported: Any) -> None:
    for path in exported(package).rglob("CMakeLists.txt"):
        for name in re.findall(r"[\w./]+\.c\b", path.read_text().replace("${CMAKE_CURRENT_LIST_DIR}/", "")):
            assert (path.parent / name).is_file(), f"{path}: {name}"
