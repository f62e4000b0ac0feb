"""``qrnn fit``: what it prints and returns, with tools and without."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from cli.exported import emulator, target_of_ones_own, without_tools
from cli.running import Workplace
from qrnn.targets import targets_folder

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.mark.matrix
def test_fit_of_a_target_of_ones_own(place: Workplace) -> None:
    emulator()
    own = target_of_ones_own(place)
    done = place.cli("fit", place.path("gru.qrnn"), "--target", own, "--target", "cortex-m4")
    assert (done.status, done.lines) == (0, [])
    assert re.findall(r"^(my|cortex-m4)\b.* yes *$", done.out, re.MULTILINE) == ["my", "cortex-m4"]


def test_fit(place: Workplace) -> None:
    emulator()
    done = place.cli("fit", place.path("gru.qrnn"), "--target", "cortex-m0plus", "--json", "--step-ms", "1")
    assert (done.status, done.lines) == (0, [])
    (found,) = json.loads(done.out)
    assert (found["target"], found["fits"], found["counted"], found["problem"]) == ("cortex-m0plus", True, True, None)
    assert found["load"] == pytest.approx(found["seconds"] / 1e-3)
    assert found["ram_bytes"] == found["state_bytes"] + found["buffer_bytes"] + found["stack_bytes"]
    assert set(found["phases"]) == {"input", "state", "gates", "other", "windows"}


def test_fit_without_tools_takes_the_cost_model(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    without_tools(monkeypatch)
    done = place.cli("fit", place.path("gru.qrnn"), "--target", "cortex-m4", "--json")
    assert (done.status, done.lines) == (0, [])
    (found,) = json.loads(done.out)
    assert (found["counted"], found["stack_bytes"], found["phases"]) == (False, None, None)
    assert "apt-get install gcc-arm-none-eabi" in found["problem"]
    assert found["flash_bytes"] > found["constant_bytes"] > 0
    done = place.cli("fit", place.path("gru.qrnn"), "--target", "cortex-m4")
    assert "note: cortex-m4: " in done.out
    each = ", ".join(f"{name} {count:,.0f}" for name, count in found["multiply_adds"].items())
    assert f"Multiply-adds of a step: {each}." in done.out


@pytest.mark.parametrize("target", ["generic", "host-cpu", "esp32-s3"])
def test_fit_knows_what_is_not_counted(place: Workplace, target: str) -> None:
    done = place.cli("fit", place.path("gru.qrnn"), "--target", target, "--json")
    assert (done.status, done.lines) == (0, [])
    (found,) = json.loads(done.out)
    assert (found["counted"], found["stack_bytes"], found["phases"]) == (False, None, None)
    assert found["instructions"] != 0
    assert f"target {target}: no " in found["problem"]


def test_fit_tells_what_is_lacking(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    without_tools(monkeypatch)
    text = (targets_folder() / "cortex-m4.toml").read_text().replace('name = "cortex-m4"', 'name = "tiny"', 1)
    for key, value in (("flash_bytes", 5000), ("ram_bytes", 10), ("clock_hz", 1000)):
        text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, count=1, flags=re.MULTILINE)
    place.path("tiny.toml").write_text(text)
    done = place.cli("fit", place.path("gru.qrnn"), "--target", place.path("tiny.toml"), "--json")
    (found,) = json.loads(done.out)
    assert not found["fits"]
    flash, ram = found["lacks"][:2]
    assert flash == f"{found['flash_bytes'] - 5000:,} bytes of flash"
    assert ram == f"{found['ram_bytes'] - 10:,} bytes of RAM"
    done = place.cli("fit", place.path("gru.qrnn"), "--target", place.path("tiny.toml"))
    assert "tiny lacks" in done.out
    assert "fewer units" in done.out
