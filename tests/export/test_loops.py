"""Kinds of layers without C of their own: their loops, translated to C, give the bits of their loops in Python."""

from __future__ import annotations

import inspect
import linecache
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from backends.generators import Case
from backends.loop_kinds import QuantDifference, QuantPooled
from installed import SANITIZERS, compiler, cross_compiler, tool
from models import Shape

from export.building import COMPILERS, SANITIZED, check, compile_program, quantized, replayed, write_sources
from export.kinds import kind
from export.test_compilers import STRICT
from qrnn import layers
from qrnn.arithmetic import CONTRACT, fixedpoint
from qrnn.devices.emulator import run
from qrnn.devices.toolchain import find_toolchain
from qrnn.devices.verify import build_replay
from qrnn.errors import UnsupportedError
from qrnn.export import flow, golden, selftest
from qrnn.export.expected import first_difference, random_sequences
from qrnn.export.folder import ExportedFolder
from qrnn.export.kinds import own_code
from qrnn.export.kinds.recurrent import layer as recurrent_code
from qrnn.export.layer_code import AnyCode
from qrnn.export.loops.source import signature
from qrnn.export.loops.translator import WIDE_HEADER
from qrnn.export.loops.values import Array
from qrnn.export.replay import Replayed, decode_sequences, encode_sequences
from qrnn.export.source import Exported, export_source
from qrnn.model.activation import Activation
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.last_step import QuantLastStep
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Loop, RowLoop, Scratch, StateArray, Step, StepLoop
from qrnn.model.parts import QuantInitialState, TensorFormat, pack_gates
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.targets import load_target, targets_folder

I, H = 3, 4
PLAIN = SimpleNamespace(**{function.__name__: function for function in CONTRACT})
"""The functions of the contract by name, on Python's integers."""
PROVENANCE = Provenance("", 0, "", 0, 0, "", False, "", {})
WAYS = {"x86-64": ("gcc",), "Clang": ("clang",), "C++": ("g++", "-std=c++11", "-x", "c++")}


def fmt(features: int, has_time: bool = True) -> TensorFormat:
    return TensorFormat(features, has_time, 16, (2.0**-12,), 32767)


def output(name: str, tensor: str, features: int, has_time: bool = True) -> GraphOutput:
    every = np.arange(features)
    return GraphOutput(name, (features,), has_time, ((tensor, every, every),))


def model_of(own: Sequence[QuantLayer], tensors: dict[str, TensorFormat], outputs: Sequence[GraphOutput]) -> QuantModel:
    x = GraphInput("x", "features", (I,), True)
    return QuantModel("m", (x,), tuple(own), tuple(outputs), {"x": fmt(I), **tensors}, False, PROVENANCE)


def pooled(name: str, source: str, target: str, stride: int, delay: int, columns: int = I) -> QuantPooled:
    rng = np.random.default_rng(len(name) + 7 * stride)
    weight = rng.integers(-127, 128, (H, columns)).astype(np.int8)
    bias = rng.integers(-500, 500, H).astype(np.int32)
    return QuantPooled(name, source, target, weight, bias, np.full(H, 1 << 29, np.int32), stride, delay)


def difference(name: str = "rows", source: str = "x", target: str = "d") -> QuantDifference:
    return QuantDifference(name, source, target, np.array([300, -200, 4000], np.int16), 12)


def strided(stride: int, delay: int, stride_2: int, delay_2: int, last: bool = False) -> QuantModel:
    """X → a difference by rows → a pooled layer → another one, and its last row."""
    own: list[QuantLayer] = [
        difference(),
        pooled("first", "d", "p", stride, delay),
        pooled("second", "p", "y", stride_2, delay_2, H),
    ]
    tensors, outputs = {"d": fmt(I), "p": fmt(H), "y": fmt(H)}, [output("y", "y", H)]
    if last:
        own += [
            QuantLastStep("end", "y", "l"),
            replace(difference("after", "l", "e"), weight=np.arange(H, dtype=np.int16)),
        ]
        tensors |= {"l": fmt(H, False), "e": fmt(H, False)}
        outputs += [output("last", "l", H, False), output("e", "e", H, False)]
    return model_of(own, tensors, outputs)


