"""`python tools/gpu_check --adopt`: from the results of a run on a GPU to the file of proved kernels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qrnn.backends.cuda.choice import choose_plan
from qrnn.backends.cuda.proofs import document_of, kind_record, proofs_of, read_proofs
from qrnn.backends.cuda.records import as_json
from qrnn.backends.cuda.tuning import Tuning
from qrnn.errors import BackendError
from sweep.made_up import H100, OLD, document, folder_of, sweep_result

from gpu_check.adopt import adopt, command  # isort: skip
from gpu_check.sweep_jobs import Case  # isort: skip

EMPTY = as_json(document_of([]))


@pytest.fixture
def proved(tmp_path: Path) -> Path:
    path = tmp_path / "proved.json"
    path.write_bytes(EMPTY)
    return path


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return sweep_result(OLD.constants, most=200)


def test_one_run_promotes_kernels(tmp_path: Path, proved: Path, result: dict[str, Any]) -> None:
    """After it the fast kernel of a shape is chosen, where before it the general one was."""
    layout = Case("lstm", 256, 32, 1).layout
    assert choose_plan(layout, 32, H100, Tuning(proofs=proofs_of(read_proofs(proved)))).plan is None
    said = adopt(folder_of(tmp_path / "results", document(sweep=result, other={})), proved)
    (one,) = read_proofs(proved)
    assert (one.device, one.driver, one.date, one.revision) == (H100.name, "CUDA 13.0", "2026-01-31", "0123456")
    exact = {r["exact"] for r in result["kernels"]}
    assert len(one.cases) == sum(r["exact"] >= 2 for r in result["kernels"]) > 3
    assert max(exact) == max(one.cases.values())
    assert f"{len(one.cases)} kernels added, 0 taken out, {len(one.cases)} proved in all" in said
    choice = choose_plan(layout, 32, H100, Tuning(proofs=proofs_of(read_proofs(proved))))
    assert choice.plan is not None
    assert choice.why.endswith("proved")


def test_the_parts_are_added_up(tmp_path: Path, proved: Path, result: dict[str, Any]) -> None:
    """A kernel that is exact in one part and wrong in another is not promoted, and one that was promoted before is taken out."""
    adopt(folder_of(tmp_path / "results", document(sweep=result)), proved)
    bad = result["kernels"][0]
    assert bad["exact"] >= 2
    other = result | {"kernels": [bad | {"exact": 0, "wrong": 1}]}
    said = adopt(folder_of(tmp_path / "more", document(sweep=result, exactness=other)), proved)
    assert "0 kernels added, 1 taken out" in said
    assert "1 were wrong" in said
    assert all(kind_record(kind) != bad["kernel"] for kind in read_proofs(proved)[0].cases)


def _sweep(content: dict[str, Any]) -> Any:
    return content["parts"]["sweep"]["result"]


def _two(content: dict[str, Any]) -> None:
    result = _sweep(content)
    content["parts"]["other"] = {"result": result | {"evidence": result["evidence"] | {"device": "Another"}}}


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "dry": (lambda d: d.update(dry_run=True), "a dry run in the simulator tells nothing of a GPU"),
    "simulator": (lambda d: _sweep(d)["evidence"].update(device="CUDA simulator"), "ran in the simulator"),
    "code": (
        lambda d: _sweep(d)["evidence"].update(code="x"),
        "not those of this checkout; check out revision 0123456",
    ),
    "evidence": (lambda d: _sweep(d).pop("evidence"), "part sweep: evidence: None, expected an object"),
    "kernels": (lambda d: _sweep(d).pop("kernels"), "no part says which kernels ran"),
    "kernel": (lambda d: _sweep(d)["kernels"][0]["kernel"].update(barrier="fence"), "barrier is 'fence'"),
    "revision": (lambda d: d.update(revision=3), "revision is 3, expected a string"),
    "two": (_two, "another device or from other code"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_proves_nothing_is_refused(name: str, tmp_path: Path, proved: Path, result: dict[str, Any]) -> None:
    change, says = BROKEN[name]
    content = json.loads(json.dumps(document(sweep=result)))
    change(content)
    with pytest.raises(BackendError, match=says) as error:
        adopt(folder_of(tmp_path / "results", content), proved)
    assert "\n" not in str(error.value)
    assert proved.read_bytes() == EMPTY


def test_as_a_command(tmp_path: Path, proved: Path, result: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path / "results", document(sweep=result))
    assert command(lambda given: adopt(given, proved), folder) == 0
    assert "kernels added" in capsys.readouterr().out
    assert command(lambda given: adopt(given, proved), tmp_path / "nowhere") == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_no_folder(tmp_path: Path, proved: Path) -> None:
    with pytest.raises(BackendError, match="no such file"):
        adopt(tmp_path / "nowhere", proved)
