"""What a board says at a serial port, which is a pseudo-terminal here: whole lines, hostile bytes, silence; and lines in files."""

from __future__ import annotations

import json
import os
import pty
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from backends.generators import few
from cli.running import Done, make_cli
from export.kinds import kind
from export.test_bench import board_program, exported, line_here, spoil
from export.test_devices import usable
from export.test_trace import with_spoiled_layer
from hypothesis import given
from hypothesis import strategies as st

from qrnn.devices.board_result import MOST_FILE_BYTES, MOST_LINE_BYTES, read_result, read_result_file
from qrnn.devices.emulator import run
from qrnn.devices.serial_port import read_board
from qrnn.errors import DeviceError, MissingLibraryError
from qrnn.export.folder import ExportedFolder

pytest.importorskip("serial", reason="pyserial is not installed")

GOOD = {
    "qrnn_bench": 1,
    "name": "net",
    "qrnn": "0.1.0",
    "contract": "1.0",
    "model_sha256": "00",
    "target": "cortex-m4",
    "compiler": "gcc 12.2",
    "selftest": "right",
    "difference": None,
    "counter": "DWT CYCCNT",
    "unit": "cycles",
    "calls": 32,
    "steps": 2,
    "min": 100,
    "median": 110,
    "mean": 111,
    "max": 130,
    "stack_bytes": 200,
    "clock_hz": 1000,
}
WRONG = {"what": "output y", "layer": "head", "sequence": 2, "step": 1, "unit": 3, "got": -5, "expected": 5}


def line(**changes: Any) -> str:
    return json.dumps(GOOD | changes, separators=(",", ":")) + "\n"


@contextmanager
def board(says: bytes | Callable[[], bytes], after: int = 1) -> Iterator[str]:
    """A port behind which a board says something, once it has heard so many bytes; it is closed behind."""
    master, slave = pty.openpty()
    tty.setraw(slave)

    def speak() -> None:
        heard = 0
        while heard < after:
            heard += len(os.read(master, 64))
        text = says if isinstance(says, bytes) else says()
        while text:
            text = text[os.write(master, text[:4096]) :]

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        os.close(slave)
        thread.join(timeout=30)
        os.close(master)


def test_a_line_among_others() -> None:
    text = line() + line(name="later")
    with board(b"\x00\xff boot 1.2\r\n[0.1] " + text.replace("\n", "\r\n").encode()) as port:
        result = read_board(port, 115_200, 20)
    assert result == read_result(line(), "here")
    assert result.cycles_per_step == {"min": 50, "median": 55, "mean": 55.5, "max": 65}
    assert result.seconds_per_step == pytest.approx({"min": 0.05, "median": 0.055, "mean": 0.0555, "max": 0.065})
    assert result.to_dict()["cycles_kind"] == "measured"


def test_damaged_lines_before_a_whole_one() -> None:
    with board((line()[:60] + "\n" + line(calls="x") + line()).encode()) as port:
        assert read_board(port, 115_200, 20).name == "net"


