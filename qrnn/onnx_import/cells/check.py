"""Compare recognised cells with the nodes that they stand for, on random numbers in float64."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.cells.elements import WHAT, Function, Known, Value
from qrnn.onnx_import.cells.evaluate import DYNAMIC, RULES, Evaluation, Unknown
from qrnn.onnx_import.cells.forms import NotACell
from qrnn.onnx_import.cells.match import Cell
from qrnn.onnx_import.constants import EVALUATOR_WORK, FOLD_WORK, FOLDABLE
from qrnn.onnx_import.node import DAMAGE, first_line
from qrnn.onnx_import.values import Array

SEQUENCES = 3
"""How many random sequences a step is compared on, where the file does not fix another number."""

MOST_NODES = 2_000
"""The most nodes of a step."""

TOLERANCE = 1e-6
"""The largest difference of a state: the nodes compute in double precision, with factors that the file holds in single precision."""

DOUBLE = onnx.TensorProto.DOUBLE
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def applied(function: Function, x: Array) -> Array:
    """Return ``function(x)`` in float64."""
    a, b = function.alpha or 0.0, function.beta or 0.0
    with np.errstate(over="ignore"):
        match function.name:
            case "Sigmoid":
                return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))
            case "Tanh":
                return np.asarray(np.tanh(x))
            case "Relu":
                return np.maximum(x, 0)
            case "HardSigmoid":
                return np.clip(a * x + b, 0, 1)
            case "LeakyRelu":
                return np.where(x < 0, a * x, x)
            case "Elu":
                return np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x)
            case "ThresholdedRelu":
                return np.where(x > a, x, 0)
            case "Softsign":
                return np.asarray(x / (1 + np.abs(x)))
            case "Softplus":
                return np.logaddexp(x, 0)
    raise ValueError(f"{function.name} is no function of a cell")


def step(cell: Cell, x: Array, h: Array, c: Array | None) -> tuple[Array, Array | None]:
    """Return the next states [N, H] of one step of a cell by ONNX's equations."""
    w, r, b = cell.w[0], cell.r[0], cell.b[0]
    wb, rb = np.split(b, 2)
    f, *others = cell.functions
    size = cell.hidden
    if cell.op == "RNN":
        return applied(f, x @ w.T + h @ r.T + wb + rb), None
    if cell.op == "GRU":
        z, reset = (applied(f, x @ w[k].T + h @ r[k].T + wb[k] + rb[k]) for k in (slice(size), slice(size, 2 * size)))
        k = slice(2 * size, 3 * size)
        inner = reset * (h @ r[k].T + rb[k]) if cell.linear_before_reset else (reset * h) @ r[k].T + rb[k]
        return (1 - z) * applied(others[0], x @ w[k].T + wb[k] + inner) + z * h, None
    assert c is not None
    i, o, f_, g = np.split(x @ w.T + h @ r.T + wb + rb, 4, axis=1)
    p = np.zeros((3, size)) if cell.p is None else cell.p.reshape(3, size)
    new_c = applied(f, f_ + p[2] * c) * c + applied(f, i + p[0] * c) * applied(others[0], g)
    return applied(f, o + p[1] * new_c) * applied(others[1], new_c), new_c


def region(
    nodes: Sequence[onnx.NodeProto], evaluation: Evaluation, wanted: Sequence[str], given: Sequence[str]
) -> tuple[list[onnx.NodeProto], list[str]]:
    """Return the nodes that compute ``wanted`` from ``given``, in order, and all values that they read and none of them writes."""
    places: set[int] = set()
    reads: dict[str, None] = {}
    seen = set(given)
    left = list(wanted)
    while left:
        name = left.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        place = evaluation.writer.get(name)
        if place is None:
            reads[name] = None
        elif place not in places:
            node = nodes[place]
            if node.op_type not in RULES.keys() | FOLDABLE or any(
                isinstance(evaluation.values[o], Unknown) for o in node.output if o
            ):
                raise NotACell(
                    f"a step of it is computed by node '{node.name}' ({node.op_type}), which is not followed"
                )
            places.add(place)
            left += node.input
            if len(places) > MOST_NODES:
                raise NotACell(f"a step of it is computed by more than {MOST_NODES} nodes")
    return [nodes[k] for k in sorted(places)], [*given, *reads]


