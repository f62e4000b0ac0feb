"""Cut a graph at named tensors: what lies between them is imported, and what lies before and behind them becomes models of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from qrnn.errors import UnsupportedError
from qrnn.model.float_model import FloatModel, Section
from qrnn.onnx_import.control import FixedValue
from qrnn.onnx_import.graph import import_checked
from qrnn.onnx_import.parts.extract import PartGraph, extract
from qrnn.onnx_import.parts.flow import Flow
from qrnn.onnx_import.parts.whole import Whole
from qrnn.onnx_import.source import read_onnx

BEFORE, BETWEEN, BEHIND = range(3)
"""The parts of a cut, in the order in which they run."""

_PLACES = ("before the cut", "between the cuts", "behind the cut")


@dataclass(frozen=True)
class Cut:
    """A graph in up to three parts. ``before`` gives tensors ``cut_from``, and ``after`` reads tensors ``cut_to``; both run on the host.

    ``model`` is the part between them, which `qrnn.load_onnx` imports with the same cuts. A part without nodes is None.
    """

    whole: Whole
    cut_from: tuple[str, ...]
    cut_to: tuple[str, ...]
    before: PartGraph | None
    model: PartGraph
    after: PartGraph | None

    @property
    def others(self) -> dict[str, onnx.ModelProto]:
        """Return the models beside the imported one, by the word that their files have in their names: ``before`` and ``after``."""
        parts = {"before": self.before, "after": self.after}
        return {word: part.model for word, part in parts.items() if part is not None}


def cut_onnx(path: str | os.PathLike[str], cut_from: Sequence[str] = (), cut_to: Sequence[str] = ()) -> Cut:
    """Read an .onnx file and cut it.

    The tensors ``cut_from`` become inputs of the middle part, and ``cut_to`` its outputs; either may be left out. Inputs of the graph
    that the part before does not read stay inputs of the middle, and outputs that no tensor of ``cut_to`` leads to stay its outputs: the
    states of a graph of one step per call, for example. A tensor that is named in both goes from the part before to the part behind.

    Raises `ModelFileError` for a file that is missing or damaged, and `UnsupportedError` for a tensor that the graph does not have at its top
    level, for cuts in the wrong order, and for a tensor that gets around the cut.
    """
    return cut_model(Whole(read_onnx(path)), cut_from, cut_to)


def cut_model(whole: Whole, cut_from: Sequence[str] = (), cut_to: Sequence[str] = ()) -> Cut:
    """Cut a model that was read; see `cut_onnx`."""
    flow = whole.flow
    starts, ends = tuple(cut_from), tuple(cut_to)
    flow.check_known(starts, "--from")
    flow.check_known(ends, "--to")
    parts = _parts(flow, starts, ends)
    _check_crossings(flow, parts, starts, ends)
    nodes = [{k for k, part in parts.items() if part == number} for number in (BEFORE, BETWEEN, BEHIND)]
    if not nodes[BETWEEN]:
        raise UnsupportedError(
            f"nothing lies between the cuts (--from {_listed(starts)}, --to {_listed(ends)}); name tensors with recurrent layers between"
        )
    name = whole.model.graph.name
    handed = [n for n in starts if n in flow.maker]
    made = [{o for k in own for o in flow.nodes[k].output} for own in nodes]
    own_outputs = [[o for o in flow.outputs if o in there] for there in made]
    before = _part(
        whole, nodes[BEFORE], [*handed, *(o for o in own_outputs[BEFORE] if o not in handed)], f"{name} before"
    )
    between_ends = [n for n in ends if n in made[BETWEEN]]
    rest = [o for o in own_outputs[BETWEEN] if o not in between_ends]
    # what no part makes are constants, and inputs that are given on as they are
    rest += [o for o in flow.outputs if not any(o in there for there in made)]
    model = extract(whole, nodes[BETWEEN], [*between_ends, *rest], name)
    after = _part(whole, nodes[BEHIND], own_outputs[BEHIND], f"{name} after")
    for option, part, own in (("--from", model, nodes[BETWEEN]), ("--to", after, nodes[BEHIND])):
        if part is not None:
            earlier = set().union(*(nodes[:BETWEEN] if option == "--from" else nodes[:BEHIND]))
            _check_sizes(part, flow, own, earlier, (*starts, *ends), option)
    return Cut(whole, starts, ends, before, model, after)


def import_cut(
    cut: Cut,
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    window: int | None = None,
) -> FloatModel:
    """Import the middle part of a cut; options are as for `qrnn.load_onnx`. A value for an input that only another part has is left to it."""
    source = cut.whole.source
    there = {name for name in cut.whole.flow.inputs if name not in cut.model.inputs}
    own = {name: value for name, value in (values or {}).items() if name.split("[")[0] not in there}
    model = import_checked(
        cut.model.model, source.name, source.sha256, source.budget, stream, state, own, shapes, window
    )
    return replace(model, section=Section(cut.cut_from, cut.cut_to))


def _part(whole: Whole, nodes: set[int], outputs: list[str], name: str) -> PartGraph | None:
    return extract(whole, nodes, outputs, name) if nodes else None


def _parts(flow: Flow, starts: tuple[str, ...], ends: tuple[str, ...]) -> dict[int, int]:
    """Return in which part each node is.

    What the named tensors do not decide stands between the cuts where it gives outputs of the graph, behind them where only the part
    behind reads it, and before them where it depends on the part before alone.
    """
    around, outputs = set(starts) & set(ends), frozenset(flow.outputs)
    real_ends = [name for name in ends if name not in around]
    before = flow.before(starts)
    behind = flow.behind(real_ends)
    for name in starts:
        if flow.maker.get(name) in behind:
            culprit = next(e for e in real_ends if flow.maker[name] in flow.behind([e]))
            raise UnsupportedError(
                f"--from '{name}' is computed from --to '{culprit}': the cuts are in the wrong order; swap them, or name other tensors"
            )
    for name in real_ends:
        if starts and (flow.maker.get(name) in before or name in flow.inputs):
            raise UnsupportedError(
                f"--to '{name}' lies before --from {_listed(starts)}: the cuts are in the wrong order; swap them, or name other tensors"
            )
    core = flow.before(real_ends, starts) - before
    parts = dict.fromkeys(before, BEFORE)
    parts.update(dict.fromkeys(core, BETWEEN))
    parts.update(dict.fromkeys(behind - core - before, BEHIND))
    from_start, past = flow.behind(starts), flow.behind(around)
    alone = set(flow.live) - from_start - flow.depending_on_others(flow.inputs_of(before)) if before else set[int]()
    for k in reversed(flow.live):
        if k in parts:
            continue
        readers = [parts[r] for name in flow.nodes[k].output for r in flow.readers.get(name, ()) if r in parts]
        is_output = not outputs.isdisjoint(flow.nodes[k].output)
        if k in past or (readers and not is_output and min(readers) == BEHIND):
            parts[k] = BEHIND
        elif k in alone and BETWEEN not in readers:
            parts[k] = BEFORE
        else:
            parts[k] = BETWEEN
    return parts


def _check_crossings(flow: Flow, parts: dict[int, int], starts: tuple[str, ...], ends: tuple[str, ...]) -> None:
    """Raise UnsupportedError for a tensor that goes from one part to another and is not named, and for one that is named for nothing."""
    first_read: dict[str, int] = {}
    for k in flow.live:
        for name in flow.values_read(k):
            if name not in flow.maker:
                first_read[name] = min(parts[k], first_read.get(name, BEHIND))
    for k in flow.live:
        for name in flow.values_read(k):
            home = parts[flow.maker[name]] if name in flow.maker else first_read[name]
            here = parts[k]
            if here < home:
                raise UnsupportedError(
                    f"tensor '{name}', which lies {_PLACES[home]}, leads back {_PLACES[here]}; cut at other tensors"
                )
            needed = [
                (option, named)
                for option, named, place in (("--from", starts, BEFORE), ("--to", ends, BETWEEN))
                if home <= place < here
            ]
            missing = [option for option, named in needed if name not in named]
            if missing:
                node = flow.nodes[k]
                raise UnsupportedError(
                    f"a path leads around the cut: tensor '{name}', which lies {_PLACES[home]}, is read {_PLACES[here]} by node "
                    f"'{node.name or node.output[0]}' ({node.op_type}); name it too, in {' and in '.join(o for o, _ in needed)}, or cut "
                    "elsewhere"
                )
    for option, named, place in (("--from", starts, BEFORE), ("--to", ends, BETWEEN)):
        for name in named:
            if option == "--from" and not any(parts[r] > place for r in flow.readers.get(name, ()) if r in parts):
                raise UnsupportedError(f"--from '{name}': nothing behind the cut reads this tensor; leave it out")


def _check_sizes(
    part: PartGraph, flow: Flow, nodes: set[int], earlier: set[int], named: tuple[str, ...], option: str
) -> None:
    """Raise UnsupportedError where a part needs a tensor of an ``earlier`` one for its sizes alone, and no tensor at the cut has these."""
    own = {name for k in nodes for name in flow.values_read(k)}
    there = flow.inputs_of(earlier) | {o for k in earlier for o in flow.nodes[k].output}
    for name in part.inputs:
        if name not in own and name not in named and name in there:
            raise UnsupportedError(
                f"a path leads around the cut: sizes of tensor '{name}' are read behind the cut; name it in {option} too, or export the model "
                "with these sizes fixed, or with names for sizes that are free"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "(none)"
