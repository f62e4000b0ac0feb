"""The contract in C: generated functions are current and have the contract's values."""

from __future__ import annotations

import ast
import ctypes
import inspect
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from export.building import COMPILERS, WARNINGS, compile_program, compiler
from export.contract_tools import DIALECTS, FUNCTIONS, HERE, MAKE, RUNTIME, TO_C
from qrnn.arithmetic import (
    CONTRACT,
    cells,
    fixedpoint,
    gates,
    logarithms,
    moments,
    norms,
    octaves,
    roots,
    running_softmax,
)
from qrnn.arithmetic.arrays import of_arrays

NORMS = HERE.parent / "golden" / "norms-1.0.json"


ENTRIES = 65538


def test_the_files_are_what_the_contract_says() -> None:
    """``python tools/make_contract.py`` writes them; the same text comes again."""
    files = MAKE.files()
    assert files == MAKE.files()
    for name, text in files.items():
        assert (RUNTIME / name).read_text(encoding="utf-8") == text, f"run python tools/make_contract.py for {name}"


def test_every_function_of_the_contract_is_in_c() -> None:
    """Except those that are written out wherever they are called, and the one that chooses."""
    made = {f.function for f in (*FUNCTIONS.SCALARS, *FUNCTIONS.VECTORS)} | {gates.evaluate}
    within = {fixedpoint.choose, fixedpoint.saturate32, fixedpoint.multiply_q15}
    assert made | within == set(CONTRACT)
    assert not made & within


# --- the translator proves widths, or refuses ---


def translate(function: Callable[..., int], dialect: str = "Scalar", facts: Any = (), **bounds: tuple[int, int]) -> str:
    """The value of a function of arguments within ``bounds``, as C."""
    kind = DIALECTS.SIGNED if dialect == "Scalar" else DIALECTS.LANES
    counts = ("shift", "segment_bits", "pre_shift")
    values = {k: DIALECTS.Value(k, DIALECTS.UNSIGNED if k in counts else kind, *b) for k, b in bounds.items()}
    translator = TO_C.Translator(getattr(DIALECTS, dialect)(), {})
    return str(translator.function(function, values, dict(facts))[1].text)


def test_a_product_has_64_bits_where_it_must_and_32_where_it_fits() -> None:
    fits = translate(cells.lstm_hidden_state, o=(0, 32768), activated_c=(-32768, 32768), shift=(0, 15))
    assert "int64" not in fits
    assert "int64_t" in translate(cells.lstm_hidden_state, o=(0, 65536), activated_c=(-32768, 32768), shift=(0, 15))


