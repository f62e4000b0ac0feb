"""Compiled code that is damaged, foreign or not to be trusted is compiled anew; what can be read is read where nothing can be written."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from places import NOT_ROOT, needs_root, open_to_all

from qrnn.backends.cpu import code_cache, native, wanted
from qrnn.backends.cpu.calls import Call, CallList, target_of
from qrnn.backends.cpu.code_cache import CodeFolder, CompileCacheWarning, cache_directory
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.native import Code
from qrnn.backends.cpu.python_calls import FIRST, STATUS
from qrnn.backends.cpu.wanted import Kernel, Wanted


@jit
def double(place: Any) -> None:
    place[STATUS] = 2 * place[FIRST]


@jit
def triple(place: Any) -> None:
    place[STATUS] = 3 * place[FIRST]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; the process has not warned yet."""
    monkeypatch.setenv("QRNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(code_cache, "_warned", False)
    return tmp_path / "cache"


def kept(place: Path) -> list[Path]:
    """The files of `double` and `triple`, in the order of their names."""
    return sorted(place.rglob("*.o"))


def hits(function: Callable[..., None]) -> int:
    """Compile or load it as a new process does, and use it; how often the cache had it."""
    control, before = np.zeros(3, np.int64), native.compilations
    with mock.patch.object(native, "_loaded", {}):
        calls = CallList((Call(Kernel(__name__, function.__name__), control),), control)
    assert calls.run(21, 0) == {double: 42, triple: 63}[function]
    return 1 - (native.compilations - before)


def rebuilt(place: Path) -> None:
    """What is wrong is written over with what is right."""
    assert hits(double) == 0
    assert hits(double) == 1
    assert all(path.suffix == ".o" for path in place.rglob("*") if path.is_file())


LENGTHS = [0, 1, 31, 32, 33, 64, 0.5, -1]
"""In bytes, a share of the file, or so many fewer: before, in and after the digest."""


@pytest.mark.parametrize("length", LENGTHS)
def test_files_that_are_cut(place: Path, length: float) -> None:
    assert hits(double) == 0
    (path,) = kept(place)
    content = path.read_bytes()
    path.write_bytes(content[: int(length * len(content)) if isinstance(length, float) else length])
    rebuilt(place)


@pytest.mark.parametrize("share", [0.0, 31 / 1000, 0.1, 0.5, 0.999])
def test_files_with_a_bit_that_is_wrong(place: Path, share: float) -> None:
    hits(double)
    (path,) = kept(place)
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 0x10
    path.write_bytes(content)
    rebuilt(place)


def test_files_that_are_longer(place: Path) -> None:
    hits(double)
    (path,) = kept(place)
    path.write_bytes(path.read_bytes() + b"\0")
    rebuilt(place)


def test_files_that_have_changed_places(place: Path) -> None:
    """Each is whole, and the code of the other function."""
    hits(double)
    hits(triple)
    one, other = kept(place)
    one.rename(place / "held")
    other.rename(one)
    (place / "held").rename(other)
    assert (hits(double), hits(triple)) == (0, 0)
    assert (hits(double), hits(triple)) == (1, 1)


def test_a_file_of_another_key(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other sources, with the digest of all that it holds."""
    with monkeypatch.context() as patched:
        patched.setattr(wanted, "SOURCE_DIGEST", wanted.SOURCE_DIGEST[:16] + "0" * 48)
        hits(double)
    (foreign,) = kept(place)
    hits(double)
    (own,) = set(kept(place)) - {foreign}
    shutil.copy(foreign, own)
    rebuilt(place)


@pytest.mark.parametrize("content", [b"", b"no object file", b"\x7fELF" + bytes(60), b"qrnn_entry_" * 40])
def test_a_file_that_holds_no_code(place: Path, content: bytes) -> None:
    """With the right digest: it is not handed to LLVM, which ends the process where a function is not there."""
    folder = Code().folder()
    assert folder.may_write()
    wanted = Wanted(Kernel(__name__, "double"), ("i8:1",), target_of(None))
    folder.write(*native._place(wanted), content)
    rebuilt(place)


def test_a_folder_or_a_fifo_in_the_place_of_a_file(place: Path) -> None:
    hits(double)
    (path,) = kept(place)
    path.unlink()
    os.mkfifo(path)
    rebuilt(place)
    path.unlink()
    path.mkdir()
    with pytest.warns(CompileCacheWarning, match="compiled code is not kept"):
        assert hits(double) == 0
    assert hits(double) == 0
    assert not [p for p in path.parent.iterdir() if p.name.startswith(".")]


def test_a_file_that_cannot_be_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hits(double)

    def refuse(*_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(code_cache, "open_regular", refuse)
        assert hits(double) == 0
    assert hits(double) == 1


# --- who may write ----------------------------------------------------------------------------------------------------------------------


def test_folders_are_ones_own_alone(place: Path) -> None:
    before = os.umask(0)
    try:
        hits(double)
    finally:
        os.umask(before)
    folder = kept(place)[0].parent
    assert [p.stat().st_mode & 0o777 for p in (place, folder, kept(place)[0])] == [0o700, 0o700, 0o644]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o722])
@pytest.mark.parametrize("outer", [True, False])
def test_folders_that_others_may_write_are_not_used(place: Path, outer: bool, mode: int) -> None:
    hits(double)
    (path,) = kept(place)
    content = path.read_bytes()
    folder = place if outer else path.parent
    folder.chmod(mode)
    with pytest.warns(CompileCacheWarning) as caught:
        assert (hits(double), hits(triple)) == (0, 0)
    assert [str(folder) in str(w.message) and "written by others" in str(w.message) for w in caught] == [True]
    assert kept(place) == [path]
    assert path.read_bytes() == content
    folder.chmod(0o755)
    assert hits(double) == 1


def test_files_that_others_may_write_are_not_read(place: Path) -> None:
    hits(double)
    (path,) = kept(place)
    path.chmod(0o666)
    rebuilt(place)
    assert path.stat().st_mode & 0o777 == 0o644


@needs_root
@pytest.mark.parametrize("what", ["outer", "inner", "file"])
def test_what_another_user_owns_is_not_used(place: Path, what: str) -> None:
    hits(double)
    (path,) = kept(place)
    os.chown({"outer": place, "inner": path.parent, "file": path}[what], NOT_ROOT, -1)
    if what == "file":
        rebuilt(place)
        return
    with pytest.warns(CompileCacheWarning, match="belongs to another user"):
        assert hits(double) == 0
    assert hits(double) == 0


# --- where nothing can be written ---------------------------------------------------------------------------------------------------------


def no_writing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A file system that refuses every change, as one that is mounted read-only does, for root too."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    real, real_access = os.open, os.access

    def reading(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        return refuse() if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", reading)
    monkeypatch.setattr(os, "mkdir", lambda path, *_: refuse() if not os.path.isdir(path) else None)
    monkeypatch.setattr(os, "access", lambda path, mode, **more: not mode & os.W_OK and real_access(path, mode, **more))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_cache_that_may_only_be_read_is_read(place: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    hits(double)
    no_writing(monkeypatch, number)
    assert hits(double) == 1
    with pytest.warns(CompileCacheWarning) as caught:
        assert (hits(triple), hits(triple)) == (0, 0)
    assert len(caught) == 1
    assert hits(double) == 1


def test_no_cache_and_nowhere_to_make_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_writing(monkeypatch, errno.EROFS)
    with pytest.warns(CompileCacheWarning, match="Read-only file system") as caught:
        assert (hits(double), hits(triple)) == (0, 0)
    assert len(caught) == 1
    assert not place.exists()


@pytest.mark.parametrize("what", ["a file", "in a file", "too long", "a link to nothing", "a link in a circle"])
def test_a_folder_that_cannot_be_made(place: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    place.parent.joinpath("file").write_text("")
    chosen = {
        "a file": place.parent / "file",
        "in a file": place.parent / "file" / "cache",
        "too long": place / ("n" * 300),
    }
    for name, goal in (("a link to nothing", "none/there"), ("a link in a circle", "link")):
        if what == name:
            (place.parent / "link").symlink_to(goal)
            chosen[what] = place.parent / "link"
    monkeypatch.setenv("QRNN_CACHE_DIR", str(chosen[what]))
    with pytest.warns(CompileCacheWarning) as caught:
        assert (hits(double), hits(triple)) == (0, 0)
    assert len(caught) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "replace"])
def test_a_disk_that_is_full(place: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    hits(double)

    def fail(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    class Failing:
        def __init__(self, descriptor: int, _: str) -> None:
            self._descriptor = descriptor

        def __enter__(self) -> Failing:
            return self

        def write(self, content: bytes) -> None:
            os.write(self._descriptor, content[:100])
            fail()

        def __exit__(self, *_: object) -> None:
            os.close(self._descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen" if call == "write" else "replace", Failing if call == "write" else fail)
        with pytest.warns(CompileCacheWarning, match=os.strerror(number)):
            assert hits(triple) == 0
    (folder,) = place.iterdir()
    assert [p.name for p in folder.iterdir()] == [kept(place)[0].name]
    assert (hits(double), hits(triple), hits(triple)) == (1, 0, 1)


def test_a_user_without_a_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("QRNN_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for home in (no_home, lambda: Path("")):
        monkeypatch.setattr(Path, "home", home)
        monkeypatch.setattr(code_cache, "_warned", False)
        assert cache_directory() is None
        with pytest.warns(CompileCacheWarning, match="no home folder"):
            assert hits(double) == 0


def test_where_it_is(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_directory() == place
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QRNN_CACHE_DIR", "near")
    assert cache_directory() == tmp_path / "near"
    monkeypatch.delenv("QRNN_CACHE_DIR")
    monkeypatch.setattr(code_cache.sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for given, expected in ((str(tmp_path / "x"), tmp_path / "x" / "qrnn"), ("x", tmp_path / ".cache" / "qrnn")):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert cache_directory() == expected


def test_where_warnings_are_errors_it_is_raised_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_writing(monkeypatch, errno.EROFS)
    control = np.zeros(3, np.int64)
    call = Call(Kernel(__name__, "double"), control)
    monkeypatch.setattr(native, "_loaded", {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CompileCacheWarning):
            CallList((call,), control)
        before = native.compilations
        assert CallList((call,), control).run(21, 0) == 42
        assert native.compilations == before
        assert hits(triple) == 0


# --- other processes ----------------------------------------------------------------------------------------------------------------------

USE = """
import os, sys, warnings
import numpy as np
user = int(sys.argv[1])
from qrnn.backends.cpu import jit, native  # what compiles, this user may not read
from qrnn.backends.cpu.calls import Call, CallList, target_of
from qrnn.backends.cpu.isa import PLAIN, target_for
from qrnn.backends.cpu.wanted import Kernel, Wanted
@jit.jit
def double(place): place[2] = 2 * place[0]
@jit.jit
def triple(place): place[2] = 3 * place[0]
control = np.zeros(3, np.int64)
native.compile_all([Wanted(Kernel("__main__", "triple"), ("f8:1",), target_for(PLAIN))])
before = native.compilations
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for name, result in (("double", 42), ("triple", 63)):
        assert CallList((Call(Kernel("__main__", name), control),), control).run(21, 0) == result
print(2 - native.compilations + before, len(caught))
"""


def start(place: Path, script: Path, user: int = 0) -> subprocess.Popen[str]:
    environment = os.environ | {"QRNN_CACHE_DIR": str(place)}
    command = [sys.executable, str(script), str(user)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, ""), err
    return out.strip()


@pytest.mark.matrix
@needs_root
def test_a_cache_that_root_made_is_read_by_another_user(tmp_path: Path) -> None:
    """As an image of a container has it."""
    place = open_to_all(tmp_path) / "cache"
    (tmp_path / "use.py").write_text(USE)
    assert ended(start(place, tmp_path / "use.py")) == "0 0"
    assert ended(start(place, tmp_path / "use.py", NOT_ROOT)) == "0 1"  # closed to others
    for folder in (place, *place.iterdir()):
        folder.chmod(0o755)
    assert ended(start(place, tmp_path / "use.py", NOT_ROOT)) == "2 0"


def test_processes_that_write_at_once(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(USE)
    processes = [start(tmp_path / "cache", tmp_path / "use.py") for _ in range(2)]
    for process in processes:
        hits_and_warnings = ended(process).split()
        assert hits_and_warnings[1] == "0"
    assert ended(start(tmp_path / "cache", tmp_path / "use.py")) == "2 0"
    assert len(kept(tmp_path / "cache")) == 2


def test_names_and_keys_of_the_folder(tmp_path: Path) -> None:
    folder = CodeFolder(tmp_path / "cache", "version")
    assert folder.read("name", "key") is None
    assert folder.may_write()
    folder.write("name", "key", b"content")
    assert folder.read("name", "key") == b"content"
    assert folder.read("name", "other key") is None
    assert folder.read("other name", "key") is None
