"""Outputs: whole or not at all, through links, straight into what is no regular file, and never in place of it."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import NOT_ROOT, as_user, full, needs_root, null, open_to_all

from qrnn.errors import DataError
from qrnn.system import atomic
from qrnn.system.atomic import destination, write_atomically

OLD, NEW = b"old content", b"new"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refuses(path: str | Path, says: str) -> None:
    with pytest.raises(DataError, match="cannot write") as caught:
        write_atomically(path, NEW)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# --- regular files --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_a_new_file_has_the_content_and_the_umask(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "out", content)
        write_atomically(str(tmp_path / "text"), content)
    finally:
        os.umask(before)
    assert (tmp_path / "out").read_bytes() == content
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
    assert names(tmp_path) == ["out", "text"]


def test_the_umask_of_the_process_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread would make its files without one."""
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the umask was changed"))
    write_atomically(tmp_path / "out", NEW)
    write_atomically(tmp_path / "out", NEW)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o777, 0o444, 0o2750])
def test_permissions_stay(tmp_path: Path, mode: int) -> None:
    out = tmp_path / "out"
    out.write_bytes(OLD)
    out.chmod(mode)
    if not os.access(out, os.W_OK):
        refuses(out, "write-protected")
        return
    write_atomically(out, NEW)
    assert out.read_bytes() == NEW
    assert stat.S_IMODE(out.stat().st_mode) == mode


@needs_root
def test_the_owner_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(OLD)
    os.chown(out, 1234, 4321)
    out.chmod(0o4750)
    write_atomically(out, NEW)
    found = out.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o4750)


def test_a_private_file_is_never_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.write_bytes(OLD)
    out.chmod(0o600)
    seen: list[int] = []
    real = os.write

    def spy(descriptor: int, content: Any) -> int:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return real(descriptor, content)

    monkeypatch.setattr(atomic.os, "write", spy)
    write_atomically(out, NEW)
    assert seen == [0o600]


def test_other_names_of_the_file_keep_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(OLD)
    os.link(tmp_path / "one", tmp_path / "two")
    write_atomically(tmp_path / "one", NEW)
    assert (tmp_path / "one").read_bytes() == NEW
    assert (tmp_path / "two").read_bytes() == OLD


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    longest = "ß" * 127 + "n"  # 255 bytes
    write_atomically(tmp_path / longest, NEW)
    write_atomically(tmp_path / longest, OLD)
    assert (tmp_path / longest).read_bytes() == OLD
    refuses(tmp_path / (longest + "n"), "File name too long")
    refuses("n/" * 2500 + "n", "File name too long")


@pytest.mark.parametrize("name", ["a b", "-o", "\n", "\x1b[2J", os.fsdecode(b"\xff\xfe"), "'", "%s{0}"])
def test_names_of_every_kind(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, NEW)
    assert (tmp_path / name).read_bytes() == NEW


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    refuses(f"{tmp_path}/a\0b", "NUL character")
    refuses(f"{tmp_path}/\ud800", "characters that this system's file names cannot have")
    refuses(tmp_path, "it is a folder")
    refuses("", "cannot write")
    refuses(tmp_path / "none" / "out", "no folder")


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_atomically("out", NEW)
    write_atomically(Path("out"), OLD)
    assert (tmp_path / "out").read_bytes() == OLD


def test_a_temporary_name_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = b"12345678", b"abcdefgh"
    draws = iter([taken, taken, free])
    monkeypatch.setattr(atomic.os, "urandom", lambda _: next(draws))
    other = tmp_path / f".qrnn.{taken.hex()}"
    other.write_bytes(OLD)
    write_atomically(tmp_path / "out", NEW)
    assert (other.read_bytes(), (tmp_path / "out").read_bytes()) == (OLD, NEW)
    monkeypatch.setattr(atomic.os, "urandom", lambda _: taken)
    refuses(tmp_path / "out", "no temporary name is free")
    assert other.read_bytes() == OLD


