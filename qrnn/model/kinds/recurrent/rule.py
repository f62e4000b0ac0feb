"""The rule by which a recurrent layer is quantized: formats of its gate functions, states, matrices, peepholes and projection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic.reals import round_half_up
from qrnn.errors import QuantizationError
from qrnn.model.activation import Activation
from qrnn.model.boundary import to_integers
from qrnn.model.formats import fraction_bits
from qrnn.model.kinds.recurrent.cell import largest_value
from qrnn.model.kinds.recurrent.definition import GATE_ROLE, Direction, InitialState, Projection, RecurrentDefinition
from qrnn.model.kinds.recurrent.direction import Norm, Norms
from qrnn.model.kinds.recurrent.quantized import (
    C_FRAC_MAX,
    PEEPHOLE_SHIFT_MAX,
    QuantDirection,
    QuantNorm,
    QuantNorms,
    QuantPeephole,
    QuantProjection,
    group_fracs,
)
from qrnn.model.kinds.recurrent.quantized_layer import QuantRecurrent
from qrnn.model.kinds.recurrent.start import QuantStartPart, StartPart
from qrnn.model.norm_parameters import norm_parameters
from qrnn.model.parts import FloatArray, GateFunction, Int64Array, Operand, QuantInitialState
from qrnn.model.surroundings import Plan

NO_OPERAND = Operand(0, 127)
"""The operand of h in a layer that has no matrix of h: nothing is read by it."""


def quantize(
    plan: Plan, layer: RecurrentDefinition, kind: type[QuantRecurrent] = QuantRecurrent, **more: int
) -> QuantRecurrent:
    """Decide every format of ``layer`` and make its integers; QuantizationError names what does not fit.

    ``more`` has the fields of ``kind`` beside those of `QuantRecurrent`.
    """
    numbered = list(enumerate(layer.directions))
    functions = [_gate_functions(plan, layer, number, d) for number, d in numbered]
    c_frac = _cell_frac(plan, layer, functions)
    hidden_fracs = [_hidden_frac(plan, layer, number, functions[number]) for number, _ in numbered]
    h_frac = min(_state_frac(plan, layer, number, d, hidden_fracs[number]) for number, d in numbered)
    h_largest = max(_largest(plan, layer, number, "h") for number, _ in numbered)
    _check_fits(layer, "h", h_largest, h_frac, 15)
    reason = "bounded by its activation" if h_frac == 15 else f"|h| ≤ {h_largest:.3g} in calibration"
    plan.decide(f"{layer.name}: h int16 with {h_frac} fraction bits ({reason})")
    for tensor in layer.outputs[:2]:
        plan.set_format(tensor, h_frac)
    for tensor in layer.outputs[2:]:
        plan.set_cells(tensor, c_frac)
    # r·h is read through the operand of h; with r in [0, 1] it is never the larger
    h_bits = plan.width(layer.name, "h")
    observed = max(
        plan.observed(f"{layer.name}[{number}].{read}", h_bits)
        for number, _ in numbered
        for read in ("h", "h_0", "reset_h")
    )
    x_bits = plan.width(layer.name, "x")
    # Operands of 8 bits fit whatever the rows are.
    x_rows = (
        max(plan.row_sum(d.weight_ih, plan.width(layer.name, "W")) for d in layer.directions) if x_bits == 16 else 0.0
    )
    x_operand = plan.operand(layer.input, plan.observed(layer.input, x_bits), x_rows, x_bits)
    matrices = [d.weight_hh for d in layer.directions if d.weight_hh is not None]
    h_operand = NO_OPERAND
    if matrices:
        h_rows = max(plan.row_sum(m, plan.width(layer.name, "R")) for m in matrices) if h_bits == 16 else 0.0
        h_operand = plan.narrowing(h_frac, observed, h_rows, h_bits)
        plan.decide(
            f"{layer.name}: h operand within ±{h_operand.limit} after a shift of {h_operand.shift} (|h| ≤ {observed:.3g})"
        )
    directions = []
    for number, d in numbered:
        owner = f"{layer.name}[{number}]"
        hidden_frac = hidden_fracs[number] if d.projection is not None else h_frac
        projection = None
        if d.projection is not None:
            projection = _projection(plan, owner, d.projection, hidden_frac, h_frac, h_bits)
        directions.append(
            _direction(plan, layer, owner, d, functions[number], (x_operand, h_operand), h_frac, c_frac, projection)
        )
    return kind(
        name=layer.name,
        cell=layer.cell,
        input=layer.input,
        output=layer.output,
        h_n=layer.h_n,
        c_n=layer.c_n,
        directions=tuple(directions),
        linear_before_reset=layer.linear_before_reset,
        h_frac=h_frac,
        c_frac=c_frac,
        x_operand=x_operand,
        h_operand=h_operand,
        forget=layer.forget,
        memory=layer.memory,
        h_start=_start(plan, layer, "h_0", layer.h_start, h_frac),
        c_start=_start(plan, layer, "c_0", layer.c_start, c_frac),
        **more,
    )


def _largest(plan: Plan, layer: RecurrentDefinition, number: int, state: str) -> float:
    """Return the largest magnitude of ``h`` or ``c`` of a direction in calibration, that of a computed initial state among it."""
    key = f"{layer.name}[{number}].{state}"
    computed = layer.h_start if state == "h" else layer.c_start
    return max(plan.largest(key), plan.largest(f"{key}_0")) if computed else plan.largest(key)


def _start(
    plan: Plan, layer: RecurrentDefinition, what: str, parts: tuple[StartPart, ...], frac: int
) -> tuple[QuantStartPart, ...]:
    """Return the parts of an initial state of ``frac`` fraction bits, with the shifts from the formats of the tensors that they read."""
    found = []
    for part in parts:
        by = plan.begin_frac(part.tensor, layer.name) - frac
        plan.decide(
            f"{layer.name}: {what} reads {part.tensor}, {abs(by)} bits {'finer' if by > 0 else 'coarser'}"
            if by
            else f"{layer.name}: {what} reads {part.tensor} as it is"
        )
        indices, positions = part.indices.astype(np.int64), part.positions.astype(np.int64)
        found.append(QuantStartPart(part.tensor, indices, positions, max(0, -by), max(0, by)))
    return tuple(found)


def _check_fits(layer: RecurrentDefinition, state: str, largest: float, frac: int, bits: int) -> None:
    """Refuse a state whose calibrated values its integers cannot hold, since it would be clamped at every step."""
    if largest * 2.0**frac > 2.0**bits:
        raise QuantizationError(
            f"layer {layer.name!r}: |{state}| reaches {largest:.4g} in calibration, beyond {2.0 ** (bits - frac):.4g}, the most that its "
            f"{bits + 1} bits hold; scale the inputs or weights down, or calibrate on shorter sequences"
        )


def _gate_functions(plan: Plan, layer: RecurrentDefinition, number: int, d: Direction) -> dict[str, GateFunction]:
    """Return the gate functions of one direction, by role."""
    functions = {}
    for role in layer.roles:
        activation = d.activations[GATE_ROLE[role]]
        in_frac = _in_frac(plan, layer, f"{layer.name}[{number}]", role, activation, d.projection is not None)
        clip = None if role == "output" else layer.clip  # the cell is not clipped; see `Recurrent`
        functions[role] = plan.gate_function(role, activation, in_frac, clip)
    if not layer.update_keeps:  # h' = (1 - z)·h + z·n: the same as z·h + (1 - z)·n with 1 - z for z
        functions["z"] = plan.complement(functions["z"])
    return functions


def _in_frac(
    plan: Plan, layer: RecurrentDefinition, key: str, role: str, activation: Activation, projected: bool
) -> int | None:
    """Return the fraction bits of a function's argument, from calibration; None where the function itself says them."""
    if not plan.needs_input_range(activation):
        return None
    if role == "output":
        normal = layer.directions[0].norms is not None and layer.directions[0].norms.cell is not None
        return fraction_bits(plan.largest(f"{key}.pre_output" if normal else f"{key}.c"), 15)
    if activation.kind in ("relu", "thresholded_relu"):  # what they cut off may saturate
        quantity = layer.declaration.value_of(role, projected)
    else:
        quantity = f"pre_{role}"
    largest = plan.largest(f"{key}.{quantity}")
    return fraction_bits(largest if layer.clip is None else min(largest, layer.clip), 15)


