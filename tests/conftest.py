"""Options and limits of every run. Hypothesis draws anew at a desk, so that every run looks elsewhere, and the same every time in CI."""

from __future__ import annotations

import os

import pytest
import selection
import time_limit
from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

pytest_addoption = selection.add_options


def pytest_configure(config: pytest.Config) -> None:
    """Give every test of every run a time limit, and choose tests by their marks."""
    for plugin in (selection, time_limit):
        config.pluginmanager.register(plugin)
