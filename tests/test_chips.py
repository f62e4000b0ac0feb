"""Chips and boards: a name of each is a target with its memories, and a name that is none says which was meant."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from qrnn.devices.toolchain import linker_script
from qrnn.errors import TargetError
from qrnn.hardware.chips import Chip, chips, names, read_chips
from qrnn.targets import load_target, target_names

GOOD = """
[c1]
description = "A chip"
target = "cortex-m3"
ram_bytes = 1024
clock_hz = 1_000_000
source = "Its data sheet"
"""


@pytest.mark.parametrize("name", chips())
def test_every_chip_is_its_target_with_its_own_memories(name: str) -> None:
    chip, target = chips()[name], load_target(name)
    core = load_target(chip.target)
    assert target.name == name
    own = replace(core.core, counter=chip.counter or core.core.counter)
    assert (target.core, target.scheme, target.cost) == (own, core.scheme, core.cost)
    memory = target.memory
    assert (memory.flash_bytes, memory.ram_bytes, memory.clock_hz) == (chip.flash_bytes, chip.ram_bytes, chip.clock_hz)
    assert memory.source
    assert all(load_target(other) == target for other in chip.also)


def test_no_name_is_taken_twice() -> None:
    taken = [*target_names(), *chips(), *(name for chip in chips().values() for name in chip.also)]
    assert len(taken) == len(set(taken))
    assert set(names()) == set(taken) - set(target_names())


def test_names_are_taken_as_people_write_them() -> None:
    assert load_target("STM32F407VG").name == "stm32f407vg"
    assert load_target("Nucleo_H743ZI").name == "stm32h743zi"
    assert load_target("Arduino Uno").name == "atmega328p"


def test_an_avr_is_emulated_with_its_own_memories() -> None:
    target = load_target("arduino-uno")
    assert target.emulation is not None
    assert (target.emulation.machine, target.emulation.ram_bytes) == ("atmega328p", 2048)
    assert target.build.gnu_flags == ("-mmcu=atmega328p",)


def test_a_chip_is_linked_for_the_emulated_machine() -> None:
    """What does not fit the chip is said by `fit`, and not by a linker."""
    assert linker_script(load_target("bluepill")) == linker_script(load_target("cortex-m3"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [("stm32f408", "stm32f407"), ("nrf52480", "nrf52840"), ("arduino-un", "arduino-uno"), ("corteks-m4", "cortex-m4")],
)
def test_a_name_that_is_none_says_which_was_meant(name: str, meant: str) -> None:
    with pytest.raises(TargetError, match=rf"target '{name}' is unknown; did you mean .*{meant}"):
        load_target(name)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("ram_bytes = 1024", "", r"key 'c1\.ram_bytes' is missing; expected int"),
        ("ram_bytes = 1024", "ram_bytes = 0", r"c1\.ram_bytes = 0, expected more than 0"),
        ("ram_bytes = 1024", "ram_bytes = 1024\nrom = 3", r"key 'c1\.rom' is unknown"),
        ("ram_bytes = 1024", "ram_bytes = 1024\nwait_states = -1", r"c1\.wait_states = -1, expected 0 or more"),
        ("[c1]", '[c1]\ncounter = "../dwt"', r"c1\.counter = '\.\./dwt', expected one of ccount"),
        ("[c1]", "c2 = 3\n[c1]", "c2 = 3, expected a table"),
        ("[c1]", "[c1", "Expected"),
    ],
)
def test_wrong_files(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "maker.toml"
    path.write_text(GOOD)
    assert read_chips(path) == {"c1": Chip("A chip", "cortex-m3", 1024, 1_000_000, "Its data sheet")}
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(TargetError, match=says) as caught:
        read_chips(path)
    assert str(path) in str(caught.value)


def test_the_page_names_every_key() -> None:
    page = (Path(__file__).parents[1] / "docs" / "add_a_target.md").read_text(encoding="utf-8")
    section = page[page.index("## A chip or a board") :]
    assert [
        field.name for field in fields(Chip) if f"`{field.name}`" not in section and f"\n{field.name} = " not in section
    ] == []
