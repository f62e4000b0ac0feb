"""The parts of recurrent layers, each edited by itself: what does not fit its layer is refused, and says what it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.qrnn_files import QrnnFile
from model.test_edited_files import check_harmless, fit_proof, good
from qrnn.errors import ModelFileError
from qrnn.model.file import load
from qrnn.model.kinds.recurrent import QuantRecurrent

Edit = Callable[[QrnnFile, dict[str, Any]], None]


def put(file: QrnnFile, owner: dict[str, Any], name: str, change: Callable[[Any], Any]) -> None:
    """Give ``owner`` a tensor of its own: its present one, changed."""
    key = f"edited.{len(file.tensors)}"
    file.tensors[key] = np.ascontiguousarray(change(file.tensors[owner[name]["tensor"]].copy()))
    owner[name] = {"tensor": key}


def array(part: str, name: str, change: Callable[[Any], Any]) -> Edit:
    """Change one tensor of a part of the direction."""
    return lambda file, layer: put(file, layer["directions"][0][part], name, change)


def value(part: str, **values: Any) -> Edit:
    """Set fields of a part of the direction; ``part`` empty for the direction, ``layer`` for its layer."""

    def edit(file: QrnnFile, layer: dict[str, Any]) -> None:
        direction = layer["directions"][0]
        {"": direction, "layer": layer}.get(part, direction.get(part)).update(values)

    return edit


def coarsest_h(file: QrnnFile, layer: dict[str, Any]) -> None:
    """Let h be in whole units, and so its tensors and the layer that adds one of them."""
    layer["h_frac"] = 0
    for name in (layer["output"], layer["h_n"]):
        file.structure["tensors"][name]["scale"] = [1.0]
    add = next(other for other in file.structure["layers"] if other["type"] == "QuantAdd")
    add |= {side: 0 for side in ("left_frac", "right_frac") if add[side.removesuffix("_frac")] == layer["output"]}


def set_all(number: int) -> Callable[[Any], Any]:
    return lambda a: np.full_like(a, number)


def gate(number: int, column: int, to: int) -> Edit:
    """Set one parameter of a gate function."""

    def edit(file: QrnnFile, layer: dict[str, Any]) -> None:
        def change(params: Any) -> Any:
            params[column] = to
            return params

        put(file, layer["directions"][0]["gates"][number], "params", change)

    return edit


def matrix(name: str, change: Callable[[Any], Any]) -> Edit:
    """Change one tensor of the projection's matrix."""
    return lambda file, layer: put(file, layer["directions"][0]["projection"]["matrix"], name, change)


def operand(**values: int) -> Edit:
    """Set fields of the projection's operand."""
    return lambda _, layer: layer["directions"][0]["projection"]["operand"].update(**values)


def fewer_peepholes(file: QrnnFile, layer: dict[str, Any]) -> None:
    for name in ("weight", "shift"):
        put(file, layer["directions"][0]["peephole"], name, lambda a: a[:-1])


def both(file: QrnnFile, layer: dict[str, Any]) -> None:
    """A projection with a function and a softmax's table."""
    projection = layer["directions"][0]["projection"]
    file.tensors["table"] = good("rnn, softmax fed back").tensors["layers.0.directions.0.projection.table"]
    projection["table"] = {"tensor": "table"}


def first_entry(to: int) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        table[0] = to
        return table

    return change


def four(name: str, change: Callable[[Any], Any]) -> Edit:
    """Change one tensor of the inputs' matrix [20, 35] of four-bit weights."""
    return array("ih", name, change)


def entry(to: int) -> Callable[[Any], Any]:
    """Set the last entry."""

    def change(a: Any) -> Any:
        a[-1, -1] = to
        return a

    return change


def as_bytes(file: QrnnFile, layer: dict[str, Any]) -> None:
    layer["directions"][0]["hh"]["type"] = "QuantMatrix"


