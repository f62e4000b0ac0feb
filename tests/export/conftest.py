"""Folders that tests of a module share."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from export.packaged import export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a package, exported once for all tests that only read it."""
    root = tmp_path_factory.mktemp("packages")

    @cache
    def made(package: str) -> Path:
        return export(package, root / package)

    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what the tests of a module compile."""
    return tmp_path_factory.mktemp("contract")