def _cell_frac(plan: Plan, layer: RecurrentDefinition, functions: list[dict[str, GateFunction]]) -> int:
    """Return the fraction bits of c, with which four times the largest value seen fits.

    They are no finer than those of i·g, and no coarser than those of the output function's input.
    """
    if layer.declaration.cell_product is None:
        return C_FRAC_MAX
    factors = layer.declaration.cell_product
    largest = max(_largest(plan, layer, number, "c") for number in range(len(functions)))
    # A cell that is normalized before its output function is read in the format of its normalization.
    plain = [f for f, d in zip(functions, layer.directions, strict=True) if d.norms is None or d.norms.cell is None]
    least = max((f["output"].in_frac for f in plain), default=0)
    most = min(C_FRAC_MAX, *(sum(f[factor].out_frac for factor in factors) for f in functions))
    if most < least:
        raise QuantizationError(
            f"layer {layer.name!r}: {'·'.join(factors)} reaches values of which {most} fraction bits are left, but "
            f"{layer.directions[0].activations['output']} of the cell needs {least}; scale the weights of {' and '.join(factors)} down"
        )
    c_frac = fraction_bits(largest, most, least, headroom=4.0, width=32)
    _check_fits(layer, "c", largest, c_frac, 31)
    plan.decide(f"{layer.name}: c int32 with {c_frac} fraction bits (|c| ≤ {largest:.3g} in calibration)")
    return c_frac


