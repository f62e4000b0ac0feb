"""What the golden vectors of several files are checked by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arithmetic.test_cells import Register

from qrnn.backends.cpu.jit import for_python


def check_cases(golden: Any, document: dict[str, Any], table: list[int], name: str) -> None:
    """Check the cases of a function as Python, with nothing that leaves 64 bits, and compiled; ``table`` is what functions of it read."""
    compiled = {name: for_python(golden.FUNCTIONS[name])}
    array, registers = np.array(table, np.int32), [Register(v) for v in table]
    for *case, want in document["functions"][name]["cases"]:
        assert golden.result(name, case, table) == want
        assert golden.result(name, [Register(v) for v in case], registers) == want
        assert golden.result(name, case, array, compiled) == want


def check_names_what_differs(
    check: Any, text: str, folder: Path, capsys: pytest.CaptureFixture[str], says: tuple[str, ...]
) -> None:
    """Check that ``check`` says what differs in a file of this text, and refuses one that is not there."""
    changed = folder / "changed.json"
    changed.write_text(text, encoding="utf-8")
    assert check(changed) == 1
    error = capsys.readouterr().err
    for part in says:
        assert part in error
    assert check(folder / "absent.json") == 1
