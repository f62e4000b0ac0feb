"""Whatever models, inputs, outputs and layers are called, the C that comes of it compiles, links and computes the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.building import COMPILERS, compile_program, compiler, quantized, replayed
from export.kinds import embedded, kind
from qrnn.export.c_text import array, comment
from qrnn.export.expected import first_difference, host_results, random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.export.names import DERIVED, LOCALS, Names, identifier, model_identifier
from qrnn.export.source import export_source
from qrnn.targets import load_target

PORTS = (
    ("t", "k", "y"),
    ("state", "length", "work"),
    ("int", "class", "NULL"),
    ("net_step", "net_state", "qrnn_dense"),
    ("count", "counts", "main"),
    ("a b", "a_b", "A B"),
    ("первый", "∑", "*/ x /*"),
    ("before", "first", "n"),
    ("golden_length", "port_x", "wrong"),
    ("INT32_MIN", "uint8_t", "from_states"),
    ("table_sigmoid", "memcpy", "1"),
    ('"; #error', "\\", "a\n#error"),
)
LAYERS = (
    ("step", "run", "reset"),
    ("a", "a_ih", "a_gates"),
    ("cell", "cell_step", "Cell"),
    ("*/", "/*", "??/"),
    ("dense_matrix", "dense", "dense_index"),
    ("state", "init", "h"),
    ("x", "x_table", "x_weight"),
    ("net", "selftest", "qrnn"),
)
MODELS = (
    *("main", "1x", "", "qrnn", "QRNN types", "qrnn_types", "string", "stdint", "int", "test", "t", "golden", "port"),
    *(
        "math",
        "stdio",
        "errno",
        "m",
        "c",
        "gcc",
        "pthread",
        "stdc++",
        "CON",
        "aux",
        "com1",
        "Arduino",
        "README",
        "sem",
        "unistd",
    ),
    *("x\n#error", 'a"; int evil; /*', "../../up", "café", "$(shell rm -rf)", "a`b|c", "_x", "ﬁ", "board", "all"),
)


def check(names: tuple[tuple[str, str, str], tuple[str, str, str]], folder: Path, cc: str) -> None:
    """The replay and the self-test of a model with odd names."""
    model = quantized(embedded(*names))
    exported = export_source(model, "net", "plain")
    sequences = random_sequences(model, exported, (1, 4), 0)
    assert first_difference(host_results(model, exported, sequences), replayed(exported, sequences, folder, cc)) is None
    written = export_model(model, load_target("generic"), folder / "net", "net")
    assert [line for line in written.source.split("\n") if "made by qrnn" not in line] == exported.source.split("\n")
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Wshadow", "-Werror", "-fsyntax-only"]
    compile_program([cc, *strict, folder / "net" / "test" / "net_selftest.c", folder / "net" / "net.c"])


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("number", range(len(PORTS)))
def test_inputs_and_outputs_of_any_name(number: int, tmp_path: Path) -> None:
    check((PORTS[number], ("words", "cells", "logits")), tmp_path, compiler(COMPILERS[number % 2]))


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_layers_of_any_name(number: int, tmp_path: Path) -> None:
    check((("ids", "profile", "y"), LAYERS[number]), tmp_path, compiler(COMPILERS[number % 2]))


@pytest.mark.wide(cover=False, keep=6)
@pytest.mark.parametrize("name", MODELS, ids=range(len(MODELS)))
def test_models_of_any_name(name: str, tmp_path: Path) -> None:
    """The folder holds what it should, each in a file of its own, and its program compiles beside the system's headers."""
    model = kind("bidirectional")
    exported = export_model(model, load_target("generic"), tmp_path / "out", name)
    own = exported.name
    assert re.fullmatch("[A-Za-z][A-Za-z0-9_]*", own)
    assert read_folder(tmp_path / "out").name == own
    files = [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()]
    made = [
        f"{own}.c",
        *(f"{own}{end}.h" for end in ("", "_float", "_info")),
        f"{own}.qrnn",
        *(f"test/{own}_{end}" for end in ("golden.h", "selftest.c", "selftest.h")),
    ]
    made += ["test/main.c", "Makefile", "CMakeLists.txt", "LICENSE", "README.md", "manifest.json", *exported.runtime]
    assert sorted(files) == sorted(made)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    sources = [tmp_path / "out" / f for f in (f"{own}.c", f"test/{own}_selftest.c", "test/main.c")]
    user = tmp_path / "user.c"
    user.write_text(
        f'#include <string.h>\n#include <stdint.h>\n#include <time.h>\n#include "{own}.h"\ntypedef size_t x;\n'
    )
    cc = [compiler("gcc"), "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path / 'out'}", "-fsyntax-only"]
    compile_program([*cc, *sources, user])
    for file in ("Makefile", "CMakeLists.txt", "README.md", f"{own}.h", f"{own}.c"):
        text = (tmp_path / "out" / file).read_text()
        assert "#error" not in text
        assert "int evil;" not in text
        assert "$(shell" not in text


