"""The golden vectors of choices: as Python, compiled by Numba, and by backend cpu's choice; the file is of this contract."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arithmetic.test_cells import Register
from decoding_models import language_model

from backends.golden_checks import check_names_what_differs
from backends.test_golden import TOOL
from qrnn.backends import create_engine
from qrnn.backends.cpu.jit import for_python
from qrnn.model.choosing import ChoiceNumbers, choice_loop

GOLDEN = TOOL.golden_choices
DOCUMENT: dict[str, Any] = json.loads(TOOL.CHOICES.read_text(encoding="utf-8"))


def test_the_file_is_of_this_contract() -> None:
    assert DOCUMENT["format"] == GOLDEN.FORMAT
    assert DOCUMENT["contract_version"] == GOLDEN.SINCE
    assert set(DOCUMENT["functions"]) == set(GOLDEN.FUNCTIONS)
    assert TOOL.check_choices() == 0


def test_a_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["functions"]["fed_value"]["cases"][3][-1] += 1
    document["choices"][4]["tokens"][0] ^= 1
    says = ("functions: fed_value", "choices: entry 4")
    check_names_what_differs(TOOL.check_choices, TOOL.to_text(document), tmp_path, capsys, says)


@pytest.mark.parametrize("name", GOLDEN.FUNCTIONS)
def test_functions(name: str) -> None:
    function = GOLDEN.FUNCTIONS[name]
    compiled = for_python(function)
    for *case, want in DOCUMENT["functions"][name]["cases"]:
        assert function(*case) == want
        assert function(*map(Register, case)) == want
        assert compiled(*case) == want


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_choices(backend: str) -> None:
    engine = create_engine(backend, language_model())
    for case in DOCUMENT["choices"]:
        numbers = ChoiceNumbers(*(case[name] for name in GOLDEN.NUMBERS[:4]))
        choose = engine.chooser(choice_loop(numbers, bool(case["probabilities"])), len(case["scores"][0]))
        scores, draws = np.array(case["scores"], np.int64), np.array(case["draws"], np.uint32)
        assert choose(scores, draws).tolist() == case["tokens"]
        many = choose(np.tile(scores, (3, 1)), np.tile(draws, (3, 1)))  # more than a call that is laid out takes
        assert many.tolist() == 3 * case["tokens"]
