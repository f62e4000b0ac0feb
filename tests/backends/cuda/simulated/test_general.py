"""What runs where no GPU has confirmed a kernel, which is the default: the general kernel and products by plain loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import Shape
from numba import cuda

from backends.cuda.simulated.test_arrays import assert_same, on_device
from backends.generators import Case, assert_equal, integers
from qrnn.arithmetic.fixedpoint import requantize
from qrnn.backends.cuda import plan
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.input_product import multiply_inputs
from qrnn.backends.cuda.intrinsics import SIMULATED
from qrnn.backends.cuda.kernel_variants import GRID, LAUNCH, Kind, ProductKind, StepKind
from qrnn.backends.cuda.kinds import recurrent
from qrnn.backends.cuda.plan import Layout, StepPlan
from qrnn.backends.cuda.proofs import Proofs, watched_kernels
from qrnn.backends.cuda.tuning import Tuning
from qrnn.backends.cuda.weights import MOST_COLUMNS, ProductWeights
from qrnn.errors import BackendError
from qrnn.model.parts import Operand, QuantMatrix
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

BOTH = (False, True)
DEFAULT = Tuning(proofs=Proofs())
SHAPES = {
    "lstm": Shape("lstm", 3, 9, BOTH),
    "coupled": Shape("lstm", 3, 5, (True,), forget="coupled", peephole=0.5, states=True),
    "one": Shape("lstm", 3, 4, forget="one"),
    "projection": Shape("lstm", 3, 4, BOTH, projection=6, projected="softmax"),
    "gru_after": Shape("gru", 3, 9, BOTH, layers=2),
    "gru_before": Shape("gru", 3, 9, BOTH, linear_before_reset=False, states=True),
    "rnn": Shape("rnn", 3, 34),
}


def case_of(name: str, activations: int, **changes: Any) -> Case:
    case = Case(
        SHAPES[name],
        "dense",
        sequences=4,
        steps=3,
        lengths=(3, 0, 2, 1),
        scheme=Scheme(activations, input=f"{activations}"),
    )
    return replace(case, **changes)


def launched(run: Callable[[], Any]) -> tuple[Any, list[Kind]]:
    """What a call gives, and the step kernels and products on the tensor cores that it launches."""
    seen: list[Kind] = []
    with watched_kernels(seen.append):
        return run(), seen


@pytest.mark.parametrize("activations", [8, 16])
@pytest.mark.parametrize("name", SHAPES)
def test_every_cell(name: str, activations: int) -> None:
    """Nothing that no GPU has confirmed is launched, with operands of h and x of either width."""
    case = case_of(name, activations)
    model = case.quantized()
    batch = case.batch(model)
    session = Session(model, "cuda", tuning=DEFAULT)
    (got, _), seen = launched(lambda: integers(session, batch))
    assert seen == []
    assert all(choice.plan is None for choice in session.engine.plans(4).values())  # type: ignore[attr-defined]
    assert_equal(integers(Session(model, "reference"), batch)[0], got)


def test_the_same_model_by_unproved_kernels() -> None:
    """What the test above leaves out is what a tuning asks for."""
    case = case_of("lstm", 8)
    model = case.quantized()
    batch = case.batch(model)
    session = Session(model, "cuda", tuning=Tuning(unproved=True))
    (got, _), seen = launched(lambda: integers(session, batch))
    assert {type(kind).__name__ for kind in seen} == {"StepKind", "ProductKind"}
    assert_equal(integers(Session(model, "reference"), batch)[0], got)


def test_by_default_no_recorded_proof_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's variable asks for unproved kernels where no tuning is given; other values of it are refused."""
    model = case_of("rnn", 8).quantized()
    monkeypatch.delenv("QRNN_CUDA_UNPROVED", raising=False)
    assert Session(model, "cuda").engine.on_device.tuning == Tuning()  # type: ignore[attr-defined]
    monkeypatch.setenv("QRNN_CUDA_UNPROVED", "1")
    assert Session(model, "cuda").engine.on_device.tuning == Tuning(unproved=True)  # type: ignore[attr-defined]
    assert Session(model, "cuda", tuning=DEFAULT).engine.on_device.tuning == DEFAULT  # type: ignore[attr-defined]
    monkeypatch.setenv("QRNN_CUDA_UNPROVED", "yes")
    with pytest.raises(BackendError, match="QRNN_CUDA_UNPROVED is 'yes', expected 1"):
        Session(model, "cuda")


