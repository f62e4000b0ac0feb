"""Count single layers on the emulated cores that tools/bench_devices.py leaves out, and write docs/benchmarks/more_devices.md.

    python tools/bench_more_devices.py [--targets NAME,…] [--output docs/benchmarks/more_devices.md]

Needs the compilers and emulators that `qrnn verify --emulate` names. The cost models of these targets in ``targets/`` are fitted anew to what
is counted. Takes some minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bench_devices
from bench_devices import CELLS, exported, layer, run_layer
from device_page import COST_KEYS, Layer, fitted_costs, table, write_costs
from provenance import when

from qrnn.devices.measure import Needs, measure
from qrnn.devices.toolchain import toolchains
from qrnn.export.readme import OPTIMIZATION
from qrnn.system.atomic import write_atomically
from qrnn.targets import Target, load_target, target_names, targets_folder

SIZES = (16, 32, 64)
LEVELS = ("-O0", "-Os", "-O2", "-O3")


def _counted_here(name: str) -> bool:
    target = load_target(name)
    own = target.cost is not None and target.cost.like is None
    return target.emulation is not None and own and name not in bench_devices.TARGETS


TARGETS = tuple(name for name in target_names() if _counted_here(name))


def levels(target: Target) -> list[tuple[str, str, Needs]]:
    """Return what an LSTM layer of 16 units takes by each installed compiler at each level of optimization."""
    found: list[tuple[str, str, Needs]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = exported(layer("lstm", SIZES[0]), target, Path(temporary))
        for toolchain in toolchains(target):
            for level in LEVELS:
                needs = measure(
                    folder, target, 1, phases=False, family=toolchain.family, optimization=level, cycles=False
                )
                found.append((toolchain.family, level, needs))
    return found


def _counts(needs: Needs) -> str:
    emulation = needs.target.emulation
    return emulation.counts if emulation is not None else "instructions"


def _row(one: Layer) -> list[str]:
    needs = one.needs
    if needs.problem is not None:
        return [needs.target.name, f"{one.cell} {one.units}", needs.problem, *[""] * 7]
    assert needs.instructions is not None
    assert needs.phases is not None
    assert needs.flash_bytes is not None
    assert needs.cycles is not None
    assert needs.seconds is not None
    split = ", ".join(f"{needs.phases[phase]:,.0f}" for phase in ("input", "state", "gates", "other"))
    return [
        needs.target.name,
        f"{one.cell} {one.units}",
        f"{needs.instructions:,.0f} {_counts(needs)}",
        f"{needs.instructions / one.macs:.2f}",
        split,
        f"{needs.cycles:,.0f} {needs.cycles_kind}",
        f"{1e3 * needs.seconds:.3f}",
        f"{needs.flash_bytes:,}",
        f"{needs.flash_bytes - needs.constant_bytes:,}",
        f"{needs.ram_bytes:,} ({needs.stack_bytes:,})",
    ]


def page(command: str, began: str, layers: list[Layer], by_level: list[tuple[str, str, Needs]]) -> str:
    """Return the whole page."""
    compilers = sorted({needs.compiler for _, _, needs in by_level if needs.compiler is not None})
    fitted = fitted_costs(layers)
    heads = ("target", "layer", "counted a step", "for a multiply-add", "W·x, R·h, gates, rest", "cycles", "ms")
    return "\n".join(
        [
            "# More emulated cores",
            "",
            f"Made by `{command}` on {began}; {'; '.join(compilers)}.",
            "",
            "Single recurrent layers of random weights, as many inputs as units, on the targets that [devices.md](devices.md) leaves out, with",
            "the columns of that page. QEMU counts instructions, simavr clock cycles; cycles say what kind of figure they are",
            f"([devices.md](../devices.md#cycles)). Compiled with {OPTIMIZATION} by gcc.",
            "",
            *table((*heads, "flash", "of it code", "RAM (stack)"), map(_row, layers)),
            "## Levels of optimization",
            "",
            "An LSTM layer of 16 units. Every build gives the host's bits (`tests/export/test_levels.py`).",
            "",
            *table(
                ("target", "compiler", "level", "counted a step", "flash", "stack"),
                (
                    (
                        needs.target.name,
                        family,
                        level,
                        needs.problem or f"{needs.instructions:,.0f} {_counts(needs)}",
                        f"{needs.flash_bytes or 0:,}",
                        f"{needs.stack_bytes or 0:,}",
                    )
                    for family, level, needs in by_level
                ),
            ),
            "## Cost models",
            "",
            "As in devices.md, fitted to the layers above, and written to the targets' files. Those of avr are in cycles.",
            "",
            *table(
                ("target", *COST_KEYS, "largest error"),
                ((name, *map(str, values), f"{100 * error:.1f} %") for name, (values, error) in fitted.items()),
            ),
        ]
    )


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/more_devices.md"))
    parser.add_argument("--targets", default=",".join(TARGETS))
    arguments = parser.parse_args()
    began = when()  # files may change while this runs
    targets = [load_target(name) for name in arguments.targets.split(",")]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(run_layer, cell, units, t) for t in targets for cell in CELLS for units in SIZES]
        more = [pool.submit(levels, t) for t in targets]
        layers, by_level = [job.result() for job in jobs], [one for job in more for one in job.result()]
    text = page("python tools/bench_more_devices.py", began, layers, by_level)
    print(text)
    write_atomically(arguments.output, text.encode())
    write_costs(layers, targets_folder(), Path(__file__).parents[1] / "docs" / "add_a_target.md")


if __name__ == "__main__":
    main()
