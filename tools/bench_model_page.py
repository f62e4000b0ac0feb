"""Write the page of tools/bench_models.py."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from bench_model_rows import ModelResult, ModelRow
from bench_report import DISTURBED, machine
from bench_rows import OURS, geometric_mean
from bench_runtimes import F32_DB, INT8_DB
from provenance import when


def said(rows: Sequence[ModelRow]) -> str | None:
    """Return the summary of some rows as a sentence; None where none of them has a peer."""
    found = [(ratio, row) for row in rows if (ratio := row.ratio()) is not None]
    if not found:
        return None
    mean, (worst, row) = geometric_mean([ratio for ratio, _ in found]), min(found, key=lambda one: one[0])
    behind = sum(ratio < 1.0 for ratio, _ in found)
    return f"geometric mean **{mean:.2f}**, worst {worst:.2f} ({row.model}, against {row.peer}), {behind} of {len(found)} rows below 1"


def table(rows: Sequence[ModelRow]) -> list[str]:
    """Return a table of the rows of one batch."""
    names = list(dict.fromkeys(name for row in rows for name in row.us))
    peers = [name for name in names if name != OURS]
    lines = ["| " + " | ".join(["", "steps", *names, "best peer", "ratio", *(f"to {name}" for name in peers)]) + " |"]
    lines.append("|---" * (4 + len(names) + len(peers)) + "|")
    for row in rows:
        ratios = [row.ratio(), *(row.ratio(name) for name in peers)]
        texts = ["–" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        times = [f"{row.us[name]:.1f}" if name in row.us else "–" for name in names]
        lines.append(
            "| "
            + " | ".join([row.model, str(row.steps), *times, row.peer or "–", f"**{texts[0]}**", *texts[1:]])
            + " |"
        )
    return lines


def page(result: ModelResult, name: str) -> str:
    """Return the page; ``name`` is the name of the file beside it, without its ending."""
    about, (threads,) = machine(), result.settings.threads
    packages = ["numba", "numpy", *{"onnxruntime", "openvino"}.difference(result.absent)]
    batches = list(dict.fromkeys(row.batch for row in result.rows))
    lines = [
        "# Speed of whole models on the CPU, beside other runtimes",
        "",
        f"Made by `{result.command}` on {when()} (`pip install 'qrnn[peers]'`); all figures: [{name}.json]({name}.json).",
        "",
        f"- {about['processor']}, {about['cores']} cores; {', '.join(about['instructions'])}; {', '.join(about['caches'])}",
        f"- {about['system']}, Python {about['python']}; "
        + ", ".join(f"{p} {version(p)}" for p in sorted(packages) if _installed(p)),
        *([] if result.load is None else [f"- load average before the run: {result.load:.2f}"]),
        *_disturbed(result.rows),
        *(f"- not installed, left out: {name}" for name in result.absent),
        "",
        "A ratio is the best peer's time over qrnn's: above 1, qrnn is quicker.",
        "",
    ]
    for batch in batches:
        summary = said([row for row in result.rows if row.batch == batch])
        lines += [] if summary is None else [f"- batch {batch}: {summary}"]
    for batch in batches:
        lines += [
            "",
            f"## Batch {batch}",
            "",
            f"µs a run of all steps, with {threads} thread{'s' * (threads > 1)}.",
            "",
        ]
        lines += table([row for row in result.rows if row.batch == batch])
    lines += _left_out(result)
    verified = ", ".join(f"{name} {least:.0f} dB" for name, least in _least(result.rows).items())
    return "\n".join([
        *lines,
        "",
        "## How",
        "",
        "Every ONNX file of a folder, with the inputs of `--data`, or with random ones. qrnn: the default conversion from these inputs,",
        "`Session.run` on float32 arrays, conversions to and from integers included; its bits are compared with the reference beforehand.",
        "ONNX Runtime int8 is its `quantize_static` in QDQ form, with a scale for each channel, from the same inputs; its recurrent layers",
        "stay in 32-bit floats.",
        "",
        "The first output is verified against the float64 oracle before it is timed, by SQNR: at least",
        f"{F32_DB:g} dB for f32 and {INT8_DB:g} dB for 8 bits. Lowest found: {verified}.",
        "",
        f"Interleaved rounds ({result.settings.rounds}), samples of at least {1000 * result.settings.sample_seconds:g} ms, medians.",
        "",
    ])  # fmt: skip


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except ModuleNotFoundError:
        return False


def _least(rows: Sequence[ModelRow]) -> dict[str, float]:
    """Return the lowest SQNR of each runtime."""
    least: dict[str, float] = {}
    for row in rows:
        for name, sqnr in row.sqnr.items():
            least[name] = min(sqnr, least.get(name, sqnr))
    return least


def _disturbed(rows: Sequence[ModelRow]) -> list[str]:
    known = [row.others for row in rows if row.others is not None]
    if not known:
        return []
    busy = sum(others > DISTURBED for others in known)
    mean = sum(known) / len(known)
    return [
        f"- other processes used {mean:.2f} cores meanwhile, as a mean over rows; more than {DISTURBED:g} in {busy} of {len(known)}"
    ]


def _left_out(result: ModelResult) -> list[str]:
    lines = []
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in result.rows:
        for name, reason in row.left_out.items():
            reasons.setdefault((name, reason), []).append(f"{row.model}, batch {row.batch}")
    if reasons:
        lines += ["", "## Left out", ""]
        lines += [f"- {name}: {reason} ({'; '.join(where)})" for (name, reason), where in reasons.items()]
    if result.refused:
        lines += ["", "## Not converted", ""]
        lines += [f"- {name}: {' '.join(reason.split())}" for name, reason in result.refused.items()]
    return lines
