"""Compiled code that is damaged, foreign or not to be trusted is compiled anew; what can be read is read where nothing can be written."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import NOT_ROOT, needs_root, open_to_all

from qrnn.backends.cpu import code_cache, jit
from qrnn.backends.cpu.code_cache import CodeFolder, CompileCacheWarning, cache_directory


def double(x: int) -> int:
    return 2 * x


def triple(x: int) -> int:
    return 3 * x


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; the process has not warned yet."""
    monkeypatch.setenv("QRNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(code_cache, "_warned", False)
    return tmp_path / "cache"


def kept(place: Path) -> list[Path]:
    """The files of `double` and `triple`, in the order of their names."""
    return sorted(place.rglob("*.nbc"))


def hits(function: Callable[[int], int]) -> int:
    """Compile or load for integers and use it; how often the cache had it."""
    made = jit.jit_entry(function)
    assert made(21) == function(21)
    return sum(made.stats.cache_hits.values())


def rebuilt(place: Path) -> None:
    """What is wrong is written over with what is right."""
    assert hits(double) == 0
    assert hits(double) == 1
    assert all(path.suffix == ".nbc" for path in place.rglob("*") if path.is_file())


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
        patched.setattr(jit, "SOURCE_DIGEST", jit.SOURCE_DIGEST[:16] + "0" * 48)
        hits(double)
    (foreign,) = kept(place)
    hits(double)
    (own,) = set(kept(place)) - {foreign}
    shutil.copy(foreign, own)
    rebuilt(place)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(None), pickle.dumps((1, 2, 3)), b"\x80\x04."])
def test_a_pickle_that_is_none_of_numbas(place: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """With the right digest, as other versions of what Numba needs might have written it."""
    with monkeypatch.context() as patched:
        patched.setattr(jit, "dumps", lambda _: content)
        hits(double)
    rebuilt(place)


class Trap:
    """A pickle that runs code where it is read."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("sprung",)


def test_nothing_is_unpickled_before_the_digest_is_checked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hits(double)
    (path,) = kept(place)
    monkeypatch.chdir(place)
    trap = pickle.dumps(Trap())
    for content in (trap, bytes(32) + trap, path.read_bytes()[:32] + trap):
        path.write_bytes(content)
        rebuilt(place)
    assert not (place / "sprung").exists()


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
    made = jit.jit_entry(double)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CompileCacheWarning):
            made(21)
        assert made(21) == 42
        assert hits(triple) == 0


# --- other processes ----------------------------------------------------------------------------------------------------------------------

USE = """
import os, sys, warnings
user = int(sys.argv[1])
from qrnn.backends.cpu import jit
def double(x): return 2 * x
jit.jit(double)(1)  # what Numba imports to compile, this user may not read
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
made = jit.jit_entry(double)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert (made(21), made(1.5)) == (42, 3.0)
print(sum(made.stats.cache_hits.values()), len(caught))
"""


def start(place: Path, script: Path, user: int = 0) -> subprocess.Popen[str]:
    environment = os.environ | {"QRNN_CACHE_DIR": str(place)}
    command = [sys.executable, str(script), str(user)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, ""), err
    return out.strip()


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
    processes = [start(tmp_path / "cache", tmp_path / "use.py") for _ in range(3)]
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