@pytest.mark.parametrize(
    ("dialect", "function", "bounds"),
    [
        ("Lanes", cells.preactivation, {"x_part": (-(1 << 31), 0), "h_part": (-1, 0), "pre_shift": (0, 15)}),
        ("Lanes", cells.lstm_output_argument, {"c": (-(1 << 31), (1 << 31) - 1), "shift": (0, 23)}),
        ("Lanes", cells.reset_operand, {"r": (0, 1 << 16), "h": (-32767, 32767), "shift": (0, 15), "r_frac": (0, 15), "limit": (1, 127)}),
        ("Scalar", gates.softmax_divide, {"weight": (0, 1 << 15), "total": (0, 1 << 30)}),
        ("Scalar", fixedpoint.shift_right_round, {"x": (0, 1), "shift": (0, 63)}),
        ("Scalar", fixedpoint.shift_right_round, {"x": (-(1 << 63), (1 << 63) - 1), "shift": (0, 15)}),
    ],
)  # fmt: skip
def test_what_is_not_proved_is_refused(dialect: str, function: Any, bounds: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(DIALECTS.TranslationError):
        translate(function, dialect, **bounds)


def test_the_blend_of_a_gru_lies_where_the_generator_says() -> None:
    """It is linear in z, in n and in h, so that its ends are at their ends."""
    (function,) = (
        f for f in FUNCTIONS.VECTORS if f.function is cells.gru_hidden_state and f.only_if == FUNCTIONS.UNIT_GATES
    )
    assert "blend = z * h + ((1 << z_frac) - z) * shift_right_round(n, n_shift)" in inspect.getsource(function.function)
    ends = (-32767, 32767)
    blends = [z * h + ((1 << 15) - z) * n for z in (0, 1 << 15) for h in ends for n in ends]
    assert function.facts["blend"] == (min(blends), max(blends))


@pytest.mark.matrix
def test_the_newton_steps_of_a_root_lie_where_the_generator_says() -> None:
    """Every mantissa's, before and after each step, by the function's own statements on arrays."""
    (function,) = (f for f in FUNCTIONS.SCALARS if f.function is norms.norm_scale)
    statements = [s for s in TO_C.tree_of(norms.norm_scale).body if isinstance(s, ast.Assign)]
    products = 0
    for first in range(1 << 22, 1 << 24, 1 << 20):
        space = {**vars(norms), "variance": np.arange(first, first + (1 << 20), dtype=np.int64) << 38, "exponent": 30}
        for statement in statements:
            text = ast.unparse(statement)
            if "t * t * m" in text:
                low, high = function.facts["t * t * m"]
                square = space["t"].astype(np.uint64) ** 2  # below 2^41, and m below 2^24: it fits 65 bits
                assert np.all(square <= np.uint64(high) // space["m"].astype(np.uint64))
                assert low == 0
                products += 1
            exec(text, space)
            name = ast.unparse(statement.targets[0])
            if name in function.facts:
                low, high = function.facts[name]
                assert low <= space[name].min()
                assert space[name].max() <= high
    assert products == 3 * 12


OWN_VARIABLES = (
    roots.integer_root,
    logarithms.natural_log,
    octaves.octave_value,
    running_softmax.weighted_mean,
    moments.mean_square,
)


STEPPED = [f for f in FUNCTIONS.SCALARS if f.function in OWN_VARIABLES]
"""Functions whose facts are about variables of their own, which a test computes one after the other."""


@pytest.mark.parametrize("function", STEPPED, ids=lambda f: str(f.c_name))
def test_the_steps_of_a_function_lie_where_the_generator_says(function: Any) -> None:
    """Numbers of every size, and those around squares, by the function's own expressions on arrays."""
    rng = np.random.default_rng(0)
    squares = rng.integers(1, 1 << rng.integers(1, 32, 1 << 16)) ** 2
    drawn = [rng.integers(1 << b, 2 << b, 1 << 12) for b in range(62)]
    v = np.concatenate([np.arange(1, 1 << 16), squares, squares - 1, *drawn, (1 << 62) - 1 - np.arange(4096)])
    x, bits = np.repeat(np.arange(-32768, 32768), 15), np.tile(np.arange(15), 65536)
    space: dict[str, Any] = dict(function.function.__globals__)
    space |= {name: of_arrays(value) for name, value in space.items() if callable(value) and value in CONTRACT}
    space |= {"choose": np.where, "x": x, "bits": bits}
    space["v"] = np.maximum(v, 1) if function.function is logarithms.natural_log else v
    weights = np.minimum(v, (1 << 61) + (1 << 31) - 1)
    space |= {"weight": weights, "total": weights}
    if function.function is moments.mean_square:
        space |= sums_of_counts(rng)
    seen = set()
    for statement in TO_C.tree_of(function.function).body[1:]:
        assert isinstance(statement, (ast.Assign, ast.Return))
        for node in ast.walk(statement.value) if statement.value is not None else ():
            if (text := ast.unparse(node)) in function.facts and not isinstance(node, ast.Name):
                check_bounds(eval(text, space), function.facts[text])
                seen.add(text)
        if isinstance(statement, ast.Assign) and "table" not in ast.unparse(statement):
            exec(ast.unparse(statement), space)
            if (name := ast.unparse(statement.targets[0])) in function.facts:
                check_bounds(space[name], function.facts[name])
                seen.add(name)
    assert seen == set(function.facts)


def sums_of_counts(rng: Any) -> dict[str, Any]:
    """Counts of every size with totals and sums of squares up to their ends, whether or not these are those of any numbers."""
    count = np.concatenate([np.arange(1, 4096), *(rng.integers(1 << b, 2 << b, 4096) for b in range(31))])
    count = np.tile(count, 3)
    at = np.repeat([0.0, 1.0, 2.0], count.size // 3)
    total = np.where(
        at < 1, rng.integers(-(count << 15), (count << 15) + 1), np.where(at < 2, -(count << 15), count << 15)
    )
    squares = np.where(rng.random(count.size) < 0.5, rng.integers(0, (count << 30) + 1), count << 30)
    return {"count": count, "total": total, "squares": squares}


def check_bounds(values: Any, bounds: tuple[int, int]) -> None:
    """All values lie within the bounds."""
    assert bounds[0] <= values.min()
    assert values.max() <= bounds[1]


# --- what is generated has the contract's values ---


GATES = tuple(f"QRNN_GATE_{kind}" for kind in MAKE.KINDS)


UNIT = {True: ("QRNN_UNIT_GATES", *GATES), False: ("QRNN_USE_CUT", *GATES)}


def included(function: Any, unit: bool) -> bool:
    """Whether a build of `UNIT` has the function."""
    has = {"defined(QRNN_UNIT_GATES)": unit, "defined(QRNN_USE_CUT)": not unit}
    condition = function.only_if
    return has.get(condition) is True or (
        not has.get(condition.removeprefix("!"), False) and condition[:1] in ("", "!")
    )


def wrapper(function: Any) -> str:
    """A function that ctypes calls, and that calls the inline one."""
    parameters, names = [], []
    for name in inspect.signature(function.function).parameters:
        argument = function.arguments[name]
        if getattr(argument, "fixed", False):
            continue
        table = isinstance(argument, FUNCTIONS.TableArgument)
        parameters.append(f"const {argument.kind} *{name}" if table else f"{argument.kind} {name}")
        names.append(name)
    head = f"int64_t call_{function.c_name}({', '.join(parameters)})"
    if function.function not in MAKE.columns():
        return f"{head};\n{head} {{ return {function.c_name}({', '.join(names)}); }}\n"
    lines = [f"qrnn_gate gate = {{NULL, NULL, {{0}}, QRNN_{function.c_name.rpartition('_')[2].upper()}}};"]
    for name, text in MAKE.columns()[function.function].items():
        if name != "x":
            place = MAKE.column(text, function.arguments[name]).replace("(uint32_t)", "").replace("->", ".")
            lines.append(f"{place} = {'' if 'table' in name else '(int32_t)'}{name};")
    return f"{head};\n{head} {{ {' '.join(lines)} return qrnn_evaluate(&gate, x); }}\n"


@cache
def library(cc: str, unit: bool, folder: Path) -> ctypes.CDLL:
    """The generated functions, compiled so that an overflow is said on stderr."""
    functions = [f for f in (*FUNCTIONS.SCALARS, *FUNCTIONS.VECTORS) if included(f, unit)]
    source = folder / f"{cc}{unit}.c"
    defines = "".join(f"#define {name}\n" for name in UNIT[unit])
    source.write_text(f'{defines}#include "qrnn_contract_lanes.h"\n' + "".join(map(wrapper, functions)))
    flags = ["-O1", "-fPIC", "-shared", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", f"-I{RUNTIME}"]
    compile_program([compiler(cc), *WARNINGS, *flags, source, "-o", source.with_suffix(".so")])
    return ctypes.CDLL(str(source.with_suffix(".so")))


CTYPES = {
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "qrnn_lanes": ctypes.c_int32,
}


TYPES = {"int16_t": np.int16, "uint16_t": np.uint16, "int32_t": np.int32}


@cache
def tables(kind: str, low: int, high: int) -> list[Any]:
    """A table of random entries, and one that leaps from end to end."""
    random = np.random.default_rng(0).integers(low, high + 1, ENTRIES)
    return [random.astype(TYPES[kind]), np.where(np.arange(ENTRIES) % 2, low, high).astype(TYPES[kind])]


def ends_and_between(low: int, high: int) -> Any:
    return st.one_of(st.sampled_from(sorted({low, high, max(low, min(0, high))})), st.integers(low, high))


LEAST = "choose(v < least, least, v)"
"""It is at least 1, as least is, and v is below 2^62."""


PROVED = ("blend", "t", "t * t * m", "odd", "r", LEAST, *(fact for f in STEPPED for fact in f.facts))
"""Facts that are no condition on the arguments: the tests above prove them."""


@st.composite
def variances(draw: Any, count: int, total: int) -> dict[str, int]:
    """The statistics of a row of ``count`` features: by Cauchy and Schwarz, and with a shift that the loader lets pass."""
    total = max(-count << 15, min(count * 32767, total))
    least = -(-total * total // count)
    shift = draw(st.sampled_from([s for s in range(0, 31, 2) if count * count << s <= 1 << 31]))
    return {"total": total, "squares": draw(ends_and_between(least, count << 30)), "shift": shift}


@st.composite
def arguments(draw: Any, function: Any) -> dict[str, Any]:
    """Arguments within the bounds, and with the facts, that the generator takes for granted."""
    found: dict[str, Any] = {}
    for name, argument in function.arguments.items():
        if isinstance(argument, FUNCTIONS.TableArgument):
            found[name] = tables(argument.kind, argument.low, argument.high)[draw(st.integers(0, 1))]
        else:
            found[name] = draw(ends_and_between(argument.low, argument.high))
    if function.function is fixedpoint.requantize:
        found["acc"] = int(found["acc"] / (1 << found["left_shift"]))
    if function.function is fixedpoint.add16:
        found[draw(st.sampled_from(["a_shift", "b_shift"]))] = 0
    if function.function is gates.evaluate_table and found["lowest"] > found["highest"]:
        found["lowest"], found["highest"] = found["highest"], found["lowest"]
    if function.function in (gates.evaluate_ramp, fixedpoint.saturate) and found["low"] > found["high"]:
        found["low"], found["high"] = found["high"], found["low"]
    if function.function is norms.norm_variance:
        found |= draw(variances(found["count"], found["total"]))
    if function.function is norms.norm_scale:
        found["exponent"] = norms.norm_exponent(found["variance"])
    space = {**function.function.__globals__, "shift": 60 - 2 * found.get("exponent", 0), **found}
    if function.saturated:
        space["x"] = fixedpoint.saturate16(found["x"])
    for fact, (low, high) in function.facts.items():
        if fact not in PROVED:
            assume(low <= eval(fact, space) <= high)
    return found


def expected(function: Any, values: dict[str, Any]) -> int:
    """The contract's value; a gate function's of the argument that is saturated first."""
    own = {name: Entries(v) if isinstance(v, np.ndarray) else v for name, v in values.items()}
    if function.function in MAKE.columns():
        own["x"] = fixedpoint.saturate16(own["x"])
    return int(function.function(**own))


class Entries:
    """A table as the contract reads it: unbounded integers."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __getitem__(self, k: int) -> int:
        return int(self._values[k])


EVERY = [
    pytest.param(f, unit, cc, id=f"{f.c_name}-{'unit' if unit else 'any'}-{cc}")
    for unit, cc in zip(UNIT, COMPILERS, strict=True)
    for f in (*FUNCTIONS.SCALARS, *FUNCTIONS.VECTORS)
    if included(f, unit)
]


@pytest.mark.wide
@pytest.mark.parametrize("count", [12, pytest.param(60, marks=pytest.mark.matrix)])
@pytest.mark.parametrize(("function", "unit", "cc"), EVERY)
def test_a_generated_function_has_the_contracts_values(
    function: Any, unit: bool, cc: str, count: int, folder: Path
) -> None:
    """Within the bounds that its comment names; an overflow of a signed integer ends the program."""
    call = getattr(library(cc, unit, folder), f"call_{function.c_name}")
    call.restype = ctypes.c_int64
    names = list(inspect.signature(function.function).parameters)

    @settings(deadline=None, max_examples=count)
    @given(arguments(function))
    def check(values: dict[str, Any]) -> None:
        given = []
        for name in names:
            argument, value = function.arguments[name], values[name]
            if isinstance(argument, FUNCTIONS.TableArgument):
                given.append(value.ctypes.data_as(ctypes.c_void_p))
            elif not argument.fixed:
                given.append(CTYPES[argument.kind](value))
        got = int(call(*given))
        assert (fixedpoint.saturate16(got) if function.leave else got) == expected(function, values)

    check()


@pytest.mark.parametrize("cc", COMPILERS)
def test_normalizations_have_the_golden_vectors(cc: str, folder: Path) -> None:
    document = json.loads(NORMS.read_text(encoding="utf-8"))
    made = {f.function.__name__: f for f in FUNCTIONS.SCALARS}
    for name, entry in document["functions"].items():
        call = getattr(library(cc, True, folder), f"call_qrnn_{name}")
        call.restype = ctypes.c_int64
        kinds = [CTYPES[made[name].arguments[argument].kind] for argument in entry["arguments"]]
        for *case, result in entry["cases"]:
            assert call(*(kind(v) for kind, v in zip(kinds, case, strict=True))) == result, f"{name}{case}"