FOUR = "lstm, four bits"
PEEPHOLES, PROJECTION, FED_BACK, NO_FORGET = (
    "lstm, peepholes",
    "lstm, projection",
    "rnn, softmax fed back",
    "lstm, no forget gate",
)
EDITS: tuple[tuple[str, str, Edit, str], ...] = (
    ("peephole fewer", PEEPHOLES, array("peephole", "weight", lambda w: w[:-1]), r"peephole\.shift is int8\[15\], expected int8\[14\]"),
    ("peephole fewer rows", PEEPHOLES, fewer_peepholes, "peephole size"),
    ("peephole matrix", PEEPHOLES, array("peephole", "weight", lambda w: w[:, None]), r"peephole\.weight is int16\[15, 1\]"),
    ("peephole scalar", PEEPHOLES, array("peephole", "weight", lambda w: w[0]), "peephole"),
    ("peephole type", PEEPHOLES, array("peephole", "weight", lambda w: w.astype(np.int8)), "expected a tensor of int16"),
    ("peephole shift type", PEEPHOLES, array("peephole", "shift", lambda w: w.astype(np.int16)), "expected a tensor of int8"),
    ("peephole shift 47", PEEPHOLES, array("peephole", "shift", set_all(47)), "shift out of 0…46"),
    ("peephole shift -1", PEEPHOLES, array("peephole", "shift", set_all(-1)), "shift out of 0…46"),
    ("peephole null", PEEPHOLES, value("peephole", weight=None), "expected a tensor"),
    ("forget of another", PEEPHOLES, value("layer", forget="gate"), "fewer rows|hh shape|gate functions"),
    ("forget without its function", NO_FORGET, value("layer", forget="gate"), "fewer rows|hh shape|gate functions"),
    ("forget unknown", PEEPHOLES, value("layer", forget="none"), "expected one of"),
    ("forget of a gru", "gru, thresholds", value("layer", forget="one"), "forget=one is for lstm"),
    ("forget of an rnn", "rnn", value("layer", forget="coupled"), "forget=coupled is for lstm"),
    ("projection columns", PROJECTION, matrix("weight", lambda w: w[:, :-1]), "projection shape"),
    ("projection rows", PROJECTION, matrix("weight", lambda w: w[:-1]), r"matrix\.bias"),
    ("projection type", PROJECTION, matrix("weight", lambda w: w.astype(np.int16)), "int8"),
    ("projection proof", PROJECTION, matrix("bias", set_all(2**31 - 1)), r"accumulator bound \d+ ≥ 2\^31"),
    ("projection operand", PROJECTION, operand(limit=32767), "proved for another operand"),
    ("projection operand shift", PROJECTION, operand(shift=16), "operand shift 16"),
    ("projection pre_shift", PROJECTION, array("projection", "pre_shift", set_all(16)), "pre_shift out of 0…15"),
    ("projection pre_shift size", PROJECTION, array("projection", "pre_shift", lambda s: s[:-1]), "pre_shift"),
    ("projection in_frac", PROJECTION, value("projection", in_frac=3), "in_frac and function"),
    ("projection hidden_frac 16", PROJECTION, value("projection", hidden_frac=16), "fraction bits not in 0…15"),
    ("projection both", PROJECTION, both, "both a function and a softmax"),
    ("projection none", PROJECTION, value("", projection=None), "h has 3 features, expected 4"),
    ("projection twice as fine", FED_BACK, value("layer", h_frac=15), "h_frac finer than the projection"),
    ("softmax table size", FED_BACK, array("projection", "table", lambda t: t[:-1]), r"table is int32\[128\]"),
    ("softmax table start", FED_BACK, array("projection", "table", first_entry(32767)), "exp table"),
    ("softmax table sign", FED_BACK, array("projection", "table", lambda t: -t), "exp table"),
    ("softmax table large", FED_BACK, array("projection", "table", lambda t: t * 2), "exp table"),
    ("softmax in_frac", FED_BACK, value("projection", in_frac=16), "fraction bits not in 0…15"),
    ("four bits: nibbles", FOUR, four("nibbles", lambda n: n[:, :-1]), r"nibbles is uint8\[20, 17\], expected uint8\[20, 18\]"),
    ("four bits: rows", FOUR, four("nibbles", lambda n: n[:-1]), r"scale is int8\[20, 2\], expected int8\[19, 2\]"),
    ("four bits: nibbles of rank 1", FOUR, four("nibbles", lambda n: n.reshape(-1)), r"nibbles has shape \[360\]"),
    ("four bits: no nibbles", FOUR, four("nibbles", lambda n: n[:0]), r"nibbles has shape \[0, 18\]"),
    ("four bits: signed nibbles", FOUR, four("nibbles", lambda n: n.view(np.int8)), "expected a tensor of uint8"),
    ("four bits: padding", FOUR, four("nibbles", entry(0x10)), "beyond the last column"),
    ("four bits: scales", FOUR, four("scale", lambda s: s[:, :-1]), r"scale is int8\[20, 1\], expected int8\[20, 2\]"),
    ("four bits: scale type", FOUR, four("scale", lambda s: s.astype(np.int32)), "expected a tensor of int8"),
    ("four bits: scale 0", FOUR, four("scale", entry(0)), "scale 0 or beyond ±15"),
    ("four bits: scale 16", FOUR, four("scale", entry(16)), "scale 0 or beyond ±15"),
    ("four bits: scale -16", FOUR, four("scale", entry(-16)), "scale 0 or beyond ±15"),
    ("four bits: scale -128", FOUR, four("scale", entry(-128)), "scale 0 or beyond ±15"),
    ("four bits: columns", FOUR, value("ih", columns=37), r"nibbles is uint8\[20, 18\], expected uint8\[20, 19\]"),
    ("four bits: other columns", FOUR, value("ih", columns=36), "does not have 36 features"),
    ("four bits: no columns", FOUR, value("ih", columns=0), "expected uint8"),
    ("four bits: fewer than none", FOUR, value("ih", columns=-35), "expected uint8"),
    ("four bits: endless columns", FOUR, value("ih", columns=2**61), "expected uint8"),
    ("four bits: columns missing", FOUR, lambda _, layer: layer["directions"][0]["ih"].pop("columns"), "columns"),
    ("four bits: multiplier", FOUR, four("multiplier", set_all(3)), "multiplier odd"),
    ("four bits: proof", FOUR, four("bias", set_all(2**31 - 1)), r"accumulator bound \d+ ≥ 2\^31"),
    ("four bits: as bytes", FOUR, as_bytes, "expected fields of QuantMatrix"),
    ("h_0 of H", FED_BACK, array("h_0", "value", lambda v: np.zeros(5, np.int32)), "initial state size"),
    ("c_0 of P", PROJECTION, lambda f, la: la["directions"][0].update(c_0=la["directions"][0]["h_0"]), "initial state size"),
    ("c too fine", NO_FORGET, gate(0, 2, 0), "formats of product do not fit"),
    ("c too coarse", NO_FORGET, value("layer", c_frac=0), "formats of argument do not fit"),
    ("h too fine", "gru, thresholds", gate(2, 2, 3), "formats of candidate do not fit"),
    ("h of a negative shift", "rnn", gate(0, 2, 3), "formats of hidden do not fit"),
    ("too many functions", "rnn", lambda f, la: la["directions"][0]["gates"].append(la["directions"][0]["gates"][0]), "2 gate functions"),
    ("gate kind", NO_FORGET, gate(0, 0, 4), "kind 4 unknown"),
    ("gate clip order", NO_FORGET, gate(0, 5, -32768), "clip -32767, -32768 not in order"),
    ("gate clip range", NO_FORGET, gate(0, 3, -32769), "not int16"),
    ("gate segments", NO_FORGET, gate(0, 4, 3), "table"),
    ("gate unused", NO_FORGET, gate(0, 7, 1), "unused parameters"),
    ("odd cut", PEEPHOLES, gate(0, 5, 40000), "cut 40000 not in"),
    ("odd offset", PEEPHOLES, gate(0, 3, 100), "offset 100"),
    ("threshold slope", "gru, thresholds", gate(0, 4, 40000), "does not fit 32 bits"),
    ("threshold value", "gru, thresholds", gate(0, 7, 32769), "bounds"),
    ("threshold at", "gru, thresholds", gate(0, 3, 32768), "threshold 32768 not an int16"),
)  # fmt: skip