def failing_with(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "close"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    out = tmp_path / "out"
    out.write_bytes(OLD)
    real, fail = getattr(os, call), failing_with(number)

    def closing(descriptor: int) -> None:
        real(descriptor)
        fail()

    with monkeypatch.context() as patched:
        patched.setattr(atomic.os, call, closing if call == "close" else fail)
        refuses(out, os.strerror(number))
    assert out.read_bytes() == OLD
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_an_interrupt_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    out = tmp_path / "out"
    out.write_bytes(OLD)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(atomic.os, call, interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(out, NEW)
    assert out.read_bytes() == OLD
    assert names(tmp_path) == ["out"]


def test_file_and_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content before the name, or a crash leaves an empty file under it."""
    steps: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_sync(descriptor)

    def replace(source: str, target: str) -> None:
        steps.append("replace")
        real_replace(source, target)

    monkeypatch.setattr(atomic.os, "fsync", sync)
    monkeypatch.setattr(atomic.os, "replace", replace)
    write_atomically(tmp_path / "out", NEW)
    assert steps == ["file", "replace", "folder"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_file_systems_that_cannot_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(atomic.os, "fsync", failing_with(number))
    write_atomically(tmp_path / "out", NEW)
    assert (tmp_path / "out").read_bytes() == NEW


def test_writes_that_are_cut_short_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.write, iter(range(10**6))

    def short(descriptor: int, content: memoryview) -> int:
        if next(calls) % 3 == 0:
            raise BlockingIOError(errno.EAGAIN, "again")
        return real(descriptor, content[:5])

    content = os.urandom(333)
    with monkeypatch.context() as patched:
        patched.setattr(atomic.os, "write", short)
        write_atomically(tmp_path / "out", content)
    assert (tmp_path / "out").read_bytes() == content


def test_threads_that_write_one_file_leave_one_whole_content(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=write_atomically, args=(tmp_path / "out", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "out").read_bytes() in contents
    assert names(tmp_path) == ["out"]


WRITE = """
from qrnn.errors import DataError
try:
    qrnn.system.atomic.write_atomically(sys.argv[1], b"new")
except DataError as error:
    print(error)
"""


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    folder = open_to_all(tmp_path) / "read_only"
    folder.mkdir()
    (folder / "out").write_bytes(OLD)
    (folder / "out").chmod(0o666)
    folder.chmod(0o555)
    for name in ("out", "other"):
        done = as_user(WRITE, folder / name)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"the folder {folder} may not be written" in done.stdout
    assert names(folder) == ["out"]
    assert (folder / "out").read_bytes() == OLD


def test_a_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    folder = open_to_all(tmp_path) / "closed"
    folder.mkdir(mode=0o700)
    if os.geteuid() != 0:
        folder.chmod(0)
    done = as_user(WRITE, folder / "out")
    folder.chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"cannot write {folder / 'out'}: Permission denied")


@needs_root
def test_a_file_of_another_user_that_may_be_written(tmp_path: Path) -> None:
    """It cannot be given back to its owner; the permissions stay."""
    folder = open_to_all(tmp_path) / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "out").write_bytes(OLD)
    (folder / "out").chmod(0o4666)
    done = as_user(WRITE, folder / "out")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = (folder / "out").stat()
    assert ((folder / "out").read_bytes(), found.st_uid, stat.S_IMODE(found.st_mode)) == (NEW, NOT_ROOT, 0o666)


# --- links ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", [1, 2, 39])
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_links_are_followed_and_stay(tmp_path: Path, chain: int, exists: bool, relative: bool) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "links").mkdir()
    target = tmp_path / "there" / "file"
    if exists:
        target.write_bytes(OLD)
    goal = Path("../there/file") if relative else target
    for number in range(chain):
        link = tmp_path / "links" / f"{number}"
        link.symlink_to(goal)
        goal = Path(f"{number}") if relative else link
    before = {name: os.readlink(tmp_path / "links" / name) for name in names(tmp_path / "links")}
    write_atomically(tmp_path / "links" / f"{chain - 1}", NEW)
    assert target.read_bytes() == NEW
    assert {name: os.readlink(tmp_path / "links" / name) for name in names(tmp_path / "links")} == before
    assert names(tmp_path / "there") == ["file"]


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    for name, goal in (("self", "self"), ("one", "two"), ("two", "one"), ("deep", "none/file"), ("up", ".")):
        (tmp_path / name).symlink_to(goal)
    before = names(tmp_path)
    for name in ("self", "one", "self/out"):
        refuses(tmp_path / name, "its links go round in circles")
    refuses(tmp_path / "deep", "no folder")
    refuses(tmp_path / "up", "it is a folder")
    assert names(tmp_path) == before


def test_a_link_to_a_device(tmp_path: Path) -> None:
    place = null(tmp_path)
    (tmp_path / "link").symlink_to(place)
    write_atomically(tmp_path / "link", NEW)
    assert stat.S_ISCHR(place.stat().st_mode)
    assert (tmp_path / "link").is_symlink()


# --- what is no regular file ------------------------------------------------------------------------------------------------------------


def test_a_device_stays_what_it_is(tmp_path: Path) -> None:
    place = null(tmp_path)
    before = place.stat()
    write_atomically(place, NEW)
    found = place.stat()
    assert (found.st_ino, found.st_mode, found.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)
    assert names(tmp_path) == ["null"]


def test_a_device_that_is_full(tmp_path: Path) -> None:
    refuses(full(tmp_path), "No space left on device")
    assert names(tmp_path) == ["full"]


def test_a_fifo_that_is_read(tmp_path: Path) -> None:
    place = tmp_path / "fifo"
    os.mkfifo(place)
    content = os.urandom(300_000)  # more than it holds
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(place.read_bytes()))
    reader.start()
    while True:  # until the reader waits
        try:
            write_atomically(place, content)
            break
        except DataError as error:
            assert "no process reads" in str(error)  # noqa: PT017
    reader.join(timeout=60)
    assert read == [content]
    assert stat.S_ISFIFO(place.stat().st_mode)


def test_a_fifo_that_nothing_reads(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    refuses(tmp_path / "fifo", "it is a FIFO that no process reads")
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


def test_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        refuses("socket", "it is a socket")
    assert stat.S_ISSOCK((tmp_path / "socket").stat().st_mode)


def test_a_block_device(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    try:
        os.mknod(place, stat.S_IFBLK | 0o600, os.makedev(1, 250))
    except OSError:
        pytest.skip("devices cannot be made here")
    refuses(place, "it is a block device")
    assert stat.S_ISBLK(place.stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_names_of_a_stream_of_this_process(tmp_path: Path, name: str) -> None:
    """The output stands after what was printed before and before what is printed after, in a pipe as in a file."""
    if name == "link":
        (tmp_path / "link").symlink_to("/dev/stdout")
        name = str(tmp_path / "link")
    code = (
        f"from qrnn.system.atomic import write_atomically\nprint('a')\nwrite_atomically({name!r}, b'b\\n')\nprint('c')"
    )
    piped = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
    with (tmp_path / "file").open("wb") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True, timeout=60)
    assert piped.stdout == (tmp_path / "file").read_bytes() == b"a\nb\nc\n"


def test_a_descriptor_of_ones_own(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    write_atomically(f"/dev/fd/{writing}", NEW)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == NEW
    refuses(f"/dev/fd/{writing}", "Bad file descriptor")


def test_destinations_that_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "link").symlink_to("file")
    os.link(tmp_path / "file", tmp_path / "hard")
    (tmp_path / "to_new").symlink_to("new")
    for one, other in (("file", "file"), ("file", "link"), ("link", "hard"), ("new", "new"), ("new", "to_new")):
        assert destination(tmp_path / one).is_same(destination(tmp_path / other))
    for one, other in (("file", "new"), ("new", "newer")):
        assert not destination(tmp_path / one).is_same(destination(tmp_path / other))
    place = null(tmp_path)
    assert not destination(place).is_same(destination(place))  # it takes both
