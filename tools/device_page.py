"""Write docs/benchmarks/devices.md from what tools/bench_devices.py measured, and fit the cost models to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from device_figures import DATA, LEAST, Reference, bound, data, reference_cycles_per_instruction, references, traced

from qrnn.devices.measure import Needs
from qrnn.devices.toolchain import Family
from qrnn.export.readme import OPTIMIZATION
from qrnn.export.replay import PHASES
from qrnn.system.atomic import write_atomically
from qrnn.targets import load_target, target_names

COMPILERS: dict[str, tuple[Family, str]] = {
    "gcc -O3": ("gnu", "-O3"),
    "gcc -Os": ("gnu", "-Os"),
    "clang -O3": ("clang", "-O3"),
}
"""Those that CMSIS-NN was measured with → the family of `qrnn.devices.toolchain` and the optimization."""
TIMED = "gcc -O3"
"""The compiler and the optimization of the layers whose cycles are set beside those of CMSIS-NN."""
RECURRENT = tuple(phase for phase in PHASES if phase != "windows")
"""The phases of models without convolutions and pools."""
COST_KEYS = ("instructions_per_mac", "instructions_per_unit", "instructions_per_step")
COST_DIGITS = (3, 1, 1)


@dataclass(frozen=True)
class Ran:
    """A trained model on a target: sequences and steps compared, and the difference, or why it was not run."""

    model: str
    target: str
    sequences: int = 0
    steps: int = 0
    difference: str | None = None
    refused: str | None = None
    needs: Needs | None = None


@dataclass(frozen=True)
class Layer:
    """One measured layer and what it takes."""

    cell: str
    units: int
    macs: int
    gate_values: int
    needs: Needs


@dataclass(frozen=True)
class Measured:
    """The figures of a whole run.

    ``when`` is `provenance.when` at its begin. ``peers`` are LSTM layers by the compilers of `COMPILERS`, and ``timed`` those by `TIMED`
    whose cycles are traced or modelled; ``code`` are functions of a model with their bytes.
    """

    command: str
    when: str
    emulator: str
    models: Sequence[Ran]
    layers: Sequence[Layer]
    peers: Mapping[str, Sequence[Layer]]
    timed: Sequence[Layer]
    code: Sequence[tuple[str, int]]
    short_steps: int
    short_ram: int
    window: int


def page(run: Measured) -> str:
    """Return the whole page."""
    every = [*run.layers, *(layer for layers in run.peers.values() for layer in layers)]
    compilers = sorted({layer.needs.compiler for layer in every if layer.needs.compiler is not None})
    parts = [
        "# Exported models on emulated microcontrollers",
        "",
        f"Made by `{run.command}` on {run.when}; {'; '.join([*compilers, run.emulator])}.",
        "",
        "Instructions are counted in the emulator, exactly and without the cost of counting (docs/add_a_target.md says how). **Cycles say",
        'what kind of figure they are** (docs/devices.md, "Cycles"): *traced* with the timings in the core\'s manual, *modelled* by llvm-mca,',
        "or *guessed*, instructions times the cycles for one that the target states; all without wait states of flash and misses of caches.",
        "Milliseconds are these cycles over the clock of the target's board. Flash is the difference between two linked programs, with and",
        "without the model. RAM is the state, the stack at its deepest, inputs, outputs and room for work.",
        f"Everything is compiled with {OPTIMIZATION} by gcc unless a table says otherwise.",
        "",
        *(_models(run) if run.models else ()),
        *_beside(run),
        *(_timed(run.timed) if run.timed else ()),
        *_own(run),
        *_costs(run),
        *(_code(run.code) if run.code else ()),
    ]
    return "\n".join(parts)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table and an empty one."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _models(run: Measured) -> list[str]:
    heads = [
        *("model", "target", "sequences, steps", "bits", "instructions a step", "cycles", "ms"),
        *("W·x, R·h, gates, rest", "flash", "of it code", "RAM", "stack"),
    ]
    rows = []
    for r in run.models:
        if r.refused is not None or r.needs is None or r.needs.flash_bytes is None:
            rows.append([r.model, r.target, "–", str(r.refused), *[""] * (len(heads) - 4)])
            continue
        n, flash = r.needs, r.needs.flash_bytes
        phases = [(n.phases or {}).get(p, 0.0) for p in RECURRENT]
        rows.append(
            [
                *(r.model, r.target, f"{r.sequences}, {r.steps:,}", r.difference or "all equal"),
                *(f"{n.instructions:,.0f}", _cycles_of(n), f"{1e3 * (n.seconds or 0):.3f}"),
                ", ".join(f"{100 * v / sum(phases):.0f} %" for v in phases),
                *(f"{flash:,}", f"{flash - n.constant_bytes:,}", f"{n.ram_bytes:,}", f"{n.stack_bytes:,}"),
            ]
        )
    return [
        "## Trained models, real data",
        "",
        "Each step's outputs and each sequence's final state are compared with the host's; equal means that no bit differs. RAM of models",
        f"that read whole sequences is for {run.short_steps} steps, and on machines with less than {run.short_ram // 1024} KiB of it only",
        f"sequences of at most so many are run. {run.window} bytes of text are a sequence for sentence_split_bilstm.",
        "",
        *table(heads, rows),
    ]


def _beside(run: Measured) -> list[str]:
    """Return LSTM layers beside CMSIS-NN's figures: a table for each compiler, and the ratios by core in short."""
    source = data()
    short: dict[str, dict[str, list[str]]] = {}
    tables: list[str] = []
    for compiler, layers in run.peers.items():
        peers = [
            (layer, references()[key])
            for layer in layers
            if (key := (compiler, layer.needs.target.name, layer.units)) in references()
        ]
        for name in dict.fromkeys(layer.needs.target.name for layer, _ in peers):
            own = [(layer.needs, peer) for layer, peer in peers if layer.needs.target.name == name]
            theirs = [peer.qrnn_instructions / peer.instructions for _, peer in own]
            here = [n.instructions / peer.instructions for n, peer in own if n.counted and n.instructions is not None]
            short.setdefault(name, {})[compiler] = [_range(theirs), _range(here)]
        if peers:
            theirs_by = ", ".join(sorted({peer.version for _, peer in peers}))
            here_by = ", ".join(
                sorted({layer.needs.compiler for layer, _ in peers if layer.needs.compiler is not None})
            )
            heads = [
                *("target", "H", "CMSIS-NN", "qrnn 52895b5, same run", "ratio", "qrnn, this command", "ratio"),
                *("cycles: CMSIS-NN", "qrnn, this command", "ratio", "flash", "RAM"),
            ]
            tables += [f"### {compiler}", "", f"Their run: {theirs_by}. This command: {here_by}.", ""]
            tables += table(heads, [_beside_row(layer, peer) for layer, peer in peers])
    ranges = [[name, *(t for c in run.peers for t in found.get(c, ["–", "–"]))] for name, found in short.items()]
    heads = ["target", *(f"{compiler}, {run_}" for compiler in run.peers for run_ in ("their run", "this command"))]
    return [
        "## One LSTM layer beside CMSIS-NN",
        "",
        f"CMSIS-NN {source['revision']}, `{source['function']}`. This command does not measure it. Its figures were",
        f"{source['source']} (`tools/data/{DATA.name}`).",
        "Inputs are as many as units, H; a ratio is qrnn's figure over CMSIS-NN's, below 1 where qrnn takes less. *Their run* measured both",
        "with one compiler; *this command* counts qrnn as it is now, by the compilers that are named at each table, which for clang is another",
        "version. CMSIS-NN has no GRU.",
        "",
        "Cycles of qrnn are of the kind that the table says, CMSIS-NN's are its instructions times the cycles for one of its own traced steps",
        "(below); – where none was traced. Flash is beyond the weights, RAM includes the stack, both in bytes, CMSIS-NN / qrnn by this",
        "command.",
        "",
        "Ratios of instructions, least … most over H:",
        "",
        *table(heads, ranges),
        "Ratios of flash beyond the weights and of RAM, least … most over H:",
        "",
        *table(("target", "compiler", "flash", "RAM"), room_ratios(run)),
        *tables,
        *_traced(),
    ]


