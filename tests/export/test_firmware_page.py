"""docs/firmware.md: its C compiles against an export of the bundled model, its table has every package, and its figures come again."""

from __future__ import annotations

import re
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from installed import compiler

import qrnn
from export.building import compile_program
from export.test_devices import usable
from qrnn.devices.measure import measure
from qrnn.examples import digits_calibration, digits_model
from qrnn.export.choices import Choices, checked_names
from qrnn.export.folder import export_model, read_folder
from qrnn.export.packages import load_package, package_names
from qrnn.hardware.description import counter_names
from qrnn.model.codes import code_format
from qrnn.model.quant_model import QuantModel
from qrnn.targets import load_target

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "firmware.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def digits() -> QuantModel:
    with np.load(digits_calibration()) as data, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return qrnn.quantize(qrnn.load_onnx(digits_model()), {"x": data["x"]}, qrnn.Scheme(activations=8))


MAIN = """
uint8_t stack_limit[1];

int uart_put(int character)
{
    return putchar(character);
}

int main(void)
{
    static float measured[DIGITS_X_SIZE];
    static int16_t samples[DIGITS_X_SIZE];

    digits_init(&state);
    print_version();
    puts(class_of(measured));
    return (class_of_samples(&state, samples, &scratch) < DIGITS_LOGITS_SIZE) ? 0 : 1;
}
"""


@pytest.mark.parametrize("standard", ["c99", "c++11"])
def test_the_examples_compile_and_run(digits: QuantModel, standard: str, tmp_path: Path) -> None:
    names = {"logits": checked_names(digits, "logits", [f"digit {k}" for k in range(10)])}
    choices = Choices({"x": code_format(digits, "x", 1 / 256)}, names, scratch=True)
    export_model(digits, load_target("generic"), tmp_path / "out", "digits", choices=choices, bench=True)
    blocks = re.findall(r"^```c\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    end, cc = ("cpp", "g++") if "++" in standard else ("c", "gcc")
    (tmp_path / f"user.{end}").write_text("\n".join([*blocks, MAIN]))
    out, objects = tmp_path / "out", []
    for source in (out / "digits.c", out / "test" / "digits_selftest.c", out / "test" / "digits_bench.c"):
        objects.append(tmp_path / f"{source.stem}.o")
        compile_program([compiler("gcc"), "-std=c99", "-O1", "-c", source, "-o", objects[-1]])
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Werror", f"-I{out}", f"-I{out / 'test'}"]
    compile_program([compiler(cc), *flags, tmp_path / f"user.{end}", *objects, "-o", tmp_path / "user"])
    done = subprocess.run([tmp_path / "user"], capture_output=True, text=True, check=True)
    version, found = done.stdout.splitlines()
    assert re.fullmatch(r"digits: model [0-9a-f]{8}, contract 1\.[01], \d+ bytes of state", version)
    assert re.fullmatch(r"digit \d", found)


def test_the_table_has_every_counter() -> None:
    rows = re.findall(
        r"^\| (`[\w`, ]+`) \| [^|]+ \| [^|]+ \|$",
        PAGE.partition("| `counter` |")[2].partition("## Packages")[0],
        re.MULTILINE,
    )
    assert sorted(name for row in rows for name in re.findall(r"\w+", row)) == sorted(counter_names())


def test_the_table_has_every_package() -> None:
    table = PAGE.partition("## Packages")[2]
    rows = dict(re.findall(r"^\| `([\w-]+)` \| [^|]+ \| ([^|]+) \|$", table, re.MULTILINE))
    assert set(rows) == set(package_names())
    for name, checked in rows.items():
        assert ("laid out, not built" in checked) == (not load_package(name).built), name


@pytest.mark.matrix
def test_the_figures_come_again(digits: QuantModel, tmp_path: Path) -> None:
    """The scratch is as large as the page says, and the stack is smaller, to about the bytes that it says."""
    target = usable("cortex-m0plus")
    pattern = r"counts (\d+) bytes of stack, and (\d+) bytes with `--scratch argument` beside a scratch of (\d+)"
    said = re.search(pattern, " ".join(PAGE.split()))
    assert said is not None
    before, after, scratch = (int(number) for number in said.groups())
    stacks = []
    for number, choices in enumerate((Choices(), Choices(scratch=True))):
        export_model(digits, target, tmp_path / str(number), "model", choices=choices)
        folder = read_folder(tmp_path / str(number))
        stacks.append(measure(folder, target, 1, phases=False, family="gnu").stack_bytes or 0)
    assert folder.exported.scratch is not None
    assert folder.exported.scratch.bytes == scratch
    assert stacks[1] < stacks[0]
    assert abs(stacks[0] - before) < 200  # compilers differ, and so do revisions of the kernels
    assert abs(stacks[1] - after) < 200
