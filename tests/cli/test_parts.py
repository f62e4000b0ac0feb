"""Cut graphs and float parts by commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hybrid.parts import built, saved
from onnx_import.running import data, runtime

from cli.running import Cli, Workplace

pytest.importorskip("onnxruntime")

PLAIN = ("--activations", "16", "--weights", "8", "--input-scheme", "16")
"""Options with which nothing is searched for, which is quick."""


@pytest.fixture
def parts(tmp_path: Path, cli: Cli) -> Workplace:
    """A graph with operators in front and behind that have no handler, and data for it."""
    saved(built("front behind"), tmp_path)
    np.savez(tmp_path / "x.npz", x=data(4, 9, 4), lengths=np.array([9, 5, 7, 9]))
    return Workplace(tmp_path, cli)


def test_a_cut(parts: Workplace) -> None:
    model, x, made = (parts.path(name) for name in ("model.onnx", "x.npz", "part.qrnn"))
    assert parts.cli("inspect", model, "--from", "front", "--to", "middle", "--json").status == 2
    names = [n.output[0] for n in onnx.load(model).graph.node]
    last = names[names.index("behind") - 1]
    ends = ("--from", "front", "--to", last)
    inspected = parts.cli("inspect", model, *ends)
    assert inspected.status == 0, inspected.err
    assert f"--to {last}: [N, T, 5] in files of data" in " ".join(inspected.out.split())
    done = parts.cli("convert", model, "--calibration", x, "-o", made, *PLAIN, *ends)
    assert done.status == 0, done.err
    assert "part.before.onnx" in done.out
    assert "takes x, gives front" in done.out
    before, after = (onnx.load(parts.path(f"part.{word}.onnx")) for word in ("before", "after"))
    onnx.checker.check_model(before, full_check=True)
    feeds = {"x": data(1, 6, 4)}
    front = runtime(before, feeds)["front"]
    np.savez(parts.path("front.npz"), front=front)
    assert parts.cli("run", made, "-i", parts.path("front.npz"), "-o", parts.path("out.npz")).status == 0
    with np.load(parts.path("out.npz")) as out:
        got = runtime(after, {last: out[last].astype(np.float32)})["y"]
    assert np.abs(got - runtime(onnx.load(model), feeds)["y"]).max() < 0.02
    for file in (x, parts.path("front.npz")):
        compared = parts.cli("compare", model, made, "--data", file, "--json", "-", "--min-sqnr", "30")
        assert compared.status == 0, compared.err
        report = json.loads(compared.out)
        assert report["outputs"][last]["sqnr_db"] > 30
        assert report["onnxruntime_against_float64"][last]["sqnr_db"] > 100
    assert parts.cli("compare", model, made, "--data", x, *ends).status == 0
    parts.refused("compare", model, made, "--data", x, "--from", "front", says="leave out --from and --to")
    assert "a part of the source, from front" in parts.cli("inspect", made).out


def test_cuts_that_are_refused(parts: Workplace) -> None:
    convert = ("convert", parts.path("model.onnx"), "--calibration", parts.path("x.npz"), "-o", parts.path("m.qrnn"))
    parts.refused(*convert, "--from", "frnt", says=("--from 'frnt'", "'front'"))
    parts.refused(*convert, "--from", "front,front", says="twice")
    parts.refused(*convert, "--from", ",", says="without a name")
    parts.refused(*convert, "--from", "front", "--float-parts", "auto", says="give either")
    parts.refused(*convert[:-1], "-", "--from", "front", "--to", "behind", says="goes to stdout")
    np.savez(parts.path("other.npz"), z=data(4, 9, 4))
    convert = (*convert[:3], parts.path("other.npz"), *convert[4:])
    last = [n.output[0] for n in onnx.load(parts.path("model.onnx")).graph.node if n.op_type == "MatMul"][2]
    parts.refused(*convert, "--from", "front", "--to", last, says=("'x' is missing", "'front'"))
    parts.refused(*convert, "--float-parts", "auto", says="'x' is missing")


def test_float_parts(parts: Workplace) -> None:
    model, x, made = (parts.path(name) for name in ("model.onnx", "x.npz", "whole.qrnn"))
    parts.refused("convert", model, "--calibration", x, "-o", made, says="Sin")
    done = parts.cli("convert", model, "--calibration", x, "-o", made, *PLAIN, "--float-parts", "auto")
    assert done.status == 0, done.err
    assert "% of the multiply-adds" in done.out
    assert "streams: yes" in done.out
    shown = parts.cli("inspect", made)
    assert "leaves the numeric contract" in " ".join(shown.out.split())
    found = json.loads(parts.cli("inspect", made, "--json").out)
    assert [part["kind"] for part in found["parts"]] == ["float", "integers", "float"]
    assert 0 < found["integer_share_of_multiply_adds"] < 1
    assert parts.cli("run", made, "-i", x, "-o", parts.path("out.npz")).status == 0
    compared = parts.cli("compare", model, made, "--data", x, "--json", "-", "--min-sqnr", "30")
    assert compared.status == 0, compared.err
    assert json.loads(compared.out)["float_parts"]["border"] == found["border"]
    failing = parts.cli("compare", model, made, "--data", x, "--min-sqnr", "300")
    assert failing.status == 1
    assert "of the multiply-adds" in failing.out
    for command in (
        ("export", made, "-o", parts.path("c")),
        ("explain", model, made, "--data", x),
        ("diff", made, made),
        ("fit", made),
        ("compile", made, "-o", parts.path("cache")),
        ("bench", made),
    ):
        done = parts.cli(*command)
        assert done.status == 2, (command, done)
        assert len(done.lines) == 1
    line = parts.refused("export", made, "-o", parts.path("c"), says=("float parts", "'front'", "--from and --to"))
    assert line.startswith("error: ")
    parts.refused("compare", model, made, "--data", x, "--plot", parts.path("p.png"), says="compare with --plot")
    parts.refused("convert", model, "--calibration", "random", "-o", made, "--float-parts", "auto", says="real data")


def test_nothing_has_to_stay(parts: Workplace, good_files: Path) -> None:
    done = parts.cli(
        "convert", *PLAIN, good_files / "gru.onnx", "--calibration", good_files / "x.npz", "-o", parts.path("g.qrnn"), "--float-parts", "auto"
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "nothing has to stay in float" in done.out