def _hidden_frac(plan: Plan, layer: RecurrentDefinition, number: int, functions: dict[str, GateFunction]) -> int:
    """Return the fraction bits of h before a projection: 15 where its functions bound it by 1, else twice the largest seen fits."""
    bounds = layer.declaration.state_bounds(functions)
    key = f"{layer.name}[{number}]"
    projected = layer.directions[number].projection is not None
    largest = plan.largest(f"{key}.hidden") if projected else _largest(plan, layer, number, "h")
    if bounds.bounded and largest <= 1.0:  # an initial state may lie beyond 1
        return min(15, bounds.most)
    return min(fraction_bits(largest, 15), bounds.most)


def _state_frac(plan: Plan, layer: RecurrentDefinition, number: int, d: Direction, hidden_frac: int) -> int:
    """Return the fraction bits of what is fed back, which is h or what the projection makes of it."""
    if d.projection is None:
        return hidden_frac
    most = 14 if d.projection.function == "softmax" else 15
    largest = _largest(plan, layer, number, "h")
    if isinstance(d.projection.function, Activation):
        function = _projection_function(plan, f"{layer.name}[{number}]", d.projection.function)
        if largest_value(function) <= 1 and largest <= 1.0:
            return min(15, function.out_frac)
        most = function.out_frac
    return min(fraction_bits(largest, 15), most)


def _projection_function(plan: Plan, owner: str, activation: Activation) -> GateFunction:
    in_frac = None
    if plan.needs_input_range(activation):
        in_frac = fraction_bits(plan.largest(f"{owner}.pre_s"), 15)
    return plan.gate_function("head", activation, in_frac)


def _projection(plan: Plan, owner: str, p: Projection, hidden_frac: int, h_frac: int, bits: int) -> QuantProjection:
    """Return the integers of a projection, whose matrix reads h in the same ``bits`` as the matrix that reads the state."""
    function = _projection_function(plan, owner, p.function) if isinstance(p.function, Activation) else None
    softmax = p.function == "softmax"
    if function is not None:
        in_frac = function.in_frac
    else:
        in_frac = fraction_bits(plan.largest(f"{owner}.pre_s"), 15) if softmax else h_frac
    operand = plan.narrowing(hidden_frac, plan.observed(f"{owner}.hidden", bits), plan.row_sum(p.weight), bits)
    weight = p.weight * 2.0 ** (operand.shift - hidden_frac)
    fracs = np.full(len(weight), in_frac, np.int64)
    pre_shift = plan.pre_shift(f"{owner}.projection", weight, p.bias, fracs, operand.limit)
    plan.note_shift(f"{owner}.projection", pre_shift)
    matrix = plan.matrix(weight, p.bias, fracs, pre_shift, operand.limit)
    table = plan.exp_table() if softmax else None
    return QuantProjection(matrix, pre_shift, operand, hidden_frac, in_frac, function, table)