def room_ratios(run: Measured) -> list[list[str]]:
    """Return, for each target and compiler, the range over H of qrnn's flash and RAM over CMSIS-NN's, where both are known."""
    found = []
    for compiler, layers in run.peers.items():
        for name in dict.fromkeys(layer.needs.target.name for layer in layers):
            flash, ram = [], []
            for layer in (x for x in layers if x.needs.target.name == name):
                n, peer = layer.needs, references().get((compiler, name, layer.units))
                if peer is None or peer.ram is None or peer.flash_beyond_weights is None or n.stack_bytes is None:
                    continue
                flash.append(((n.flash_bytes or 0) - layer.macs) / peer.flash_beyond_weights)
                ram.append(n.ram_bytes / peer.ram)
            if flash:
                found.append([name, compiler, _range(flash), _range(ram)])
    return found


def _beside_row(layer: Layer, peer: Reference) -> list[str]:
    n, name = layer.needs, layer.needs.target.name
    row = [name, str(layer.units), f"{peer.instructions:,}", f"{peer.qrnn_instructions:,}"]
    row.append(f"**{peer.qrnn_instructions / peer.instructions:.2f}**")
    if not n.counted or n.instructions is None or n.flash_bytes is None:
        return [*row, str(n.problem), *[""] * 6]
    rate = reference_cycles_per_instruction(name, layer.units)
    cycles = None if rate is None else rate * peer.instructions
    flash = n.flash_bytes - layer.macs
    return [
        *(*row, f"{n.instructions:,.0f}", f"**{n.instructions / peer.instructions:.2f}**"),
        *("–" if cycles is None else f"{cycles:,.0f}", _cycles_of(n)),
        "–" if cycles is None else f"**{(n.cycles or 0) / cycles:.2f}**",
        "–" if peer.flash_beyond_weights is None else f"{peer.flash_beyond_weights:,} / {flash:,}",
        "–" if peer.ram is None else f"{peer.ram:,} / {n.ram_bytes:,}",
    ]


