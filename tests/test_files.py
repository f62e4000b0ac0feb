"""Inputs: a regular file, or what stands there instead, in words; nothing waits and no device is opened."""

from __future__ import annotations

import os
import re
import tracemalloc
from pathlib import Path

import pytest
from places import as_user, null, open_to_all

from qrnn.system.files import open_regular, read_regular

OLD = b"old content"


def test_reading(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == OLD
    assert read_regular(tmp_path / "file", len(OLD)) == OLD
    with pytest.raises(OSError, match="is larger than 10 bytes"):
        read_regular(tmp_path / "file", 10)


def test_memory_is_taken_for_what_there_is_not_for_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    tracemalloc.start()
    try:
        assert read_regular(tmp_path / "file", 1 << 31) == OLD
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc here")
def test_a_file_that_says_it_is_empty_and_is_not() -> None:
    assert os.stat("/proc/self/status").st_size == 0
    assert read_regular("/proc/self/status").startswith(b"Name:")
    with pytest.raises(OSError, match="is larger than 3 bytes"):
        read_regular("/proc/self/status", 3)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(OLD)
    cases = {
        tmp_path / "fifo": "is a FIFO, not a regular file",
        tmp_path / "loop": "its links go round in circles",
        tmp_path: "is a folder",
        tmp_path / "none": "no such file",
        tmp_path / "file" / "none": "a part of its path is not a folder",
        tmp_path / ("n" * 256): "File name too long",
        Path("n/" * 2500): "File name too long",
        Path("a\0b"): "the name has a NUL character",
        Path("\ud800"): "the name has characters that this system's file names cannot have",
        null(tmp_path): "is a character device, not a regular file",
    }
    for path, says in cases.items():
        with pytest.raises(OSError, match=re.escape(says)) as caught:
            open_regular(path)
        assert caught.value.strerror == says
        assert caught.value.filename == os.fspath(path)
        with pytest.raises(OSError, match=re.escape(says)):
            read_regular(path, 100)


def test_a_fifo_that_took_the_files_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(OLD)
    regular = os.stat(tmp_path / "file")
    monkeypatch.setattr("qrnn.system.files.os.stat", lambda _: regular)
    with pytest.raises(OSError, match="is a FIFO"):
        open_regular(tmp_path / "fifo")


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    folder = open_to_all(tmp_path)
    (folder / "secret").write_bytes(OLD)
    (folder / "secret").chmod(0)
    done = as_user(
        "try:\n    qrnn.system.files.open_regular(sys.argv[1])\nexcept OSError as e: print(e.strerror)",
        folder / "secret",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Permission denied\n", "")