def _direction(
    plan: Plan,
    layer: RecurrentDefinition,
    owner: str,
    d: Direction,
    functions: dict[str, GateFunction],
    operands: tuple[Operand, Operand],
    h_frac: int,
    c_frac: int,
    projection: QuantProjection | None,
) -> QuantDirection:
    x_operand, h_operand = operands
    gate_fracs = np.repeat([functions[gate].in_frac for gate in layer.gates], layer.hidden_size).astype(np.int64)
    norms = None if d.norms is None else _norms(plan, owner, d.norms, gate_fracs, c_frac, functions)
    fracs = fracs_hh = gate_fracs
    if norms is not None:
        fracs = group_fracs(norms.sums)
        fracs_hh = group_fracs(norms.recurrent) if norms.recurrent else fracs
    weight_ih = d.weight_ih * plan.unit(layer.input, x_operand)
    d = replace(d, bias_ih=d.bias_ih + plan.fold(layer.input, d.weight_ih))
    weight_hh = None if d.weight_hh is None else d.weight_hh * 2.0 ** (h_operand.shift - h_frac)
    bias_ih, bias_hh = _split_bias(plan, layer, d, weight_ih, weight_hh)
    w_bits, r_bits = plan.width(layer.name, "W"), plan.width(layer.name, "R")
    pre_shift = plan.pre_shift(f"{owner}.weight_ih", weight_ih, bias_ih, fracs, x_operand.limit, w_bits)
    if weight_hh is not None:
        of_hh = plan.pre_shift(f"{owner}.weight_hh", weight_hh, bias_hh, fracs_hh, h_operand.limit, r_bits)
        pre_shift = np.maximum(pre_shift, of_hh)
    plan.note_shift(owner, pre_shift)
    plan.note_bias(f"{owner}.weight_ih", weight_ih, bias_ih, w_bits)
    ih, hh = plan.matrix_of(w_bits, weight_ih, bias_ih, fracs, pre_shift, x_operand.limit), None
    if weight_hh is not None:
        plan.note_bias(f"{owner}.weight_hh", weight_hh, bias_hh, r_bits)
        hh = plan.matrix_of(r_bits, weight_hh, bias_hh, fracs_hh, pre_shift, h_operand.limit)
    out_frac = fracs - pre_shift
    return QuantDirection(
        reverse=d.reverse,
        ih=ih,
        hh=hh,
        pre_shift=pre_shift,
        gates=tuple(functions[role] for role in layer.roles),
        h_0=_initial_state(d.h_0, h_frac, 32767),
        c_0=None if d.c_0 is None else _initial_state(d.c_0, c_frac, (1 << 31) - 1),
        peephole=None if d.peephole is None else _mantissas(owner, "peephole", d.peephole, c_frac, out_frac),
        projection=projection,
        diagonal=None if d.diagonal is None else _mantissas(owner, "diagonal", d.diagonal, h_frac, out_frac),
        norms=norms,
    )


def _norms(
    plan: Plan, owner: str, norms: Norms, gate_fracs: Int64Array, c_frac: int, functions: dict[str, GateFunction]
) -> QuantNorms:
    """Return the integers of what a direction normalizes.

    Each group is read with the fraction bits that leave twice its largest number in calibration within int16. Where W·x and R·h are normalized
    apart, what either gives has these bits too, and is shifted to the gates' formats when the two are added.
    """
    shift = 0
    if norms.recurrent is not None:
        parts = (("sum", norms.sums), ("recurrent_sum", norms.recurrent))
        names = [f"{owner}.normal_{what}_{group}" for what, norm in parts for group in range(len(norm.groups))]
        shift = max(0, int(gate_fracs.max()) - fraction_bits(max(plan.largest(name) for name in names), 15))

    def groups_of(what: str, norm: Norm) -> tuple[QuantNorm, ...]:
        found = []
        for group, rows in enumerate(norm.slices):
            in_frac = fraction_bits(plan.largest(f"{owner}.{what}_{group}"), 15)
            found.append(_norm(plan, f"{owner}.{what}_{group}", norm, rows, in_frac, gate_fracs[rows] - shift))
        return tuple(found)

    cell = None
    if norms.cell is not None:
        in_frac, rows = fraction_bits(plan.largest(f"{owner}.c"), min(15, c_frac)), norms.cell.slices[0]
        out_fracs = np.full(len(norms.cell.gain), functions["output"].in_frac, np.int64)
        cell = _norm(plan, f"{owner}.c", norms.cell, rows, in_frac, out_fracs)
    recurrent = () if norms.recurrent is None else groups_of("recurrent_sum", norms.recurrent)
    return QuantNorms(groups_of("sum", norms.sums), recurrent, cell, shift)