def _range(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.2f} … {max(ratios):.2f}" if ratios else "–"


def _traced() -> list[str]:
    rows = [
        [
            *(one.core, one.code, str(one.units), f"{one.instructions:,}"),
            " / ".join(f"{c:,}" for c in dict.fromkeys(one.cycles)),
            f"{one.per_instruction:.2f}",
        ]
        for one in traced()
    ]
    return [
        "### Cycles of traced steps",
        "",
        "CMSIS-NN and qrnn 52895b5 were measured independently, November 2026, gcc 12.2 -O3: each executed instruction with the timing in",
        "Arm's reference manual for the core, no wait states; where the manual leaves a range, the least, the middle and the most. The last",
        "column is the middle's.",
        "",
        *table(("target", "code", "H", "instructions", "cycles", "cycles for an instruction"), rows),
    ]


def _cycles_of(needs: Needs) -> str:
    """Return the cycles of a step and their kind."""
    return "–" if needs.cycles is None else f"{needs.cycles:,.0f} {needs.cycles_kind}"


def _timed(layers: Sequence[Layer]) -> list[str]:
    """Return the cycles of LSTM layers, beside CMSIS-NN's and for each multiply-add of the loops."""
    rows = []
    for layer in layers:
        n, name = layer.needs, layer.needs.target.name
        found = n.timing
        if found is None or not n.counted or n.instructions is None:
            rows.append([name, str(layer.units), str(n.problem), *[""] * 6])
            continue
        peer, rate = references().get((TIMED, name, layer.units)), reference_cycles_per_instruction(name, layer.units)
        theirs = None if peer is None or rate is None else rate * peer.instructions
        loop = None if found.loops is None else found.loops.per_product(layer.macs)
        spans = dict.fromkeys(f"{cycles:,.0f}" for cycles in (found.total.low, found.total.mid, found.total.high))
        rows.append(
            [
                *(name, str(layer.units), found.kind, f"{n.instructions:,.0f}", " / ".join(spans)),
                f"{found.total.mid / n.instructions:.2f}",
                *(("–", "–") if theirs is None else (f"{theirs:,.0f}", f"**{found.total.mid / theirs:.2f}**")),
                "–" if loop is None else f"{loop:.2f}",
            ]
        )
    sources = {layer.needs.target.name: found.source for layer in layers if (found := layer.needs.timing) is not None}
    heads = ("target", "H", "kind", "instructions", "cycles", "for an instruction", "CMSIS-NN", "ratio")
    return [
        "## Cycles of an LSTM step",
        "",
        f"The LSTM layers above, {TIMED}. Cycles are the least, the expected and the most where the kind has a range; the ratio is that of the",
        "expected ones to CMSIS-NN's, by its own traced steps. The last column is what the loops over columns take, in the middle, for each of",
        "their multiply-adds: loads, products and the loop's own instructions; – where rows are so short that nothing is a loop. On",
        "cortex-m0plus, whose requantization multiplies too, it is some percent too high.",
        "",
        *(f"- {name}: {source}" for name, source in sources.items()),
        "",
        *table((*heads, "cycles a multiply-add in the loops"), rows),
    ]


