"""Which kernels count as proved: the data file, how a run on a GPU changes it, and when a proof lapses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qrnn.backends.cuda import proofs
from qrnn.backends.cuda.kernel_variants import BLOCK, CELL_NAMES, GRID, Kind, ProductKind, StepKind
from qrnn.backends.cuda.proofs import (
    PROVED,
    DeviceProofs,
    Evidence,
    bare_code,
    code_digest,
    committed_proofs,
    document_of,
    kind_of,
    kind_record,
    promoted,
    proofs_of,
    read_proofs,
)
from qrnn.backends.cuda.records import as_json
from qrnn.errors import BackendError
from qrnn.model.cell_codes import LSTM, RNN

FAST = StepKind(LSTM, 4, 1, 2, GRID, True, 0, (9, 0))
OTHER = replace(FAST, barrier=BLOCK)
PRODUCT = ProductKind(2, True, (9, 0))
RUN = DeviceProofs("Made-up H100", (9, 0), "CUDA 13.0", "2026-01-31", "0123456", code_digest(), {})
PAGES = Path(__file__).parents[3]
SENTENCE = "It has never run on a GPU"


def evidence(exact: dict[Kind, int], wrong: dict[Kind, int] | None = None) -> Evidence:
    return Evidence(dict(exact), dict(wrong or {}))


def test_the_recorded_proofs_can_be_read() -> None:
    assert committed_proofs() == proofs_of(read_proofs())


def test_the_pages_say_whether_any_kernel_is_proved() -> None:
    """README and docs/cuda.md call the backend experimental as long as nothing is recorded, and not for longer."""
    for page in ("README.md", "docs/cuda.md"):
        text = " ".join((PAGES / page).read_text(encoding="utf-8").split())
        assert (SENTENCE in text) == (not read_proofs()), f"{page} and {PROVED.name} disagree"
        assert "experimental" in text


@pytest.mark.parametrize(
    "kind", [FAST, OTHER, replace(FAST, cell=RNN, gates=1, operand_bytes=2, dp4a_sequences=2, tiles=1), PRODUCT]
)
def test_kinds_go_to_json_and_back(kind: Kind) -> None:
    assert kind_of("here", json.loads(json.dumps(kind_record(kind))), kind.capability) == kind
    assert "compute capability 9.0" in kind.name


def test_every_cell_has_a_name() -> None:
    assert len(set(CELL_NAMES.values())) == 4


def test_a_run_promotes_what_was_exact_often_enough() -> None:
    after = promoted([], evidence({FAST: 2, OTHER: 1, PRODUCT: 9}), RUN)
    assert [dict(one.cases) for one in after] == [{FAST: 2, PRODUCT: 9}]
    assert FAST in proofs_of(after)
    assert OTHER not in proofs_of(after)


def test_one_wrong_run_is_enough_to_stay_out() -> None:
    assert promoted([], evidence({FAST: 1000}, {FAST: 1}), RUN) == []


def test_a_wrong_run_takes_a_kernel_out_of_every_entry_of_its_capability() -> None:
    elsewhere = replace(RUN, device="Another H100", cases={FAST: 5, OTHER: 5})
    alone = replace(RUN, device="A third", driver="CUDA 12.9", cases={FAST: 5})
    older = replace(RUN, device="A100", capability=(8, 0), cases={replace(FAST, capability=(8, 0)): 5})
    after = promoted([elsewhere, alone, older], evidence({PRODUCT: 2}, {FAST: 1}), RUN)
    assert [one.device for one in after] == ["Another H100", "A100", "Made-up H100"]
    assert [set(one.cases) for one in after] == [{OTHER}, {replace(FAST, capability=(8, 0))}, {PRODUCT}]


def test_a_second_run_of_the_same_device_joins_the_first() -> None:
    first = promoted([], evidence({FAST: 2}), RUN)
    after = promoted(first, evidence({OTHER: 3}), replace(RUN, date="2026-02-01"))
    assert [(one.date, set(one.cases)) for one in after] == [("2026-02-01", {FAST, OTHER})]


def test_kernels_of_another_capability_are_not_promoted() -> None:
    assert promoted([], evidence({replace(FAST, capability=(8, 0)): 9}), RUN) == []


def test_a_proof_lapses_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    after = promoted([], evidence({FAST: 2}), RUN)
    monkeypatch.setattr(proofs, "code_digest", lambda: "another code")
    found = proofs_of(after)
    assert FAST not in found
    assert found.lapsed == {FAST}


def test_the_file_goes_to_json_and_back(tmp_path: Path) -> None:
    path = tmp_path / "proved.json"
    after = promoted([], evidence({FAST: 2, PRODUCT: 3}), RUN)
    path.write_bytes(as_json(document_of(after)))
    assert read_proofs(path) == after


def one_entry() -> dict[str, Any]:
    return json.loads(as_json(document_of(promoted([], evidence({FAST: 2, PRODUCT: 3}), RUN))))  # type: ignore[no-any-return]


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "schema": (lambda d: d.update(schema=2), "schema is 2, expected 1"),
    "key": (lambda d: d.update(more=1), "'more' is unknown"),
    "missing": (lambda d: d["devices"][0].pop("driver"), r"devices\[0\]: 'driver' is missing"),
    "date": (lambda d: d["devices"][0].update(date="today"), "date is 'today', expected a date"),
    "capability": (lambda d: d["devices"][0].update(capability=[9]), r"capability is \[9\], expected two whole numbers"),
    "cell": (lambda d: d["devices"][0]["kernels"][0]["kernel"].update(cell="cfc"), "cell is 'cfc', expected one of lstm"),
    "truth": (lambda d: d["devices"][0]["kernels"][0]["kernel"].update(tiles=True), "tiles is True, expected int"),
    "tiles": (lambda d: d["devices"][0]["kernels"][0]["kernel"].update(tiles=3), "tiles is 3, expected one of 1, 2, 4"),
    "bytes": (lambda d: d["devices"][0]["kernels"][1]["kernel"].update(operand_bytes=4), "operand_bytes is 4, expected 1 or 2"),
    "cases": (lambda d: d["devices"][0]["kernels"][0].update(cases=1), "cases is 1, expected at least 2"),
    "twice": (lambda d: d["devices"][0]["kernels"].append(d["devices"][0]["kernels"][0]), "stands there twice"),
    "list": (lambda d: d.update(devices={}), r"devices is {}, expected list"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    change, says = BROKEN[name]
    document, path = one_entry(), tmp_path / "proved.json"
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(BackendError, match=says) as error:
        read_proofs(path)
    assert "\n" not in str(error.value)
    assert "proved.json" in str(error.value)


NO_FILES = {
    "none": (None, "no such file"),
    "half": (b"{", "not JSON"),
    "text": (b"\xff", "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "list": (b"[]", "expected an object"),
}


@pytest.mark.parametrize(("content", "says"), NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_such_file_is_refused(content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "proved.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BackendError, match=says) as error:
        read_proofs(path)
    assert "\n" not in str(error.value)


def test_the_digest_is_of_code_alone() -> None:
    """Comments, docstrings, spaces and blank lines do not count; everything else does, in the same way for every Python."""
    one = 'def f(a):\n    """Says."""\n    # why\n    return a + 1\n\n\nX = 1\n"""What it is."""\n'
    two = 'def f(a):  # why not\n\n    "Other words."\n    return a+1\nX = 1\n'
    assert bare_code(one) == bare_code(two) == "0:deff(a):\n1:returna+1\n0:X=1"
    for old, new in (
        ("+ 1", "+ 2"),
        ("X = 1", "X = 'a'"),
        ("X = 1", "X = 1; Y = 1"),
        ("a + 1\n\n\n", "a + 1\n\n\n    "),
    ):
        assert bare_code(one.replace(old, new).replace('    X = 1\n"""What it is."""', "    X = 1")) != bare_code(one)
    assert bare_code('x = f"{a + 1} of {b if c else d!r}"\n') == '0:x=f"{a+1}of{bifcelsed!r}"'
    assert len(code_digest()) == 16


def test_every_file_of_the_digest_exists() -> None:
    root = Path(proofs.__file__).parents[2]
    for name in proofs.KERNEL_CODE:
        assert (root / name).exists(), name


def test_evidence_goes_to_json_and_back() -> None:
    first = Evidence()
    for kind, exact in ((FAST, True), (FAST, True), (FAST, False), (PRODUCT, True)):
        first.add(kind, exact)
    second = Evidence()
    for _ in range(2):
        second.add_records("here", json.loads(json.dumps(first.records())))
    assert second == Evidence({FAST: 4, PRODUCT: 2}, {FAST: 2})
    with pytest.raises(BackendError, match=r"here\[0\]: exact is -1, expected at least 0"):
        second.add_records("here", [first.records()[0] | {"exact": -1}])
    with pytest.raises(BackendError, match="here: expected a list"):
        second.add_records("here", None)
