"""No gate function leaves the vectors, whatever its kind, role and cell: by what engines choose and by the code that is emitted."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any, get_args
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir
from models import ROLE_ACTIVATIONS, Shape

from backends.conftest import FUNCTION_VARIANTS_OF
from backends.generators import GATES, QUIET, Case, activations, assert_equal, integers, quantized_or_refused
from backends.raw_layers import raw_model
from backends.test_isas import FUSED_ISAS, check_raw
from qrnn.backends import create_engine
from qrnn.backends.cpu import functions, packed
from qrnn.backends.cpu.engine import CpuEngine
from qrnn.backends.cpu.isa import ISAS, available_isas, choose_isa, load, store
from qrnn.backends.cpu.parts import I64, INT16_LANES
from qrnn.backends.cpu.steps import EITHER, UNIT
from qrnn.backends.cpu.table import Lookup
from qrnn.backends.cpu.vector import INT16, Vec
from qrnn.errors import QuantizationError
from qrnn.model.activation import Activation, ActivationKind
from qrnn.model.kinds.recurrent.definition import Forget
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.gate_choice import SEGMENTS
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

CHOICES = (*GATES, *(f"pwl:{n}" for n in SEGMENTS), "sigmoid=step,tanh=pwl:1024", "sigmoid=pwl:64,tanh=hard")
FEW = settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)

SHAPES = {
    **{f"lstm {forget}": Shape("lstm", 3, 4, forget=forget) for forget in get_args(Forget)},
    "lstm peephole": Shape("lstm", 3, 4, peephole=0.3),
    "lstm clip": Shape("lstm", 3, 4, clip=1.5),
    "gru": Shape("gru", 3, 4),
    "gru reset before": Shape("gru", 3, 4, linear_before_reset=False),
    "gru update writes": Shape("gru", 3, 4, update_keeps=False),
    "rnn": Shape("rnn", 3, 4),
    "both directions": Shape("lstm", 3, 4, (False, True)),
}
"""Every cell but those with projections, whose products are plain loops."""


def models(shape: Shape) -> list[QuantModel]:
    """Models of a shape with every choice of gates, and with every activation of the float model in every role that takes it."""
    cases = [Case(shape, lengths=(5, 4), scheme=Scheme(gates=choice, input="8")) for choice in CHOICES]
    for role in ROLE_ACTIVATIONS[shape.cell]:
        for kind in get_args(ActivationKind):
            other = replace(shape, weight=0.2, activations={role: Activation(kind, 0.3, 0.4)})
            cases.append(Case(other, lengths=(5, 4)))  # two loops and a shape
    found = []
    for case in cases:
        with contextlib.suppress(QuantizationError):  # 1 - z is made of what lies in [0, 1] alone
            found.append(case.quantized())
    return found


@pytest.mark.wide(cover=False, keep=1)
@pytest.mark.skipif(not FUSED_ISAS, reason="this processor has no instruction set with fused steps")
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_gate_goes_by_fused_steps(shape: Shape) -> None:
    """Whatever the instruction set; where its lanes may have 16 bits, all usual gates are in those."""
    made = models(shape)
    assert len(made) > len(CHOICES)
    for name in FUSED_ISAS:
        isa = choose_isa(name)
        assert isa is not None
        for model in made:
            engine = create_engine("cpu", model, 1, name)
            assert isinstance(engine, CpuEngine)
            assert engine.plain_directions() == ()
            layer = model.recurrent_layers[0]
            _, variant = packed.kernel_variants_of(isa, layer, layer.directions[0], (8, 8))
            assert variant.lookup.has_int16_lanes == (isa.int16_lanes and packed.is_simple(layer, layer.directions[0]))


def test_what_goes_by_plain_loops_is_named() -> None:
    model = Case(Shape("lstm", 3, 4, projection=2), lengths=(5, 4)).quantized()
    for name in available_isas():
        engine = create_engine("cpu", model, 1, name)
        assert isinstance(engine, CpuEngine)
        assert engine.plain_directions() == ("layer0[0]",)


def emitted(emit: Any) -> list[Any]:
    """The instructions of a function that ``emit(builder, address, argument)`` fills."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64, I64]), "evaluate")
    builder = ir.IRBuilder(function.append_basic_block())
    emit(builder, *function.args)
    builder.ret_void()
    return [instruction for block in function.blocks for instruction in block.instructions]


ADDRESSES = {"add", "shl", "inttoptr", "load", "trunc", "br", "switch", "phi", "icmp", "ret void", "mul"}
"""What is done with addresses and counts, of which there is one for all lanes."""


