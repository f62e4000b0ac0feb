"""Options and limits of every run. Hypothesis draws anew at a desk, so that every run looks elsewhere, and the same every time in CI."""

from __future__ import annotations

import os
from pathlib import Path

import cpu_seconds
import plain_loops
import pytest
import selection
import time_limit
from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the modules beside this one, which pytest loads too late for hooks of their own."""
    selection.add_options(parser)
    cpu_seconds.add_options(parser)
    plain_loops.add_options(parser)


@pytest.fixture(scope="session", params=[plain_loops.PLAIN, pytest.param("fused", marks=pytest.mark.matrix)])
def loops(request: pytest.FixtureRequest) -> str:
    """Run a test by plain loops in the default run, and once more by the best instruction set in the matrix; see `plain_loops`."""
    return str(request.param)


def pytest_configure(config: pytest.Config) -> None:
    """Give every test of every run a time limit, choose tests by their marks, and let every program that tests start use this checkout."""
    paths = [
        str(Path(selection.__file__).parents[1]),
        *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
    ]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))  # not the checkout that is installed
    for plugin in (selection, time_limit, cpu_seconds, plain_loops):
        config.pluginmanager.register(plugin)