def recurrent(file: QrnnFile) -> dict[str, Any]:
    found: dict[str, Any] = next(layer for layer in file.structure["layers"] if layer["type"] == "QuantRecurrent")
    return found


def refused(file: QrnnFile, folder: Path, says: str) -> None:
    fit_proof(file)
    with pytest.raises(ModelFileError, match=says) as caught:
        load(file.write(folder / "edited.qrnn"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "edit", "says"), [e[1:] for e in EDITS], ids=[e[0] for e in EDITS])
def test_parts_that_do_not_fit(name: str, edit: Edit, says: str, tmp_path: Path) -> None:
    file = copy.deepcopy(good(name))
    edit(file, recurrent(file))
    refused(file, tmp_path, says)


@pytest.mark.parametrize(
    ("fracs", "says"),
    [
        ((16, 0, 0), "fraction bits"),
        ((0, -1, 0), "fraction bits"),
        ((5, 7, 8), "out_frac finer than both inputs"),
        ((9, 9, -1), "fraction bits"),
    ],
)
def test_sums_that_do_not_fit(fracs: tuple[int, int, int], says: str, tmp_path: Path) -> None:
    file = copy.deepcopy(good(PROJECTION))
    add = next(layer for layer in file.structure["layers"] if layer["type"] == "QuantAdd")
    add |= dict(zip(("left_frac", "right_frac", "out_frac"), fracs, strict=True))
    refused(file, tmp_path, says)