def assert_vectors(instructions: list[Any], lanes: int) -> None:
    """Nothing is computed lane by lane, and nothing is called but LLVM's own functions of whole vectors."""
    wide = [i for i in instructions if isinstance(i.type, ir.VectorType)]
    assert {i.type.count for i in wide} <= {lanes // 4, lanes // 2, lanes, 2 * lanes}
    for instruction in instructions:
        assert instruction.opname != "extractelement", instruction
        if isinstance(instruction, ir.CallInstr):
            assert instruction.callee.name.startswith("llvm."), instruction
        elif isinstance(instruction.type, ir.IntType) and instruction.type.width in (16, 32):
            assert instruction.opname in ("load", "trunc"), instruction
        elif not isinstance(instruction.type, ir.VectorType):
            assert instruction.opname in ADDRESSES | {"store"}, instruction


LAYOUTS = sorted({(isa.with_int16_lanes() if narrow else isa).units for isa in ISAS for narrow in (False, True)})


@pytest.mark.parametrize("lanes", LAYOUTS)
@pytest.mark.parametrize("lookup", Lookup)
def test_every_kind_is_emitted_as_vectors(lookup: Lookup, lanes: int) -> None:
    """The switch has a case for each kind of the contract, and no case computes anything lane by lane."""
    if lookup.has_int16_lanes != (lanes == INT16_LANES):
        return

    def emit(builder: Any, record: Any, at: Any) -> None:
        function = functions.Function.packed(builder, record, lanes, lookup, None)
        kind = ir.VectorType(ir.IntType(16 if lanes == INT16_LANES else 32), lanes)
        x = Vec(builder, load(builder, at, kind), *INT16)
        for part in function(x, UNIT if lookup.has_int16_lanes else EITHER).parts:
            store(builder, part, at)

    instructions = emitted(emit)
    (switch,) = (i for i in instructions if i.opname == "switch")
    assert len(switch.cases) + 1 == len(functions.COLUMNS)
    assert_vectors(instructions, lanes)


@pytest.mark.parametrize("bits", [16, 32])
def test_rows_are_evaluated_as_vectors(bits: int) -> None:
    """What plain loops and pointwise layers call, on any processor."""
    instructions = emitted(lambda b, record, at: functions.emit_rows(b, bits, (record, at, at, at), at))
    assert sum(i.opname == "switch" for i in instructions) == 1
    assert_vectors(instructions, functions.LANES)


@st.composite
def gate_cases(draw: st.DrawFn) -> Case:
    """Any cell with any activation in any role: every kind of gate beside every other."""
    shape = draw(st.sampled_from(list(SHAPES.values())))
    roles = {
        role: draw(activations(get_args(ActivationKind)))
        for role in ROLE_ACTIVATIONS[shape.cell]
        if draw(st.booleans())
    }
    shape = replace(
        shape, hidden_size=draw(st.integers(1, 40)), weight=draw(st.sampled_from([0.05, 0.2])), activations=roles
    )
    sequences, steps = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    lengths = draw(st.lists(st.integers(0, steps), min_size=sequences, max_size=sequences).filter(any))
    scheme = Scheme(
        activations=draw(st.sampled_from([8, 16])), gates=draw(st.sampled_from(CHOICES[: len(GATES)])), input="8",
        weights=draw(st.sampled_from([8, 4])),
    )  # fmt: skip
    shape = replace(shape, states=draw(st.booleans()))
    return Case(
        shape, sequences=sequences, steps=steps, lengths=tuple(lengths), scheme=scheme, seed=draw(st.integers(0, 99))
    )


@pytest.mark.matrix
@FEW
@given(case=gate_cases())
def test_every_gate_beside_every_other(case: Case) -> None:
    """By the best instruction set; the others have `test_isas`."""
    model = quantized_or_refused(case)
    if model is not None:
        batch = case.batch(model)
        want, _ = integers(Session(model, "reference"), batch)
        for name in available_isas()[:1]:
            assert_equal(want, integers(Session(model, "cpu", 1, name), batch)[0])


def check_layer_of_integers(seed: int, isas: tuple[str, ...]) -> None:
    """Functions without bounds, peepholes, projections, forget gates that are not gates of their own, at the ends of their types."""
    rng = np.random.default_rng(seed)
    model = raw_model(rng)
    check_raw(model, rng, rng.integers(0, 7, int(rng.integers(1, 5))), isas)


@pytest.mark.shard_by("seed")
@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("seed", range(16))
def test_layers_of_integers_of_every_cell(seed: int) -> None:
    """By each instruction set in turn, as every kind of cell takes seconds to compile; `test_isas` has a long test of all."""
    check_layer_of_integers(seed, FUSED_ISAS[seed % max(1, len(FUSED_ISAS)) :][:1])


SPECIALIZED = [
    ("lstm", "step"),
    ("lstm", "forget=step,candidate=hard"),
    ("gru", "hard"),
    ("gru", "sigmoid=step,tanh=pwl:1024"),
    ("rnn", "hard"),
]


@pytest.mark.shard_by("number")
@pytest.mark.wide(cover=False, keep=1)
@pytest.mark.skipif(not FUSED_ISAS, reason="this processor has no instruction set with fused steps")
@pytest.mark.parametrize("number", range(len(SPECIALIZED)))
def test_steps_compiled_for_their_functions(number: int) -> None:
    """What sessions use, and other tests do without (`few_forms`); by each instruction set in turn. Runs of one sequence and of a group."""
    cell, gates = SPECIALIZED[number]
    name = FUSED_ISAS[number % len(FUSED_ISAS)]
    case = Case(Shape(cell, 3, 33, weight=3.0), sequences=3, lengths=(5, 4, 2), scheme=Scheme(gates=gates, input="8"))  # type: ignore[arg-type]
    model, x = case.quantized(), case.data()["x"]
    want = Session(model, "reference").run({"x": x}).outputs["y"]
    with mock.patch.object(packed, "function_variants_of", FUNCTION_VARIANTS_OF):
        layer, isa = model.recurrent_layers[0], choose_isa(name)
        assert isa is not None
        _, variant = packed.kernel_variants_of(isa, layer, layer.directions[0], (8, 8))
        assert variant.functions == tuple(map(functions.variant_of, layer.directions[0].gates))
        session = Session(model, "cpu", 1, name)
        np.testing.assert_array_equal(session.run({"x": x}).outputs["y"], want)
        np.testing.assert_array_equal(session.run({"x": x[1:2]}).outputs["y"], want[1:2])
        stream = session.stream(2)
        for t in range(5):
            np.testing.assert_array_equal(stream.step({"x": x[:2, t]})["y"], want[:2, t])
