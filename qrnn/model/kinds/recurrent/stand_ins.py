"""The parts of an integer recurrent layer, one by one, in the place of the float layer's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from qrnn.model.kinds.recurrent.definition import Direction, RecurrentDefinition
from qrnn.model.kinds.recurrent.direction import Norm, Norms
from qrnn.model.kinds.recurrent.quantized import QuantDirection, QuantNorm, QuantPeephole, QuantRecurrentDefinition
from qrnn.model.layer_facts import Chosen, Part, StandIns, row_scale
from qrnn.model.norm_parameters import norm_worth
from qrnn.model.parts import CELL_MAX, STATE_MAX, FloatArray, Int8Array, Int64Array, TensorFormat


def quantized_parts(layer: QuantRecurrentDefinition) -> tuple[Part, ...]:
    """Return every part of a layer: the operand of x, and then each direction's own."""
    found = [Part(layer.name, "x operand")]
    for key, d in zip(layer.keys, layer.directions, strict=True):
        found += _direction_parts(layer, key, d)
    return tuple(found)


def _direction_parts(layer: QuantRecurrentDefinition, key: str, d: QuantDirection) -> Iterator[Part]:
    recurrent = d.hh is not None or d.diagonal is not None
    for kind in ("input weights", *(("recurrent weights",) if recurrent else ()), "biases"):
        for gate in layer.gates:
            yield Part(key, kind, gate)
    for role in layer.roles:
        yield Part(key, "gate function", role)
    if d.peephole is not None:
        yield Part(key, "peepholes")
    if d.norms is not None:
        yield Part(key, "norm")
    if d.projection is not None:
        yield Part(key, "projection")
    if d.hh is not None:
        yield Part(key, "h operand")
    yield Part(key, "h state")
    if layer.has_cell_state:
        yield Part(key, "c state")


def direction_stand_ins(
    layer: QuantRecurrentDefinition, chosen: Chosen, tensors: Mapping[str, TensorFormat]
) -> StandIns:
    """Return what the chosen operands, gate functions, normalizations, projections and states do to the numbers of a run."""
    found = StandIns()
    if Part(layer.name, "x operand") in chosen:
        found.operands[f"{layer.name}.x"] = _x_unit(layer, tensors), layer.x_operand.limit, tensors[layer.input].zeros
    for key, d in zip(layer.keys, layer.directions, strict=True):
        for role, function in zip(layer.roles, d.gates, strict=True):
            if Part(key, "gate function", role) in chosen:
                found.functions[f"{key}.{role}"] = function, False
        if d.projection is not None and Part(key, "projection") in chosen:
            p = d.projection
            unit = np.array([2.0 ** (p.operand.shift - p.hidden_frac)])
            found.operands[f"{key}.hidden"] = unit, p.operand.limit, np.zeros(1)
            found.states[f"{key}.hidden"] = p.hidden_frac, STATE_MAX
            if p.function is not None:
                found.functions[f"{key}.s"] = p.function, False
        if d.norms is not None and Part(key, "norm") in chosen:
            args, end = _normal_fracs(layer, d)
            cell = () if d.norms.cell is None else (d.norms.cell,)
            for what, groups, fracs in (
                ("sum", d.norms.sums, args),
                ("recurrent_sum", d.norms.recurrent, args),
                ("cell", cell, end),
            ):
                first = 0
                for k, norm in enumerate(groups):
                    rows = slice(first, first := first + norm.parameters.features)
                    found.states[f"{key}.{what}_{k}"] = norm.in_frac, STATE_MAX
                    found.states[f"{key}.normal_{what}_{k}"] = fracs[rows], STATE_MAX
        if Part(key, "h operand") in chosen:
            unit = np.array([2.0 ** (layer.h_operand.shift - layer.h_frac)])
            found.operands[f"{key}.h"] = unit, layer.h_operand.limit, np.zeros(1)
        if Part(key, "h state") in chosen:
            found.states[f"{key}.h"] = layer.h_frac, STATE_MAX
        if Part(key, "c state") in chosen:
            found.states[f"{key}.c"] = layer.c_frac, CELL_MAX
    return found


def real_worth(
    layer: QuantRecurrentDefinition, real: RecurrentDefinition, chosen: Chosen, tensors: Mapping[str, TensorFormat]
) -> RecurrentDefinition:
    """Return ``real`` with the chosen parts as the real numbers that their integers are worth.

    These are weights, biases, peepholes, normalizations and projections.
    """
    unit, offset = _x_unit(layer, tensors), np.resize(tensors[layer.input].zeros, layer.input_size)
    directions = zip(layer.keys, real.directions, layer.directions, strict=True)
    made = (_shifted(_direction(layer, key, _shifted(r, offset), d, unit, chosen), -offset) for key, r, d in directions)
    return replace(real, directions=tuple(made))


