"""Every block of the tutorials runs as it stands, one after the other, in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from installed import compiler

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = {"firmware_engineer": ("arm-none-eabi-gcc", "qemu-system-arm")}
"""The programs without which a tutorial ends early, as it says itself."""


@pytest.mark.matrix
@pytest.mark.time_limit(600)
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_block_runs(page: Path, tmp_path: Path) -> None:
    for tool in NEEDS.get(page.stem, ()):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "qrnn"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m qrnn "$@"\n')
    command.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    blocks = FENCE.findall(page.read_text(encoding="utf-8"))
    assert blocks
    for language, block in blocks:
        if language == "c":
            (work / "block.c").write_text(block)
            call = [compiler("gcc"), "-std=c99", "-Wall", "-Wextra", "-Werror", "-c", "block.c", *includes(work)]
        else:
            call = [sys.executable, "-c", block] if language == "python" else ["bash", "-euc", block]
        done = subprocess.run(call, cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def includes(work: Path) -> list[str]:
    """The folders of headers below ``work``, as a compiler takes them."""
    return [f"-I{folder}" for folder in sorted({header.parent for header in work.rglob("*.h")})]


def test_the_blocks_are_of_known_languages() -> None:
    languages = {language for page in TUTORIALS for language, _ in FENCE.findall(page.read_text(encoding="utf-8"))}
    assert languages == {"sh", "python", "c"}


def test_pages_of_the_site_are_as_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "site_pages.py", "--check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_page_of_the_site_is_there() -> None:
    yaml = pytest.importorskip("yaml")
    pages: list[str] = []

    def collect(part: object) -> None:
        for value in part if isinstance(part, list) else part.values() if isinstance(part, dict) else ():
            collect(value)
        if isinstance(part, str):
            pages.append(part)

    collect(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(pages) > 30
    assert [page for page in pages if not (ROOT / "docs" / page).exists()] == []
