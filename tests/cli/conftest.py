"""Good files, made once: a small GRU, a small LSTM over tokens, data for them, and their models."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from model.qrnn_files import token_model
from onnx_import.builders import head

from cli.running import Cli, Workplace, make_cli
from qrnn.conversion import quantize
from qrnn.export.folder import export_model
from qrnn.model.file import load, save
from qrnn.onnx_import import load_onnx
from qrnn.quantization.scheme import Scheme
from qrnn.targets import load_target


@pytest.fixture(scope="session")
def good_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 5, 4)).astype(np.float32)
    lengths = np.array([5, 1, 3, 5, 2, 4])
    ids = rng.integers(0, 7, (6, 5))
    np.savez(folder / "x.npz", x=x)
    np.savez(folder / "lengths.npz", x=x, lengths=lengths)
    np.savez(folder / "labels.npz", x=x, lengths=lengths, labels=rng.integers(0, 3, 6))
    np.savez(folder / "ids.npz", ids=ids)
    for name, model, data in (("gru", head("GRU"), {"x": x}), ("ids", token_model(), {"ids": ids})):
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        save(quantize(load_onnx(folder / f"{name}.onnx"), data, Scheme(input="8")), folder / f"{name}.qrnn")
    return folder


@pytest.fixture(scope="session")
def exported(good_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the small GRU."""
    folder = tmp_path_factory.mktemp("exported") / "gru"
    export_model(load(good_files / "gru.qrnn"), load_target("generic"), folder, "gru")
    return folder


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return make_cli(monkeypatch, capsys)


@pytest.fixture
def place(good_files: Path, tmp_path: Path, cli: Cli) -> Workplace:
    """Copy the good files to a fresh folder."""
    folder = tmp_path / "place"
    shutil.copytree(good_files, folder)
    return Workplace(folder, cli)
