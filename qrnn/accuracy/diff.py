"""Compare two quantized models with each other: what differs in them, and what that does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from qrnn.accuracy.difference import Change, Difference, MatrixChange, OutputChange
from qrnn.accuracy.metrics import sqnr_db
from qrnn.errors import DataError
from qrnn.model.batch import Batch, make_batch
from qrnn.model.codec import Tensors, encode
from qrnn.model.describe import describe
from qrnn.model.integers_only import check_integers
from qrnn.model.parts import FloatArray, Matrix, QuantMatrix4
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session

CHUNK = 64
"""The number of sequences that run at a time."""


def diff(a: QuantModel, b: QuantModel, data: Mapping[str, Any] | None = None) -> Difference:
    """Return what two quantized models differ in, part by part.

    With ``data``, arrays by graph input name, batch first, optionally with ``lengths`` [N], their outputs are compared too. Raises DataError
    for data that do not fit, and for models that cannot both take the data.
    """
    check_integers(a, "diff")
    check_integers(b, "diff")
    left, right = _facts(a), _facts(b)
    changes = tuple(
        Change(what, left.get(what), right.get(what))
        for what in dict.fromkeys([*left, *right])
        if left.get(what) != right.get(what)
    )
    matrices = tuple(_matrices(a, b))
    changes += tuple(_others(a, b, said=bool(changes or matrices)))
    sizes = {name: (describe(a)["bytes"][name], describe(b)["bytes"][name]) for name in describe(a)["bytes"]}
    outputs = () if data is None else _outputs(a, b, data)
    return Difference((a.name, b.name), changes, matrices, outputs, sizes)


def _facts(model: QuantModel) -> dict[str, Any]:
    """Return every small fact of a model by name; matrices are compared weight by weight instead."""
    p, description = model.provenance, describe(model)
    facts: dict[str, Any] = {f"scheme {key}": value for key, value in p.scheme.items()}
    facts |= {
        "source SHA-256": p.source_sha256,
        "calibration SHA-256": p.calibration_sha256,
        "calibration steps": p.calibration_steps,
        "target": p.target,
        "layers": ", ".join(layer.name for layer in model.layers),
        "memory": description["memory"],
    }
    for t in description["tensors"]:
        facts[f"tensor {t['name']}"] = f"{t['shape']} {t['format']}, scale {t['scale']}, {t['range']}"
        facts[f"scales of {t['name']}"] = t["scales"] if len(t["scales"]) > 1 else None
    for layer in model.recurrent_layers:
        facts[f"{layer.name}: formats"] = (
            f"h_frac {layer.h_frac}, c_frac {layer.c_frac}, x operand >> {layer.x_operand.shift} within ±{layer.x_operand.limit}"
            + (
                f", h operand >> {layer.h_operand.shift} within ±{layer.h_operand.limit}"
                if layer.reads_by_matrix
                else ""
            )
        )
        for number, d in enumerate(layer.directions):
            for role, function in zip(layer.roles, d.gates, strict=True):
                facts[f"{layer.name}[{number}]: gate {role}"] = function.name
            facts[f"{layer.name}[{number}]: largest pre_shift"] = int(d.pre_shift.max())
    return {key: value for key, value in facts.items() if value is not None}


def _matrices(a: QuantModel, b: QuantModel) -> list[MatrixChange]:
    """Return the matrices of one name and shape that differ; others are in the facts by their layer's name or shape."""
    left = {m.name: m.matrix for m in a.matrices}
    right = {m.name: m.matrix for m in b.matrices}
    found = []
    for name in dict.fromkeys([*left, *right]):
        m, n = left.get(name), right.get(name)
        if m is None or n is None or m.weight.shape != n.weight.shape:
            one = m if m is not None else n
            assert one is not None
            size = one.weight.size
            found.append(MatrixChange(name, size, size, 127, len(one.bias), len(one.bias), (_bits(m), _bits(n))))
            continue
        moved = np.abs(m.weight.astype(np.int64) - n.weight)
        factor = [x.multiplier * 2.0 ** x.left_shift.astype(np.float64) for x in (m, n)]
        change = MatrixChange(
            name,
            moved.size,
            int((moved > 0).sum()),
            int(moved.max()),
            int((m.bias != n.bias).sum()),
            int((factor[0] != factor[1]).sum()),
            (_bits(m), _bits(n)),
        )
        if change.changed or change.biases or change.multipliers or change.bits[0] != change.bits[1]:
            found.append(change)
    return found