@pytest.mark.parametrize("name", ["lstm", "projection", "gru_before"])
def test_large_batches_go_through_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large batch goes through in pieces of sequences, which bound scratch memory, and in pieces of steps, which bound W·x."""
    case = case_of(name, 8)
    model = case.quantized()
    batch = case.batch(model)
    layer = model.recurrent_layers[0]
    P, H = layer.output_size, layer.hidden_size
    rows = len(layer.gates) * H
    sequence_bytes = 2 * H + 8 * max(P, H) + 4 * max(rows, P)
    tuning = replace(DEFAULT, scratch_bytes=3 * sequence_bytes, input_bytes=1)
    grids = []
    configured = recurrent.configured

    def watched(declared: Any, grid: Any, *more: Any) -> Any:
        if declared is recurrent.run_general:
            grids.append(grid)
        return configured(declared, grid, *more)

    monkeypatch.setattr(recurrent, "configured", watched)
    got = integers(Session(model, "cuda", tuning=tuning), batch)[0]
    assert_equal(integers(Session(model, "reference"), batch)[0], got)
    assert grids == [3, 1] * 3 * len(layer.directions), "4 sequences, 3 steps"


def test_arrays_on_the_device() -> None:
    case = case_of("gru_after", 8)
    model, data = case.quantized(), case.data()
    want = Session(model, "reference").run(data, [3, 0, 2, 1])
    session = Session(model, "cuda", tuning=DEFAULT)
    got, seen = launched(lambda: session.run(on_device(data), [3, 0, 2, 1]))
    assert seen == []
    assert_same(got.outputs, want.outputs)


def grid_plan(layout: Layout, batch: int, device: Device) -> StepPlan:
    """A plan over several blocks with a grid's barrier, which the simulator does not have."""
    found = next(p for p in plan.plans(layout, batch, device) if p.kind.barrier == LAUNCH and p.kind.tiles == 1)
    return replace(found, kind=replace(found.kind, barrier=GRID))


@pytest.mark.skipif(not SIMULATED, reason="stands for a grid's kernel that the simulator does not have")
@pytest.mark.parametrize("unproved", [False, True])
def test_a_grid_that_cannot_meet(unproved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the device does not hold all blocks at once, a launch a step stands in for the barrier, if that kernel may run."""
    monkeypatch.setattr(recurrent, "most_blocks_that_meet", lambda *_: 1)
    monkeypatch.setattr(recurrent, "sized", lambda made, *_: made)
    case = case_of("rnn", 8)
    model = case.quantized()
    batch = case.batch(model)
    session = Session(model, "cuda", tuning=replace(DEFAULT, unproved=unproved, choose=grid_plan))
    (got, _), seen = launched(lambda: integers(session, batch))
    assert_equal(integers(Session(model, "reference"), batch)[0], got)
    assert {kind.barrier for kind in seen if isinstance(kind, StepKind)} == ({LAUNCH} if unproved else set())


def test_rows_that_are_too_long_for_the_tensor_cores() -> None:
    """The sum of the low bytes' products would leave 32 bits: plain loops run, whatever the tuning allows."""
    columns, limit = MOST_COLUMNS + 1, 32767
    weight = np.zeros((1, columns), np.int8)
    weight[0, :: columns // 200] = 127
    ones = np.ones(1, np.int32)
    matrix = QuantMatrix(weight, 5 * ones, (1 << 30) * ones, np.zeros(1, np.int8), limit)
    x = np.full((1, 1, columns), 32767, np.int16)
    weights = ProductWeights(matrix, np.zeros(1, np.int8), Operand(0, limit))
    args = cuda.to_device(x), cuda.to_device(np.ones(1, np.int64)), False, 0, 1
    product = ProductKind(2, False, (9, 0))
    got, seen = launched(lambda: multiply_inputs(weights, *args, product, Tuning(unproved=True)))
    assert seen == []
    total = int(weight.astype(np.int64).sum()) * 32767 + 5
    assert got.copy_to_host().tolist() == [[requantize(total, 1 << 30, 0)]]


def test_another_backends_tuning_is_refused() -> None:
    model = case_of("rnn", 8).quantized()
    for backend, expected, given in (
        ("reference", "leave it out", DEFAULT),
        ("cpu", "expected a qrnn.backends.cpu.tuning.Tuning", DEFAULT),
        ("cuda", "expected a qrnn.backends.cuda.tuning.Tuning", {"unproved": True}),
    ):
        with pytest.raises(BackendError, match=f"backend '{backend}' takes no such tuning; {expected}"):
            Session(model, backend, tuning=given)


def test_choices_say_why() -> None:
    for name, why in (("projection", "the step kernels take no projection"), ("lstm", "no GPU has confirmed it")):
        session = Session(case_of(name, 8).quantized(), "cuda", tuning=DEFAULT)
        for choice in session.engine.plans(1).values():  # type: ignore[attr-defined]
            assert why in choice.why
            assert str(choice).startswith("general kernel: ")


def test_a_tuned_engine_shares_the_parameters() -> None:
    model = case_of("lstm", 8).quantized()
    engine: Any = Session(model, "cuda", tuning=DEFAULT).engine
    other = engine.tuned(Tuning(unproved=True))
    assert other.on_device.directions is engine.on_device.directions
    assert all(choice.plan for choice in other.plans(2).values())
    assert not any(choice.plan for choice in engine.plans(2).values())
    x = np.zeros((2, 1, 3), np.int16)
    layer = model.recurrent_layers[0]
    state = np.zeros((2, 2, 9), np.int16), np.zeros((2, 2, 9), np.int32)
    for one in (engine, other):
        y, _ = one.recurrent(layer, x, state, np.array([1, 1]), None)
        want, _ = Session(model, "reference").engine.recurrent(layer, x, state, np.array([1, 1]), None)
        np.testing.assert_array_equal(y, want)
