"""Commands take Keras files in the place of ONNX files, by their content, whatever their names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from keras_import.files import golden, keras_bytes, lstm_weights, sequential

from .running import Cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a masked model under a name that says nothing, and data with padding."""
    config = sequential(("Masking", {}), ("LSTM", {"units": 2, "return_sequences": True}))
    (tmp_path / "model.bin").write_bytes(keras_bytes(config, lstm_weights()))
    x = np.random.default_rng(0).normal(size=(12, 8, 3)).astype(np.float32)
    for row in range(len(x)):
        x[row, 1 + row % 8 :] = 0
    np.savez(tmp_path / "data.npz", x=x)
    return tmp_path


def test_convert_compare_and_explain(cli: Cli, folder: Path) -> None:
    model, data, made = folder / "model.bin", folder / "data.npz", folder / "m.qrnn"
    done = cli("convert", model, "--calibration", data, "--activations", "8", "-o", made)
    assert (done.status, done.err) == (0, "")
    assert "steps of 0 at the end of a sequence are padding" in done.out
    done = cli("compare", model, made, "--data", data, "--backend", "reference", "--json", "-")
    assert done.status == 0
    found = json.loads(done.out)
    assert found["steps"] == sum(1 + row % 8 for row in range(12))
    assert cli("explain", model, made, "--data", data).status == 0
    pytest.importorskip("onnxruntime")
    assert found["onnxruntime_against_float64"]["l1"]["sqnr_db"] > 100


def test_inspect_says_layers_and_inputs(cli: Cli, folder: Path) -> None:
    done = cli("inspect", folder / "model.bin", "--json")
    found = json.loads(done.out)
    assert found["operators"] == {"InputLayer": 1, "Masking": 1, "LSTM": 1}
    assert found["producer"] == "keras 3.15.1"
    assert [i["name"] for i in found["inputs"]] == ["x"]
    (folder / "m.h5").write_bytes(golden("Bidirectional with states").h5)
    done = cli("inspect", folder / "m.h5", "--json")
    assert done.status == 0
    assert json.loads(done.out)["supported"]


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.onnx"])
def test_a_damaged_file_is_one_line(cli: Cli, folder: Path, name: str) -> None:
    content = golden("LSTM").h5 if name == "model.h5" else (folder / "model.bin").read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    done = cli("convert", folder / name, "--calibration", folder / "data.npz", "-o", folder / "m.qrnn")
    assert done.status == 2
    assert len(done.lines) == 1
    assert "damaged" in done.err
    assert not (folder / "m.qrnn").exists()


def test_padding_in_the_middle_is_one_line(cli: Cli, folder: Path) -> None:
    with np.load(folder / "data.npz") as found:
        x = found["x"].copy()
    x[7, 2] = 0
    np.savez(folder / "bad.npz", x=x)
    done = cli("convert", folder / "model.bin", "--calibration", folder / "bad.npz", "-o", folder / "m.qrnn")
    assert done.status == 2
    assert len(done.lines) == 1
    assert "step 2 of sequence 7 is padding" in done.err
