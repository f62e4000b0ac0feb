"""Recurrent layers: LSTM, GRU and RNN in all the forms of `qrnn.model.float_model.Recurrent`.

``I`` is the number of input features, ``H`` the hidden size, and ``P`` the size of the state that is fed back: H, or the rows of a
projection. The rows of ``weight_ih``, ``weight_hh`` and of the biases are blocks of H rows in the order of `qrnn.model.float_model.GATES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple, get_args

import numpy as np

from qrnn.errors import DataError, UnsupportedError
from qrnn.layers.checks import clip_limit, matrix, place, real_array, shaped, shaped_or_zeros
from qrnn.layers.checks import function as checked_function
from qrnn.layers.tensors import Node, Recurrent, Slot, State, Tensor, sequence, tensor_name
from qrnn.model.activation import Activation
from qrnn.model.float_model import TensorInfo
from qrnn.model.kinds.recurrent import Recurrent as RecurrentLayer
from qrnn.model.kinds.recurrent.cells import CELLS
from qrnn.model.kinds.recurrent.definition import CellKind, Direction, Forget, InitialState, Projection
from qrnn.model.kinds.recurrent.direction import Norms
from qrnn.model.kinds.recurrent.start import StartPart
from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray

UNIT_INTERVAL = ("sigmoid", "hard_sigmoid", "step")
"""Functions with values in [0, 1]."""


def lstm(
    x: Tensor,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    forget: Forget = "gate",
    gate: Activation | str = "sigmoid",
    candidate: Activation | str = "tanh",
    output: Activation | str = "tanh",
    peephole: Mapping[str, Any] | None = None,
    projection: Any = None,
    clip: float | None = None,
    reverse: bool = False,
    h_0: Any = None,
    c_0: Any = None,
    name: str | None = None,
) -> Recurrent:
    """Build a long short-term memory layer, with σ = ``gate``, γ = ``candidate``, η = ``output``:

        i = σ(W_i x + b_i + U_i s + b'_i + p_i c)        f = σ(W_f x + b_f + U_f s + b'_f + p_f c)
        g = γ(W_g x + b_g + U_g s + b'_g)                c' = f c + i g
        o = σ(W_o x + b_o + U_o s + b'_o + p_o c')       h' = o η(c')        s' = h', or projection(h')

    weight_ih W [G·H, I], weight_hh U [G·H, P], bias_ih b and bias_hh b' [G·H] (zero when None), rows in the order i, f, g, o.

    ``forget``: ``gate``, f as above; ``one``, f = 1, the LSTM of 1997; ``coupled``, f = 1 - i. Without a gate of its own, f has no rows: G
    is 3, the order i, g, o. ``peephole``: p_i, p_f, p_o [H] by gate, zero where left out. ``projection``: a matrix [P, H] (LSTMP) or what
    `projection` returns. ``clip``: the arguments of σ and γ are clamped to ±clip (η's is not, as in ONNX Runtime). ``reverse``: from each
    sequence's last valid step to its first. ``h_0`` [P] and ``c_0`` [H]: arrays, or graph inputs by `state`; zeros when None.

    Sources: Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000 (forget gate); Gers, Schmidhuber 2000 (peepholes); Sak, Senior,
    Beaufays 2014 (projection); Greff et al. 2017 (coupled gates).
    """
    where = place("lstm", name)
    if forget not in get_args(Forget):
        raise DataError(f"{where}: forget={forget!r}, expected one of {', '.join(get_args(Forget))}")
    roles = {"gate": gate, "candidate": candidate, "output": output}
    settings = {"forget": forget, "clip": clip}
    arrays = Arrays(weight_ih, weight_hh, bias_ih, bias_hh)
    return recurrent_layer("lstm", name, x, arrays, roles, settings, reverse, (h_0, c_0), projection, peephole)


def gru(
    x: Tensor,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    linear_before_reset: bool = True,
    update_keeps: bool = True,
    gate: Activation | str = "sigmoid",
    candidate: Activation | str = "tanh",
    clip: float | None = None,
    reverse: bool = False,
    h_0: Any = None,
    name: str | None = None,
) -> Recurrent:
    """Build a layer of gated recurrent units, with σ = ``gate``, γ = ``candidate``:

        r = σ(W_r x + b_r + U_r h + b'_r)        z = σ(W_z x + b_z + U_z h + b'_z)
        n = γ(W_n x + b_n + r (U_n h + b'_n))    with linear_before_reset (PyTorch, cuDNN)
        n = γ(W_n x + b_n + U_n (r h) + b'_n)    without (Cho et al. 2014, Chung et al. 2014)
        h' = z h + (1 - z) n                     with update_keeps (Cho et al. 2014, ONNX, PyTorch)
        h' = (1 - z) h + z n                     without (Chung et al. 2014); σ must have values in [0, 1]

    weight_ih W [3·H, I], weight_hh U [3·H, H], bias_ih b and bias_hh b' [3·H] (zero when None, as in both papers), rows in the order r, z,
    n. The unit of Cho et al. is ``linear_before_reset=False, update_keeps=True``. Other arguments as for `lstm`.

    Sources: Cho et al. 2014, https://arxiv.org/abs/1406.1078; Chung et al. 2014, https://arxiv.org/abs/1412.3555.
    """
    check_exchangeable(place("gru", name), update_keeps, gate)
    settings = {"linear_before_reset": linear_before_reset, "update_keeps": update_keeps, "clip": clip}
    arrays = Arrays(weight_ih, weight_hh, bias_ih, bias_hh)
    return recurrent_layer(
        "gru", name, x, arrays, {"gate": gate, "candidate": candidate}, settings, reverse, (h_0, None)
    )


def rnn(
    x: Tensor,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    activation: Activation | str = "tanh",
    projection: Any = None,
    clip: float | None = None,
    reverse: bool = False,
    h_0: Any = None,
    name: str | None = None,
) -> Recurrent:
    """Build a simple recurrent layer, with f = ``activation``:

        h' = f(W x + b + U s + b')        s' = h', or projection(h')

    weight_ih W [H, I], weight_hh U [H, P], bias_ih b and bias_hh b' [H] (zero when None). Other arguments as for `lstm`. Source: Elman
    1990.
    """
    arrays = Arrays(weight_ih, weight_hh, bias_ih, bias_hh)
    roles = {"candidate": activation}
    return recurrent_layer("rnn", name, x, arrays, roles, {"clip": clip}, reverse, (h_0, None), projection)


def check_exchangeable(where: str, update_keeps: bool, gate: Activation | str) -> None:
    """Refuse an update gate of which 1 - z is asked for, and that may leave [0, 1]."""
    if not update_keeps and _kind(gate) not in UNIT_INTERVAL:
        raise UnsupportedError(
            f"{where}: update_keeps=False with gate={gate}: 1 - z needs a function with values in [0, 1]: {', '.join(UNIT_INTERVAL)}"
        )


def projection(weight: Any, bias: Any = None, *, function: Activation | str | None = None) -> Projection:
    """Describe a projection s' = function(weight · h' + bias), which is fed back and written in place of h'.

    weight is [P, H] and bias is [P], zero when None. ``function`` is None for the identity, ``softmax`` over all P, or an activation. The
    identity without a bias is the LSTMP of Sak, Senior, Beaufays 2014; Jordan's network is an `rnn` with a projection.
    """
    w = matrix("projection", "weight", weight, "[P, H]")
    b = shaped_or_zeros("projection", "bias", bias, (w.shape[0],), "[P]")
    if function is None or function == "softmax":
        return Projection(w, b, "softmax" if function else None)
    return Projection(w, b, checked_function("projection", "function", function))


def bidirectional(forward: Recurrent, backward: Recurrent, *, name: str | None = None) -> Recurrent:
    """Join two layers of one direction over the same input into one; ``output`` is [forward, backward] [N, T, 2·P].

    ``backward`` is made with ``reverse=True``. Both have the same cell, sizes and settings; each has its own activations, weights and
    states. Source: Schuster, Paliwal 1997.
    """
    where = place("bidirectional", name)
    for what, handle, reverse in (("forward", forward, False), ("backward", backward, True)):
        if not isinstance(handle, Recurrent):
            raise DataError(f"{where}: {what} is {type(handle).__name__}, expected what {', '.join(CELLS)} return")
        if [d.reverse for d in handle.layer.directions] != [reverse]:
            raise DataError(f"{where}: {what} must be of one direction, made with reverse={reverse}")
    if forward.input is not backward.input:
        raise DataError(
            f"{where}: forward reads {forward.input.name!r}, backward reads {backward.input.name!r}, expected the same tensor"
        )
    a, b = forward.layer, backward.layer
    own = ("name", "input", "output", "h_n", "c_n", "directions", "h_start", "c_start")
    same = [field.name for field in fields(a) if field.name not in own]
    for key in (*same, "hidden_size", "output_size"):
        if getattr(a, key) != getattr(b, key):
            raise DataError(
                f"{where}: {key} is {getattr(a, key)!r} forward and {getattr(b, key)!r} backward, expected the same; "
                "layers that differ can be put side by side by concat"
            )
    node_a, node_b = forward.output.source, backward.output.source
    assert isinstance(node_a, Node)
    assert isinstance(node_b, Node)
    states = node_a.states + node_b.states
    reads = node_a.inputs + node_b.inputs[1:]
    begun = len(node_a.inputs) - 1
    joined = replace(
        a,
        directions=a.directions + b.directions,
        h_start=(*a.h_start, *(_second(part, begun, a.output_size) for part in b.h_start)),
        c_start=(*a.c_start, *(_second(part, begun, a.hidden_size) for part in b.c_start)),
    )
    return _handle(joined, name, tuple(t for t in reads if isinstance(t, Tensor)), states)


def _second(part: StartPart, reads: int, size: int) -> StartPart:
    """Return a part of an initial state as that of a second direction, behind ``reads`` tensors and ``size`` units of the first one."""
    return replace(part, tensor=str(int(part.tensor) + reads), positions=part.positions + size)


class Arrays(NamedTuple):
    """The weights and biases of a layer, as its caller gave them.

    ``recurrent``: R, the diagonal, or None, as the cell reads h. A bias may be None.
    """

    weight_ih: Any
    recurrent: Any
    bias_ih: Any
    bias_hh: Any


def recurrent_layer(
    cell: CellKind,
    name: str | None,
    x: Tensor,
    arrays: Arrays,
    roles: Mapping[str, Any],
    settings: Mapping[str, Any],
    reverse: bool,
    initial: tuple[Any, Any],
    projection: Any = None,
    peephole: Mapping[str, Any] | None = None,
    norms: Callable[[str, int], Norms] | None = None,
) -> Recurrent:
    """Return a checked layer of one direction. ``norms`` makes what it normalizes from its place, for messages, and from H."""
    where = place(cell, name)
    x = sequence(where, x)
    declared = CELLS[cell]
    one = declared.state_gate is not None  # its only function, which its builder calls activation
    functions = {role: checked_function(where, "activation" if one else role, f) for role, f in roles.items()}
    gates = declared.gates(settings.get("forget", "gate"))
    G = len(gates)
    blocks = f"{G}·H" if G > 1 else "H"
    w = matrix(where, "weight_ih", arrays.weight_ih, f"[{blocks}, I] with I = {x.features}")
    if w.shape[1] != x.features or w.shape[0] % G:
        raise DataError(
            f"{where}: weight_ih has shape {list(w.shape)}, expected [{blocks}, I] with I = {x.features}"
            + (f" and the blocks {', '.join(gates)}" if G > 1 else "")
        )
    H = w.shape[0] // G
    fed_back = None if projection is None else _projection(where, projection, H)
    P = H if fed_back is None else len(fed_back.bias)
    h_0, h_source = _initial(where, "h_0", initial[0], P, "[P]" if fed_back else "[H]")
    c_0, c_source = _initial(where, "c_0", initial[1], H, "[H]") if declared.has_cell_state else (None, None)
    begins = tuple(dict.fromkeys(s for s in (h_source, c_source) if isinstance(s, Tensor)))
    starts = [
        (StartPart(str(1 + begins.index(s)), np.arange(s.features), np.arange(s.features)),)
        if isinstance(s, Tensor)
        else ()
        for s in (h_source, c_source)
    ]
    weight_hh = diagonal = None
    if declared.recurrence == "matrix":
        columns = "P" if fed_back else "H"
        weight_hh = shaped(where, "weight_hh", arrays.recurrent, (G * H, P), f"[{blocks}, {columns}]")
    elif declared.recurrence == "diagonal":
        diagonal = shaped(where, "diagonal", arrays.recurrent, (G * H,), f"[{blocks}]")
    direction = Direction(
        reverse=bool(reverse),
        weight_ih=w,
        weight_hh=weight_hh,
        bias_ih=shaped_or_zeros(where, "bias_ih", arrays.bias_ih, (G * H,), f"[{blocks}]"),
        bias_hh=shaped_or_zeros(where, "bias_hh", arrays.bias_hh, (G * H,), f"[{blocks}]"),
        activations=functions,
        h_0=h_0,
        c_0=c_0,
        peephole=None if peephole is None else _peephole(where, peephole, gates, H),
        projection=fed_back,
        diagonal=diagonal,
        norms=None if norms is None else norms(where, H),
    )
    named = {**settings, "clip": clip_limit(where, settings["clip"])}
    layer = RecurrentLayer("", cell, "", "", "", "" if declared.has_cell_state else None, (direction,), **named)
    layer = replace(layer, h_start=starts[0], c_start=starts[1])
    if (n := direction.norms) is not None:
        problem = declared.refuses_groups(layer, n.sums.groups, () if n.recurrent is None else n.recurrent.groups)
        if problem:
            raise UnsupportedError(f"{where}: {problem}")
    return _handle(layer, name, (x, *begins), tuple(s for s in (h_source, c_source) if isinstance(s, State)))


def _handle(layer: RecurrentLayer, name: str | None, reads: tuple[Tensor, ...], states: tuple[State, ...]) -> Recurrent:
    """Return the handle of a layer whose tensors have no names yet: computed initial states name their places among ``reads``."""
    directions = len(layer.directions)
    fed_back = directions * layer.output_size
    writes: dict[Slot, TensorInfo] = {"": TensorInfo(fed_back, True), "h_n": TensorInfo(fed_back, False)}
    if layer.c_n is not None:
        writes["c_n"] = TensorInfo(directions * layer.hidden_size, False)

    def make(own: str, names: tuple[str, ...]) -> Layer:
        c_n = None if layer.c_n is None else tensor_name(own, "c_n")
        h_start, c_start = (
            tuple(replace(part, tensor=names[int(part.tensor)]) for part in parts)
            for parts in (layer.h_start, layer.c_start)
        )
        h_n = tensor_name(own, "h_n")
        return replace(layer, name=own, input=names[0], output=own, h_n=h_n, c_n=c_n, h_start=h_start, c_start=c_start)

    node = Node(layer.cell, name, reads, make, writes, states)
    return Recurrent(
        node.tensor(), node.tensor("h_n"), node.tensor("c_n") if "c_n" in writes else None, layer, reads[0]
    )


def _kind(value: Any) -> Any:
    return value.kind if isinstance(value, Activation) else value


def _initial(where: str, what: str, value: Any, size: int, meaning: str) -> tuple[InitialState, State | Tensor | None]:
    if isinstance(value, State):
        if value.size != size:
            raise DataError(f"{where}: {what} is the state input {value.name!r} of size {value.size}, expected {size}")
        return InitialState(np.zeros(size), value.name, np.arange(size)), value
    if isinstance(value, Recurrent):
        raise DataError(f"{where}: {what} is a whole layer; give one of its tensors, as .h_n")
    if isinstance(value, Tensor):
        if value.has_time or value.features != size:
            shape = f"[N, T, {value.features}]" if value.has_time else f"[N, {value.features}]"
            raise DataError(
                f"{where}: {what} is {value.name!r} {shape}, expected [N, {size}], such as another layer's h_n"
            )
        return InitialState(np.zeros(size)), value
    return InitialState(shaped_or_zeros(where, what, value, (size,), meaning)), None


def _projection(where: str, value: Any, hidden: int) -> Projection:
    if isinstance(value, Projection):
        given = value
    else:
        w = matrix(where, "projection", value, f"[P, H] with H = {hidden}")
        given = Projection(w, np.zeros(len(w)))
    if given.weight.shape[1] != hidden:
        raise DataError(
            f"{where}: projection has shape {list(given.weight.shape)}, expected [P, H] = [{len(given.weight)}, {hidden}]"
        )
    return given


def _peephole(where: str, given: Mapping[str, Any], gates: tuple[str, ...], hidden: int) -> FloatArray:
    allowed = [gate for gate in gates if gate != "g"]
    if not isinstance(given, Mapping) or not set(given) <= set(allowed):
        found = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise DataError(f"{where}: peephole has {found}, expected a mapping from gates ({', '.join(allowed)}) to [H]")
    blocks = [shaped_or_zeros(where, f"peephole {gate}", given.get(gate), (hidden,), "[H]") for gate in gates]
    return real_array(where, "peephole", np.concatenate(blocks))