def _shifted(d: Direction, by: FloatArray) -> Direction:
    """Return the direction that gives the same for x as ``d`` for x + ``by`` [I]; integers' biases are those of x without its offset."""
    return replace(d, bias_ih=d.bias_ih + d.weight_ih @ by) if by.any() else d


def _x_unit(layer: QuantRecurrentDefinition, tensors: Mapping[str, TensorFormat]) -> FloatArray:
    """Return the real value of one operand unit of x, [1] or [I]."""
    return tensors[layer.input].scales_and_offsets[0] * 2.0**layer.x_operand.shift


def _direction(
    layer: QuantRecurrentDefinition, key: str, real: Direction, d: QuantDirection, unit: FloatArray, chosen: Chosen
) -> Direction:
    H = layer.hidden_size
    fracs, fracs_hh = layer.row_fracs(d), layer.recurrent_fracs(d)
    scale_ih = row_scale(d.ih, d.pre_shift, fracs)
    integers: dict[str, FloatArray] = {
        "weight_ih": d.ih.weight * scale_ih[:, None] / unit,
        "bias_ih": d.ih.bias * scale_ih,
        "bias_hh": np.zeros(len(scale_ih)),
    }
    if d.hh is not None:
        scale_hh = row_scale(d.hh, d.pre_shift, fracs_hh)
        integers["weight_hh"] = d.hh.weight * scale_hh[:, None] * 2.0 ** (layer.h_frac - layer.h_operand.shift)
        integers["bias_hh"] = d.hh.bias * scale_hh
    if d.diagonal is not None:
        integers["diagonal"] = mantissas_worth(d.diagonal, layer.h_frac, fracs, d.pre_shift)
    kinds = {"weight_ih": "input weights", "weight_hh": "recurrent weights", "diagonal": "recurrent weights"}
    arrays = {name: getattr(real, name).copy() for name in integers}
    for name, values in integers.items():
        for block, gate in enumerate(layer.gates):
            if Part(key, kinds.get(name, "biases"), gate) in chosen:
                rows = slice(block * H, (block + 1) * H)
                arrays[name][rows] = values[rows]
    result = replace(real, **arrays)
    if d.peephole is not None and Part(key, "peepholes") in chosen:
        result = replace(result, peephole=mantissas_worth(d.peephole, layer.c_frac, fracs, d.pre_shift))
    if d.norms is not None and real.norms is not None and Part(key, "norm") in chosen:
        (args, end), n, r = _normal_fracs(layer, d), d.norms, real.norms
        recurrent = None if r.recurrent is None else _norm_worth(r.recurrent, n.recurrent, args)
        cell = None if r.cell is None or n.cell is None else _norm_worth(r.cell, (n.cell,), end)
        result = replace(result, norms=Norms(_norm_worth(r.sums, n.sums, args), recurrent, cell))
    if d.projection is not None and real.projection is not None and Part(key, "projection") in chosen:
        p = d.projection
        scale = row_scale(p.matrix, p.pre_shift, np.full(len(p.pre_shift), p.in_frac, np.int64))
        per_unit = 2.0 ** (p.hidden_frac - p.operand.shift)
        result = replace(
            result,
            projection=replace(
                real.projection, weight=p.matrix.weight * scale[:, None] * per_unit, bias=p.matrix.bias * scale
            ),
        )
    return result


def _normal_fracs(layer: QuantRecurrentDefinition, d: QuantDirection) -> tuple[Int64Array, Int64Array]:
    """Return the fraction bits of what normalizations give: of each row, [G·H], and of c, [H]."""
    assert d.norms is not None, "the cell normalizes nothing"
    return layer.gate_fracs(d) - d.norms.sum_shift, np.full(layer.hidden_size, d.gates[-1].in_frac, np.int64)


def _norm_worth(real: Norm, groups: tuple[QuantNorm, ...], out_fracs: Int64Array) -> Norm:
    """Return what the integers of a normalization are worth.

    Epsilon, which is rounded to its last bit in each group, stays what it was.
    """
    found = [norm_worth(n.parameters, out_fracs[rows]) for n, rows in zip(groups, real.slices, strict=True)]
    gain, bias = (np.concatenate([worth[k] for worth in found]) for k in (0, 1))
    return replace(real, gain=gain, bias=bias)


def mantissas_worth(weights: QuantPeephole, frac: int, fracs: Int64Array, pre_shift: Int8Array) -> FloatArray:
    """Return the real numbers, [R], that the weights of a state with ``frac`` fraction bits are worth."""
    worth: FloatArray = weights.weight * 2.0 ** (frac - weights.shift.astype(np.float64) - fracs + pre_shift)
    return worth
