"""Target descriptions: those that come with the package load, and wrong ones say what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrnn.errors import TargetError
from qrnn.quantization import Scheme
from qrnn.targets import load_target, read_target, target_names, targets_folder

GOOD = """
name = "board"
description = "A board"

[core]
word_bits = 32
instructions = ["smlad"]

[scheme]
activations = 16
gates = "pwl:64"
calibrator = "mse"
input = "8"

[memory]
flash_bytes = 1048576
"""


def test_folder() -> None:
    folder = targets_folder()
    assert folder.is_dir()
    assert target_names() == tuple(
        sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.suffix == ".toml")
    )
    assert {"generic", "host-cpu"} <= set(target_names())


def test_targets_folder_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel carries the folder inside the package, which comes first."""
    package = tmp_path / "qrnn"
    (package / "targets").mkdir(parents=True)
    (package / "targets" / "board.toml").write_text(GOOD)
    monkeypatch.setattr("qrnn.targets.files", lambda _: package)
    assert targets_folder() == package / "targets"
    assert target_names() == ("board",)
    assert load_target("board").description == "A board"


@pytest.mark.parametrize("name", target_names())
def test_every_target_loads(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.description
    assert target.word_bits in (8, 16, 32, 64)
    assert all(isinstance(i, str) for i in target.instructions)
    assert Scheme(**target.scheme).as_dict() == target.scheme
    for size in (target.flash_bytes, target.ram_bytes):
        assert size is None or size > 0


def test_generic_is_the_default_scheme() -> None:
    assert load_target("generic").scheme == Scheme().as_dict()


def write(folder: Path, text: str, name: str = "board") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_good(tmp_path: Path) -> None:
    target = read_target(write(tmp_path, GOOD))
    assert target.as_dict() == {
        "name": "board",
        "description": "A board",
        "word_bits": 32,
        "instructions": ("smlad",),
        "scheme": {"activations": 16, "gates": "pwl:64", "calibrator": "mse", "input": "8", "weights": 8},
        "flash_bytes": 1048576,
        "ram_bytes": None,
    }


def test_scheme_keys_left_out_are_the_defaults(tmp_path: Path) -> None:
    text = GOOD.replace("activations = 16\n", "").replace('gates = "pwl:64"\n', "")
    scheme = read_target(write(tmp_path, text)).scheme
    assert scheme == Scheme(calibrator="mse", input="8").as_dict()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "board"', 'name = "other"', "name is 'other', expected the file's own name 'board'"),
        ('name = "board"', "", "key 'name' is missing; expected str"),
        ('name = "board"', "name = 3", "name = 3, expected str"),
        ('name = "board"', 'name = "board"\ncolour = "red"', "key 'colour' is unknown"),
        ('description = "A board"', "description = []", r"description = \[\], expected str"),
        ("word_bits = 32", 'word_bits = "32"', "word_bits = '32', expected int"),
        ("word_bits = 32", "word_bits = 32.0", "word_bits = 32.0, expected int"),
        ("word_bits = 32", "word_bits = true", "word_bits = True, expected int"),
        ("word_bits = 32", "", "key 'word_bits' is missing"),
        ("word_bits = 32", "word_bits = 32\nbits = 3", r"key 'core\.bits' is unknown"),
        ('instructions = ["smlad"]', 'instructions = "smlad"', "instructions = 'smlad', expected list"),
        ('instructions = ["smlad"]', "instructions = [1]", r"instructions = \[1\], expected a list of str"),
        ("[core]", "[cores]", "key 'core' is missing"),
        ("activations = 16", "activations = 12", r"\[scheme\] activations=12, expected 8 or 16"),
        ("activations = 16", 'activations = "8"', r"\[scheme\] activations='8', expected 8 or 16"),
        ("activations = 16", "activations = 16\nbits = 3", r"\[scheme\].*'bits'"),
        ('gates = "pwl:64"', 'gates = "pwl:65"', r"\[scheme\] gates 'pwl:65'"),
        ('gates = "pwl:64"', "gates = 64", r"\[scheme\]"),
        ('calibrator = "mse"', 'calibrator = "kl"', r"\[scheme\] calibrator='kl'"),
        ('input = "8"', "input = 8", r"\[scheme\] input=8"),
        ("flash_bytes = 1048576", 'flash_bytes = "1M"', "flash_bytes = '1M', expected int"),
        ("flash_bytes = 1048576", "rom_bytes = 1", r"key 'memory\.rom_bytes' is unknown"),
        ("[memory]\nflash_bytes = 1048576", "memory = 3", "key 'memory'|memory = 3|memory"),
        ("word_bits = 32", "word_bits = = 32", "Invalid value"),
    ],
)
def test_wrong_descriptions(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert GOOD.count(old) == 1
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(TargetError, match=says) as caught:
        read_target(path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="No such file"):
        read_target(tmp_path / "none.toml")
    path = tmp_path / "board.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(TargetError, match=r"board\.toml"):
        read_target(path)


@pytest.mark.parametrize("name", ["toaster", "", "../targets/generic", "generic.toml", "GENERIC"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(TargetError, match=r"is unknown; expected one of generic, .*qrnn targets"):
        load_target(name)