@dataclass
class Run:
    """A plain run of a model in Python: every tensor and every state, [1, …]."""

    tensors: dict[str, npt.NDArray[Any]]
    states: dict[tuple[str, int], npt.NDArray[Any]]


def plain_run(model: QuantModel, x: npt.NDArray[Any]) -> Run:
    """One sequence x [T, F], with its end, on Python's integers."""
    ran = Run({"x": x.astype(object)}, {})
    for layer in model.layers:
        read = ran.tensors[layer.inputs[0]]
        features = model.tensors[layer.output].features
        if isinstance(layer, QuantLastStep):
            ran.tensors[layer.output] = read[-1:] if len(read) else np.zeros((1, features), object)
        elif layer.by_rows:
            out = np.zeros((len(read), features), object)
            for found in layer.row_loops():
                values = (p.astype(object) if isinstance(p, np.ndarray) else p for p in found.parameters)
                found.make(PLAIN)(0, len(out), *values, *(ran.tensors[i] for i in found.inputs), out)
            ran.tensors[layer.output] = out
        else:
            ran.tensors[layer.output] = plain_steps(layer, read, features, ran)
    return ran


class WithDot:
    """The functions of the contract, and the product of a row of weights."""

    def __getattr__(self, name: str) -> Any:
        return getattr(PLAIN, name)

    @staticmethod
    def dot(weight: Any, r: int, x: Any, n: int) -> int:
        return sum(int(weight[r, k]) * x[n, k] for k in range(weight.shape[1]))


def plain_steps(layer: QuantLayer, x: npt.NDArray[Any], features: int, ran: Run) -> npt.NDArray[Any]:
    """The rows of a layer with a `step_loop`."""
    found = layer.step_loop()
    states = []
    for k, state in enumerate(layer.states()):
        own = np.zeros((1, *state.shape), object)
        for at, start in enumerate(state.starts):
            own[0, at] = start.value
        ran.states[layer.name, k] = own
        states.append(own)
    scratch = [np.full((1, *s.shape), 12345, object) for s in found.scratch]
    values = [p.astype(object) if isinstance(p, np.ndarray) else p for p in found.parameters]
    out, rows = np.zeros((1, 3 * len(x) + 9, features), object), 0
    step = found.make(WithDot())
    for t in [*range(len(x)), *([-1] * layer.steps_past_end)]:
        rows += step(0, t, rows, x[None], out, *states, *values, *scratch)
    return out[0, :rows]


def want(model: QuantModel, exported: Exported, sequences: Sequence[Any]) -> list[Replayed]:
    """What the C is to give."""
    found = []
    for inputs in sequences:
        ran = plain_run(model, inputs["x"])
        outputs = {}
        for o, port in zip(model.outputs, exported.outputs, strict=True):
            read = ran.tensors[o.parts[0][0]]
            outputs[port.name] = (read if port.has_time else read[0]).astype(np.int16)
        state = {f.name: ran.states[f.layer, f.array or 0][0].reshape(-1) for f in exported.compared_state}
        found.append(Replayed(outputs, state))
    return found


@pytest.mark.wide("cc", "last")
@pytest.mark.parametrize(
    ("shape", "last", "cc"),
    [
        ((1, 0, 1, 0), False, "gcc"),
        ((2, 3, 2, 1), True, "gcc"),
        ((2, 3, 2, 1), False, "clang"),
        ((3, 0, 2, 2), True, "clang"),
        ((4, 2, 1, 0), False, "gcc"),
        ((1, 5, 3, 4), True, "gcc"),
    ],
)
def test_strides_and_delays(shape: tuple[int, int, int, int], last: bool, cc: str, tmp_path: Path) -> None:
    """Steps, then the end of the sequence, under sanitizers: the rows that come out, and the states after them."""
    model = strided(*shape, last=last)
    exported = export_source(model, "net", "plain")
    assert exported.counts_rows == (shape != (1, 0, 1, 0))  # a row for each step is nothing to count
    assert exported.finishes == (shape[1] + shape[3] > 0)
    sequences = random_sequences(model, exported, (1, 2, 9, 30), 5)
    assert first_difference(want(model, exported, sequences), replayed(exported, sequences, tmp_path, cc)) is None


