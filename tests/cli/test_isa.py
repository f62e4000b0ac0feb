"""Instruction sets named on the command line or by the environment: every one that this processor has gives the same file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any
from unittest import mock

import numpy as np
import pytest

from cli.running import Workplace
from qrnn.backends import create_engine
from qrnn.backends.cpu.isa import PLAIN, available_isas
from qrnn.model.file import load
from qrnn.running import session as session_module
from qrnn.running.session import Session

pytestmark = pytest.mark.fused


def few(isas: Iterable[str]) -> list[Any]:
    """Return the names with all but the plain loops, which no command takes by itself, and an unknown one marked for the matrix."""
    return [pytest.param(isa, marks=() if isa in (PLAIN, "mmx") else pytest.mark.matrix) for isa in isas]


def expected(place: Workplace) -> Any:
    with np.load(place.path("lengths.npz")) as data:
        return (
            Session(load(place.path("gru.qrnn")), "reference").run({"x": data["x"]}, data["lengths"]).outputs["logits"]
        )


def arguments(place: Workplace, command: str) -> list[Any]:
    onnx, model, data = (place.path(name) for name in ("gru.onnx", "gru.qrnn", "lengths.npz"))
    return {
        "run": ["run", model, "-i", data, "-o", place.path("out.npz")],
        "compare": ["compare", onnx, model, "--data", data, "--json", place.path("o.json")],
        "bench": ["bench", model, "--seconds", "0.01", "--steps", "2", "--threads", "1", "--json", "-"],
    }[command]


@pytest.mark.parametrize("command", ["run", "compare", "bench"])
@pytest.mark.parametrize("isa", few(available_isas()))
def test_the_option_names_an_instruction_set(place: Workplace, command: str, isa: str) -> None:
    taken = []

    def spy(*given: Any) -> Any:
        engine = create_engine(*given)
        taken.append(engine.isa.name if engine.isa is not None else PLAIN)  # type: ignore[attr-defined]
        return engine

    with mock.patch.object(session_module, "create_engine", spy):
        done = place.cli(*arguments(place, command), "--isa", isa)
    assert (done.status, done.lines) == (0, [])
    assert set(taken) == {isa}
    if command == "run":
        with np.load(place.path("out.npz")) as found:
            np.testing.assert_array_equal(found["logits"], expected(place))


@pytest.mark.parametrize("command", ["run", "compare", "bench"])
def test_an_instruction_set_that_is_not_to_be_had(place: Workplace, command: str) -> None:
    here = ", ".join(available_isas())
    absent = "neon-dotprod" if "neon-dotprod" not in available_isas() else "avx2"
    place.refused(*arguments(place, command), "--isa", "mmx", says=("'mmx' is unknown", here))
    place.refused(*arguments(place, command), "--isa", absent, says=(f"{absent!r} is not in this processor", here))
    place.refused(*arguments(place, command), "--isa", PLAIN, "--backend", "reference", says="leave it out")


@pytest.mark.parametrize("isa", few([*available_isas(), "mmx"]))
def test_the_environment_names_an_instruction_set(place: Workplace, isa: str) -> None:
    command = [sys.executable, "-m", "qrnn", *map(str, arguments(place, "run"))]
    done = subprocess.run(command, env=os.environ | {"QRNN_CPU_ISA": isa}, capture_output=True, text=True, timeout=300)
    if isa == "mmx":
        assert (done.returncode, done.stdout) == (2, "")
        assert "'mmx' is unknown" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    with np.load(place.path("out.npz")) as found:
        np.testing.assert_array_equal(found["logits"], expected(place))