def test_sums_of_different_sizes(tmp_path: Path) -> None:
    for side, other in (("left", "layer0.h_n"), ("right", "layer0.c_n"), ("left", "nothing"), ("right", "state")):
        file = copy.deepcopy(good(PROJECTION))
        next(layer for layer in file.structure["layers"] if layer["type"] == "QuantAdd")[side] = other
        refused(file, tmp_path, "cannot read|does not have|before it is written")


@pytest.mark.parametrize(
    "kind", ["QuantLastStep", "QuantSoftmax", "QuantPointwise", "QuantDense", "QuantAdd", "QuantConcat"]
)
@pytest.mark.parametrize("source", ["ids", "c_n"])
def test_only_int16_tensors_are_read(kind: str, source: str, tmp_path: Path) -> None:
    """Tokens are for embeddings, and the 32-bit cell state for outputs alone."""
    file = copy.deepcopy(good("tokens"))
    layers, tensors = file.structure["layers"], file.structure["tensors"]
    name = source if source == "ids" else recurrent(file)["c_n"]
    features, timed = tensors[name]["features"], tensors[name]["has_time"]
    new: dict[str, Any] = {"type": kind, "name": "new", "input": name, "output": "new.y"}
    file.tensors["new.w"] = np.ones((features, features), np.int8)
    file.tensors["new.b"], file.tensors["new.m"] = np.zeros(features, np.int32), np.full(features, 1 << 30, np.int32)
    file.tensors["new.s"], file.tensors["new.i"] = np.zeros(features, np.int8), np.arange(features)
    matrix = {"weight": "new.w", "bias": "new.b", "multiplier": "new.m", "left_shift": "new.s"}
    function = recurrent(file)["directions"][0]["gates"][0]
    new |= {
        "QuantLastStep": {},
        "QuantSoftmax": {"in_frac": 0, "table": {"tensor": "exp"}},
        "QuantPointwise": {"in_frac": 0, "out_frac": 14, "function": function},
        "QuantDense": {
            "matrix": {"type": "QuantMatrix", "operand_limit": 127} | {k: {"tensor": v} for k, v in matrix.items()},
            "pre_shift": {"tensor": "new.s"},
            "operand": {"type": "Operand", "shift": 0, "limit": 127},
            "out_frac": 0,
        },
        "QuantAdd": {"left": name, "right": name, "left_frac": 0, "right_frac": 0, "out_frac": 0},
        "QuantConcat": {
            "out_frac": 0,
            "parts": [{"type": "ConcatPart", "tensor": name, "in_frac": 0, "indices": {"tensor": "new.i"}}],
        },
    }[kind]
    if kind in ("QuantAdd", "QuantConcat"):
        del new["input"]
    file.tensors["exp"] = good("lstm, two ways").tensors["layers.2.table"]
    layers.append(new)
    tensors["new.y"] = tensors[name] | {"has_time": timed and kind != "QuantLastStep"}
    refused(file, tmp_path, f"layer new: .*{'does not have|' if kind == 'QuantLastStep' else ''}cannot read '{name}'")