CHUNKS = """
#include "net.h"
#include <stdio.h>
#include <string.h>

static int16_t x[30U * NET_X_SIZE];
static int16_t whole[64U * NET_Y_SIZE];
static int16_t parts[64U * NET_Y_SIZE];

int main(void)
{
    net_state a;
    net_state b;
    net_state c;
    uint32_t rows;
    uint32_t found = 0U;
    uint32_t t = 0U;
    uint32_t unwanted;

    for (uint32_t k = 0U; k < 30U * NET_X_SIZE; k++) {
        x[k] = (int16_t)((int32_t)((k * 7919U) % 65535U) - 32767);
    }
    net_init(&a);
    rows = net_run(&a, x, 30U, whole);
    net_init(&b);
    net_init(&c);
    for (uint32_t chunk = 1U; t < 30U; chunk++) {
        const uint32_t length = (t + chunk > 30U) ? (30U - t) : chunk;
        unwanted = net_run(&c, &x[t * NET_X_SIZE], length, NULL);
        found += net_run(&b, &x[t * NET_X_SIZE], length, &parts[found * NET_Y_SIZE]);
        t += length;
        if ((t == 30U) && (unwanted > NET_STEP_ROWS * length)) {
            return 3;
        }
    }
    if ((found != rows) || (memcmp(&a, &b, sizeof(a)) != 0) || (memcmp(&a, &c, sizeof(a)) != 0)) {
        return 1;
    }
    rows += net_finish(&a, &whole[rows * NET_Y_SIZE]);
    found += net_finish(&b, &parts[found * NET_Y_SIZE]);
    if ((found != rows) || (memcmp(whole, parts, sizeof(whole)) != 0) || (net_finish(&c, NULL) > NET_FINISH_ROWS)) {
        return 2;
    }
    printf("%u", (unsigned)rows);
    return 0;
}
"""


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("cc", COMPILERS)
def test_chunks_give_what_a_whole_sequence_gives(cc: str, tmp_path: Path) -> None:
    model = strided(2, 3, 2, 1)
    compiler(cc, "-fsanitize=address,undefined")
    source = write_sources(export_source(model, "net", "plain"), tmp_path)
    (tmp_path / "main.c").write_text(CHUNKS)
    compile_program([cc, *SANITIZED, source, tmp_path / "main.c", "-o", tmp_path / "main"])
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(plain_run(model, np.zeros((30, I), np.int16)).tensors["y"])


@pytest.mark.wide
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernels", ["plain", "dsp", "mve"])
def test_translated_c_compiles_without_a_warning(way: str, kernels: Any, tmp_path: Path) -> None:
    source = write_sources(export_source(strided(2, 3, 2, 1, last=True), "net", kernels), tmp_path)
    command, *flags = WAYS[way]
    compiler(command)
    strict = [w for w in STRICT if way != "C++" or w not in ("-Wstrict-prototypes", "-Wmissing-prototypes")]
    for level in ("-O0", "-O2", "-Os"):
        own = flags or ["-std=c99"]
        compile_program([command, *own, "-DQRNN_ANY_CORE", *strict, level, "-c", source, "-o", tmp_path / "net.o"])


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m0plus"])
def test_a_board_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    """The emulated core runs 32-bit code, for which int64_t takes two registers."""
    target = load_target(name)
    cross_compiler("arm-none-eabi-gcc", "-c")
    tool("qemu-system-arm")
    model = strided(2, 3, 2, 1)
    exported = export_source(model, "net", target.core.kernels)
    write_sources(exported, tmp_path)
    sequences = random_sequences(model, exported, (1, 2, 9), 5)
    places = tmp_path / "net.c", tmp_path / "net.h"
    folder = ExportedFolder(tmp_path, "net", target, model, exported, *places)
    image = build_replay(folder, target, find_toolchain(target), 9, tmp_path)
    done = run(image, target, encode_sequences(exported, sequences), timeout=100)
    assert done.status == 0
    got, counts = decode_sequences(exported, [1, 2, 9], done.output)
    assert first_difference(want(model, exported, sequences), got) is None
    assert counts.calls == 12