def _own(run: Measured) -> list[str]:
    heads = (
        "layer",
        "target",
        "instructions a step",
        "for a multiply-add",
        "cycles",
        "W·x, R·h, gates, rest",
    )
    lstm = {(x.units, x.needs.target.name): x.needs.instructions for x in run.layers if x.cell == "lstm"}
    rows = []
    for layer in run.layers:
        n = layer.needs
        if not n.counted or n.instructions is None:
            rows.append([f"{layer.cell.upper()} {layer.units}", n.target.name, str(n.problem), *[""] * 6])
            continue
        least = bound(n.target.core.kernels, layer.macs)
        other = lstm.get((layer.units, n.target.name))
        rows.append(
            [
                *(f"{layer.cell.upper()} {layer.units}", n.target.name, f"{n.instructions:,.0f}"),
                *(f"{n.instructions / layer.macs:.2f}", _cycles_of(n)),
                ", ".join(f"{(n.phases or {}).get(p, 0):,.0f}" for p in RECURRENT),
                *(f"{least:,.0f}", f"{n.instructions / least:.2f}"),
                f"{n.instructions / other:.3f}" if layer.cell == "gru" and other else "",
            ]
        )
    return [
        "## One layer, every core",
        "",
        f"As exported folders compile it, with {OPTIMIZATION}. The bound is the multiply-adds alone, in the fewest instructions that their",
        "form takes:",
        "",
        *(f"- {name}: {text}" for name, (_, text) in LEAST.items()),
        "",
        *table((*heads, "bound", "/ bound", "of the LSTM"), rows),
    ]


def fitted_costs(layers: Sequence[Layer]) -> dict[str, tuple[tuple[float, ...], float]]:
    """Fit each target's cost model and return the values of `COST_KEYS` and the largest relative error.

    The fit is least squares over the relative errors of the layers' instructions.
    """
    found = {}
    for name in dict.fromkeys(layer.needs.target.name for layer in layers):
        own = [x for x in layers if x.needs.target.name == name and x.needs.counted]
        if len(own) < len(COST_KEYS):
            continue
        counted = np.array([x.needs.instructions for x in own], np.float64)
        terms = np.array([(x.macs, x.gate_values, 1) for x in own], np.float64)
        best = np.linalg.lstsq(terms / counted[:, None], np.ones(len(own)), rcond=None)[0]
        values = tuple(round(float(v), digits) for v, digits in zip(best, COST_DIGITS, strict=True))
        found[name] = (values, float(np.abs(terms @ np.array(values) / counted - 1).max()))
    return found


def _costs(run: Measured) -> list[str]:
    rows = [
        [name, *map(str, values), f"{100 * error:.1f} %"] for name, (values, error) in fitted_costs(run.layers).items()
    ]
    return [
        "## Cost models",
        "",
        "What `[cost]` of the targets says, by which instructions are estimated where none can be counted: multiply-adds of a step, values of",
        "gate functions, and a constant, fitted to the layers above. This command writes them to the targets' files too.",
        "",
        *table(("target", *COST_KEYS, "largest error"), rows),
    ]


def write_costs(layers: Sequence[Layer], folder: Path, walkthrough: Path) -> None:
    """Put the fitted cost models into the targets' TOML files in ``folder``, and cortex-m4's into docs/add_a_target.md, which has it too.

    Targets that say whose figures they have (``like``) have those, too.
    """
    fitted = fitted_costs(layers)
    files = {folder / f"{name}.toml": values for name, (values, _) in fitted.items()}
    for name in target_names():
        cost = load_target(name).cost
        if cost is not None and cost.like in fitted:
            files[folder / f"{name}.toml"] = fitted[cost.like][0]
    if "cortex-m4" in fitted:
        files[walkthrough] = fitted["cortex-m4"][0]
    for path, values in files.items():
        text = path.read_text(encoding="utf-8")
        for key, value in zip(COST_KEYS, values, strict=True):
            text, count = re.subn(rf"(?m)^{key} = [\d.]+", f"{key} = {value}", text)
            assert count == 1, f"{path}: one line for {key}"
        write_atomically(path, text.encode())


def _code(code: Sequence[tuple[str, int]]) -> list[str]:
    total = sum(size for _, size in code)
    parts = ", ".join(f"`{name}` {size}" for name, size in code)
    return [
        "## Code",
        "",
        f"fsdd_lstm64, an LSTM with its dense head, on cortex-m4: {total:,} bytes of functions: {parts}.",
        "",
    ]
