"""Options of ``qrnn export`` for the C around a model: packages, codes, names, room for work, figures; and what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from installed import compiler

from cli.exported import edit, emulator, export
from cli.running import Workplace
from qrnn.cli import export as command
from qrnn.export.folder import read_folder
from qrnn.export.packages import load_package, package_names

INT32_CODES = {"kind": "int32", "scale": [1.0], "offset": [0.0]}


def test_the_help_names_every_package(place: Workplace) -> None:
    done = place.cli("export", "--help")
    listed = re.sub(r"[│\s]+", " ", done.out)
    assert all(name in listed for name in package_names()), command


def test_choices_are_kept(place: Workplace) -> None:
    """The folder is read and verified as it was written."""
    compiler("gcc")
    options = (
        "--codes",
        "x=3.3/4096,-1.65@uint16",
        "--names",
        "x=a, b ,c,d",
        "--scratch",
        "argument",
        "--package",
        "make",
    )
    folder = export(place, *options)
    found = read_folder(folder).exported
    codes = found.choices.codes["x"]
    assert (codes.kind, codes.scale, codes.offset) == ("uint16", (3.3 / 4096,), (-1.65,))
    assert found.choices.names == {"x": ("a", "b", "c", "d")}
    assert found.scratch is not None
    header = (folder / "include" / "gru.h").read_text()
    assert "void gru_from_codes_x(const uint16_t *codes, int16_t *q);" in header
    assert '"a", "b", "c", "d"' in header
    assert "gru_scratch *scratch);" in header
    assert place.cli("verify", folder).status == 0
    done = place.cli("export", place.path("gru.qrnn"), "-o", folder, *options)
    assert f"it is {load_package('make').title} (qrnn's tests build it: " in done.out
    assert re.search(r"codes of x: \d+ to \d+ are within its range, of 65,536 of uint16\n", done.out)


@pytest.mark.parametrize(
    ("text", "kind", "scale", "offset"),
    [
        ("x=q15", "int16", [2.0**-15], [0.0]),
        ("x=q31,0.25", "int32", [2.0**-31], [0.25]),
        ("x=1e-3:2e-3,1:-3e-3:1/250", "int16", [1e-3, 2e-3, -3e-3, 0.004], [0.0, 1.0, 0.0, 0.0]),
        ("x=q15@int32", "int32", [2.0**-15], [0.0]),
    ],
)
def test_codes_as_text(place: Workplace, text: str, kind: str, scale: list[float], offset: list[float]) -> None:
    folder = export(place, "--codes", text)
    found = json.loads((folder / "manifest.json").read_text())["choices"]["codes"]["x"]
    assert found == {"kind": kind, "scale": scale, "offset": offset if len(set(offset)) > 1 else offset[:1]}


@pytest.mark.matrix
def test_figures_are_in_the_header(place: Workplace) -> None:
    """What is measured is what fit says; without an emulator it is refused."""
    emulator()
    folder = export(place, "--target", "cortex-m3", "--measure")
    text = (folder / "gru_info.h").read_text()
    fit = json.loads(place.cli("fit", place.path("gru.qrnn"), "--target", "cortex-m3", "--json").out)
    (needs,) = fit["targets"] if isinstance(fit, dict) and "targets" in fit else fit
    for key in ("flash_bytes", "stack_bytes"):
        assert f"#define GRU_{key.upper()} {needs[key]} " in text
    place.refused(
        "export",
        place.path("gru.qrnn"),
        "-o",
        place.path("n"),
        "--target",
        "esp32-s3",
        "--measure",
        says="--measure: target esp32-s3",
    )
    assert "GRU_FLASH_BYTES is not known" in (export(place) / "gru_info.h").read_text()


REFUSED: dict[str, tuple[tuple[Any, ...], str | tuple[str, ...]]] = {
    "an unknown package": (("--package", "mbed"), "package 'mbed' is not known; expected one of folder, arduino,"),
    "an unknown place": (("--scratch", "heap"), "--scratch 'heap', expected stack or argument"),
    "codes without a scale": (("--codes", "x"), "--codes 'x', expected INPUT=SCALE[,OFFSET]"),
    "codes of nothing": (("--codes", "=1"), "--codes '=1', expected INPUT=SCALE"),
    "no number": (("--codes", "x=volt"), "--codes 'x=volt': 'volt' is no number, expected one as 0.005 or 3.3/4096"),
    "a division by zero": (("--codes", "x=1/0"), "'1/0' is no number"),
    "infinite": (("--codes", "x=inf"), "'inf' is no number"),
    "three numbers": (("--codes", "x=1,2,3"), "'1,2,3', expected SCALE or SCALE,OFFSET"),
    "two features": (("--codes", "x=1:2"), "2 scales, expected 1 or 4, one for each feature"),
    "an unknown input": (("--codes", "z=1"), "codes of 'z': no input has this name; expected an input of features (x)"),
    "an unknown type": (("--codes", "x=1@int8"), "type 'int8', expected one of int16, uint16, int32"),
    "codes twice": (("--codes", "x=1", "--codes", "x=2"), "--codes 'x=2': 'x' is there twice"),
    "names without a port": (("--names", "a,b"), "--names 'a,b', expected PORT=A,B"),
    "too few names": (("--names", "x=a,b"), "names of 'x': 2 of them, expected 4, one for each feature"),
    "names of nothing": (("--names", "z=a,b"), "names of 'z': no input or output has this name; expected one of x, "),
    "an empty name": (("--names", "x=a,,b,c"), "names of 'x': '', expected 1 to 255 printable characters"),
    "no file of names": (("--names", "x=@none.txt"), "cannot read none.txt: "),
}


@pytest.mark.wide(cover=False, keep=6)
@pytest.mark.parametrize("name", REFUSED)
def test_refused(place: Workplace, name: str) -> None:
    options, says = REFUSED[name]
    place.refused("export", place.path("gru.qrnn"), "-o", place.path("new"), *options, says=says)


def test_names_from_a_file(place: Workplace) -> None:
    listed = place.path("names.txt")
    listed.write_text('left\n\nright, "up"\n down \nâ\n', encoding="utf-8")
    folder = export(place, "--names", f"x=@{listed}")
    header = (folder / "gru.h").read_text()
    assert r'"left", "right, \042up\042", "down", "\303\242",' in header
    listed.write_bytes(b"\xff\n")
    place.refused(
        "export", place.path("gru.qrnn"), "-o", place.path("n"), "--names", f"x=@{listed}", says="it is not UTF-8"
    )


CHOICES: dict[str, Any] = {
    "none": None,
    "a list": [],
    "a key more": {"codes": {}, "names": {}, "scratch": False, "more": 1},
    "no truth value": {"codes": {}, "names": {}, "scratch": 1},
    "codes of another input": {"codes": {"z": INT32_CODES}, "names": {}, "scratch": False},
    "codes of another kind": {"codes": {"x": {**INT32_CODES, "kind": "int64"}}, "names": {}, "scratch": False},
    "codes that are text": {"codes": {"x": "1"}, "names": {}, "scratch": False},
    "scales that are text": {"codes": {"x": {**INT32_CODES, "scale": ["a"]}}, "names": {}, "scratch": False},
    "an unknown key of codes": {"codes": {"x": {**INT32_CODES, "model": 1}}, "names": {}, "scratch": False},
    "names that are numbers": {"codes": {}, "names": {"x": [1, 2, 3, 4]}, "scratch": False},
    "names that are a number": {"codes": {}, "names": {"x": 4}, "scratch": False},
}


@pytest.mark.wide(cover=False, keep=4)
@pytest.mark.parametrize("name", CHOICES)
def test_a_manifest_with_other_choices(place: Workplace, name: str) -> None:
    folder: Path = export(place)
    edit(folder, choices=CHOICES[name])
    place.refused("verify", folder, says="not a manifest of qrnn export; export the model again")