SYSTEM = [
    "math.h",
    "string.h",
    "errno.h",
    "stdio.h",
    "unistd.h",
    "pthread.h",
    "semaphore.h",
    "sched.h",
    "elf.h",
    "regex.h",
    "malloc.h",
]


@pytest.mark.parametrize("header", SYSTEM)
def test_a_models_header_hides_no_systems_header(header: str, tmp_path: Path) -> None:
    exported = export_model(kind("lstm"), load_target("generic"), tmp_path / "out", header.removesuffix(".h"))
    user = tmp_path / "user.c"
    user.write_text(f'#include <{header}>\n#include "{exported.name}.h"\n{exported.name}_state user_state;\n')
    compile_program([compiler("gcc"), "-std=gnu11", "-Wall", "-Werror", f"-I{tmp_path / 'out'}", "-fsyntax-only", user])
    assert f"{exported.name}.h" != header


@given(st.text())
def test_any_text_becomes_an_identifier(text: str) -> None:
    for name in (identifier(text), model_identifier(text)):
        assert re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name)
        assert identifier(name) == name or name.endswith("_")
    assert model_identifier(model_identifier(text)) == model_identifier(text)


@given(st.lists(st.sampled_from(["a", "A", "a b", "net_x", "qrnn_x", "state", "", "a_2", "ж", "int"]), max_size=12))
def test_names_differ_by_more_than_case(texts: list[str]) -> None:
    names = Names(LOCALS, ("net_", "qrnn_"))
    found = [names.new(text).lower() for text in texts]
    assert len({*found, *LOCALS}) == len(found) + len(LOCALS)
    assert not [name for name in found if name.startswith(("net_", "qrnn_"))]


WORDS = st.sampled_from(["a", "b", "layer1", "layer2", "2", "ж", *sorted(DERIVED)])


@given(st.lists(st.lists(WORDS, min_size=1, max_size=3).map("_".join), unique=True, max_size=8))
def test_no_layers_name_is_made_from_anothers(texts: list[str]) -> None:
    names = Names(["net_step", "net_a"])
    found = names.layers(texts, "net_")
    assert list(found) == texts
    every = [*(name.lower() for name in found.values()), "net_step", "net_a"]
    derived = {f"{name}_{word}" for name in every[:-2] for word in DERIVED}
    assert len(set(every)) == len(every)
    assert not [n for n in every[:-2] for d in derived if n == d or n.startswith(f"{d}_")]


@given(st.text(alphabet=st.sampled_from("*/?\\\n\r\t\0 ax∑\x85\u2028\"'")))
def test_a_comment_stays_one(text: str) -> None:
    found = comment(text)
    assert found.startswith("/* ")
    assert found.endswith(" */")
    inner = found[2:-2]
    assert "*/" not in inner
    assert "/*" not in inner
    assert "??/" not in inner
    assert all(" " <= c <= "~" for c in found)


def test_the_least_integer_is_written_as_c_can_read_it() -> None:
    import numpy as np

    assert "{\n    INT32_MIN, 0,\n}" in array("int32_t", "a", np.array([-(1 << 31), 0]))
    assert "-32768, 0," in array("int16_t", "a", np.array([-(1 << 15), 0]))
    assert "0xFFFFFFFFU, 0x00000000U," in array("uint32_t", "a", np.array([0xFFFFFFFF, 0]))