def _norm(plan: Plan, where: str, norm: Norm, rows: slice, in_frac: int, out_fracs: Int64Array) -> QuantNorm:
    plan.decide(f"{where}: normalized from int16 with {in_frac} fraction bits")
    made = norm_parameters(f"{where} (normalized)", norm.gain[rows], norm.bias[rows], norm.epsilon, in_frac, out_fracs)
    return QuantNorm(made, in_frac)


def _mantissas(owner: str, what: str, weight: FloatArray, frac: int, out_frac: Int64Array) -> QuantPeephole:
    """Return ``weight`` [R] as int16 mantissas, each with the most bits it can have, and the shifts of the rows.

    A shift goes from a state's format, with ``frac`` fraction bits, to the row's, with out_frac [R].
    """
    _, exponent = np.frexp(np.maximum(np.abs(weight), 2.0**-60))
    weight_frac = np.minimum(15 - exponent, PEEPHOLE_SHIFT_MAX + out_frac - frac)
    shift = frac + weight_frac - out_frac
    if (shift < 0).any():
        row = int(np.argmax(shift < 0))
        raise QuantizationError(
            f"{owner}, row {row}: {what} weight {weight[row]:.3g} is too large for 16 bits; scale it down"
        )
    integers = np.clip(round_half_up(weight * 2.0**weight_frac), -32767, 32767)
    return QuantPeephole(integers.astype(np.int16), shift.astype(np.int8))


def _split_bias(
    plan: Plan, layer: RecurrentDefinition, d: Direction, weight_ih: FloatArray, weight_hh: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Return the biases as each matvec adds them.

    They are summed and given to one accumulator, `_takes_bias`; what does not fit there goes to the other one. What is normalized or
    multiplied before the two are added, such as the candidate of a GRU with linear_before_reset = 1, keeps its own.
    """
    if d.norms is not None and d.norms.recurrent is not None:
        return d.bias_ih, d.bias_hh
    total = d.bias_ih + d.bias_hh
    if weight_hh is None:
        return total, np.zeros_like(total)
    ih_bits, hh_bits = plan.width(layer.name, "W"), plan.width(layer.name, "R")
    most_ih, most_hh = plan.largest_bias(weight_ih, ih_bits), plan.largest_bias(weight_hh, hh_bits)
    to_ih = _takes_bias(most_ih, most_hh)
    most = np.where(to_ih, most_ih, most_hh)
    finer = np.clip(total, -most, most)
    bias_ih, bias_hh = np.where(to_ih, finer, total - finer), np.where(to_ih, total - finer, finer)
    for gate in layer.declaration.apart(layer):
        first = layer.gates.index(gate) * layer.hidden_size
        rows = slice(first, first + layer.hidden_size)
        bias_ih[rows], bias_hh[rows] = d.bias_ih[rows], d.bias_hh[rows]
    return bias_ih, bias_hh


COARSEST = 8.0
"""How many times coarser than the other accumulator the one may be, in any row, that takes all biases."""


def _takes_bias(most_ih: FloatArray, most_hh: FloatArray) -> npt.NDArray[np.bool_]:
    """Return whether the accumulator of W·x takes the bias, for each row, from the largest biases that both take.

    All rows go to the accumulator that is finer for most of them, since a matrix without biases needs no room for them in the exported C. Where
    that one is much coarser for some row, each row's bias goes to the finer.
    """
    finer: npt.NDArray[np.bool_] = most_ih <= most_hh
    all_ih = 2 * np.count_nonzero(finer) >= len(finer)
    chosen, other = (most_ih, most_hh) if all_ih else (most_hh, most_ih)
    return np.full_like(finer, all_ih) if np.all(chosen <= COARSEST * other) else finer


def _initial_state(state: InitialState, frac: int, limit: int) -> QuantInitialState:
    value = to_integers(state.value, 2.0**-frac, limit).astype(np.int32)
    indices: Int64Array | None = None if state.indices is None else state.indices.astype(np.int64)
    return QuantInitialState(value, state.source, indices)
