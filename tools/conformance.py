"""Print, write or check docs/conformance.md: every attribute of ONNX's LSTM, GRU and RNN, and its normalizations, run and compared.

    python tools/conformance.py --shared DIR            print the page
    python tools/conformance.py --shared DIR --write    write it
    python tools/conformance.py --shared DIR --check    exit status 1 when the written page is another

DIR holds ``vectors/``, the operator tests of ONNX Runtime and of ONNX. Without ``--shared``, ``--check`` looks at the rest of the page.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from conformance_cases import OPERATORS, golden_cases, node_cases, own_cases
from conformance_elementwise import elementwise_cases
from conformance_measure import DRAWS, FRACTION, NEAR, Output, Result, measure, ratio
from conformance_moves import move_cases, upsampling_cases
from conformance_norms import norm_cases
from conformance_reductions import reduction_cases
from conformance_refusals import refusal, refused_models
from page_section import EXPORTERS, section_of, with_section

from qrnn.system.atomic import write_atomically

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "conformance.md"

OWN_DIFFERENCE = 1e-5
"""Most that the float result may differ from ONNX Runtime's, beside the largest magnitude (no less than 1): float32's rounding."""

GOLDEN_DIFFERENCE = 1e-4
"""As above, from ONNX Runtime's stored results, some of which have five digits."""

TIMES = 2.0
"""Most that the integers may lie from float, in changes that half a step makes to float."""

RESOLUTION = 2.0**-12
"""What is allowed besides, of the largest magnitude but no less than 1: half a unit of the 11 fraction bits of a gate's argument."""

COLUMNS = (
    "| {first} | cases | float | integers | error | SQNR dB | half steps | note |\n|---|---|---|---|---|---|---|---|\n"
)


def allowed(output: Output) -> float:
    """Return the largest error that needs no other explanation."""
    return TIMES * output.moved + RESOLUTION * max(1.0, output.peak)


def within_bound(result: Result) -> bool:
    """Return whether every output's error is within what half a step costs the float network, and the formats' resolution."""
    return all(o.error <= allowed(o) for o in result.outputs)


def reason(result: Result) -> str:
    """Return why the integers lie far from float, from what was measured; empty where they are near."""
    far = [o for o in result.outputs if o.relative > NEAR]
    if not far:
        return ""
    worst = max(far, key=lambda o: o.relative)
    if worst.error <= RESOLUTION * max(1.0, worst.peak):
        return f"resolution: float's {worst.name} reaches {worst.peak:.0e}"
    moved = f"half a step moves float's {worst.name} by {percent(ratio(worst.moved, worst.peak))}"
    if worst.jumps:
        return f"a jump: {moved}, and 1/{FRACTION} of half a step by {percent(ratio(worst.moved_less, worst.peak))}"
    return f"gain: {moved}"


def percent(share: float) -> str:
    """Return a share in percent with two digits."""
    if share == 0.0 or math.isinf(share):
        return "0 %" if share == 0.0 else "more than all"
    digits = max(0, 1 - math.floor(math.log10(100 * share)))
    return f"{100 * share:.{digits}f} %"


def row(first: str, results: Sequence[Result], bound: float) -> str:
    """Return one line of a table over all cases of one feature."""
    ran = [r for r in results if r.outputs]
    notes = list(dict.fromkeys(filter(None, (note(r) for r in results))))
    largest = max((r.relative for r in ran), default=math.nan)
    least = min((r.sqnr for r in ran), default=math.nan)
    times = [r.times for r in ran if any(o.error > RESOLUTION * max(1.0, o.peak) for o in r.outputs)]
    cells = [
        first,
        str(len(results)),
        agreement(results, bound),
        "-" if not ran else "equal" if all(r.equal for r in ran) else "**differ**",
        "-" if not ran else percent(largest),
        "-" if not ran else "exact" if math.isinf(least) else f"{math.floor(least)}",
        f"{max(times):.1f}" if times else "-",
        "; ".join(notes),
    ]
    return "| " + " | ".join(cells) + " |"


def agreement(results: Sequence[Result], bound: float) -> str:
    """Return how the float results agree; a case that must fail agrees by being refused."""
    refused = [r for r in results if r.refused]
    if len(refused) == len(results):
        return "refused"
    if refused or any(r.difference > bound for r in results):
        return "**no**"
    return f"≤ {bound:.0e}".replace("e-0", "e-")


def note(result: Result) -> str:
    """Return what a reader must know of one case."""
    if result.refused:
        return result.refused.replace("|", "\\|")
    if result.not_quantized:
        largest = max(float(np.abs(array).max()) for array in result.case.inputs.values())
        return f"{result.not_quantized} (its inputs reach {largest:.0e})".replace("|", "\\|")
    return reason(result) + ("" if within_bound(result) else " (**unexplained**)")


