"""``qrnn compile``: what it prints and refuses; what it makes is tested with the cpu backend."""

from __future__ import annotations

import json

import pytest

from cli.running import Workplace
from qrnn.backends.cpu.isa import ISAS, available_isas

pytestmark = pytest.mark.fused


def test_what_it_prints(place: Workplace) -> None:
    arguments = ("compile", place.path("gru.qrnn"), "--isa", "plain", "--batch", 1, "-o", place.path("code"))
    first, second = place.cli(*arguments), place.cli(*arguments, "--json")
    assert (first.status, second.status, first.err) == (0, 0, "")
    assert f"run with QRNN_CACHE_DIR={place.path('code')}" in first.out
    (report,) = json.loads(second.out)["instruction_sets"]
    assert report["isa"] == "plain"
    assert report["compiled"] == 0
    assert report["kernels"] == len(list(place.path("code").rglob("*.o"))) > 0


@pytest.mark.parametrize("name", ["mmx", "neon-dotprod" if "neon-dotprod" not in available_isas() else "avx2"])
def test_instruction_sets_of_other_machines(place: Workplace, name: str) -> None:
    place.refused("compile", place.path("gru.qrnn"), "--isa", name, "-o", place.path("code"), says="expected one of")


@pytest.mark.parametrize("option", ["--batch", "--steps", "--streams"])
def test_numbers_that_are_none(place: Workplace, option: str) -> None:
    place.refused("compile", place.path("gru.qrnn"), option, 0, "-o", place.path("code"), says=option, usage=True)


def test_a_folder_that_others_may_write(place: Workplace) -> None:
    place.path("open").mkdir()
    place.path("open").chmod(0o777)
    place.refused("compile", place.path("gru.qrnn"), "-o", place.path("open"), says="may be written by others")


@pytest.mark.matrix
def test_every_instruction_set_of_this_architecture(place: Workplace) -> None:
    """One that this processor lacks can be compiled for, too."""
    import platform

    names = [isa.name for isa in ISAS if platform.machine().lower() in isa.machines]
    options = [part for name in names for part in ("--isa", name)]
    done = place.cli("compile", place.path("gru.qrnn"), *options, "--streams", 1, "-o", place.path("code"), "--json")
    assert done.status == 0, done.err
    assert [each["isa"] for each in json.loads(done.out)["instruction_sets"]] == names