def _others(a: QuantModel, b: QuantModel, said: bool) -> Iterator[Change]:
    """Yield changes of integers that belong to no matrix: initial states, embeddings, peepholes, tables, shifts.

    Where nothing was ``said`` so far, changes of other text are yielded too.
    """
    arrays: tuple[Tensors, Tensors] = ({}, {})
    text = [encode(m, arrays[k], "", skip=frozenset({"proof"})) for k, m in enumerate((a, b))]
    for name in arrays[0]:
        if name not in arrays[1] or any(part in name for part in (".ih.", ".hh.", "matrix.")):
            continue  # an array that is like another one is stored once, under the first one's name
        left, right = (side[name] for side in arrays)
        if not np.array_equal(left, right):
            said = True
            yield Change(f"integers {name}", *(f"{v.dtype}{list(v.shape)}" for v in (left, right)))
    if not said and text[0] != text[1]:
        yield Change("names, decisions or notes", "other text", "other text")


def _bits(matrix: Matrix | None) -> int:
    return 0 if matrix is None else 4 if isinstance(matrix, QuantMatrix4) else 8


def _outputs(a: QuantModel, b: QuantModel, data: Mapping[str, Any]) -> tuple[OutputChange, ...]:
    names = [[o.name for o in m.outputs] for m in (a, b)]
    if a.rows != b.rows:
        forgetful = a.name if a.rows else b.name
        raise DataError(
            f"of the two, {forgetful!r} keeps nothing from step to step (qrnn convert without --stream); leave --data out"
        )
    shapes = [[(i.name, i.kind, i.shape, i.has_time) for i in m.inputs] for m in (a, b)]
    if names[0] != names[1] or shapes[0] != shapes[1]:
        raise DataError(f"{a.name!r} and {b.name!r} have other inputs or outputs; leave --data out to compare them")
    batch = make_batch(a.inputs, data)
    if not batch.step_count:
        raise DataError("every sequence has length 0; expected at least one step")
    sessions = Session(a), Session(b)
    parts = [
        [s.run_batch(piece, steps=batch.steps)[0].outputs for s in sessions] for _, _, piece in batch.chunks(CHUNK)
    ]
    found = []
    for output in a.outputs:
        left, right = (np.concatenate([p[k][output.name] for p in parts]) for k in (0, 1))
        if left.shape != right.shape:
            raise DataError(f"output {output.name!r} has other shapes in the two models; leave --data out")
        worst = np.abs(left - right).reshape(len(left), -1).max(axis=1)
        own = batch.paced(a.length_rules[output.parts[0][0]]) if output.has_time else batch
        decided = [_decisions(v, output.has_time, own) for v in (left, right)]
        found.append(
            OutputChange(
                output.name,
                sqnr_db(left, right),
                float(worst.max()),
                int(worst.argmax()),
                int((decided[0] != decided[1]).sum()),
                decided[0].size,
            )
        )
    return tuple(found)


def _decisions(values: FloatArray, has_time: bool, batch: Batch) -> Any:
    """Return the largest feature of each real step, or the sign of a single feature."""
    flat = values[batch.mask] if has_time else values
    flat = flat.reshape(len(flat), -1)
    return flat[:, 0] > 0 if flat.shape[1] == 1 else flat.argmax(axis=1)