def in_double(node: onnx.NodeProto) -> onnx.NodeProto:
    """Return a node that computes in double precision."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if attribute.name == "to" and attribute.i in FLOATS:
            attribute.i = DOUBLE
        elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in FLOATS:
            attribute.t.CopyFrom(numpy_helper.from_array(np.asarray(numpy_helper.to_array(attribute.t), np.float64)))
    if node.op_type == "ConstantOfShape" and not node.attribute:  # zeros of float32, by default
        copy.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))
    return copy


def evaluated(
    nodes: Sequence[onnx.NodeProto], opset: int, given: Mapping[str, Array], wanted: Sequence[str], budget: Budget
) -> list[Array]:
    """Run nodes in double precision by ONNX's own evaluator."""
    from onnx.reference import ReferenceEvaluator  # slow to import, and few models need it

    budget.spend(WHAT, EVALUATOR_WORK * (len(nodes) + 1) + FOLD_WORK * sum(a.size for a in given.values()))
    graph = helper.make_graph(
        [in_double(n) for n in nodes],
        "step",
        [helper.make_value_info(name, onnx.TypeProto()) for name in given],
        [helper.make_value_info(name, onnx.TypeProto()) for name in wanted],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [np.asarray(r) for r in ReferenceEvaluator(model).run(list(wanted), dict(given))]
    except DAMAGE as error:
        raise NotACell(f"its nodes cannot be run to compare them ({first_line(error)})") from error


class Trial:
    """Random numbers for values of a graph, and the elements of what was computed from them."""

    def __init__(self, evaluation: Evaluation, scale: float, seed: int = 20) -> None:
        self._evaluation = evaluation
        self._random = np.random.default_rng(seed)
        self._scale = scale
        batch = evaluation.batch_size
        self.sequences = SEQUENCES if batch == DYNAMIC else batch
        evaluation.elements.budget.hold(WHAT, 0, 8 * self.sequences * evaluation.elements.count)
        self._numbers = np.full((self.sequences, evaluation.elements.count), np.nan)

    def feed(self, name: str) -> Array:
        """Return numbers for a value: those of a constant, those that its elements have, or random ones."""
        value = self._evaluation.value(name)
        if isinstance(value, Known):
            if value.batch is None:
                return value.array
            return np.repeat(value.array, self.sequences, value.batch)
        if not isinstance(value, Value):
            raise NotACell(f"it reads '{name}', of which nothing is known")
        ids = np.unique(value.ids)
        rows = 1 if value.batch is None else self.sequences
        new = ids[np.isnan(self._numbers[0, ids])]
        self._numbers[:, new] = self._random.standard_normal((rows, new.size)) * self._scale
        shape = list(value.ids.shape)
        if value.batch is None:
            return np.asarray(self._numbers[0, value.ids])
        rest = [d for k, d in enumerate(shape) if k != value.batch]
        return np.moveaxis(self._numbers[:, value.ids.reshape(-1)].reshape(self.sequences, *rest), 0, value.batch)

    def note(self, name: str, array: Array) -> None:
        """Keep the numbers of a value, whose elements `read` gives."""
        value = self._evaluation.values[name]
        assert isinstance(value, Value)
        if value.batch is not None:
            array = np.moveaxis(array, value.batch, 0).reshape(array.shape[value.batch], -1)
        else:
            array = array.reshape(1, -1)
        if array.shape[1] != value.ids.size:
            raise NotACell(f"'{name}' has another shape than expected")
        self._numbers[:, value.ids.reshape(-1)] = array

    def read(self, ids: Array) -> Array:
        """Return the numbers [N, n] of elements."""
        found = np.asarray(self._numbers[:, ids])
        if np.isnan(found).any():
            raise NotACell("some of its elements are not computed by its nodes")
        return found


def values_of(evaluation: Evaluation, ids: Array) -> list[str]:
    """Return values that together hold these elements: one that holds just them where there is one."""
    exact = evaluation.named(ids)
    if exact is not None:
        return [exact]
    blocks = evaluation.elements.blocks
    return list(dict.fromkeys(blocks[int(k)].home for k in evaluation.elements.owners(ids)))


def check_step(nodes: Sequence[onnx.NodeProto], evaluation: Evaluation, cell: Cell) -> None:
    """Compare one step of a cell with its nodes on random states and inputs; `NotACell` where they differ."""
    trial = _tried(nodes, evaluation, cell, [cell.x, cell.h], cell.c, cell.new_h, cell.new_c)
    h, c = step(cell, trial.read(cell.x), trial.read(cell.h), None if cell.c is None else trial.read(cell.c))
    _compare(trial, [("h", h, cell.new_h), ("c", c, cell.new_c)])


def check_first(
    nodes: Sequence[onnx.NodeProto],
    evaluation: Evaluation,
    cell: Cell,
    x: Array,
    h: Array,
    c: Array | None,
    given: bool,
    new_h: Array,
    new_c: Array | None,
) -> None:
    """Compare the first step of a sequence with the cell: from states that are ``given`` as elements, or from these numbers."""
    trial = _tried(nodes, evaluation, cell, [x, h] if given else [x], c if given else None, new_h, new_c)
    if given:
        h, c = trial.read(h), None if c is None else trial.read(c)
    else:
        h = np.broadcast_to(h, (trial.sequences, h.size))
        c = None if c is None else np.broadcast_to(c, h.shape)
    made, made_c = step(cell, trial.read(x), h, c)
    _compare(trial, [("h", made, new_h), ("c", made_c, new_c)])


def _tried(
    nodes: Sequence[onnx.NodeProto],
    evaluation: Evaluation,
    cell: Cell,
    inputs: list[Array],
    c: Array | None,
    new_h: Array,
    new_c: Array | None,
) -> Trial:
    """Run the nodes of one step on random numbers."""
    given = list(dict.fromkeys(n for ids in inputs + ([] if c is None else [c]) for n in values_of(evaluation, ids)))
    outputs = [new_h] + ([] if new_c is None else [new_c])
    wanted = list(dict.fromkeys(name for ids in outputs for name in values_of(evaluation, ids)))
    found, reads = region(nodes, evaluation, wanted, given)
    rows = np.sqrt((cell.w**2).sum(2) + (cell.r**2).sum(2)).max(initial=1e-30)
    trial = Trial(evaluation, 1 / float(rows))
    feeds = {name: trial.feed(name) for name in reads}
    sizes = [v.ids.size for node in found for o in node.output if o and isinstance(v := evaluation.values[o], Value)]
    evaluation.elements.budget.value(WHAT, 0, scratch=trial.sequences * sum(sizes))
    evaluation.elements.budget.spend(WHAT, trial.sequences * sum(sizes) * FOLD_WORK)
    results = evaluated(found, evaluation.opset, feeds, wanted, evaluation.elements.budget)
    for name, result in zip(wanted, results, strict=True):
        trial.note(name, result)
    evaluation.elements.budget.spend(WHAT, 2 * trial.sequences * (cell.w.size + cell.r.size))
    return trial


def _compare(trial: Trial, states: list[tuple[str, Array | None, Array | None]]) -> None:
    for what, mine, ids in states:
        if mine is None or ids is None:
            continue
        difference = float(np.abs(mine - trial.read(ids)).max())
        if not difference <= TOLERANCE:
            raise NotACell(f"on random numbers its new {what} differs by {difference:.2g} from what its nodes compute")
