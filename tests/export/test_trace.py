"""Exported C of which one constant is wrong: the first layer that differs is named, with its step, unit and both values."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends.generators import few
from cli.running import make_cli
from cli.test_export import renew_digests
from hypothesis import given, settings

from export.kinds import KINDS, kind
from export.test_devices import usable
from export.whole import models
from qrnn.devices.verify import run_traced, verify
from qrnn.errors import DeviceError
from qrnn.export import trace_replay
from qrnn.export.expected import host_rows, random_sequences
from qrnn.export.folder import ExportedFolder, export_model, read_folder
from qrnn.export.source import export_source
from qrnn.export.trace import traced_tensors
from qrnn.export.trace_replay import first_layer, read_trace, traceable
from qrnn.model.quant_model import QuantModel
from qrnn.targets import load_target

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def spoiled(part: Any, unit: int) -> Any:
    """A layer, or a part of one, with another first bias at a unit, or with another sign in a table; None where it has neither."""
    for entry in fields(part):
        value = getattr(part, entry.name)
        if entry.name in ("bias", "table"):
            other = value.copy()
            other[..., unit] = -other[..., unit] if entry.name == "table" else other[unit] - 15_000
            return replace(part, **{entry.name: other})
        for inner in value if isinstance(value, tuple) else (value,):
            if is_dataclass(inner) and (found := spoiled(inner, unit)) is not None:
                return replace(part, **{entry.name: (found, *value[1:]) if isinstance(value, tuple) else found})
    return None


def with_spoiled_layer(model: QuantModel, name: str, unit: int) -> QuantModel:
    """The model with one other number in a layer."""
    return replace(model, layers=tuple(spoiled(v, unit) if v.name == name else v for v in model.layers))


def with_other_source(model: QuantModel, other: QuantModel, place: Path, target: str = "generic") -> ExportedFolder:
    """The exported folder of ``model`` with the C of ``other``."""
    hardware = load_target(target)
    export_model(model, hardware, place / "net", "net")
    wrong = export_source(other, "net", hardware.core.kernels, lists=hardware.lists).source
    (place / "net" / "net.c").write_text(wrong)
    renew_digests(place / "net")
    return read_folder(place / "net")


CASES = [
    ("stacked", "layer0", 2),
    ("stacked", "layer1", 4),
    ("stacked", "head", 3),
    ("embedded", "words", 1),
    ("embedded", "cells", 3),
    ("embedded", "logits", 0),
    pytest.param("windows", "each", 5, marks=pytest.mark.matrix),
    ("windows of 16 bits with strides", "groups", 1),
    ("whole", "conv_2", 0),
    ("whole", "lstm", 1),
    ("whole", "dense", 2),
]


@pytest.mark.wide(cover=False, keep=5)
@pytest.mark.parametrize(("which", "layer", "unit"), CASES)
def test_the_spoiled_layer_is_named(which: str, layer: str, unit: int, tmp_path: Path) -> None:
    check(kind(which), layer, unit, tmp_path, "generic", "host-cpu")


@pytest.mark.parametrize(
    ("which", "layer", "target"),
    [("stacked", "layer1", "cortex-m0plus"), pytest.param("embedded", "logits", "avr", marks=pytest.mark.matrix)],
)
def test_on_an_emulated_core(which: str, layer: str, target: str, tmp_path: Path) -> None:
    usable(target)
    check(kind(which), layer, 1, tmp_path, target, target)


def check(model: QuantModel, name: str, unit: int, place: Path, target: str, on: str) -> None:
    other = with_spoiled_layer(model, name, unit)
    folder = with_other_source(model, other, place, target)
    sequences = random_sequences(model, folder.exported, (1, 7), seed=3)
    result = verify(folder, load_target(on), sequences)
    found = result.layer
    assert result.difference is not None
    assert found is not None
    assert (found.layer, model.layers[found.position].name) == (name, name)
    want, got = (host_rows(m, folder.exported, sequences[found.sequence]) for m in (model, other))
    row, rows = found.step or 0, want[found.tensor]
    differing = np.flatnonzero(rows[row] != got[found.tensor][row])
    assert (rows[:row] == got[found.tensor][:row]).all()
    assert found.unit == differing[0]
    assert (found.expected, found.got) == (rows[row, found.unit], got[found.tensor][row, found.unit])
    assert (found.differing, found.size) == (len(differing), rows.shape[1])
    assert (found.step is None) == (not model.tensors[found.tensor].has_time)
    for text in (f"layer {name!r}", f"unit {found.unit}", f"{found.got}, expected {found.expected}"):
        assert text in str(found)


ALL = [pytest.param(which, marks=() if which in ("lstm", "whole") else pytest.mark.matrix) for which in KINDS]


@pytest.mark.parametrize("which", ALL)
def test_every_layer_of_right_c_is_traced_with_the_hosts_values(which: str, tmp_path: Path) -> None:
    """No value differs, and all tensors that something reads are there, with as many rows as the host has."""
    all_traced(kind(which), tmp_path)


@settings(few, max_examples=1)
@given(models())
def test_drawn_models_of_whole_sequences_are_traced_with_the_hosts_values(model: QuantModel) -> None:
    with tempfile.TemporaryDirectory(prefix="qrnn-") as place:
        all_traced(model, Path(place))


def all_traced(model: QuantModel, place: Path) -> None:
    export_model(model, load_target("generic"), place / "net", "net")
    folder, host = read_folder(place / "net"), load_target("host-cpu")
    (inputs, *_) = random_sequences(model, folder.exported, (9,), seed=1)
    output, tensors = run_traced(folder, host, None, inputs), traced_tensors(model)
    assert first_layer(model, folder.exported, 0, inputs, output) is None
    came = Counter(tensors[number][1] for number, _ in read_trace(len(tensors), output))
    rows = host_rows(model, folder.exported, inputs)
    read = {t for layer in model.layers for t in layer.inputs} | {t for o in model.outputs for t, _, _ in o.parts}
    for _, tensor in tensors:
        if tensor in read and model.tensors[tensor].has_time:
            assert came[tensor] == len(rows[tensor]), tensor
        elif tensor in read:
            assert came[tensor] > 0, tensor


def test_right_c_has_no_layer_that_differs(tmp_path: Path) -> None:
    model = kind("lstm")
    folder = with_other_source(model, model, tmp_path)
    result = verify(folder, load_target("host-cpu"), random_sequences(model, folder.exported, (2,), seed=1))
    assert (result.difference, result.layer) == (None, None)


@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_c_that_is_not_traced_has_the_code_that_it_has_without_the_statements(level: str, tmp_path: Path) -> None:
    export_model(kind("whole"), load_target("generic"), tmp_path / "net", "net")
    source, made = tmp_path / "net" / "net.c", tmp_path / "net.s"
    text, codes = source.read_text(), []
    bare = "\n".join(line for line in text.splitlines() if not line.strip().startswith("NET_TRACED("))
    assert len(bare) < len(text) - 200
    for own in (text, bare):
        source.write_text(own)
        subprocess.run(("gcc", "-std=c99", level, "-S", "-o", made, source), check=True)
        codes.append(made.read_text())
    assert codes[0] == codes[1]


def test_what_differs_is_told_where_no_layer_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = kind("stacked")
    folder, host = with_other_source(model, with_spoiled_layer(model, "head", 1), tmp_path), load_target("host-cpu")
    sequences = random_sequences(model, folder.exported, (3,), seed=1)
    monkeypatch.setattr("qrnn.devices.verify.first_layer", lambda *_: None)
    result = verify(folder, host, sequences)
    assert result.difference is not None
    assert (result.layer, str(result.untraced)[:50]) == (None, "no layer differs when the sequence runs alone; wha")
    monkeypatch.setattr("qrnn.devices.verify.traceable", lambda *_: None)
    assert "would have more than 268,435,456 bytes" in str(verify(folder, host, sequences).untraced)
    monkeypatch.undo()
    monkeypatch.setattr("qrnn.devices.verify.trace_source", lambda *_: "#error no room\n")
    result = verify(folder, host, sequences)
    assert result.difference is not None
    assert "no room" in str(result.untraced)
    assert "\n" not in str(result.untraced)


def test_the_command_names_the_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, cli = kind("stacked"), make_cli(monkeypatch, capsys)
    with_other_source(model, with_spoiled_layer(model, "head", 1), tmp_path)
    done = cli("verify", tmp_path / "net")
    assert (done.status, done.lines) == (1, []), done.err
    assert "first in layer 'head' (number 3, " in done.out
    done = cli("verify", tmp_path / "net", "--json")
    found = json.loads(done.out)
    assert (done.status, found["equal"], found["layer"]["layer"], found["layer"]["unit"]) == (1, False, "head", 1)


def test_a_long_sequence_is_cut_where_its_trace_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_replay, "MOST_BYTES", 3_000)
    for which, cut in (("stacked", True), ("whole", False)):
        model = kind(which)
        exported = export_source(model, "net", "plain")
        (inputs,) = random_sequences(model, exported, (300,), seed=0)
        found = traceable(model, exported, inputs)
        assert (found is not None) == cut
        if found is not None:
            assert 0 < len(found["x"]) < 20
            assert (found["x"] == inputs["x"][: len(found["x"])]).all()


@pytest.mark.parametrize(
    "output", [b"abc", struct.pack("<III", 99, 2, 1), struct.pack("<III", 0, 3, 1), struct.pack("<III", 0, 2, 9)]
)
def test_output_that_is_no_trace_is_refused(output: bytes) -> None:
    model = kind("lstm")
    exported = export_source(model, "net", "plain")
    (inputs,) = random_sequences(model, exported, (2,), seed=0)
    with pytest.raises(DeviceError, match="no trace of the model; export the model again"):
        first_layer(model, exported, 0, inputs, output)
