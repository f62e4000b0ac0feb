"""Searches under budgets: what is found meets them, nothing tried is better, and what cannot be met is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import qrnn
from qrnn.devices import find_toolchain
from qrnn.devices.measure import Needs
from qrnn.errors import DataError, DeviceError
from qrnn.lab.axes import label
from qrnn.lab.budgets import Budgets, parse_amount
from qrnn.lab.moves import Space, gates_of, moves, space, with_gates
from qrnn.lab.tune import tune
from qrnn.quantization.choices import Choice
from qrnn.quantization.scheme import Scheme
from qrnn.targets import Target, load_target


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("65536", "bytes", 65536),
        ("64K", "bytes", 65536),
        ("64 KiB", "bytes", 65536),
        ("1.5m", "bytes", 1572864),
        ("200k", "instructions", 200_000),
        ("1.5M", "instructions", 1_500_000),
    ],
)
def test_amounts(text: str, kind: Any, expected: int) -> None:
    assert parse_amount("--flash", text, kind) == expected


@pytest.mark.parametrize(
    ("text", "kind"), [("64Q", "bytes"), ("-1", "bytes"), ("", "bytes"), ("0", "bytes"), ("2KB", "instructions")]
)
def test_amounts_refused(text: str, kind: Any) -> None:
    with pytest.raises(DataError, match="--flash="):
        parse_amount("--flash", text, kind)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "at least one of --max-accuracy-drop"),
        ({"flash": 100}, "at least one of --max-accuracy-drop"),
        ({"min_sqnr": float("nan")}, "--min-sqnr=nan"),
        ({"min_agreement": 101.0}, "0 to 100"),
        ({"min_sqnr": 30.0, "flash": 0}, "--flash=0"),
    ],
)
def test_budgets_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Budgets(**values)


def test_moves(files: Path) -> None:
    """Gates by themselves and together, widths, all different, each a single change; and texts that say the same as before."""
    found_space = space(qrnn.load_onnx(files / "model.onnx"))
    kinds = found_space.kinds
    assert kinds == {"reset": "sigmoid", "update": "sigmoid", "candidate": "tanh"}
    for text in ("pwl:128", "step", "hard:0.25,0.5,tanh=pwl:64", "sigmoid=hard,candidate=pwl:16", "hard"):
        scheme = Scheme(gates=text)
        gates = gates_of(scheme, kinds)
        assert gates_of(with_gates(scheme, gates), kinds) == gates
    assert gates_of(Scheme(gates="step"), kinds) == {"reset": "step", "update": "step", "candidate": "pwl:128"}
    found = dict(moves(Scheme(), found_space))
    assert len(found) == len(set(map(str, found)))
    assert "update=step" in set(map(str, found))
    assert "candidate=step" not in set(map(str, found))
    changed = {str(m): s for m, s in found.items()}
    assert changed["gates=pwl:16"] == Scheme(gates="pwl:16")
    assert changed["reset=hard"] == Scheme(gates="candidate=pwl:128,reset=hard,update=pwl:128")
    assert Scheme() not in found.values()


def test_moves_of_single_widths(files: Path) -> None:
    """Each part by itself, named only where it differs from the general width, and never wider than the target allows."""
    found_space = space(qrnn.load_onnx(files / "model.onnx"))
    gru = next(choice.key for choice in found_space.widths if choice.part == "R")[:-2]
    assert {choice.part for choice in found_space.widths} == {"h", "W", "R", "x"}

    def found(scheme: Scheme, space: Space = found_space) -> dict[str, Scheme]:
        return {str(move): changed for move, changed in moves(scheme, space)}

    assert found(Scheme())[f"{gru}.R=4"] == Scheme(widths={f"{gru}.R": 4})
    assert found(Scheme(widths={f"{gru}.R": 4}))[f"{gru}.R=8"] == Scheme()
    assert found(Scheme(weights=4))[f"{gru}.R=8"] == Scheme(weights=4, widths={f"{gru}.R": 8})
    assert "x=8" not in found(
        Scheme(input="8", activations=16), Space({}, (Choice("x", ("8", "16"), 1, 1),))
    )  # a source
    assert found(Scheme(), Space({}, (Choice("x", ("8", "16"), 1, 1),)))["x=16"] == Scheme(widths={"x": 16})
    narrow = found(Scheme(widest_operand=8))
    assert [name for name in narrow if name.endswith("=16")] == []
    assert set(found(Scheme())) - set(narrow) == {
        "activations=16", "input=16", "input=16-per-feature", f"{gru}.h=16", *(f"{c.key}=16" for c in found_space.widths if c.part == "x")
    }  # fmt: skip


@pytest.mark.parametrize("most", [20, pytest.param(45, marks=pytest.mark.matrix)])
def test_found_meets_the_budgets_and_is_the_cheapest_tried(
    files: Path, board: Target, calibration: Any, data: Any, most: int
) -> None:
    budgets = Budgets(max_accuracy_drop=1.1, min_sqnr=36.0, flash=64 * 1024)
    result = tune(files / "model.onnx", calibration, data, budgets, target=board, cheapest="flash", most=most)
    assert result.met
    assert result.figures["sqnr_db"] >= 36.0
    assert result.figures["accuracy_drop"] <= 1.1
    assert result.figures["flash_bytes"] < result.start["flash_bytes"]
    assert not result.counted
    model = qrnn.load_onnx(files / "model.onnx")
    made = qrnn.quantize(model, calibration, result.scheme, board.name)
    assert result.model.provenance.scheme == made.provenance.scheme
    report = qrnn.compare(model, made, data)
    assert report.outputs["logits"].sqnr_db == result.figures["sqnr_db"]
    assert result.tried <= most
    weights = next(s for s in result.sensitivity if s.change == "weights=4")
    assert weights.differences["sqnr_db"] is not None
    assert weights.differences["sqnr_db"] < -5


def test_the_same_search_finds_the_same(files: Path, board: Target, calibration: Any, data: Any) -> None:
    first, second = (
        tune(files / "model.onnx", calibration, data, Budgets(min_sqnr=30.0), target=board, most=3) for _ in range(2)
    )
    assert first.to_dict() == second.to_dict()
    text = repr(first)
    assert "meets every budget" in text
    assert len(text.split("\n")) <= 10
    assert f"{first.tried} configurations tried for board" in str(first)


@pytest.mark.matrix
def test_a_start_that_is_not_good_enough_is_mended(files: Path, calibration: Any, data: Any, tmp_path: Path) -> None:
    from lab.conftest import TARGET
    from qrnn.targets import read_target

    (tmp_path / "rough.toml").write_text(
        TARGET.replace('"board"', '"rough"').replace('gates = "pwl:128"', 'gates = "hard"\nweights = 4')
    )
    rough = read_target(tmp_path / "rough.toml")
    result = tune(files / "model.onnx", calibration, data, Budgets(min_sqnr=35.0), target=rough, most=60)
    assert result.start["sqnr_db"] < 25.0
    assert result.met


def test_what_cannot_be_met_is_said(files: Path, board: Target, calibration: Any, data: Any) -> None:
    def problems(budgets: Budgets) -> list[str]:
        found = tune(files / "model.onnx", calibration, data, budgets, target=board, most=5)
        assert not found.met
        return found.problems

    (alone,) = problems(Budgets(min_sqnr=30.0, flash=4096))
    assert "flash of 4,096 bytes cannot be met: the best found, whatever it costs, is" in alone
    assert "bytes above" in alone
    (sqnr,) = problems(Budgets(min_sqnr=90.0))
    assert "SQNR about the mean of 90.00 dB cannot be met" in sqnr
    assert "dB below" in sqnr


@pytest.mark.matrix
def test_what_cannot_be_met_together_is_said(files: Path, board: Target, calibration: Any, data: Any) -> None:
    start = tune(files / "model.onnx", calibration, data, Budgets(min_sqnr=0.0), target=board, most=12)
    budgets = Budgets(min_sqnr=start.start["sqnr_db"], flash=int(start.figures["flash_bytes"]))
    found = tune(files / "model.onnx", calibration, data, budgets, target=board, most=12)
    assert not found.met
    together = found.problems
    assert any("together with the other budgets" in p for p in together)


def test_refusals(files: Path, board: Target, calibration: Any, data: Any) -> None:
    bare = {"x": data["x"]}
    with pytest.raises(DataError, match="needs labels"):
        tune(files / "model.onnx", calibration, bare, Budgets(max_accuracy_drop=1.0), target=board)
    with pytest.raises(DataError, match="cheapest='price'"):
        tune(files / "model.onnx", calibration, data, Budgets(min_sqnr=1.0), target=board, cheapest="price")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="most=0"):
        tune(files / "model.onnx", calibration, data, Budgets(min_sqnr=1.0), target=board, most=0)
    costless = replace(board, cost=None)
    budgets = Budgets(min_sqnr=1.0, instructions=10.0)
    with pytest.raises(DeviceError, match="instructions on board are not known here"):
        tune(files / "model.onnx", calibration, data, budgets, target=costless, most=1)


def test_latency_can_be_what_is_cheapest(files: Path, board: Target, calibration: Any, data: Any) -> None:
    found = tune(
        files / "model.onnx", calibration, data, Budgets(min_sqnr=30.0), target=board, cheapest="latency", most=3
    )
    assert found.met
    assert found.figures["latency_us"] > 0


def test_changes_that_do_not_add_up(
    files: Path, board: Target, calibration: Any, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this device narrow weights save instructions, and so do wide operands, but both together cost more than either."""
    from qrnn.lab import trials

    def needs_of(setting: Any, quantized: Any, count: bool = True) -> tuple[Needs, None]:
        scheme = quantized.provenance.scheme
        narrow = scheme["weights"] == 4 or scheme.get("widths", {}).get("/gru/GRU.W") == "4"
        wide = scheme["activations"] == 16
        instructions = 1000.0 - 100 * narrow - 300 * wide + 900 * (narrow and wide)
        built = {"flash_bytes": 5000, "stack_bytes": 64, "instructions": instructions, "counted": True} if count else {}
        return Needs(setting.target, 8, 900, 64, 64, **built), None

    monkeypatch.setattr(trials, "device_needs", needs_of)
    found = tune(files / "model.onnx", calibration, data, Budgets(min_sqnr=20.0), target=board, most=40)
    assert found.counted
    assert found.figures["instructions"] == 700.0
    assert found.trials[0]["label"] == label(found.scheme)
    assert found.trials[0]["counted"]


@pytest.mark.matrix
def test_the_model_that_is_named_is_counted(files: Path, calibration: Any, data: Any) -> None:
    """With a compiler and an emulator, estimates never decide in the end."""
    target = load_target("cortex-m4")
    try:
        find_toolchain(target)
    except DeviceError as error:
        pytest.skip(str(error))
    budgets = Budgets(min_sqnr=30.0, flash=32768, ram=4096, instructions=50_000)
    found = tune(files / "model.onnx", calibration, data, budgets, target=target, most=2)
    if not found.counted:
        pytest.skip("instructions cannot be counted here")
    from qrnn.devices.fit import fit

    needs = fit(found.model, [target], 8, 0.01)[0].needs
    assert found.figures["instructions"] == needs.instructions
    assert found.figures["flash_bytes"] == needs.flash_bytes
    assert found.figures["ram_bytes"] == needs.ram_bytes
