"""The .qrnn file: what is saved comes back equal, and damage is always found."""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from offset_models import far_quantized

from model.qrnn_files import QrnnFile, differences
from model.test_edited_files import CASES, NAMES, good
from qrnn.arithmetic import CONTRACT_VERSION, WITHOUT_OFFSETS
from qrnn.backends import available_backends
from qrnn.conversion import RANDOM, quantize
from qrnn.errors import DataError, ModelFileError
from qrnn.model.batch import make_batch
from qrnn.model.file import RandomCalibrationWarning, load, save
from qrnn.running.session import Session


@pytest.mark.parametrize("name", CASES)
def test_round_trip(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = quantize(case.model(), case.data(), case.scheme)
    save(model, tmp_path / "m.qrnn")
    again = load(tmp_path / "m.qrnn")
    assert differences(model, again) == []
    save(again, str(tmp_path / "again.qrnn"))
    assert differences(load(str(tmp_path / "again.qrnn")), model) == []
    batch = make_batch(model.inputs, case.data())
    for backend in available_backends():
        (a, tensors), (b, others) = (Session(m, backend).run_batch(batch) for m in (model, again))
        assert tensors.keys() == others.keys()
        for key, tensor in tensors.items():
            assert tensor.dtype == others[key].dtype
            np.testing.assert_array_equal(tensor, others[key])
        for key, output in a.outputs.items():
            np.testing.assert_array_equal(output, b.outputs[key])


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    for name, case in CASES.items():
        contents = set()
        for k in range(3):
            save(quantize(case.model(), case.data(), case.scheme), tmp_path / f"{k}.qrnn")
            contents.add((tmp_path / f"{k}.qrnn").read_bytes())
        assert len(contents) == 1, name


def test_differences_sees_every_kind() -> None:
    """The comparison above can fail."""
    case = CASES["lstm, two ways"]
    model = quantize(case.model(), case.data(), case.scheme)
    other = quantize(case.model(), {"x": case.data()["x"] * 2}, case.scheme)
    found = differences(model, other)
    assert "model.tensors.x.scale[0]" in found
    assert any(".ih.weight" in where or ".ih.multiplier" in where for where in found)
    assert "model.provenance.calibration_sha256" in found


@pytest.mark.parametrize("name", NAMES)
def test_content_is_integers_and_metadata(name: str) -> None:
    file = good(name)
    assert {t.dtype.kind for t in file.tensors.values()} <= {"i", "u"}
    assert set(file.metadata) == {"format", "schema", "contract", "model", "proof", "sha256"}
    assert (file.metadata["format"], file.metadata["schema"]) == ("qrnn", "1")
    assert file.metadata["contract"] == WITHOUT_OFFSETS
    assert all(isinstance(v, int) for v in json.loads(file.metadata["proof"]).values())


def test_gate_tables_are_stored_once(tmp_path: Path) -> None:
    """A file holds one table per function however many layers and gates use it."""
    stored = [t for t in good("rnn").tensors.values() if t.shape == (129,)]
    assert len(stored) == 1  # two layers, one function
    lstm = [t for t in good("lstm, two ways").tensors.values() if t.dtype == np.int32 and t.shape == (129,)]
    assert len(lstm) == 3  # sigmoid, tanh, and the exponential of the softmax


def content_of(name: str, folder: Path) -> bytes:
    return copy.deepcopy(good(name)).write(folder / "m.qrnn").read_bytes()


with tempfile.TemporaryDirectory() as _folder:
    CONTENT = content_of("lstm, states", Path(_folder))


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(
    flips=st.dictionaries(st.integers(0, len(CONTENT) - 1), st.integers(1, 255), max_size=5),
    length=st.one_of(st.just(len(CONTENT)), st.integers(0, len(CONTENT) - 1)),
)
def test_damaged_bytes(flips: dict[int, int], length: int) -> None:
    damaged = bytearray(CONTENT)
    for place, mask in flips.items():
        damaged[place] ^= mask
    content = bytes(damaged[:length])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.qrnn"
        path.write_bytes(content)
        if content == CONTENT:
            load(path)
            return
        try:
            model = load(path)
        except ModelFileError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            return
        # What the reader of safetensors takes for the same content: padding of the header and the like.
        assert QrnnFile(path).structure == good("lstm, states").structure
        assert differences(QrnnFile(path).tensors, good("lstm, states").tensors) == []
        assert model.name == "test"


def test_every_flipped_bit_of_the_data_is_found(tmp_path: Path) -> None:
    start = 8 + int.from_bytes(CONTENT[:8], "little")
    for place in range(start, len(CONTENT), 7):
        damaged = bytearray(CONTENT)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "m.qrnn").write_bytes(bytes(damaged))
        with pytest.raises(ModelFileError, match="checksum"):
            load(tmp_path / "m.qrnn")


def test_random_calibration_warns_at_loading(tmp_path: Path) -> None:
    case = CASES["rnn"]
    model = quantize(case.model(), RANDOM, case.scheme)
    assert model.provenance.random_calibration
    save(model, tmp_path / "m.qrnn")
    with pytest.warns(RandomCalibrationWarning, match=r"m\.qrnn was calibrated on random numbers"):
        load(tmp_path / "m.qrnn")
    save(quantize(case.model(), case.data(), case.scheme), tmp_path / "m.qrnn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not load(tmp_path / "m.qrnn").provenance.random_calibration


def test_saving_needs_a_folder(tmp_path: Path) -> None:
    case = CASES["rnn"]
    model = quantize(case.model(), case.data(), case.scheme)
    with pytest.raises(DataError, match=r"cannot write .*m\.qrnn: no folder .*none; make it first"):
        save(model, tmp_path / "none" / "m.qrnn")
    with pytest.raises(DataError, match="cannot write"):
        save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_file_is_plain_safetensors(tmp_path: Path) -> None:
    path = copy.deepcopy(good("rnn")).write(tmp_path / "m.qrnn")
    with safetensors.safe_open(path, framework="numpy") as opened:
        assert json.loads(opened.metadata()["model"])["type"] == "QuantModel"


def test_a_file_says_the_contract_that_it_needs(tmp_path: Path) -> None:
    """Readers of before refuse what they would compute wrong, and nothing else; a file that says another version is refused."""
    save(far_quantized(), tmp_path / "far.qrnn")
    file = QrnnFile(tmp_path / "far.qrnn")
    assert file.metadata["contract"] == CONTRACT_VERSION
    for model_file, name, message in (
        (good("rnn"), CONTRACT_VERSION, r"contract '1.1', but the model is one of '1.0'"),
        (file, WITHOUT_OFFSETS, r"contract '1.0', but the model is one of '1.1'"),
        (file, "1.2", r"contract '1.2', expected '1.0' or '1.1'"),
    ):
        edited = copy.deepcopy(model_file)
        edited.metadata["contract"] = name
        edited.write(tmp_path / "edited.qrnn")
        with pytest.raises(ModelFileError, match=message):
            load(tmp_path / "edited.qrnn")
