"""Libraries: one interface over several kernels, what a linker sees of them, and the programs beside them in C++, Rust and JavaScript."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import shutil
import subprocess
import threading
import time
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from installed import compiler, tool
from lab.chromium import BROWSER, chromium
from typer.testing import CliRunner

from export.building import compile_program
from export.hosts import host_target
from export.kinds import kind
from qrnn.cli.commands import app
from qrnn.devices.hosts import host_of, runs_here
from qrnn.devices.library import export_library
from qrnn.errors import DataError, TargetError
from qrnn.export.example_values import example_inputs
from qrnn.export.expected import host_results, random_sequences
from qrnn.export.library_source import LibrarySource, library_source
from qrnn.model.file import save
from qrnn.targets import load_target, targets_folder

NATIVE = "x86-64"
FORMS = ("lstm", "shared", "windows of 16 bits with strides")
EVERY = [pytest.param(which, marks=pytest.mark.matrix if which.startswith("windows") else ()) for which in FORMS]
"""A model that streams, one that needs whole sequences, and one whose steps give no row or several."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that exports the library of a kind for a target, once."""
    folder = tmp_path_factory.mktemp("libraries")

    @cache
    def make(which: str, name: str) -> tuple[Path, LibrarySource]:
        target = host_target(name)
        place = folder / f"{which} {name}"
        return place, export_library(kind(which), target, place, "net", "2.3.4")

    return make


def native(name: str = NATIVE) -> str:
    """The target's name; the test is skipped where this machine does not run it itself."""
    if not runs_here(host_of(host_target(name))):
        pytest.skip(f"this machine is no {name}")
    return name


def expected(which: str, source: LibrarySource) -> dict[str, list[int]]:
    """What an example prints, by output."""
    model = kind(which)
    inputs = example_inputs(model, source)
    kinds = {p.name: np.dtype(p.kind.removesuffix("_t")) for p in source.model.inputs}
    found = host_results(model, source.model, [{k: v.astype(kinds[k]) for k, v in inputs.items()}], "reference")[0]
    return {name: np.asarray(values).reshape(-1).tolist() for name, values in found.outputs.items()}


def printed(text: str) -> dict[str, list[int]]:
    """The integers of each output that an example printed, one line after the other."""
    found: dict[str, list[int]] = {}
    for line in text.splitlines():
        name, *values = line.split(" ")
        found.setdefault(name, []).extend(int(v) for v in values if v)
    return found


def output_of(command: list[Any], **options: Any) -> str:
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, timeout=300, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the library ---


