"""Widths that a conversion chooses: what the model that is written comes to, what it costs, and that it is the same everywhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

import qrnn
from qrnn.accuracy.verdict import judge
from qrnn.conversion import quantize
from qrnn.conversion.beside import lines, shortfall_db
from qrnn.conversion.prices import PRICES, step_instructions
from qrnn.model.float_model import FloatModel
from qrnn.quantization.scheme import AUTO, Scheme

NARROW = Scheme(input="8")
AUTOMATIC = Scheme(activations=AUTO)


def steady() -> tuple[FloatModel, dict[str, Any]]:
    """Return a model and data for which 8 bits suffice for some operands and not for others."""
    model = make_model(Shape("gru", 3, 8, layers=2, weight=0.3, head=4), np.random.default_rng(0))
    return model, {"x": np.random.default_rng(1).normal(size=(6, 20, 3))}


def spiky() -> tuple[FloatModel, dict[str, Any]]:
    """Return a model of inputs that are mostly small, with rare large values, which 8 bits cannot hold."""
    model = make_model(Shape("lstm", 3, 8, weight=0.4), np.random.default_rng(0))
    random = np.random.default_rng(1)
    return model, {"x": np.maximum(random.normal(size=(6, 40, 3)), 0.0) ** 4 * 0.1}


FAMILIES = {"steady": steady, "spiky": spiky}


def about_mean_db(model: FloatModel, data: dict[str, Any], scheme: Scheme) -> float:
    return judge(model, quantize(model, data, scheme), data, shares=False).model_db


@pytest.mark.parametrize("family", FAMILIES)
def test_chosen_widths_meet_the_tolerance_on_the_written_model(family: str) -> None:
    model, data = FAMILIES[family]()
    made = quantize(model, data)
    assert made.provenance.scheme["activations"] == AUTO
    assert made.provenance.scheme["widths"]
    assert shortfall_db(judge(model, made, data, shares=False)) <= 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_more_bits_never_give_a_worse_result(family: str) -> None:
    model, data = FAMILIES[family]()
    narrow, chosen = (about_mean_db(model, data, scheme) for scheme in (NARROW, AUTOMATIC))
    assert chosen >= narrow
    wide, given = (about_mean_db(model, data, Scheme(activations=bits)) for bits in (16, 8))
    assert wide >= given - 0.1


def test_wider_operands_are_spent_only_where_they_show() -> None:
    """The input alone is too coarse: it is widened, at less than the price of 16 bits for all."""
    model, data = spiky()
    made = quantize(model, data)
    widths = made.provenance.scheme["widths"]
    assert widths["x"] != "8"
    wide = quantize(model, data, Scheme(activations=16, input="16"))
    assert step_instructions(made) <= step_instructions(wide)
    given = quantize(model, data, Scheme(activations=AUTO, widths={"x": "8"}))
    assert given.provenance.scheme["widths"]["x"] == "8"


def test_the_price_of_a_model_is_of_its_products_and_gates() -> None:
    model, data = spiky()
    narrow, wide = (quantize(model, data, s) for s in (NARROW, Scheme(activations=16, input="16")))
    products, gates = 4 * 8 * (3 + 8), 5 * 8
    assert step_instructions(narrow) == products + gates * PRICES["gate value"] + PRICES["step"]
    assert step_instructions(wide) - step_instructions(narrow) == products / 2
    assert step_instructions(wide, narrow=True) == step_instructions(narrow)


def test_loud_sequences_count_wherever_they_stand() -> None:
    """The input's width is chosen with the ranges of all sequences, those of the loud ones among them, and the result is that of 16 bits."""
    model, data = spiky()
    data["x"][[1, 3]] *= 4.0
    made = quantize(model, data, Scheme())
    assert made.provenance.scheme == Scheme().to_dict() | {"widths": {"x": "16"}}
    found, wide = (about_mean_db(model, data, Scheme(input=width)) for width in ("auto", "16"))
    assert found == wide > about_mean_db(model, data, NARROW) + 3.0


def test_random_data_choose_no_width() -> None:
    model, _ = steady()
    made = quantize(model, "random")
    assert set(made.provenance.scheme["widths"].values()) == {"8"}
    assert any("random numbers tell nothing" in decision for decision in made.provenance.decisions)


def test_given_8_bits_tell_what_auto_would_do() -> None:
    model, data = spiky()
    made = quantize(model, data, NARROW)
    verdict = judge(model, made, data)
    (note,) = lines(model, made, data, NARROW, verdict)
    assert f"by {shortfall_db(verdict):.1f} dB" in note
    assert "with --activations auto: floor" in note
    model, data = steady()
    auto = quantize(model, data)
    assert lines(model, auto, data, Scheme(activations=16), judge(model, auto, data)) == []


def test_both_configurations_are_told_where_chosen_widths_cost_much_more(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = spiky()
    made = quantize(model, data)
    verdict = judge(model, made, data)
    assert lines(model, made, data, AUTOMATIC, verdict) == []
    monkeypatch.setattr("qrnn.conversion.beside.MUCH_MORE", 1.0)
    head, auto, narrow = lines(model, made, data, AUTOMATIC, verdict)
    assert head.endswith("8 bits for all would:")
    assert f"SQNR {verdict.model_db:.1f} dB" in auto
    assert f"SQNR {about_mean_db(model, data, NARROW):.1f} dB" in narrow


@pytest.mark.matrix
def test_the_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    """Seeds of hashes and numbers of threads, by which sums are split, change nothing."""
    script = tmp_path / "convert.py"
    script.write_text(
        "import sys\nsys.path[:0] = sys.argv[1:3]\n"
        "from quantization.test_search import spiky\nfrom qrnn.conversion import quantize\nfrom qrnn.model.file import save\n"
        "model, data = spiky()\nsave(quantize(model, data), sys.argv[3])\n"
    )
    tests, digests = Path(__file__).parents[1], []
    for seed in ("1", "2"):
        made = tmp_path / f"{seed}.qrnn"
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), seed)
        environment = {**os.environ, **threads, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-P", str(script), str(tests), str(tests.parent), str(made)]
        subprocess.run(command, check=True, env=environment, timeout=120)
        digests.append(hashlib.sha256(made.read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    assert qrnn.load(tmp_path / "1.qrnn").provenance.scheme["activations"] == AUTO
