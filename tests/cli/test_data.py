"""The commands ``qrnn data``: recordings, tables and data files become data files that a model reads."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from cli.running import Cli, Workplace, make_cli
from qrnn.datasets import sets
from qrnn.datasets.log_mel import LogMel


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workplace:
    return Workplace(tmp_path, make_cli(monkeypatch, capsys))


def write_wav(path: Path, samples: np.ndarray, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def sound(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, count).astype(np.int16)


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as found:
        return dict(found)


def test_recordings_in_folders(place: Workplace) -> None:
    no, yes = sound(0, 2000), sound(1, 300)
    write_wav(place.path("set/yes") / "b.wav", yes)
    write_wav(place.path("set/no") / "a.WAV", no)
    (place.path("set") / "notes.txt").write_text("no recording")
    out, names = place.path("out.npz"), place.path("classes.txt")
    done = place.cli(
        *("data", "wav", place.path("set"), "-o", out, "--features", "logmel:13,100-3500", "--labels", "folder"),
        *("--frames", "25ms/10ms", "--classes", names, "--input", "sound", "--json"),
    )
    assert done.status == 0, done.err
    said = json.loads(done.out)
    assert said["classes"] == ["no", "yes"]
    assert said["rate"] == 8000
    assert names.read_text() == "no\nyes\n"
    made = load(out)
    settings = LogMel(8000, 200, 80, 13, 100, 3500)
    assert made["lengths"].tolist() == [23, 2]
    assert made["labels"].tolist() == [0, 1]
    assert np.array_equal(made["sound"][0] * 1024, settings.codes(no))
    assert np.array_equal(made["sound"][1, :2] * 1024, settings.codes(yes))
    assert not made["sound"][1, 2:].any()


def test_classes_that_are_known(place: Workplace) -> None:
    write_wav(place.path("set/yes") / "b.wav", sound(0, 500))
    known = place.path("classes.txt")
    known.write_text("no\nyes\n")
    command = (
        "data",
        "wav",
        place.path("set"),
        "-o",
        place.path("out.npz"),
        "--labels",
        "folder",
        "--features",
        "logmel:8",
    )
    assert place.cli(*command, "--known-classes", known).status == 0
    assert load(place.path("out.npz"))["labels"].tolist() == [1]
    for text, says in (("no\n", "label 'yes' is none"), ("", "it is empty"), ("a\na\n", "names a class twice")):
        known.write_text(text)
        place.refused(*command, "--known-classes", known, says=says)
    place.refused(*command, "--known-classes", place.path("none.txt"), says="no such file")
    place.refused(*command[:3], "-o", "-", "--features", "logmel:8", "--json", says="both go to stdout")


def test_labels_from_a_table_and_raw_frames(place: Workplace) -> None:
    first, second = (write_wav(place.path(f"{k}.wav"), sound(k, 500)) for k in (1, 2))
    table = place.path("labels.csv")
    table.write_text("label,file\n7,1.wav\n3,2.wav\n")
    command = ("data", "wav", second, first, "-o", place.path("out.npz"), "--features", "samples", "--frames", "100/50")
    assert place.cli(*command, "--labels", table).status == 0
    made = load(place.path("out.npz"))
    assert made["labels"].tolist() == [3, 7]
    assert made["x"].shape == (2, 9, 100)
    assert np.array_equal(made["x"][1, 2] * 32768, sound(1, 500)[100:200])
    place.path("labels.csv").write_text("label,file\n7,1.wav\n")
    place.refused(*command, "--labels", table, says="no line for")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--rate", "16000"), "8000 samples a second, expected 16000"),
        (("--frames", "25/10ms"), "--frames '25/10ms'"),
        (("--frames", "25.3ms/10ms"), "expected whole numbers"),
        (("--frames", "10ms/25ms"), "a distance of at least 1"),
        (("--features", "mfcc"), "--features 'mfcc'"),
        (("--features", "logmel:0"), "0 bands"),
        (("--features", "logmel:200"), "choose fewer bands"),
        (("--labels", "none.csv"), "no such file"),
        (("--input", "labels"), "the input is called 'labels'"),
        (("--classes", "names.txt"), "no names can be written"),
        (("--channel", "1"), "no channel 1"),
    ],
)
def test_what_recordings_refuse(place: Workplace, options: tuple[str, ...], says: str) -> None:
    path = write_wav(place.path("a.wav"), sound(0, 500))
    place.refused("data", "wav", path, "-o", place.path("out.npz"), *options, says=says)


def test_features_that_do_not_fit(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_wav(place.path("a.wav"), sound(0, 5000))
    monkeypatch.setattr(sets, "available_memory", lambda: 1 << 20)
    command = ("data", "wav", path, "-o", place.path("out.npz"), "--features", "samples")
    place.refused(*command, "--frames", "200/1", says="the arrays would take 3")
    assert place.cli(*command, "--frames", "200/80").status == 0


def test_an_output_that_is_an_input_and_an_empty_folder(place: Workplace) -> None:
    path = write_wav(place.path("a.wav"), sound(0, 500))
    place.refused("data", "wav", path, "-o", path, says="it is also an input")
    place.path("empty").mkdir()
    place.refused("data", "wav", place.path("empty"), "-o", place.path("out.npz"), says="no file that ends in .wav")


TABLE = "t,a,b,who,mood\n0,1,2,x,calm\n1,3,4,x,calm\n2,5,6,x,calm\n3,7,8,y,wild\n4,9,10,y,wild\n"


def test_tables(place: Workplace) -> None:
    path = place.path("a.csv")
    path.write_text(TABLE)
    common = ("data", "csv", path, "-o", place.path("out.npz"), "--columns", "a,b", "--label", "mood")
    assert place.cli(*common, "--sequence-column", "who", "--classes", place.path("names.txt")).status == 0
    made = load(place.path("out.npz"))
    assert made["x"].tolist() == [[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [0, 0]]]
    assert made["lengths"].tolist() == [3, 2]
    assert made["labels"].tolist() == [0, 1]
    assert place.path("names.txt").read_text() == "calm\nwild\n"
    assert place.cli(*common, "--window", "2", "--hop", "1", "--label-each-step").status == 0
    made = load(place.path("out.npz"))
    assert made["x"][:, :, 0].tolist() == [[1, 3], [3, 5], [5, 7], [7, 9]]
    assert made["labels"].tolist() == [[0, 0], [0, 0], [0, 1], [1, 1]]
    assert place.cli("data", "csv", path, path, "-o", place.path("out.npz"), "--columns", "b").status == 0
    assert load(place.path("out.npz"))["x"].shape == (2, 5, 1)


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        (TABLE, ("--columns", "a,c"), "no column 'c'"),
        (TABLE, (), "line 2, column 'who': 'x'"),
        (TABLE, ("--columns", "a,a"), "named twice"),
        (TABLE, ("--columns", "a", "--label", "mood"), "--label-each-step"),
        (TABLE, ("--columns", "a", "--window", "6"), "the longest has 5"),
        (TABLE, ("--columns", "a", "--window", "0"), "--window 0"),
        (TABLE, ("--columns", "a", "--hop", "2"), "--window is not given"),
        (TABLE, ("--columns", "a", "--label-each-step"), "give --label"),
        (TABLE, ("--columns", "a", "--delimiter", ";;"), "expected one character"),
        ("a,b\n1\n", (), "line 2: 1 fields, expected 2"),
        ("a,b\n1,nan\n", (), "line 2, column 'b': 'nan'"),
        ("a,b\n1,1e39\n", (), "that float32 holds"),
        ("a,a\n1,2\n", (), "different names"),
        ("a,b\n", (), "no row of numbers"),
        ("", (), "first line is empty"),
        ("1.5,2\n3,4\n", (), "its first line holds numbers alone (1.5, …)"),
        ("a;b\n1;2\n", (), "--delimiter ';'"),
        ('a,b\n"1,2\n', (), "not a table in UTF-8"),
        ("a,b\n\xff,2\n", (), "'ÿ'"),
        ("a,mood\n1,\n", ("--label", "mood"), "no label"),
    ],
)
def test_what_tables_refuse(place: Workplace, text: str, options: tuple[str, ...], says: str) -> None:
    place.path("a.csv").write_text(text, encoding="utf-8")
    place.refused("data", "csv", place.path("a.csv"), "-o", place.path("out.npz"), *options, says=says)


@pytest.mark.parametrize(
    ("text", "options"),
    [("0,1\n3,4\n", ()), ("7,5\n3,4\n", ("--columns", "7,5")), ("7,5,9\n3,4,0\n", ("--label", "9"))],
)
def test_numbers_may_name_columns(place: Workplace, text: str, options: tuple[str, ...]) -> None:
    place.path("a.csv").write_text(text, encoding="utf-8")
    out = place.path("out.npz")
    assert place.cli("data", "csv", place.path("a.csv"), "-o", out, *options).status == 0
    with np.load(out) as data:
        np.testing.assert_array_equal(data["x"], [[[3, 4]]])


def test_no_text(place: Workplace) -> None:
    place.path("a.csv").write_bytes(b"a,b\n\xff\xfe,2\n")
    place.refused("data", "csv", place.path("a.csv"), "-o", place.path("out.npz"), says="not a table in UTF-8")


def test_data_files_are_joined(place: Workplace) -> None:
    a = place.npz("a.npz", x=np.ones((1, 2, 3)), labels=np.array([4]))
    b = place.npz("b.npz", x=np.ones((2, 4, 3)), labels=np.array([5, 6]))
    assert place.cli("data", "concat", a, b, a, "-o", place.path("out.npz")).status == 0
    made = load(place.path("out.npz"))
    assert made["lengths"].tolist() == [2, 4, 4, 2]
    assert made["labels"].tolist() == [4, 5, 6, 4]
    c = place.npz("c.npz", x=np.ones((1, 2, 4)), labels=np.array([4]))
    place.refused("data", "concat", a, c, "-o", place.path("out.npz"), says="expected the same sizes")


def test_front_end(place: Workplace) -> None:
    done = place.cli("data", "front-end", "-o", place.path("c"), "--rate", "8000", "--features", "logmel:32")
    assert done.status == 0, done.err
    assert "--codes NAME=1/1024" in done.out
    sizes = (place.path("c") / "qrnn_log_mel_sizes.h").read_text()
    assert "QRNN_LOG_MEL_BANDS 32 " in sizes
    assert "QRNN_LOG_MEL_POINTS 256 " in sizes
    place.refused("data", "front-end", "-o", place.path("d"), "--features", "samples", says="--features 'samples'")


def test_help_names_the_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cli: Cli = make_cli(monkeypatch, capsys)
    said = cli("data", "-h").out
    assert all(f"  {name} " in said for name in ("wav", "csv", "concat", "front-end"))