def test_outputs_do_not_read_tokens(tmp_path: Path) -> None:
    file = copy.deepcopy(good("tokens"))
    output = file.structure["outputs"][0]
    file.tensors["zero"] = np.zeros(1, np.int64)
    output |= {"shape": [1], "parts": [["ids", {"tensor": "zero"}, {"tensor": "zero"}]]}
    refused(file, tmp_path, "cannot read 'ids'")


def test_extreme_parts_that_fit_run_alike(tmp_path: Path) -> None:
    """Parts at the ends of what is allowed load, and run the same on every backend."""
    edits: tuple[tuple[str, Edit], ...] = (
        (PEEPHOLES, array("peephole", "shift", set_all(0))),
        (PEEPHOLES, array("peephole", "shift", set_all(46))),
        (PEEPHOLES, array("peephole", "weight", set_all(-32768))),
        (PROJECTION, value("projection", hidden_frac=0)),
        (PROJECTION, array("projection", "pre_shift", set_all(15))),
        (FED_BACK, coarsest_h),
        (FED_BACK, array("projection", "table", set_all(32768))),
        (FED_BACK, value("projection", in_frac=0)),
        (NO_FORGET, gate(0, 3, 32767)),
        ("gru, thresholds", gate(1, 3, 32767)),
        ("gru, thresholds", gate(0, 2, 0)),
        ("gru, thresholds", gate(1, 2, 0)),
        (FOUR, four("nibbles", lambda n: np.where(np.arange(18) < 17, 0x88, 0x08).astype(np.uint8) | (n & 0))),
        (FOUR, four("scale", set_all(-15))),
        (FOUR, four("scale", set_all(15))),
    )
    for number, (name, edit) in enumerate(edits):
        file = copy.deepcopy(good(name))
        edit(file, recurrent(file))
        assert check_harmless(file, tmp_path), number


def test_files_without_the_newer_fields_load(tmp_path: Path) -> None:
    """A file from before them says nothing of forget gates, peepholes and projections."""
    for name in ("lstm, two ways", "gru, reset first", "rnn"):
        file = copy.deepcopy(good(name))
        for layer in file.structure["layers"]:
            if layer["type"] == "QuantRecurrent":
                assert layer.pop("forget") == "gate"
                for direction in layer["directions"]:
                    assert (direction.pop("peephole"), direction.pop("projection")) == (None, None)
        model = load(file.write(tmp_path / "old.qrnn"))
        layers = [layer for layer in model.layers if isinstance(layer, QuantRecurrent)]
        assert all(layer.forget == "gate" and layer.directions[0].projection is None for layer in layers)