@pytest.mark.wide
@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_the_self_test_counts_rows(last: bool, damaged: bool, tmp_path: Path) -> None:
    """It passes with what the definitions give, and fails where a row is missing."""
    model = strided(2, 3, 2, 1, last=last)
    exported = export_source(model, "net", "plain")
    sequences = random_sequences(model, exported, (*golden.RANDOM_LENGTHS, golden.LONG), 5)
    results = want(model, exported, sequences)
    if damaged:
        results[-1].outputs["y"] = results[-1].outputs["y"][:-1]
    test = tmp_path / "test"
    test.mkdir()
    source = write_sources(exported, tmp_path)
    (test / "net_golden.h").write_text(golden.golden_header(exported, sequences, results))
    (test / "net_selftest.h").write_text(selftest.selftest_header("net"))
    (test / "net_selftest.c").write_text(selftest.selftest_source(model, exported, sequences))
    (test / "main.c").write_text(selftest.main_source("net"))
    compiler("gcc", *SANITIZERS)
    parts = [source, test / "net_selftest.c", test / "main.c"]
    compile_program(["gcc", *SANITIZED, *parts, "-o", tmp_path / "selftest"])
    done = subprocess.run([tmp_path / "selftest"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (int(damaged), "")


# Kinds that have C of their own, by their definitions


@pytest.fixture
def translated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kind that is computed by rows has C of its own."""

    def found(kind: type[QuantLayer]) -> type[AnyCode] | None:
        return None if kind.by_rows is QuantLayer.by_rows else own_code(kind)

    monkeypatch.setattr(flow, "own_code", found)


ROWS = (
    "lstm",
    "gru after",
    "rnn",
    "stacked",
    "left shift",
    "steps",
    "four bits",
    "unbounded gates",
    "embedded",
    "shared",
)


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.usefixtures("translated")
@pytest.mark.parametrize("which", ROWS)
def test_definitions_of_all_kinds_give_the_same_bits(which: str, tmp_path: Path) -> None:
    """Dense, pointwise, softmax, sum, concatenation and embedding, by the loops that define them."""
    assert f'"{WIDE_HEADER}"' in export_source(kind(which), "net", "plain").source
    check(kind(which), tmp_path, "gcc")


@pytest.mark.usefixtures("translated")
def test_definitions_of_gate_functions(tmp_path: Path) -> None:
    """Every kind of gate function, by the contract's `evaluate` on packed gates."""
    rng = np.random.default_rng(1)
    x = layers.input("x", 5)
    names = ("sigmoid", "tanh", "relu", "hard_sigmoid", "softplus", "step", "hard_tanh", "softsign")
    rnn = layers.rnn(x, rng.normal(size=(5, 5)), rng.normal(size=(5, 5)))
    found = [layers.activation(layers.dense(rnn.output, rng.normal(size=(5, 5))), name) for name in names]
    check(quantized(layers.model("gates", dict(zip(names, found, strict=True)))), tmp_path, "clang")


# The contract on int64_t


class Int64(int):
    """An integer whose sums, products and shifts are Int64, and an OverflowError where C has no such value."""

    def _made(self, value: int) -> Int64:
        if not -(1 << 63) <= value < 1 << 63:
            raise OverflowError
        return Int64(value)

    def __add__(self, other: int) -> Int64:
        return self._made(int(self) + int(other))

    def __sub__(self, other: int) -> Int64:
        return self._made(int(self) - int(other))

    def __rsub__(self, other: int) -> Int64:
        return self._made(int(other) - int(self))

    def __mul__(self, other: int) -> Int64:
        return self._made(int(self) * int(other))

    def __lshift__(self, other: int) -> Int64:
        if not 0 <= other <= 62:
            raise OverflowError
        return self._made(int(self) << int(other))

    def __rlshift__(self, other: int) -> Int64:
        return Int64(other) << self

    def __rshift__(self, other: int) -> Int64:
        if not 0 <= other <= 62:
            raise OverflowError
        return self._made(int(self) >> int(other))

    __radd__, __rmul__ = __add__, __mul__


def arguments(function: Callable[..., Any], rng: np.random.Generator) -> tuple[list[Int64], int]:
    """Arguments, small and large, with which every value of a function fits 64 bits, and what it returns."""
    for _ in range(10000):
        given = []
        for name in inspect.signature(function).parameters:
            small = any(word in name for word in ("shift", "frac", "bits", "exponent"))
            size = 1 << int(rng.integers(1, 5 if small else 33))
            low = 0 if small or name in ("total", "limit", "weight") else -size
            given.append(Int64(int(rng.integers(low, size))))
        try:
            return given, int(function(*given))
        except (OverflowError, ZeroDivisionError):
            continue
    raise AssertionError(f"no arguments of {function.__name__} fit 64 bits")


def scalars() -> Iterator[Callable[..., Any]]:
    for function in CONTRACT:
        if function is not fixedpoint.choose and not any(isinstance(a, Array) for a in signature(function).values()):
            yield function


def test_the_wide_contract_is_the_contract(tmp_path: Path) -> None:
    """Each function of qrnn_contract_wide.h that reads no table, on random arguments, under sanitizers."""
    rng = np.random.default_rng(7)
    lines, expected = [], []
    for function in scalars():
        for _ in range(40):
            given, value = arguments(function, rng)
            expected.append(value)
            texts = ", ".join(f"INT64_C({g})" for g in given)
            lines.append(f'    printf("%lld\\n", (long long)qrnn_wide_{function.__name__}({texts}));')
    for a in (-(1 << 40), -7, -1, 0, 1, 8, (1 << 31) - 1, 1 << 31, (1 << 31) + 7):
        for b in (-3, -1, 2, 8, (1 << 31) - 1, 1 << 31):
            for name, value in (
                ("floor_divide", a // b),
                ("floor_modulo", a % b),
                ("max", max(a, b)),
                ("min", min(a, b)),
            ):
                expected.append(value)
                lines.append(f'    printf("%lld\\n", (long long)qrnn_wide_{name}(INT64_C({a}), INT64_C({b})));')
    compiler("gcc", "-fsanitize=address,undefined")
    source = tmp_path / "wide.c"
    body = "\n".join(lines)
    source.write_text(f'#include "{WIDE_HEADER}"\n#include <stdio.h>\nint main(void)\n{{\n{body}\n    return 0;\n}}\n')
    compile_program(["gcc", *SANITIZED, f"-I{targets_folder() / 'runtime'}", source, "-o", tmp_path / "wide"])
    done = subprocess.run([tmp_path / "wide"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [int(line) for line in done.stdout.split()] == expected


# A layer that writes several rows, with a state that does not begin at zero


def repeated_step(contract: Any) -> Step:
    """Every step, the largest input so far is added to the number of each row, whose sign a step in three changes."""
    saturate16 = contract.saturate16

    def step(n: int, t: int, k: int, x: Any, out: Any, peak: Any, table: Any, times: int) -> int:
        features = x.shape[2]
        if t < 0:
            return 0
        for j in range(features):
            peak[n, 0, j] = max(peak[n, 0, j], x[n, t, j])
        peak[n, 1, 0] = (peak[n, 1, 0] + 1) % 3
        sign = -1 if peak[n, 1, 0] == 0 and not features < 2 else 1
        for i in range(times):
            for j in range(features - 1, -1, -1):
                value = peak[n, 0, j] // 3 + (table[i, j] if j != 1 else -table[i, j])
                value *= sign
                out[n, k + i, j] = saturate16(value)
        return times

    return step


@dataclass(frozen=True)
class QuantRepeated(QuantLayer):
    """Every step gives ``times`` rows."""

    name: str
    input: str
    output: str
    times: int

    by_rows = False  # type: ignore[assignment]

    def check(self, checks: Any) -> None:
        checks.expect(self.output, I, True)

    def readings(self) -> tuple[Any, ...]:
        return ()

    def formats(self, tensors: Any) -> dict[str, Any]:
        return {}

    def rows_in(self, steps: int) -> int:
        return self.times * steps

    def states(self) -> tuple[StateArray, ...]:
        starts = tuple(QuantInitialState(np.full(I, v, np.int32)) for v in (-500, 1))
        return (StateArray("peak", (2, I), np.int16, 32767, starts=starts),)

    def step_loop(self) -> StepLoop:
        table = np.arange(self.times * I, dtype=np.int64).reshape(self.times, I) * 10000
        return StepLoop(repeated_step, (table, self.times))


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("cc", COMPILERS)
def test_several_rows_a_step(cc: str, tmp_path: Path) -> None:
    own = [QuantRepeated("three", "x", "r", 3), pooled("slow", "r", "p", 2, 1), difference("rows", "p", "y")]
    own[2] = replace(own[2], weight=np.array([1, -2, 300, 4], np.int16))  # type: ignore[type-var]
    model = model_of(own, {"r": fmt(I), "p": fmt(H), "y": fmt(H)}, [output("y", "y", H)])
    exported = export_source(model, "net", "plain")
    assert exported.step_rows == 3
    sequences = random_sequences(model, exported, (1, 2, 9, 20), 6)
    assert first_difference(want(model, exported, sequences), replayed(exported, sequences, tmp_path, cc)) is None


# A layer that writes a row in each step


def leaky_step(contract: Any) -> Step:
    """Y = x less a quarter of the y before."""
    saturate16, shift_right_round = contract.saturate16, contract.shift_right_round

    def step(n: int, t: int, k: int, x: Any, out: Any, before: Any) -> int:
        for j in range(x.shape[2]):
            before[n, j] = saturate16(x[n, t, j] - shift_right_round(before[n, j], 2))
            out[n, k, j] = before[n, j]
        return 1

    return step


class QuantLeaky(QuantRepeated):
    """Every step gives a row."""

    def rows_in(self, steps: int) -> int:
        return steps

    def states(self) -> tuple[StateArray, ...]:
        return (StateArray("before", (I,), np.int16, 32767),)

    def step_loop(self) -> StepLoop:
        return StepLoop(leaky_step, ())


@pytest.mark.parametrize("cc", COMPILERS)
def test_a_row_for_each_step_keeps_the_usual_functions(cc: str, tmp_path: Path) -> None:
    """Nothing is counted, and the layer's output may be added to its input."""
    own = [QuantLeaky("leaky", "x", "p", 1), QuantAdd("sum", "x", "p", "y", 12, 12, 12)]
    model = model_of(own, {"p": fmt(I), "y": fmt(I)}, [output("y", "y", I), output("p", "p", I)])
    exported = export_source(model, "net", "plain")
    assert not exported.counts_rows
    assert "void net_step(net_state *state, const int16_t *x, int16_t *y, int16_t *p);" in exported.header
    sequences = random_sequences(model, exported, (1, 2, 20), 6)
    x = sequences[-1]["x"].astype(np.int64)
    found = want(model, exported, sequences)
    np.testing.assert_array_equal(found[-1].outputs["y"], np.clip(x + found[-1].outputs["p"], -32768, 32767))
    assert first_difference(found, replayed(exported, sequences, tmp_path, cc)) is None


# Refusals


def test_outputs_of_two_rates_are_refused() -> None:
    own = [difference(), pooled("first", "d", "p", 2, 0)]
    model = model_of(own, {"d": fmt(I), "p": fmt(H)}, [output("fast", "d", I), output("slow", "p", H)])
    with pytest.raises(
        UnsupportedError, match=r"outputs fast and slow go over time at different rates.*export a model for each"
    ):
        export_source(model, "net", "plain")


@pytest.mark.wide("stride", "cc")
@pytest.mark.parametrize(("stride", "delay"), [(1, 1), (2, 0), (3, 2)])
@pytest.mark.parametrize("cc", COMPILERS)
def test_rows_behind_a_stride_or_a_delay_are_read_backwards(stride: int, delay: int, cc: str, tmp_path: Path) -> None:
    """Layer after layer: a translated one that counts its rows, past the end of the sequence too, and both directions over these rows."""
    whole = kind("bidirectional")
    (layer,) = whole.recurrent_layers
    first = pooled("first", "x", "p", stride, delay)
    first = replace(first, weight=first.weight[:I], bias=first.bias[:I], multiplier=first.multiplier[:I])
    tensors = {name: whole.tensors[name] for name in layer.outputs}
    outputs = [output("y", layer.output, 10), output("end", layer.h_n, 10, False)]
    model = model_of([first, replace(layer, input="p")], {"p": fmt(I), **tensors}, outputs)
    check(model, tmp_path, compiler(cc), lengths=(1, 4, 9))


@pytest.mark.parametrize(
    ("returned", "named"),
    [
        ("x[n, t, 0]", "how many rows it may return is not known"),
        ("0", "it writes row 0 and returns 0 at most"),
        ("t", "t as a number"),
    ],
)
def test_steps_that_are_not_translated_are_named(returned: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["def make(contract):", "    def step(n, t, k, x, out, sums, phase):"]
    lines += [
        "        if t >= 0:",
        "            out[n, k, 0] = x[n, t, 0]",
        f"        return {returned}",
        "    return step",
    ]
    monkeypatch.setattr(QuantPooled, "step_loop", lambda self: StepLoop(compiled("\n".join(lines)), ()))
    model = model_of([pooled("first", "x", "p", 1, 0)], {"p": fmt(H)}, [output("y", "p", H)])
    with pytest.raises(UnsupportedError, match="layer first, of kind QuantPooled: its step is not translated") as found:
        export_source(model, "net", "plain")
    assert named in str(found.value)


def compiled(text: str) -> Callable[[Any], Any]:
    """The function ``make`` of a text, whose source `inspect` finds."""
    name = f"<loop {hash(text)}>"
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    space: dict[str, Any] = {}
    exec(compile(text, name, "exec"), space)
    found: Callable[[Any], Any] = space["make"]
    return found


def loops_of(statements: str) -> Callable[[Any], Loop]:
    """A loop over rows with these statements for each element."""
    lines = ["def make(contract):", "    saturate16, align16 = contract.saturate16, contract.align16"]
    lines += ["    def rows(first, last, weight, shift, x, out):", "        for m in range(first, last):"]
    lines += ["            for j in range(x.shape[1]):", *(f"                {s}" for s in statements.split("\n"))]
    return compiled("\n".join([*lines, "    return rows", ""]))


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        ("out[m, j] = x[m, j] / 2", "x[m, j] / 2"),
        ("while True: pass", "while True"),
        ("out[m, j] = x[j, m]", "its index is m in every loop"),
        ("out[m, j] = x[m]", "with all of its indices"),
        ("out[m, j] = x[m, j] ** 2", "x[m, j] ** 2"),
        ("out[m, j] = m", "the row that is computed"),
        ("out[m, j] = x.shape[0]", "which C does not know"),
        ("out[m, j] = x.mean()", "x.mean()"),
        ("x[m, j] = 0", "x is written"),
        ("out[m, j] = weight[9]", "index 9 of 3 elements"),
        ("out[m, j] = align16(x[m, j], 1)", "align16 takes 3 arguments"),
        ("out[m, j] = unknown(x[m, j])", "the name unknown"),
        ("out[m, j] = 100000", "100000 is written to an int16_t"),
        ("out[m, j] = 1.5", "1.5"),
        ("a, b = 1, 2", "a, b = "),
        ("return", "the statement 'return'"),
        ("if x[m, j] > 0: v = 1\nout[m, j] = v", "v may be read before it is assigned"),
        ("v += x[m, j]\nout[m, j] = v", "v may be read before it is assigned"),
        ("for k in [1, 2]: out[m, j] = k", "for k in [1, 2]"),
        ("out[m, j] = saturate16(x)", "x as a number"),
        ("out[m, j] = [3, 4][0]", "[3, 4] as an array"),
        ("shift = 3", "the parameter shift is assigned"),
        ("out[m, j] = x[m, j] + (1 << 63)", "does not fit 64 bits"),
        ("out[m, j] = 1 << 70", "a shift by 70 bits"),
    ],
)
def test_what_is_not_translated_is_named(statements: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of([difference()], {"d": fmt(I)}, [output("y", "d", I)])
    loop = RowLoop(loops_of(statements), (np.arange(3, dtype=np.int16), 2), ("x",))
    monkeypatch.setattr(QuantDifference, "row_loops", lambda self: (loop,))
    with pytest.raises(
        UnsupportedError, match="layer rows, of kind QuantDifference: its loop over rows is not translated"
    ) as found:
        export_source(model, "net", "plain")
    assert named in str(found.value)


# A cell without a header in the runtime


def rnn_step(contract: Any) -> Step:
    """The plain RNN of docs/arithmetic.md, as the definition of a cell that C does not know."""
    dot, requantize, to_operand = contract.dot, contract.requantize, contract.to_operand
    preactivation, evaluate, rnn_hidden_state = contract.preactivation, contract.evaluate, contract.rnn_hidden_state

    def step(
        n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any,
        ih: Any, ih_bias: Any, ih_multiplier: Any, ih_left: Any, hh: Any, hh_bias: Any, hh_multiplier: Any, hh_left: Any,
        pre_shift: Any, params: Any, tables: Any, x_shift: int, x_limit: int, h_shift: int, h_limit: int, hidden: int,
        x_read: Any, h_read: Any,
    ) -> int:  # fmt: skip
        for j in range(x.shape[2]):
            x_read[n, j] = to_operand(x[n, t, j], x_shift, x_limit)
        for u in range(h.shape[1]):
            h_read[n, u] = to_operand(h[n, u], h_shift, h_limit)
        for u in range(h.shape[1]):
            x_part = requantize(dot(ih, u, x_read, n) + ih_bias[u], ih_multiplier[u], ih_left[u])
            h_part = requantize(dot(hh, u, h_read, n) + hh_bias[u], hh_multiplier[u], hh_left[u])
            h[n, u] = rnn_hidden_state(evaluate(preactivation(x_part, h_part, pre_shift[u]), params, tables, 0), hidden)
            out[n, k, u] = h[n, u]
        return 1

    return step


def rnn_loop(layer: QuantRecurrent, number: int) -> StepLoop:
    d = layer.directions[number]
    matrices = [v for m in (d.ih, d.hh) for v in (m.weight, m.bias, m.multiplier, m.left_shift)]
    operands = [v for o in (layer.x_operand, layer.h_operand) for v in (o.shift, o.limit)]
    parameters = (*matrices, d.pre_shift, *pack_gates(d.gates), *operands, layer.shifts(d).hidden)
    sizes = layer.input_size, layer.output_size
    return StepLoop(rnn_step, parameters, tuple(Scratch((size,), np.int16) for size in sizes))


@pytest.mark.wide
@pytest.mark.parametrize("reverse", [(False,), (False, True)])
@pytest.mark.parametrize("kernels", ["plain", "mve"])
def test_cells_without_a_header_are_translated(
    reverse: tuple[bool, ...], kernels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recurrent layer by the definition of its cell has the reference's bits: forward, and with a direction that runs backwards."""
    monkeypatch.setattr(recurrent_code, "RUNTIME", {})
    monkeypatch.setattr(QuantRecurrent, "direction_loop", rnn_loop, raising=False)
    shape = Shape("rnn", 3, 5, reverse, activations={"candidate": Activation("softsign")})
    model = Case(shape, "softmax", lengths=(5, 4)).quantized()
    assert "qrnn_rnn.h" not in export_source(model, "net", kernels).runtime
    check(model, tmp_path, "gcc", kernels)