def test_a_board_that_has_not_heard_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was reset as the port was opened, and begins to listen after its greeting."""
    monkeypatch.setattr("qrnn.devices.serial_port.ASK_AGAIN_SECONDS", 0.05)
    with board(line().encode(), after=3) as port:
        assert read_board(port, 115_200, 20).name == "net"


BEGIN = b'{"qrnn_bench":'
HOSTILE = {
    "silence": (b"", "nothing came in 0.5 s; reset the board"),
    "garbage": (bytes(range(256)) * 40, r"10,240 bytes came in 0.5 s, and no line of NAME_bench; does --baud fit"),
    "cut off": (line().encode()[:100] + b"\n", "the line is cut off or damaged, and no JSON; measure again"),
    "not ended": (line().encode()[:100], "a line of NAME_bench began and did not end in 0.5 s; give more by --timeout"),
    "endless": (BEGIN + b"1" * (3 * MOST_LINE_BYTES), "the line has more than 65536 bytes"),
    "nested": (BEGIN + b"[" * 50_000 + b"\n", "is cut off or damaged"),
    "a long number": (BEGIN + b"1" * 20_000 + b"}\n", "is cut off or damaged"),
    "another version": (BEGIN + b"2}\n", "version 2 of the line, expected 1; export again"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bytes_are_one_error(case: str) -> None:
    says, message = HOSTILE[case]
    with board(says) as port, pytest.raises(DeviceError, match=message) as raised:
        read_board(port, 115_200, 0.5)
    assert str(raised.value).startswith(f"{port}: ")
    assert "\n" not in str(raised.value)


def test_no_port_and_a_port_that_closes() -> None:
    with pytest.raises(DeviceError, match=r"^/dev/no-port: .*; expected the serial port of a board"):
        read_board("/dev/no-port", 115_200, 1)
    for port in ("nowhere://x", __file__, os.path.dirname(__file__)):
        with pytest.raises(DeviceError, match="expected the serial port of a board"):
            read_board(port, 115_200, 1)
    master, slave = pty.openpty()
    tty.setraw(slave)
    port = os.ttyname(slave)
    os.close(slave)
    timer = threading.Timer(0.1, os.close, (master,))
    timer.start()
    with pytest.raises(DeviceError, match=f"^{port}: "):
        read_board(port, 115_200, 20)
    timer.join()


def test_without_pyserial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(
        MissingLibraryError, match=r"needs serial, which is not installed: pip install 'qrnn\[serial\]'"
    ):
        read_board("/dev/no-port", 115_200, 1)


# the line itself

BAD = [
    ({"name": 3}, "name: 3, expected a text"),
    ({"name": None}, "name: None, expected a text"),
    ({"compiler": "\x1b[2Jgcc"}, "compiler: '.x1b.2Jgcc', expected a text"),
    ({"compiler": "x" * 2400}, "compiler: 'x{50,}…, expected a text of at most 2000"),
    ({"selftest": "yes"}, "selftest 'yes', expected 'right' or 'wrong'"),
    ({"min": -1}, "min: -1, expected a whole number of 32 bits"),
    ({"min": 1 << 32}, "min: 4294967296, expected"),
    ({"min": 1.5}, "min: 1.5, expected"),
    ({"min": float("nan")}, "min: nan, expected"),
    ({"min": True}, "min: True, expected"),
    ({"difference": "x"}, "difference: 'x', expected an object of what, layer, sequence, step, unit, got, expected"),
    ({"difference": WRONG | {"more": 1}}, "difference: .*, expected an object"),
    ({"difference": WRONG | {"step": -1}}, "difference.step: -1, expected"),
    ({"difference": WRONG | {"what": []}}, r"difference.what: \[\], expected a text"),
    ({"extra": 1}, "key 'extra' is unknown"),
    ({"difference": WRONG}, "selftest 'right' and difference do not go together"),
    ({"selftest": "wrong"}, "selftest 'wrong' and difference do not go together"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_a_bad_value_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=f"^here: {message}"):
        read_result(line(**changes), "here")


@pytest.mark.parametrize("key", ["name", "contract", "model_sha256", "target", "compiler", "selftest", "difference"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(DeviceError, match=f"key '{key}' is missing"):
        read_result(json.dumps({k: v for k, v in GOOD.items() if k != key}, separators=(",", ":")), "here")


@few
@given(st.binary(max_size=60), st.integers(0, len(line())), st.integers(0, 40))
def test_damaged_lines_are_refused_or_read(other: bytes, at: int, cut: int) -> None:
    """Whatever a line is, it gives a result or one error."""
    text = line(difference=WRONG, selftest="wrong").encode()
    damaged = (text[:at] + other + text[at + cut :]).decode(errors="replace")
    try:
        read_result(damaged, "here")
    except DeviceError as error:
        assert str(error).startswith("here: ")  # noqa: PT017


# files, folders and the command


@pytest.fixture
def folder(tmp_path: Path) -> ExportedFolder:
    return exported(kind("lstm"), tmp_path, "host-cpu")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    return make_cli(monkeypatch, capsys)


def test_a_file_that_is_sent_back(folder: ExportedFolder, cli: Callable[..., Done], tmp_path: Path) -> None:
    """A log with the line; the last one counts."""
    _, text = line_here(folder, tmp_path)
    log = tmp_path / "log.txt"
    log.write_text(f"boot\n{text.replace('net', 'old')}> {text}bye\n")
    done = cli("verify", folder.path, "--measured", log)
    assert (done.status, done.lines) == (0, []), done.err
    assert "on the board, host-cpu (gcc" in done.out
    assert "every output and state of the self-test is equal" in done.out
    assert "ns a step, measured by clock (" in done.out
    log.write_text(json.dumps(json.loads(text), indent=2))
    found = json.loads(cli("verify", folder.path, "--measured", log, "--json").out)
    assert (found["equal"], found["name"], found["cycles_per_step"]) == (True, "net", None)
    assert found["seconds_per_step"]["min"] > 0


def test_a_wrong_self_test_is_status_1(folder: ExportedFolder, cli: Callable[..., Done], tmp_path: Path) -> None:
    own = json.loads(line_here(folder, tmp_path)[1])
    path = tmp_path / "line.json"
    path.write_text(json.dumps(own | {"selftest": "wrong", "difference": WRONG}, separators=(",", ":")))
    done = cli("verify", folder.path, "--measured", path)
    assert (done.status, done.lines) == (1, [])
    assert "sequence 2, output y of layer head, step 1, unit 3: -5, expected 5" in done.out
    assert "built with NET_TRACE defined" in done.out


@pytest.mark.parametrize(
    ("key", "value"), [("name", "other"), ("model_sha256", "0" * 64), ("contract", "0.9"), ("target", "avr")]
)
def test_a_line_of_another_folder_is_refused(
    key: str, value: str, folder: ExportedFolder, cli: Callable[..., Done], tmp_path: Path
) -> None:
    own = json.loads(line_here(folder, tmp_path)[1])
    path = tmp_path / "line.json"
    path.write_text(json.dumps(own | {key: value}, separators=(",", ":")))
    done = cli("verify", folder.path, "--measured", path)
    assert (done.status, len(done.lines)) == (2, 1)
    assert f"{path}: {key} {value!r}, expected '" in done.err.replace("\n", " ")


def test_a_traced_program_without_a_layer_that_differs(
    folder: ExportedFolder, cli: Callable[..., Done], tmp_path: Path
) -> None:
    own = json.loads(line_here(folder, tmp_path)[1]) | {"selftest": "wrong", "difference": WRONG, "first_layer": None}
    timed = {"counter", "unit", "calls", "steps", "min", "median", "mean", "max"}
    (tmp_path / "line").write_text(json.dumps({key: value for key, value in own.items() if key not in timed}))
    done = cli("verify", folder.path, "--measured", tmp_path / "line")
    assert (done.status, done.lines) == (1, [])
    assert "its layers show no difference in the sequences that are traced" in done.out


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b" " * (MOST_FILE_BYTES + 1))
    (tmp_path / "empty").write_bytes(b"")
    for name, message in (("none", "no such file"), ("large", "is larger than"), ("empty", "no line that begins with")):
        with pytest.raises(DeviceError, match=f"(?i){message}"):
            read_result_file(tmp_path / name)


OPTIONS = [
    (("--serial", "p", "--measured", "f"), "--serial and --measured: both are results of a board"),
    (("--serial", "p", "--emulate"), "--emulate and --serial: the board's program runs its own sequences"),
    (("--measured", "f", "--data", "d.npz"), "--data and --measured"),
    (("--measured", "f", "--sequences", "7"), "--sequences and --measured"),
    (("--measured", "f", "--baud", "9600"), "--baud is of a serial port; give --serial, too"),
    (("--timeout", "3"), "--timeout is of a serial port"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_options_that_do_not_go_together(options: tuple[str, ...], message: str, cli: Callable[..., Done]) -> None:
    done = cli("verify", "folder", *options)
    assert (done.status, len(done.lines)) == (2, 1)
    assert message in done.err


@pytest.mark.parametrize("name", ["cortex-m0plus", pytest.param("avr", marks=pytest.mark.matrix)])
def test_an_emulated_board_behind_the_port(name: str, cli: Callable[..., Done], tmp_path: Path) -> None:
    """It waits for a byte, then runs; the command says what it measured. Its C is wrong the second time."""
    target = usable(name)
    folder = exported(kind("stacked"), tmp_path, name)
    with board(lambda: run(board_program(folder, tmp_path), target, timeout=120).output) as port:
        done = cli("verify", folder.path, "--serial", port, "--timeout", "100", "--json")
    assert (done.status, done.lines) == (0, []), done.err
    found = json.loads(done.out)
    assert (found["equal"], found["target"], found["cycles_kind"]) == (True, name, "measured")
    assert found["cycles_per_step"]["median"] > 100
    spoil(folder, with_spoiled_layer(folder.model, "head", 2))
    with board(lambda: run(board_program(folder, tmp_path, "-DNET_TRACE"), target, timeout=120).output) as port:
        done = cli("verify", folder.path, "--serial", port, "--timeout", "100")
    assert (done.status, done.lines) == (1, []), done.err
    assert "first in sequence 0, tensor logits of layer head, step 0, unit 2: " in done.out