def grouped(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Group results by feature, in order."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.case.feature, []).append(result)
    return groups


def table(first: str, results: Iterable[Result], bound: float) -> str:
    """Return all rows of some cases."""
    lines = (row(feature, group, bound) for feature, group in grouped(results).items())
    return COLUMNS.format(first=first) + "\n".join(lines) + "\n"


def engines(results: Sequence[Result]) -> str:
    """Return how the integer backends did."""
    ran = [r for r in results if r.outputs]
    near = sum(r.relative <= NEAR for r in ran)
    unexplained = sum(not within_bound(r) for r in ran)
    text = f"integer backends equal bit for bit in {sum(r.equal for r in ran)} of {len(ran)}"
    text += f", within 1/{1 / NEAR:.0f} of float's largest magnitude in {near}"
    if len(ran) > near:
        text += f"; the other {len(ran) - near} have notes"
    if unexplained:
        text += f"; **{unexplained} unexplained**"
    unable = sum(bool(r.not_quantized) for r in results)
    return text + (f"; {unable} cannot be quantized" if unable else "")


def own_summary(results: Sequence[Result]) -> str:
    """Return the matrix in one line."""
    agree = sum(r.difference <= OWN_DIFFERENCE for r in results)
    return f"- Own matrix: {agree} of {len(results)} cases agree in float with ONNX Runtime; {engines(results)}.\n"


def golden_summary(results: Sequence[Result]) -> str:
    """Return ONNX Runtime's tests in one line."""
    succeed = [r for r in results if not r.case.fails]
    agree = sum(r.difference <= GOLDEN_DIFFERENCE for r in succeed)
    fail = [r for r in results if r.case.fails]
    return (
        f"- ONNX Runtime's operator tests: {agree} of {len(succeed)} agree in float, {sum(bool(r.refused) for r in fail)} of {len(fail)} "
        f"that must fail are refused; {engines(succeed)}.\n"
    )


def node_summary(results: Sequence[Result]) -> str:
    """Return ONNX's tests in one line."""
    agree = sum(r.within_node_tolerance for r in results)
    return f"- ONNX's node tests: {agree} of {len(results)} in float at ONNX's own tolerance; {engines(results)}.\n"


def norm_summary(results: Sequence[Result]) -> str:
    """Return ONNX's tests of normalizations in one line."""
    taken = [r for r in results if not r.refused]
    agree = sum(r.within_node_tolerance for r in taken)
    return (
        f"- ONNX's node tests of normalizations: {len(taken)} of {len(results)} are over features, or over time with weights that do not "
        f"change, {agree} of them in float at ONNX's own tolerance; {engines(taken)}; {len(results) - len(taken)} are refused by name.\n"
    )


def apart_summary(what: str, results: Sequence[Result]) -> str:
    """Return ONNX's tests of ``what``, such as reductions, in one line."""
    taken = [r for r in results if not r.refused]
    agree = sum(r.within_node_tolerance for r in taken)
    return (
        f"- ONNX's node tests of {what}: {agree} of {len(taken)} that are imported in float at ONNX's own tolerance; "
        f"{engines(taken)}; {len(results) - len(taken)} are refused by name.\n"
    )


def own_tables(results: Sequence[Result]) -> str:
    """Return one table for each operator."""
    parts = []
    for op in OPERATORS:
        chosen = [r for r in results if r.case.operator == op]
        parts.append(f"## {op}\n\n" + table("feature", chosen, OWN_DIFFERENCE))
    return "\n".join(parts)


def refusals() -> str:
    """Return what is refused, in the words of the refusals."""
    lines = []
    for name, model in refused_models():
        words = refusal(model).replace("|", "\\|")
        lines.append(f"| {name} | {words or '**imported**'} |")
    return "## What is refused\n\n| model | error |\n|---|---|\n" + "\n".join(lines) + "\n"


HEAD = """# Conformance to ONNX's LSTM, GRU, RNN, normalizations and elementwise operators

Made by `python tools/conformance.py --shared DIR --write`; `--check` compares.

"""

METHOD = f"""
Each case is one node through `qrnn.onnx_backend`. **float**: the float64 oracle against ONNX Runtime (its layout-0 or older-opset twin for
what it does not run), relative to the largest magnitude, no less than 1; or against the stored outputs. **integers**: `reference` and
`cpu`, quantized with default settings and ranges of the case's own inputs; equal means every integer of every tensor and state. **error**
and **SQNR**: the worst output of the worst case, the error relative to that output's largest magnitude.

**half steps** says what error was to be expected. Weights, inputs and fed-back states have 8 bits; the float64 oracle is run {DRAWS} times
with each of them moved by half of its own quantization step, up or down by chance. The largest change of an output is the unit of this
column, and no error is larger than {TIMES:g} of it, plus 2^-12 of the largest magnitude or of 1, which a gate's argument resolves (-: no
error is larger than that). Where the error is more than 1/{1 / NEAR:.0f} of the largest magnitude, the note says why. *gain*: the change
itself, which the network amplifies; *a jump*: an eighth of the move changes as much, for a function is not continuous; *resolution*:
the largest magnitude is not much more than 2^-12.

Beyond the page, `python -m pytest -n 2 tests/conformance/test_random.py tests/onnx_import/test_random_nodes.py -m "long or not long"` draws
2,000 combinations of operator, functions, attributes, lengths, states and weights that go through all three comparisons (float with
ONNX Runtime; integers with float, within the bound above; the backends with each other), and 2,000 more, by Hypothesis, through the first.
A counterexample fails the tests; there is none at present.

"""

GOLDEN = "## ONNX Runtime's operator tests\n\n"
NODE = "## ONNX's node tests\n\n"
NORM = """## ONNX's node tests of normalizations

The installed onnx package makes these tests. The importer takes no model without a recurrent node, so each node stands beside an RNN that
reads the same X [T, N, …] ([N, …] where X has two axes, and [N, C, T, …] of operators that read channels first), and only the node's first
output is compared. Its other outputs are left out: Mean and InvStdDev are refused. A normalization reads the 16 bits of its input, not 8.

"""


REDUCTION = """## ONNX's node tests of reductions and pools

As above, beside an RNN that reads the same input and so names its axes. A pool's X is [N, C, T, …]; of a reduction, N is the first axis that
is kept and T the first of the others; where all axes are reduced, N is the first. Tests of booleans and of axes without elements are left out.
"""

ELEMENTWISE = """## ONNX's node tests of elementwise operators

Tests of one node whose first input is [T, N, F] or [N, F], beside an RNN as above. Inputs of other shapes are constants, and so are exponents,
slopes and bounds.

"""

MOVED = """## ONNX's node tests of operators that move data

Slice, Split, Gather, Pad, Tile, Concat, Transpose, Reshape, Flatten, Squeeze, Unsqueeze, Expand, DepthToSpace, SpaceToDepth and Identity, of
real numbers with two axes or more, beside an RNN as above. Batch and time are the first two axes with which the node is imported, or batch
alone; other inputs with as many axes are computed, and the rest are constants.

"""

UPSAMPLED = """## ONNX's node tests of operators that upsample

ConvTranspose, Resize and Upsample, as above; weights and scales are constants. Refused are the modes of Resize that are not supported.

"""


def own_parts() -> list[str]:
    """Return the parts of the page that need no vectors, in order."""
    results, norms, reductions, elementwise, moved, upsampled = (
        [measure(case) for case in cases]
        for cases in (
            own_cases(),
            norm_cases(),
            reduction_cases(),
            elementwise_cases(),
            move_cases(),
            upsampling_cases(),
        )
    )
    apart = (
        *((NORM, norms), (REDUCTION, reductions), (ELEMENTWISE, elementwise), (MOVED, moved)),
        (UPSAMPLED, upsampled),
    )
    return [
        own_summary(results)
        + norm_summary(norms)
        + apart_summary("reductions and pools", reductions)
        + apart_summary("elementwise operators", elementwise)
        + apart_summary("operators that move data", moved)
        + apart_summary("operators that upsample", upsampled),
        METHOD + own_tables(results),
        refusals(),
        "\n".join(text + table("test", found, OWN_DIFFERENCE) for text, found in apart),
    ]


def page(shared: Path) -> str:
    """Return the whole page."""
    summary, tables, refused, others = own_parts()
    golden = [measure(case) for case in golden_cases(shared)]
    node = [measure(case) for case in node_cases(shared)]
    return "".join(
        [
            HEAD,
            golden_summary(golden),
            node_summary(node),
            summary,
            tables,
            "\n",
            refused,
            "\n",
            GOLDEN + table("test", golden, GOLDEN_DIFFERENCE),
            "\n",
            NODE + table("test", node, OWN_DIFFERENCE),
            "\n",
            others,
        ]
    )


def _written() -> str:
    """Return the page as it is, or nothing."""
    return DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.is_file() else ""


def is_current(shared: Path | None) -> bool:
    """Return whether the written page is what this code writes."""
    text = _written()
    return (
        text == with_section(page(shared), EXPORTERS, section_of(text, EXPORTERS))
        if shared is not None
        else all(part in text for part in own_parts())
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool and return the exit status; see the module."""
    parser = argparse.ArgumentParser(description="Print, write or check docs/conformance.md.")
    parser.add_argument("--shared", type=Path, help="folder with vectors/")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="write the page")
    action.add_argument("--check", action="store_true", help="exit status 1 when the written page is another")
    chosen = parser.parse_args(arguments)
    if chosen.check:
        current = is_current(chosen.shared)
        print("docs/conformance.md is current" if current else "docs/conformance.md is stale: run with --write")
        return 0 if current else 1
    if chosen.shared is None:
        if chosen.write:
            parser.error("--write needs --shared: the page has the vectors' results")
        print("".join(own_parts()))
        return 0
    text = with_section(page(chosen.shared), EXPORTERS, section_of(_written(), EXPORTERS))
    if chosen.write:
        write_atomically(DOCUMENT, text.encode())
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
