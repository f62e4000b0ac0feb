"""Every argument of every command that takes a path, with paths of every kind that cannot be used: one line, status 2, nothing made."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from places import device, null
from typer.main import get_command

from cli.running import Workplace, tree
from qrnn.cli.commands import app

Arguments = list[Any]


ONNX, MODEL, DATA, OUT = "gru.onnx", "gru.qrnn", "x.npz", "out"
MEASURED = ["--calibration", DATA, "--data", DATA]

READERS: dict[str, Arguments] = {
    "convert model": ["convert", None, "--calibration", DATA, "-o", OUT],
    "convert calibration": ["convert", ONNX, "--calibration", None, "-o", OUT],
    "convert target": ["convert", ONNX, "--calibration", DATA, "-o", OUT, "--target", None],
    "run model": ["run", None, "-i", DATA, "-o", OUT],
    "run input": ["run", MODEL, "-i", None, "-o", OUT],
    "generate model": ["generate", None, "--prompt", DATA],
    "generate prompt": ["generate", MODEL, "--prompt", None],
    "compile model": ["compile", None, "-o", OUT],
    "compare onnx": ["compare", None, MODEL, "--data", DATA],
    "compare model": ["compare", ONNX, None, "--data", DATA],
    "compare data": ["compare", ONNX, MODEL, "--data", None],
    "explain onnx": ["explain", None, MODEL],
    "explain model": ["explain", ONNX, None],
    "explain data": ["explain", ONNX, MODEL, "--data", None],
    "diff a": ["diff", None, MODEL],
    "diff b": ["diff", MODEL, None],
    "diff data": ["diff", MODEL, MODEL, "--data", None],
    "bench model": ["bench", None],
    "bench data": ["bench", MODEL, "--data", None],
    "inspect model": ["inspect", None],
    "sweep model": ["sweep", None, *MEASURED, "-o", OUT],
    "sweep calibration": ["sweep", ONNX, "--calibration", None, "--data", DATA, "-o", OUT],
    "sweep data": ["sweep", ONNX, "--calibration", DATA, "--data", None, "-o", OUT],
    "sweep target": ["sweep", ONNX, *MEASURED, "-o", OUT, "--target", None],
    "tune model": ["tune", None, *MEASURED, "--min-sqnr", "10"],
    "tune calibration": ["tune", ONNX, "--calibration", None, "--data", DATA, "--min-sqnr", "10"],
    "tune data": ["tune", ONNX, "--calibration", DATA, "--data", None, "--min-sqnr", "10"],
    "tune target": ["tune", ONNX, *MEASURED, "--min-sqnr", "10", "--target", None],
    "targets name": ["targets", None],
    "export model": ["export", None, "-o", OUT],
    "export target": ["export", MODEL, "-o", OUT, "--target", None],
    "export data": ["export", MODEL, "-o", OUT, "--data", None],
    "verify folder": ["verify", None],
    "verify data": ["verify", "exported", "--data", None],
    "verify measured": ["verify", "exported", "--measured", None],
    "verify target": ["verify", "exported", "--target", None],
    "fit model": ["fit", None],
    "fit target": ["fit", MODEL, "--target", None],
}
WRITERS: dict[str, Arguments] = {
    "convert output": ["convert", ONNX, "--calibration", DATA, "-o", None],
    "run output": ["run", MODEL, "-i", DATA, "-o", None],
    "compare json": ["compare", ONNX, MODEL, "--data", DATA, "--json", None],
    "compare plot": ["compare", ONNX, MODEL, "--data", DATA, "--plot", None],
    "bench json": ["bench", MODEL, "--seconds", "0.001", "--json", None],
    "gates plot": ["gates", "--gates", "step", "--plot", None],
    "tune output": ["tune", ONNX, *MEASURED, "--min-sqnr", "10", "--most", "3", "-o", None],
}
FOLDER_WRITERS: dict[str, Arguments] = {
    "export output": ["export", MODEL, "-o", None],
    "sweep output": ["sweep", ONNX, *MEASURED, "--limit", "1", "--jobs", "1", "--no-latency", "-o", None],
    "tune trials": ["tune", ONNX, *MEASURED, "--min-sqnr", "10", "--most", "1", "--trials", None],
    "compile output": ["compile", MODEL, "--isa", "plain", "--streams", "1", "-o", None],
    "demo output": ["demo", "--short", "-o", None],
}
NO_PATHS = {
    "streams", "backend", "isa", "steps", "batch", "threads", "stream", "seconds", "step_ms", "min_sqnr", "min_agreement",
    "max_accuracy_drop", "gates", "calibrator", "activations", "weights", "refine", "input_scheme", "widths", "top", "function", "clip", "vary",
    "only", "limit", "front", "jobs", "dask", "latency", "flash", "ram", "instructions", "cheapest", "most", "name", "emulate",
    "sequences", "compiler", "state", "fixed", "help", "json", "window", "library", "library_version",
    "cut_from", "cut_to", "float_parts", "prune", "package", "codes", "names", "scratch", "measure", "generate", "stop", "temperature", "top_k",
    "top_p", "seed", "feed", "one_hot", "blank", "most_symbols", "scores", "short", "version", "quiet", "real",
    "bench", "baud", "serial", "timeout", "train_seconds", "train_seed", "train_epochs",
}  # fmt: skip


def test_every_argument_that_takes_a_path_is_here() -> None:
    commands: Any = get_command(app)
    tried = {name for table in (READERS, WRITERS, FOLDER_WRITERS) for name in table}
    found = {f"{c.name} {p.name}" for c in commands.commands.values() for p in c.params if p.name not in NO_PATHS}
    found = {name for name in found if not name.startswith("finetune ")}  # test_finetune.py
    elsewhere = {"generate output", "sweep train", "tune train"}  # test_generate.py, test_finetune.py
    assert found | {"targets name", "compare json", "bench json"} == tried | elsewhere
    assert isinstance(app, typer.Typer)


def few(table: Iterable[str], *others: str) -> list[Any]:
    """Return the commands of ``table``, with those for the matrix alone, which compile or draw, marked so."""
    return [pytest.param(name, marks=pytest.mark.matrix if name in others else ()) for name in table]


def fill(place: Workplace, arguments: Arguments, value: Any) -> Arguments:
    """Names of good files in full, and ``value`` where it is to be."""
    names = {ONNX, MODEL, DATA, OUT, "exported"}
    return [value if a is None else place.path(a) if a in names else a for a in arguments]


Make = Callable[[Path, str], Any]


def missing(folder: Path, end: str) -> Path:
    return folder / f"none{end}"


def a_folder(folder: Path, end: str) -> Path:
    (folder / f"folder{end}").mkdir()
    return folder / f"folder{end}"


def fifo(folder: Path, end: str) -> Path:
    os.mkfifo(folder / f"fifo{end}")
    return folder / f"fifo{end}"


def endless(folder: Path, end: str) -> Path:
    return device(folder / f"zero{end}", 1, 5)


def circle(folder: Path, end: str) -> Path:
    (folder / f"circle{end}").symlink_to(f"circle{end}")
    return folder / f"circle{end}"


def closed(folder: Path, end: str) -> Path:
    return folder / "closed" / f"file{end}"


def in_a_file(folder: Path, end: str) -> Path:
    return folder / "x.npz" / f"file{end}"


BAD_INPUTS: dict[str, Make] = {
    "missing": missing,
    "folder": a_folder,
    "long name": lambda folder, end: folder / ("n" * 300 + end),
    "long path": lambda folder, end: folder / ("n/" * 2500 + "n" + end),
    "not entered": closed,
    "NUL": lambda folder, end: f"{folder}/a\0b{end}",
    "FIFO": fifo,
    "device": endless,
    "no UTF-8": lambda folder, end: folder / (os.fsdecode(b"\xff\xfe") + end),
    "no characters": lambda folder, end: f"{folder}/\ud800{end}",
    "circle": circle,
    "in a file": in_a_file,
    "dash": lambda _, end: f"./-x{end}",
    "lines": lambda folder, end: folder / f"a\nb\x1b[2J{end}",
}


@pytest.fixture(autouse=True)
def closed_folder(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder ``closed`` that may not be entered, not even by root."""
    place.path("closed").mkdir()
    inside = str(place.path("closed")) + os.sep

    def guarded(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(path: Any, *rest: Any, **more: Any) -> Any:
            if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(inside):
                if name == "access":
                    return False
                raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
            return real(path, *rest, **more)

        return call

    for name in ("stat", "lstat", "open", "readlink", "access", "mkdir", "listdir", "scandir", "rename"):
        monkeypatch.setattr(os, name, guarded(name))


def refused(place: Workplace, *arguments: Any, says: str) -> None:
    assert place.refused(*arguments, says=says).isprintable()


def refused_by_typer(place: Workplace, *arguments: Any) -> None:
    """Names that the system cannot pass to a program: Typer refuses those of paths itself, with the command's usage."""
    before = tree(place.folder)
    done = place.cli(*arguments)
    assert (done.status, done.out, tree(place.folder)) == (2, "", before)
    assert done.lines[-1].lower().startswith("error: ")
    assert "Traceback" not in done.err


NOT_PASSED = ("NUL", "no characters")


@pytest.mark.shard_by("reader")
@pytest.mark.wide
@pytest.mark.parametrize("kind", BAD_INPUTS)
@pytest.mark.parametrize("reader", READERS)
def test_inputs(place: Workplace, exported: Path, reader: str, kind: str) -> None:
    arguments = READERS[reader]
    if "exported" in arguments:
        shutil.copytree(exported, place.path("exported"))
    end = ".toml" if arguments[-1] is None and ("--target" in arguments or arguments[0] == "targets") else ""
    bad = BAD_INPUTS[kind](place.folder, end)
    if kind in NOT_PASSED:
        refused_by_typer(place, *fill(place, arguments, bad))
    else:
        refused(place, *fill(place, arguments, bad), says="error: ")


BAD_OUTPUTS: dict[str, tuple[Make, str]] = {
    "no folder": (lambda folder, _: folder / "none" / "out", "make it first"),
    "long name": (lambda folder, _: folder / ("n" * 300), "File name too long"),
    "long path": (lambda folder, _: folder / ("n/" * 2500 + "n"), "File name too long"),
    "not entered": (closed, "Permission denied"),
    "circle": (circle, "circles"),
    "in a file": (in_a_file, "no folder"),
}


@pytest.mark.wide
@pytest.mark.parametrize("kind", BAD_OUTPUTS)
@pytest.mark.parametrize("writer", WRITERS)
def test_outputs(place: Workplace, writer: str, kind: str) -> None:
    make, says = BAD_OUTPUTS[kind]
    refused(place, *fill(place, WRITERS[writer], make(place.folder, "")), says=says)


@pytest.mark.wide
@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
@pytest.mark.parametrize("writer", [*WRITERS, *FOLDER_WRITERS])
def test_output_names_that_no_file_can_have(place: Workplace, writer: str, name: str) -> None:
    refused_by_typer(place, *fill(place, (WRITERS | FOLDER_WRITERS)[writer], f"{place.folder}/{name}"))


@pytest.mark.wide
@pytest.mark.parametrize("kind", sorted(set(BAD_OUTPUTS) - {"no folder"}))
@pytest.mark.parametrize("writer", FOLDER_WRITERS)
def test_output_folders(place: Workplace, writer: str, kind: str) -> None:
    refused(place, *fill(place, FOLDER_WRITERS[writer], BAD_OUTPUTS[kind][0](place.folder, "")), says="cannot write")


@pytest.mark.wide
@pytest.mark.parametrize("make", [fifo, endless])
@pytest.mark.parametrize("writer", FOLDER_WRITERS)
def test_output_folders_that_are_none(place: Workplace, writer: str, make: Make) -> None:
    refused(place, *fill(place, FOLDER_WRITERS[writer], make(place.folder, "")), says="cannot write")


@pytest.mark.wide(cover=False, keep=4)
@pytest.mark.parametrize("writer", WRITERS)
def test_outputs_that_are_folders_or_sockets(place: Workplace, writer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(place, *fill(place, WRITERS[writer], place.folder), says="it is a folder")
    monkeypatch.chdir(place.folder)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        refused(place, *fill(place, WRITERS[writer], place.path("socket")), says="it is a socket")


QUICK_WRITERS = sorted(set(WRITERS) - {"tune output"})


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize("writer", QUICK_WRITERS)
def test_a_fifo_that_nothing_reads(place: Workplace, writer: str) -> None:
    refused(place, *fill(place, WRITERS[writer], fifo(place.folder, "")), says="it is a FIFO that no process reads")


@pytest.mark.parametrize("writer", few(WRITERS, "tune output", "compare plot"))
def test_a_device_stays_one(place: Workplace, writer: str) -> None:
    """``-o /dev/null`` measures without keeping anything; a device of one's own stands for it."""
    out = null(place.folder)
    done = place.cli(*fill(place, WRITERS[writer], out))
    assert (done.status, done.lines) == (0, []), done.err
    assert stat.S_ISCHR(out.stat().st_mode)


@pytest.mark.parametrize("writer", few(QUICK_WRITERS, "gates plot", "compare plot"))
def test_links_stay(place: Workplace, writer: str) -> None:
    link, target = place.path("link"), place.path("target")
    link.symlink_to("target")
    for _ in range(2):  # to nothing, then to a file
        assert place.cli(*fill(place, WRITERS[writer], link)).status == 0
        assert link.is_symlink()
        assert target.is_file()
        assert target.stat().st_size > 0


def inputs(arguments: Arguments) -> Iterator[str]:
    return iter(sorted({a for a in arguments if a in (ONNX, MODEL, DATA)}))


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize("writer", sorted(set(WRITERS) - {"gates plot"}))
def test_outputs_that_are_inputs_by_another_name(place: Workplace, writer: str) -> None:
    for name in inputs(WRITERS[writer]):
        place.path(f"soft {name}").symlink_to(name)
        os.link(place.path(name), place.path(f"hard {name}"))
        for alias in (name, f"soft {name}", f"hard {name}"):
            refused(place, *fill(place, WRITERS[writer], place.path(alias)), says="it is also an input")


@pytest.mark.parametrize("writer", ["convert output", "tune output"])
def test_outputs_that_are_the_target_s_file(place: Workplace, writer: str) -> None:
    own = place.path("own.toml")
    own.write_text("")
    refused(place, *fill(place, WRITERS[writer], own), "--target", own, says="it is also an input")


@pytest.mark.parametrize("writer", few(FOLDER_WRITERS, "sweep output", "tune trials", "compile output"))
def test_a_link_to_a_folder_stays(place: Workplace, writer: str) -> None:
    link = place.path("link")
    link.symlink_to("target")
    for _ in range(2):  # to nothing, then to what the first time made
        done = place.cli(*fill(place, FOLDER_WRITERS[writer], link))
        assert done.status == 0, done.err
        assert link.is_symlink()
        assert any(place.path("target").iterdir())
    assert not list(place.folder.rglob(".*"))


# --- folders that hold something already ------------------------------------------------------------------------------------------------


def test_an_export_leaves_other_files_in_its_folder(place: Workplace) -> None:
    out = place.path("out")
    assert place.cli("export", place.path(MODEL), "-o", out).status == 0
    for name in ("main.o", "notes.txt", "notes"):
        (out / name).write_text("mine")
    before = out.stat().st_ino
    assert place.cli("export", place.path("ids.qrnn"), "-o", out).status == 0
    found = {p.name for p in out.iterdir()}
    assert {"main.o", "notes.txt", "notes", "ids.c"} <= found
    assert not {"gru.c", "gru.qrnn"} & found
    assert out.stat().st_ino == before


def test_an_export_with_a_file_of_one_s_own_in_the_way(place: Workplace) -> None:
    out = place.path("out")
    assert place.cli("export", place.path(MODEL), "-o", out).status == 0
    (out / "ids.c").write_text("mine")
    refused(place, "export", place.path("ids.qrnn"), "-o", out, says="ids.c is there already, and not from an earlier")


@pytest.mark.parametrize("make", [a_folder, fifo, circle])
def test_an_export_with_something_else_in_a_file_s_place(place: Workplace, make: Make) -> None:
    out = place.path("out")
    assert place.cli("export", place.path(MODEL), "-o", out).status == 0
    for file in (out / MODEL, out / "test" / "main.c"):
        file.unlink()
        made = make(out, "").rename(file)
        refused(place, "export", place.path(MODEL), "-o", out, says=file.name)
        made.rmdir() if made.is_dir() else made.unlink()


def test_an_export_into_the_folder_of_its_model(place: Workplace) -> None:
    out = place.path("out")
    assert place.cli("export", place.path(MODEL), "-o", out).status == 0
    refused(place, "export", out / MODEL, "-o", out, "--name", "other", says="lies in it")


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize("nth", range(1, 30))
def test_an_export_that_fails_at_any_step(place: Workplace, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    out = place.path("out")
    assert place.cli("export", place.path(MODEL), "-o", out).status == 0
    calls, real = iter(range(1, 1000)), Path.rename

    def failing(self: Path, target: Any) -> Any:
        if next(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    refused(place, "export", place.path("ids.qrnn"), "-o", out, says="No space left on device")


def test_a_sweep_with_something_in_the_way(place: Workplace) -> None:
    out = place.path("out")
    (out / "results").mkdir(parents=True)
    (out / "table.csv").mkdir()
    sweep = fill(place, FOLDER_WRITERS["sweep output"], out)
    refused(place, *sweep, says="table.csv")
    (out / "table.csv").rmdir()
    (out / "models").write_text("")
    refused(place, *sweep, says="models")


def test_a_demo_leaves_other_files_alone(place: Workplace) -> None:
    place.path("digits_test.npz").write_bytes(b"mine")
    done = place.cli("demo", "-o", place.folder)
    assert (done.status, done.lines) == (2, done.lines[:1])
    assert "another file of that name" in done.lines[0]
    assert place.path("digits_test.npz").read_bytes() == b"mine"
