"""The compile cache: kept where it can be, keyed by the sources, done without where it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrnn.backends.cpu import jit


def double(x: int) -> int:
    return 2 * x


def test_a_compiled_function_is_kept_under_the_digest_of_all_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QRNN_CACHE_DIR", str(tmp_path))
    assert jit.jit_entry(double)(21) == 42
    kept = {path.suffix for path in tmp_path.rglob("*double*")}
    assert kept == {".nbi", ".nbc"}
    assert all(jit.SOURCE_DIGEST[:16] in path.parent.name for path in tmp_path.rglob("*.nbi"))
    again = jit.jit_entry(double)
    assert again(21) == 42
    assert sum(again.stats.cache_hits.values()) == 1


def test_an_edit_in_any_source_file_misses_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QRNN_CACHE_DIR", str(tmp_path))
    jit.jit_entry(double)(1)
    monkeypatch.setattr(jit, "SOURCE_DIGEST", "0" * 64)
    edited = jit.jit_entry(double)
    assert edited(1) == 2
    assert not edited.stats.cache_hits


def test_the_digest_covers_the_contract_and_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Path.read_bytes

    def spy(path: Path) -> bytes:
        read.append(f"{path.parent.name}/{path.name}")
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", spy)
    assert jit.source_digest() == jit.SOURCE_DIGEST
    assert {"arithmetic/fixedpoint.py", "arithmetic/gates.py", "arithmetic/cells.py", "cpu/kernels.py"} <= set(read)


def test_without_a_writable_folder_it_still_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "a_file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("QRNN_CACHE_DIR", str(blocked / "cache"))
    assert jit.jit_entry(double)(21) == 42
