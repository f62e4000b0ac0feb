"""Checkpoints come back as they were written; damaged and foreign files, and those of another training, are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from qrnn.errors import DataError
from qrnn.finetuning.checkpoint import Checkpoint, Epoch, Saved
from qrnn.finetuning.scores import Score


def saved(best: int = 2) -> Saved:
    history = (Epoch(1, 0.5, Score(0.25, 3, 9), 1.5), Epoch(2, 0.4, Score(0.2, 1, 9), 1.25))
    now = {"a.b": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7)}
    return Saved(history, best, now, now if best == 2 else {"a.b": np.ones((2, 3), np.float32)})


@pytest.mark.parametrize("best", [0, 1, 2])
def test_it_comes_back(best: int, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c", {"model": "m"})
    assert checkpoint.read() is None
    checkpoint.write(saved(best))
    found = checkpoint.read()
    assert found is not None
    assert (found.history, found.best) == (saved().history, best)
    for name, array in saved().arrays.items():
        assert np.array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    if best == 1:
        assert (found.best_arrays["a.b"] == 1).all()
    if best == 2:
        assert found.best_arrays is found.arrays
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_another_training(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "c", {"model": "m", "choice of seed": "0"}).write(saved())
    with pytest.raises(DataError, match="another choice of seed: 0, here 1; give another file, or delete it"):
        Checkpoint(tmp_path / "c", {"model": "m", "choice of seed": "1"}).read()
    with pytest.raises(DataError, match="another validation data: none, here v"):
        Checkpoint(tmp_path / "c", {"model": "m", "choice of seed": "0", "validation data": "v"}).read()


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; expected a checkpoint of qrnn finetune"):
        Checkpoint(tmp_path, {}).read()
    with pytest.raises(DataError, match="no folder"):
        Checkpoint(tmp_path / "none" / "c", {}).read()


@given(st.data())
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    checkpoint = Checkpoint(tmp_path_factory.mktemp("damaged") / "c", {"model": "m"})
    checkpoint.write(saved(1))
    content = bytearray(checkpoint.path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    checkpoint.path.write_bytes(content)
    with pytest.raises(DataError, match=r"c: (not a checkpoint|is of a training with another)"):
        checkpoint.read()


@pytest.mark.parametrize(
    "metadata",
    [{}, {"format": "qrnn"}, {"format": "qrnn-finetune-1", "training": "[]", "sha256": ""}],
)
def test_foreign_files(metadata: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(safetensors.numpy.save({"now.a": np.zeros(3)}, metadata))
    with pytest.raises(DataError, match="not a checkpoint"):
        Checkpoint(tmp_path / "c", {}).read()


def test_numbers_that_no_training_writes(tmp_path: Path) -> None:
    """The checksum is not a signature: what it covers is checked all the same."""
    from qrnn.model.digest import array_digest

    for history, best in (([{"number": 1}], 1), ([], 1), ([], -1), ("x", 0), (7, 0)):
        structure = json.dumps({"identity": {}, "history": history, "best": best})
        metadata = {"format": "qrnn-finetune-1", "training": structure, "sha256": array_digest({}, structure)}
        (tmp_path / "c").write_bytes(safetensors.numpy.save({}, metadata))
        with pytest.raises(DataError, match="not a checkpoint"):
            Checkpoint(tmp_path / "c", {}).read()
