"""The commands on good input: what they write, print and return."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from model.qrnn_files import differences

from cli.running import Cli, Workplace
from qrnn.accuracy.compare import compare
from qrnn.conversion import DEFAULT_SCHEME, quantize
from qrnn.errors import QrnnError
from qrnn.examples import digits_calibration, digits_model, digits_test
from qrnn.hardware.chips import chips, names
from qrnn.model.file import load, save
from qrnn.onnx_import import load_onnx
from qrnn.quantization.scheme import AUTO, Scheme
from qrnn.running.session import Session
from qrnn.targets import target_names, targets_folder


def strict_json(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


# --- convert ------------------------------------------------------------------------------------------------------------------------


def convert(place: Workplace, *options: Any, name: str = "gru", data: str = "x") -> Path:
    out = place.path("out.qrnn")
    done = place.cli(
        "convert", place.path(f"{name}.onnx"), "--calibration", place.path(f"{data}.npz"), "-o", out, *options
    )
    assert (done.status, done.lines) == (0, []), done.err
    assert f"wrote {out}" in done.out
    assert "overflow proof: " in done.out
    assert "on the calibration data, " in done.out
    assert "-bit weights" in done.out
    return out


@pytest.mark.parametrize(
    ("options", "scheme"),
    [
        ([], DEFAULT_SCHEME),
        (["--gates", "pwl:64"], Scheme(activations=AUTO, gates="pwl:64")),
        (["--calibrator", "percentile"], Scheme(activations=AUTO, calibrator="percentile")),
        (
            ["--calibrator", "mse", "--input-scheme", "8-per-feature"],
            Scheme(activations=AUTO, calibrator="mse", input="8-per-feature"),
        ),
        (["--activations", "16"], Scheme(activations=16)),
        (["--weights", "4"], Scheme(activations=AUTO, weights=4)),
        (["--input-scheme", "16", "--target", "host-cpu"], Scheme(activations=AUTO, input="16")),
    ],
)
def test_convert_is_quantize_and_save(place: Workplace, options: list[str], scheme: Scheme) -> None:
    out = convert(place, *options, data="lengths")
    target = "host-cpu" if "host-cpu" in options else "generic"
    expected = quantize(load_onnx(place.path("gru.onnx")), arrays(place.path("lengths.npz")), scheme, target)
    assert differences(load(out), expected) == []


def test_convert_writes_the_same_bytes_twice(place: Workplace) -> None:
    first = convert(place).read_bytes()
    assert convert(place).read_bytes() == first


def test_convert_accepts_labels_beside_the_inputs(place: Workplace) -> None:
    assert load(convert(place, data="labels")).provenance.calibration_sequences == 6


def test_convert_prints_notes_as_they_are(place: Workplace) -> None:
    """Names in a graph may look like markup or emoji codes of the terminal library."""
    model = onnx.load(str(place.path("gru.onnx")))
    for node in model.graph.node:
        if node.op_type == "GRU":
            node.name = "[/bold] :smile: [red]"
    place.path("gru.onnx").write_bytes(model.SerializeToString())
    out = convert(place)
    for command in (
        ["inspect", out],
        ["compare", place.path("gru.onnx"), out, "--data", place.path("labels.npz"), "--plot", place.path("p.png")],
    ):
        done = place.cli(*command)
        assert done.status == 0, done.err
        flat = "".join(done.out.split())
        assert "[/bold]" in flat
        assert ":smile:" in flat


# --- run ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_run_writes_what_a_session_gives(place: Workplace, backend: str) -> None:
    out = place.path("out.npz")
    done = place.cli("run", place.path("gru.qrnn"), "-i", place.path("lengths.npz"), "-o", out, "--backend", backend)
    assert (done.status, done.lines) == (0, [])
    assert f"wrote {out}" in done.out
    data = arrays(place.path("lengths.npz"))
    session = Session(load(place.path("gru.qrnn")), "reference")
    expected = session.run({"x": data["x"]}, data["lengths"], real="float64").outputs["logits"]
    got = arrays(out)
    assert list(got) == ["logits"]
    assert got["logits"].dtype == data["x"].dtype
    np.testing.assert_array_equal(got["logits"], expected.astype(data["x"].dtype))
    assert np.abs(got["logits"]).max() > 0


@pytest.mark.parametrize("real", ["float32", "float64"])
def test_run_writes_the_type_that_is_asked_for(place: Workplace, real: str) -> None:
    out = place.path("out.npz")
    place.cli("run", place.path("gru.qrnn"), "-i", place.path("lengths.npz"), "-o", out, "--real", real)
    assert arrays(out)["logits"].dtype == real
    refused = place.cli("run", place.path("gru.qrnn"), "-i", place.path("lengths.npz"), "-o", out, "--real", real[:-1])
    assert refused.status != 0
    assert f"real='{real[:-1]}', expected 'float32' or 'float64'" in " ".join(refused.lines)


def test_run_json(place: Workplace) -> None:
    out = place.path("out.npz")
    done = place.cli(
        "run", place.path("gru.qrnn"), "-i", place.path("lengths.npz"), "-o", out, "--json", "--threads", 1
    )
    report = strict_json(done.out)
    assert report.pop("seconds") >= 0
    assert report == {
        "output": str(out),
        "outputs": {"logits": [6, 5, 3]},
        "sequences": 6,
        "steps": 20,
        "beyond_calibrated_range": {"x": 0},
    }


def test_run_counts_the_values_beyond_the_calibrated_range(place: Workplace) -> None:
    data = arrays(place.path("lengths.npz"))
    assert (
        "beyond"
        not in place.cli(
            "run", place.path("gru.qrnn"), "-i", place.path("lengths.npz"), "-o", place.path("out.npz")
        ).out
    )
    x = data["x"].copy()
    x[0, 0, :2], x[1, 0, 1] = 1e6, -1e6
    x[:, data["lengths"].max() :] = 1e6  # beyond every length
    given = place.npz(x=x, lengths=data["lengths"])
    done = place.cli("run", place.path("gru.qrnn"), "-i", given, "-o", place.path("out.npz"))
    assert (done.status, done.lines) == (0, [])
    total = int(data["lengths"].sum()) * x.shape[2]
    assert f"beyond the calibrated range and clipped: 3 of the {total} values of input 'x'" in done.out


def test_run_replaces_an_old_output(place: Workplace) -> None:
    out = place.path("out.npz")
    out.write_bytes(b"old")
    assert place.cli("run", place.path("ids.qrnn"), "-i", place.path("ids.npz"), "-o", out).status == 0
    assert arrays(out)["logits"].shape == (6, 5, 3)
    assert not [p for p in place.folder.iterdir() if p.name.startswith(".")]


def test_run_honours_the_umask(place: Workplace) -> None:
    old = os.umask(0o027)
    try:
        out = place.path("out.npz")
        assert place.cli("run", place.path("ids.qrnn"), "-i", place.path("ids.npz"), "-o", out).status == 0
    finally:
        os.umask(old)
    assert out.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["file", "allow_pickle", "a/b c", "ß"])
def test_run_with_any_output_name(place: Workplace, name: str) -> None:
    model = load(place.path("gru.qrnn"))
    save(replace(model, outputs=(replace(model.outputs[0], name=name),)), place.path("named.qrnn"))
    out = place.path("out.npz")
    done = place.cli("run", place.path("named.qrnn"), "-i", place.path("x.npz"), "-o", out)
    assert done.status == 0, done.err
    expected = Session(model).run(arrays(place.path("x.npz"))).outputs["logits"]
    np.testing.assert_array_equal(arrays(out)[name], expected)


# --- compare ------------------------------------------------------------------------------------------------------------------------------


def report(place: Workplace, *options: Any, data: str = "labels") -> tuple[int, list[str], Any]:
    out = place.path("report.json")
    done = place.cli(
        "compare", place.path("gru.onnx"), place.path("gru.qrnn"), "--data", place.path(f"{data}.npz"), "--json", out, *options
    )  # fmt: skip
    assert "Against the float64 oracle" in done.out
    return done.status, done.lines, strict_json(out.read_text())


def test_compare_json_is_the_library_report(place: Workplace) -> None:
    status, lines, got = report(place)
    assert (status, lines) == (0, [])
    onnx_path = place.path("gru.onnx")
    expected = compare(
        load_onnx(onnx_path), load(place.path("gru.qrnn")), arrays(place.path("labels.npz")), onnx_path=onnx_path
    )
    assert got == json.loads(json.dumps(expected.to_dict()))
    assert got["sequences"] == 6
    assert got["steps"] == 20


def test_compare_gates_at_their_edges(place: Workplace) -> None:
    """Each gate passes at the measured figure and fails a little beyond it, alone and with its own line."""
    _, _, measured = report(place)
    sqnr = measured["outputs"]["logits"]["sqnr_about_mean_db"]
    agreement = 100 * measured["decisions"]["agreement"]["rate"]
    drop = measured["decisions"]["accuracy_drop_points"]
    for option, good, bad, says in (
        ("--min-sqnr", sqnr - 0.01, sqnr + 0.01, f"logits: SQNR about the mean {sqnr:.2f} dB is below"),
        ("--min-agreement", agreement - 0.01, agreement + 0.01, f"agreement {agreement:.2f} % is below"),
        ("--max-accuracy-drop", drop + 0.01, drop - 0.01, f"accuracy drop {drop:.2f} points is above"),
    ):
        assert report(place, option, good)[:2] == (0, [])
        status, lines, again = report(place, option, bad)
        assert status == 1
        assert len(lines) == 1
        assert lines[0].startswith(f"failed: {says}")
        assert again == measured
    status, lines, _ = report(place, "--min-sqnr", 999, "--min-agreement", 101, "--max-accuracy-drop", -200)
    assert status == 1
    assert len(lines) == 3


def test_compare_draws_a_picture(place: Workplace) -> None:
    picture = place.path("p.png")
    status, lines, _ = report(place, "--plot", picture)
    assert (status, lines) == (0, [])
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    width, height = (int.from_bytes(content[k : k + 4], "big") for k in (16, 20))
    assert width == 960
    assert height > 600


def test_compare_on_the_reference_backend(place: Workplace) -> None:
    _, _, a = report(place)
    _, _, b = report(place, "--backend", "reference")
    assert b.pop("backend") == "reference"
    assert a.pop("backend") == "cpu"
    assert a == b


# --- random calibration ---------------------------------------------------------------------------------------------------------------


def test_random_calibration_is_recorded_and_warned_of(place: Workplace) -> None:
    onnx_path, model, data = place.path("gru.onnx"), place.path("random.qrnn"), place.path("x.npz")
    done = place.cli("convert", onnx_path, "--calibration", "random", "-o", model)
    assert done.status == 0
    assert "warning: calibrated on random numbers" in " ".join(done.err.split())
    for command in (
        ["run", model, "-i", data, "-o", place.path("out.npz")],
        ["compare", onnx_path, model, "--data", data],
        ["inspect", model],
        ["inspect", model, "--json"],
    ):
        done = place.cli(*command)
        assert done.status == 0, done.err
        assert len(done.lines) == 1
        assert done.lines[0].startswith("warning: random.qrnn was calibrated on random numbers")
    assert strict_json(done.out)["provenance"]["random_calibration"] is True
    assert "calibrated on random numbers" in place.cli("inspect", model).out
    assert "calibrated on random numbers" in place.cli("compare", onnx_path, model, "--data", data).out


def test_real_calibration_is_not_warned_of(place: Workplace) -> None:
    done = place.cli("inspect", place.path("gru.qrnn"))
    assert (done.status, done.lines) == (0, [])
    assert "random" not in done.out


# --- inspect and targets ----------------------------------------------------------------------------------------------------------------


def test_inspect(place: Workplace) -> None:
    model = load(place.path("gru.qrnn"))
    d = strict_json(place.cli("inspect", place.path("gru.qrnn"), "--json").out)
    weights = [m.weight for m in (model.layers[0].directions[0].ih, model.layers[0].directions[0].hh, model.layers[1].matrix)]  # type: ignore[union-attr]  # fmt: skip
    assert d["proof"] == dict(model.proof)
    assert [m["bytes"] for m in d["matrices"]] == [w.size for w in weights]
    assert d["bytes"]["weights"] == sum(w.size for w in weights)
    assert d["bytes"]["state"] == 2 * 5
    assert d["bytes"]["rows"] == (15 + 15 + 3) * 10
    assert d["bytes"]["tables"] == 2 * 2 * 129
    assert {t["name"]: t["scales"] for t in d["tensors"]} == {n: list(f.scale) for n, f in model.tensors.items()}
    x = next(t for t in d["tensors"] if t["name"] == "x")
    assert (x["shape"], x["format"]) == ("[N, T, 4]", "int8")
    assert d["provenance"]["source_sha256"] == model.provenance.source_sha256
    text = place.cli("inspect", place.path("gru.qrnn")).out
    for part in (
        "contract",
        model.provenance.source_sha256,
        "weight_ih",
        "[N, T, 4]",
        "Q0.15",
        *model.provenance.decisions,
    ):
        assert part in text


def test_inspect_shows_four_bits(place: Workplace) -> None:
    """The recurrent matrices [15, 4] and [15, 5] have nibbles in whole bytes per row, and one scale; the head has eight bits."""
    d = strict_json(place.cli("inspect", convert(place, "--weights", 4), "--json").out)
    assert [(m["bits"], m["bytes"]) for m in d["matrices"]] == [(4, 15 * 3), (4, 15 * 4), (8, 15)]
    assert d["bytes"]["weights"] == 15 * 3 + 15 * 4 + 15
    assert "bits" in place.cli("inspect", place.path("out.qrnn")).out


def test_inspect_row_scales_are_those_of_the_float_weights(place: Workplace) -> None:
    """Scales shown for a matrix are recovered from its multipliers: int8 weights times them are the float weights."""
    from qrnn.model.layer_facts import row_scale

    model, source = load(place.path("gru.qrnn")), load_onnx(place.path("gru.onnx"))
    dense, real = model.layers[1], source.layers[1]
    fracs = np.full(3, dense.out_frac, np.int64)  # type: ignore[union-attr]
    unit = 2.0 ** (dense.operand.shift - 15)  # type: ignore[union-attr]
    scale = row_scale(dense.matrix, dense.pre_shift, fracs) / unit  # type: ignore[union-attr]
    weight = dense.matrix.weight * scale[:, None]  # type: ignore[union-attr]
    assert np.abs(weight - real.weight).max() <= 0.5001 * scale.max()  # type: ignore[union-attr]


def test_targets(cli: Cli) -> None:
    listed = strict_json(cli("targets", "--json").out)
    assert [t["name"] for t in listed] == [*target_names(), *chips()]
    text = cli("targets").out
    for name in (*target_names(), *names()):
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
    assert all(len(line) <= 80 for line in text.splitlines())


def test_one_target(cli: Cli, tmp_path: Path) -> None:
    shown = strict_json(cli("targets", "cortex-m4", "--json").out)
    assert shown == next(t for t in strict_json(cli("targets", "--json").out) if t["name"] == "cortex-m4")
    text = cli("targets", "cortex-m4").out
    for part in ("Cortex-M4", "STM32F407VG", "168 MHz", "192.0 KiB", "mps2-an386", "0x20000000", "dsp", "pwl:128"):
        assert part in text
    assert "verified on the device itself" in cli("targets", "esp32-s3").out
    assert "emulated" not in cli("targets", "host-cpu").out
    own = tmp_path / "mine.toml"
    own.write_text((targets_folder() / "cortex-m4.toml").read_text().replace('name = "cortex-m4"', 'name = "mine"'))
    assert cli("targets", own).out.replace("mine:", "cortex-m4:") == text
    for wrong in ("toaster", tmp_path / "none.toml"):
        done = cli("targets", wrong)
        assert done.status == 2
        assert len(done.lines) == 1


def test_help(cli: Cli) -> None:
    done = cli("--help")
    assert done.status == 0
    for command in ("convert", "run", "compare", "inspect", "gates", "targets", "demo"):
        assert command in done.out
        assert cli(command, "--help").status == 0


# --- the bundled example, and real processes ------------------------------------------------------------------------------------------


def test_demo_keeps_its_files(cli: Cli, tmp_path: Path) -> None:
    done = cli("demo", "--short", "-o", tmp_path / "new" / "demo")
    assert (done.status, done.err) == (0, "")
    folder = tmp_path / "new" / "demo"
    assert sorted(p.name for p in folder.iterdir()) == [
        "digits_calibration.npz", "digits_gru.onnx", "digits_gru.qrnn", "digits_out.npz", "digits_test.npz",
    ]  # fmt: skip
    assert "the files of this demo are in" in done.out
    result, data = arrays(folder / "digits_out.npz")["logits"], arrays(digits_test())
    assert (result[:, -1].argmax(axis=1) == data["labels"]).mean() >= 0.98
    expected = quantize(load_onnx(digits_model()), arrays(digits_calibration()))
    assert differences(load(folder / "digits_gru.qrnn"), expected) == []
    assert cli("demo", "--short", "-o", folder).status == 0  # again, over the old files


def process(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qrnn", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        env=os.environ | environment,
        check=False,
        timeout=300,
    )


@pytest.mark.matrix
def test_demo_in_a_process(tmp_path: Path) -> None:
    done = process("demo", "-o", tmp_path / "demo", COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("convert", "run", "compare", "explain", "sweep", "fit", "export", "verify"):
        assert f"$ qrnn {part}" in done.stdout
    for part in ("wrote", "Against the float64 oracle", "accuracy", "Front of", "Next, with a model of your own"):
        assert part in done.stdout
    assert "every output and state is equal" in done.stdout or "left out: " in done.stdout
    assert (tmp_path / "demo" / "sweep" / "report.html").exists()


def test_error_in_a_process(place: Workplace) -> None:
    out = place.path("out.npz")
    done = process("run", place.path("x.npz"), "-i", place.path("x.npz"), "-o", out)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
    assert not out.exists()


def test_ascii_terminal(place: Workplace) -> None:
    """The report holds characters that a terminal may not know."""
    done = process("inspect", place.path("gru.qrnn"), PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


def test_library_errors_have_one_root() -> None:
    import qrnn.errors

    kinds = [v for v in vars(qrnn.errors).values() if isinstance(v, type) and v.__module__ == "qrnn.errors"]
    assert len(kinds) == 10
    assert all(issubclass(kind, QrnnError) for kind in kinds)