def test_all_kernels_of_a_library_have_the_bits(built: Any) -> None:
    """Those that this processor has; a state goes on from one to the other."""
    place, source = built("lstm", native())
    library = ctypes.CDLL(str(place / "lib" / "libqrnn_net.so"))
    library.net_version.restype = library.net_kernels.restype = ctypes.c_char_p
    library.net_state_size.restype = library.net_state_alignment.restype = ctypes.c_size_t
    assert library.net_version() == b"2.3.4"
    assert library.net_state_alignment() == 8
    model = kind("lstm")
    sequence = random_sequences(model, source.model, (12,), seed=3)[0]
    want = host_results(model, source.model, [sequence], "reference")[0].outputs
    state = (ctypes.c_uint64 * (library.net_state_size() // 8 + 1))()
    library.net_init(state)
    best = library.net_kernels(state).decode()
    usable = [v.kernels for v in source.variants if runs_here(host_of(v.target))]
    assert best == usable[0]
    assert usable[-1] == "plain"
    outputs = {p.name: np.zeros(p.count, p.kind.removesuffix("_t")) for p in source.model.outputs}
    for turn in (usable, usable[::-1]):
        library.net_reset(state)
        for step in range(12):
            assert library.net_use_kernels(state, turn[step % len(turn)].encode()) == 0
            assert library.net_kernels(state) == turn[step % len(turn)].encode()
            x = np.ascontiguousarray(sequence["x"][step])
            library.net_step(state, *(ctypes.c_void_p(a.ctypes.data) for a in (x, *outputs.values())))
            np.testing.assert_array_equal(outputs["y"], want["y"][step])
    for name in ("h", "c"):
        np.testing.assert_array_equal(outputs[name], want[name].reshape(-1))
    for other in ("neon", "", "plai", *(v.kernels for v in source.variants if v.kernels not in usable)):
        assert library.net_use_kernels(state, other.encode()) == 1
        assert library.net_kernels(state) == turn[11 % len(turn)].encode()


@pytest.mark.parametrize(
    "name",
    [
        "x86-64",
        pytest.param("aarch64-dotprod", marks=pytest.mark.matrix),
        pytest.param("rv64gcv", marks=pytest.mark.matrix),
    ],
)
def test_linkers_see_the_interface_alone(name: str, built: Any) -> None:
    place, source = built("lstm", name)
    nm, readelf = tool("nm"), tool("readelf")
    shared, static = (place / "lib" / f"libqrnn_net.{end}" for end in ("so", "a"))
    for command in ([nm, "-D", "--defined-only", shared], [nm, "-g", "--defined-only", static]):
        symbols = {line.split()[2] for line in output_of(command).splitlines() if len(line.split()) == 3}
        assert symbols == set(source.symbols)
    assert "[libqrnn_net.so.2]" in output_of([readelf, "-d", shared])
    assert os.readlink(shared) == "libqrnn_net.so.2"
    assert os.readlink(place / "lib" / "libqrnn_net.so.2") == "libqrnn_net.so.2.3.4"
    stack = next(line for line in output_of([readelf, "-lW", shared]).splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack
    writable = [
        line.split()[1]
        for line in output_of([nm, static]).splitlines()
        if len(line.split()) == 3 and line.split()[1] in "bBC"
    ]
    assert writable == []  # no global that is written


@pytest.mark.wide("way")
@pytest.mark.parametrize("way", ["shared", "static", "pkg-config"])
@pytest.mark.parametrize("which", EVERY)
def test_the_program_in_cxx(which: str, way: str, built: Any, tmp_path: Path) -> None:
    place, source = built(which, native())
    link = {"shared": ["-L", place / "lib", "-lqrnn_net"], "static": [place / "lib" / "libqrnn_net.a"]}.get(way)
    include = [f"-I{place / 'include'}"]
    if link is None:
        pkg = [tool("pkg-config"), "--cflags", "--libs", "qrnn_net"]
        said = output_of(pkg, env={**os.environ, "PKG_CONFIG_PATH": str(place / "lib" / "pkgconfig")})
        include, link = [], [*shlex.split(said)]
    strict = ["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    compile_program(
        [compiler("g++"), *strict, *include, place / "examples/cpp/main.cpp", *link, "-o", tmp_path / "example"]
    )
    found = output_of([tmp_path / "example"], env={**os.environ, "LD_LIBRARY_PATH": str(place / "lib")})
    assert printed(found) == expected(which, source)


def test_the_kernels_are_those_of_the_processor(built: Any, tmp_path: Path) -> None:
    """The processors are those that QEMU has: none has AVX-512, and the first has no AVX2. QEMU 7.2 runs some gathers of AVX2 wrong."""
    place, source = built("lstm", native())
    link = [place / "lib" / "libqrnn_net.a", "-o", tmp_path / "example"]
    compile_program([compiler("g++"), f"-I{place / 'include'}", place / "examples/cpp/main.cpp", *link])
    for processor, kernels in (("qemu64", "plain"), ("max", "avx2")):
        command = [tool("qemu-x86_64"), "-cpu", processor, tmp_path / "example"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert f"kernels: {kernels}\n" in done.stderr
        assert kernels != "plain" or printed(done.stdout) == expected("lstm", source)


def test_the_folder_may_be_moved(built: Any, tmp_path: Path) -> None:
    """What pkg-config says follows the file."""
    place, _ = built("lstm", native())
    shutil.copytree(place, tmp_path / "else where", symlinks=True)
    environment = {**os.environ, "PKG_CONFIG_PATH": str(tmp_path / "else where" / "lib" / "pkgconfig")}
    assert "else\\ where" in output_of([tool("pkg-config"), "--cflags", "qrnn_net"], env=environment)


@pytest.mark.parametrize("which", EVERY)
def test_the_program_in_rust(which: str, built: Any, tmp_path: Path) -> None:
    """By Cargo where it is installed, else by the compiler alone, which does then what build.rs says."""
    place, source = built(which, native())
    rust, rustc = place / "examples" / "rust", tool("rustc")
    if subprocess.run([rustc, "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("rustc is installed, and has no toolchain")
    if shutil.which("cargo") is not None:
        environment = {
            **os.environ,
            "CARGO_TARGET_DIR": str(tmp_path),
            "CARGO_HOME": str(tmp_path / "home"),
            "RUSTFLAGS": "-Dwarnings",
        }
        environment |= {"RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))}
        found = output_of(["cargo", "run", "--release", "--offline", "--quiet"], cwd=rust, env=environment)
    else:
        own = ["--edition", "2021", "-Dwarnings", "-O"]
        library = tmp_path / "libmodel.rlib"
        output_of([rustc, *own, "--crate-type", "rlib", "--crate-name", "model", rust / "src/lib.rs", "-o", library])
        link = ["-L", f"native={place / 'lib'}", "-l", "static=qrnn_net", "--extern", f"model={library}"]
        output_of([rustc, *own, rust / "src/main.rs", *link, "-o", tmp_path / "example"])
        found = output_of([tmp_path / "example"])
    assert printed(found) == expected(which, source)


@pytest.mark.parametrize("which", EVERY)
def test_the_program_in_javascript(which: str, built: Any) -> None:
    place, source = built(which, "wasm32-simd128")
    assert printed(output_of([tool("node"), place / "examples" / "node.mjs"])) == expected(which, source)


USES = """
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { info, load, quantize, dequantize } from "./net.mjs";

const [port] = info.inputs;
const bytes = readFileSync(new URL("./net.wasm", import.meta.url));
for (const source of [undefined, bytes, await WebAssembly.compile(bytes), new URL("./net.wasm", import.meta.url)]) {
  const model = await load(source);
  const real = Float64Array.from({ length: 7 * port.size }, (_, k) => Math.sin(k));
  const x = quantize(port, real);
  assert.ok(dequantize(port, x).every((value, k) => Math.abs(value - real[k]) <= port.scale[0] * 0.5001));
  assert.deepEqual([...quantize(port, [1e9, -1e9])], [port.limit, -port.limit]);
  const whole = model.run({ x }, 7);
  const streams = [model.stream(), model.stream()];
  for (let step = 0; step < 7; step++) {
    for (const stream of streams) {
      const { y } = stream.step({ x: x.subarray(step * port.size, (step + 1) * port.size) });
      const size = y.length;
      assert.deepEqual(y, whole.y.slice(step * size, (step + 1) * size));
    }
    model.run({ x: new Int16Array(40000 * port.size) }, 40000); // the memory grows
  }
  streams[0].reset();
  assert.deepEqual(streams[0].step({ x: x.subarray(0, port.size) }).y, whole.y.slice(0, info.outputs[0].size));
  streams[0].close();
  assert.throws(() => streams[1].step({ x: [1] }), /input x: 1 integers, expected/);
  assert.throws(() => streams[1].step({}), /input x: nothing integers, expected|input x: nothing/);
}
"""


def test_uses_of_the_javascript_module(built: Any) -> None:
    place, _ = built("lstm", "wasm32-simd128")
    (place / "uses.mjs").write_text(USES)
    output_of([tool("node"), place / "uses.mjs"])


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that writes no log."""

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@pytest.mark.matrix
def test_the_page_in_a_browser(built: Any) -> None:
    """Its module is loaded and compiled by Chromium, from a server as browsers ask for."""
    if BROWSER is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    place, source = built("lstm", "wasm32-simd128")
    model = kind("lstm")
    zeros = {p.name: np.zeros((1, p.count), np.int16) for p in source.model.inputs}
    want = host_results(model, source.model, [zeros], "reference")[0].outputs
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(place))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with chromium() as page:
            page.send("Page.navigate", url=f"http://127.0.0.1:{server.server_port}/examples/index.html")
            end, text = time.monotonic() + 30, "loading"
            while text == "loading":
                assert time.monotonic() < end, "the page did not load"
                time.sleep(0.05)
                text = page.js("document.getElementById('out')?.textContent ?? 'loading'")
        server.shutdown()
    assert printed(text) == {name: np.asarray(values).reshape(-1).tolist() for name, values in want.items()}


# --- the folder and the command ---


def test_an_export_takes_the_place_of_another_alone(tmp_path: Path) -> None:
    target = host_target("x86-64-v3")
    place = tmp_path / "out"
    export_library(kind("lstm"), target, place, "net")
    export_library(kind("rnn"), target, place, "other", "3.0.0")
    assert json.loads((place / "manifest.json").read_text())["version"] == "3.0.0"
    assert sorted(p.name for p in (place / "include").iterdir()) == ["other.h"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(DataError, match="it is not empty, and not from an earlier export"):
        export_library(kind("lstm"), target, tmp_path / "full", "net")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine"]


@pytest.mark.parametrize("version", ["1", "1.2", "1.2.3.4", "v1.2.3", "1.02.3", "1.2.3\n", "-1.0.0", ""])
def test_a_version_has_three_numbers(version: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected three numbers such as"):
        export_library(kind("lstm"), load_target(NATIVE), tmp_path / "out", "net", version)
    assert not (tmp_path / "out").exists()


def test_a_target_without_an_operating_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"target cortex-m4 has no operating system .* expected one of aarch64-dotprod, .*x86-64"
    ):
        export_library(kind("lstm"), load_target("cortex-m4"), tmp_path / "out", "net")


@pytest.mark.parametrize(
    ("variants", "says"),
    [
        ('["aarch64-dotprod"]', r"has kernels neon of aarch64, .* expected vnni of x86_64, avx2 of x86_64"),
        ('["cortex-m4"]', "has kernels dsp of None"),
        ('["x86-64-v3", "x86-64-v3"]', "have kernels avx2; leave x86-64-v3 out"),
        ('["toaster"]', "'toaster' is unknown"),
    ],
)
def test_variants_that_no_library_can_choose_are_refused(variants: str, says: str, tmp_path: Path) -> None:
    text = (targets_folder() / "x86-64.toml").read_text().replace('["x86-64-v4-vnni", "x86-64-v3"]', variants)
    (tmp_path / "own.toml").write_text(text.replace('name = "x86-64"', 'name = "own"'))
    with pytest.raises(TargetError, match=says):
        export_library(kind("lstm"), load_target(str(tmp_path / "own.toml")), tmp_path / "out", "net")


def test_names_of_a_model_are_not_those_of_a_system() -> None:
    source = library_source(kind("lstm"), load_target(NATIVE), "math", "1.0.0")
    assert source.name == "model_math"
    assert "model_math_step" in source.symbols
    assert [v.exported.name for v in source.variants] == ["model_math_vnni", "model_math_avx2", "model_math_plain"]


def test_the_command(tmp_path: Path) -> None:
    host_target("x86-64-v3")
    save(kind("lstm"), tmp_path / "net.qrnn")
    command = ["export", str(tmp_path / "net.qrnn"), "-o", str(tmp_path / "out"), "--target", "x86-64-v3"]
    done = CliRunner().invoke(app, [*command, "--library", "--library-version", "1.4.0"])
    assert done.exit_code == 0, done.output
    assert "the library of net 1.4.0 for x86-64-v3, kernels avx2" in done.output
    assert (tmp_path / "out" / "lib" / "libqrnn_net.so.1.4.0").is_file()
    for wrong, words in (
        ([*command, "--library-version", "1.4.0"], "--library-version without --library"),
        ([*command, "--library", "--data", str(tmp_path / "x.npz")], "a library has one layout and no self-test"),
    ):
        done = CliRunner().invoke(app, wrong)
        assert done.exit_code != 0
        assert words in str(done.exception or done.output)
