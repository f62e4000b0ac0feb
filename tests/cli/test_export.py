"""``qrnn export`` and ``verify``: what they write, print and return."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from cli.exported import emulator, export, renew_digests, target_of_ones_own
from cli.running import Workplace

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.mark.parametrize("name", ["gru", "ids"])
def test_what_is_exported_is_verified(place: Workplace, name: str) -> None:
    folder = export(place, name=name)
    assert {"README.md", "LICENSE", f"{name}.c", f"{name}.h"} < {p.name for p in folder.iterdir()}
    done = place.cli("verify", folder)
    assert (done.status, done.lines) == (0, []), done.err
    assert "4 sequences, 40 steps on host-cpu" in done.out
    assert "every output and state is equal" in done.out


def test_verify_on_data(place: Workplace) -> None:
    folder = export(place, "--data", place.path("lengths.npz"), "--name", "my net")
    assert (folder / "my_net.c").is_file()
    done = place.cli("verify", folder, "--data", place.path("lengths.npz"), "--json", "--compiler", "gnu")
    assert (done.status, done.lines) == (0, [])
    found = json.loads(done.out)
    assert (found["equal"], found["difference"], found["target"]) == (True, None, "host-cpu")
    assert (found["sequences"], found["steps"]) == (6, 20)
    assert "instructions_per_step" not in found
    done = place.cli("verify", folder, "--data", place.path("lengths.npz"), "--sequences", "2", "--json")
    assert (json.loads(done.out)["steps"], json.loads(done.out)["of_sequences"]) == (6, 6)
    done = place.cli("verify", folder, "--data", place.path("lengths.npz"), "--sequences", "2")
    assert "only the first 2 of the data's 6; give --sequences 6 for all of them" in done.out


def test_verify_in_the_emulator(place: Workplace) -> None:
    emulator()
    folder = export(place, "--target", "cortex-m4")
    done = place.cli("verify", folder, "--emulate")
    assert (done.status, done.lines) == (0, [])
    assert "steps on cortex-m4" in done.out
    assert re.search(r"[\d,]+ instructions a step, \d+ bytes of stack", done.out)
    assert re.search(
        r"[\d,]+ \([\d,]+ to [\d,]+\) cycles a step, traced, [\d.]+ ms at 168 MHz\n  by phase: input ", done.out
    )


@pytest.mark.matrix
def test_cycles_in_json_and_in_the_table(place: Workplace) -> None:
    """The kind, the range, the parts and the energy of a chip that states its current."""
    emulator()
    folder = export(place, "--target", "cortex-m4")
    found = json.loads(place.cli("verify", folder, "--emulate", "--target", "nrf52840", "--json").out)
    timing = found["timing"]
    assert timing["kind"] == "traced"
    assert timing["low"] < timing["mid"] < timing["high"]
    assert found["seconds"] == pytest.approx(timing["mid"] / 64e6)
    assert found["joules"] == pytest.approx(timing["mid"] * 156e-12)
    (fitted,) = json.loads(place.cli("fit", place.path("gru.qrnn"), "--target", "nrf52840", "--json").out)
    assert (fitted["cycles_kind"], fitted["cycles"]) == ("traced", fitted["timing"]["mid"])
    assert fitted["joules"] == pytest.approx(fitted["cycles"] * 156e-12)
    out = place.cli("fit", place.path("gru.qrnn"), "--target", "nrf52840", "--target", "cortex-m33").out
    assert "Kinds of cycles: traced, each executed instruction" in out
    assert re.search(
        r"nrf52840: [\d,]+ \([\d,]+ to [\d,]+\) cycles, traced, [\d.]+ [nµ]J while it computes\n  by phase: ", out
    )
    assert re.search(r"cortex-m33: [\d,]+ cycles, guessed\n", out)


def test_a_target_of_ones_own(place: Workplace) -> None:
    own = target_of_ones_own(place)
    folder = export(place, "--target", own)
    place.refused("verify", folder, says=("target 'my' is none of qrnn's own", "--target PATH.toml"))
    assert place.cli("verify", folder, "--target", own).status == 0
    emulator()
    done = place.cli("verify", folder, "--target", own, "--emulate", "--json")
    assert done.status == 0
    assert json.loads(done.out)["target"] == "my"


def test_a_new_export_takes_the_place_of_an_old_one(place: Workplace) -> None:
    folder = export(place, name="ids")
    old = {p.name for p in folder.iterdir()}
    export(place)
    new = {p.name for p in folder.iterdir()}
    assert "ids.c" in old - new
    assert "gru.c" in new - old
    assert place.cli("verify", folder).status == 0
    assert not [p for p in place.folder.iterdir() if p.name.startswith(".qrnn")]


def test_an_empty_folder_and_the_working_directory_are_written(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("empty", "here"):
        place.path(name).mkdir()
    assert place.cli("export", place.path("gru.qrnn"), "-o", place.path("empty")).status == 0
    monkeypatch.chdir(place.path("here"))
    done = place.cli("export", place.path("gru.qrnn"), "-o", ".")
    assert done.status == 0, done.err
    monkeypatch.chdir(place.folder)
    assert (place.path("here") / "gru.c").read_bytes() == (place.path("empty") / "gru.c").read_bytes()


def test_verify_ends_with_1_where_bits_differ(place: Workplace) -> None:
    folder = export(place)
    source = folder / "gru.c"
    text = source.read_text()
    found = re.search(r"_row\[\d+\] \w+ = {[^\n]*\n +(-?\d+),", text)
    assert found is not None
    source.write_text(text[: found.start(1)] + str(int(found[1]) + 100_000) + text[found.end(1) :])
    renew_digests(folder)
    done = place.cli("verify", folder)
    assert done.status == 1
    assert re.search(
        r"sequence \d+, (output|state) \w+\[[\d, ]+\]: -?\d+, expected -?\d+ \(\d+ of \d+ differ\)", done.out
    )
    done = place.cli("verify", folder, "--json")
    assert done.status == 1
    assert not json.loads(done.out)["equal"]
    assert json.loads(done.out)["difference"]
