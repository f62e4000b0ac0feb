"""Write docs/benchmarks/training.md from the records of tools/measure_finetune.py."""

from __future__ import annotations

import math
import platform
from typing import Any

import numpy as np
from provenance import when

Record = dict[str, Any]

PAGE = """# What fine-tuning buys

Made by `python tools/measure_finetune.py --shared DIR --records FOLDER --page docs/benchmarks/training.md` on {when}
({machine}, Python {python}), from records of {revisions}.

Each model is converted as its table says, with the refinement that does most for it without training, and trained through its integers
(`qrnn.finetune`): half of the loss is the cross-entropy of the labels, half following the float model. A tenth of the training data chooses
the epoch; test data are seen by nothing else. Spoken digits (`fsdd_*`): 2,700 clips to train, 300 to test. `mnist_gru128x2`: images 0 to
7,999 of MNIST's test file to train, 8,000 to 9,999 to test. Beside it the float model is trained by PyTorch on the same data, with the same
loss, order, steps and epochs. Figures are the mean over the seeds {seeds}.

*Lost*: points of accuracy on the test data below the float model that was trained equally long, a plus being a loss, with the 95 % interval
of the mean difference over test items, each decided by both under every seed. *Lost to the file*: below the float model as it is in the
file.

{tables}
"""

LABELLED = """## {variant}

| set | float | float, trained | without training | trained | lost (95 %) | lost to the file | seeds | epochs |
|---|---|---|---|---|---|---|---|---|
{rows}

{summary}
"""

MASKS = """## The noise suppressor at 4 bits, without labels

`dtln_model_1`, `--weights 4 --activations 16`: both LSTM have weights of four bits, the dense layer of the mask keeps eight. Calibrated on the
first 400 frames of its clip, for training also on clips of the audio that `tools/finetune_sets.py` makes, with the spectra of speech and noise
of these frames, on which it is trained by distillation. SQNR of the mask on the frames after the 400, which nothing has seen.

| seed | without training | trained | epochs | s |
|---|---|---|---|---|
{rows}
"""


SPEED = """## Speed

An epoch of training on {when} ({machine}, {threads} threads, revision {revision}), by `python tools/bench_qat.py --records FOLDER`: LSTM
{hidden} on {clips} clips of {steps} steps of {features} features, batches of {batch}, weights of {weights} bits. The ways took turns, batch
after batch; medians of {rounds} epochs.

| way | s | of float |
|---|---|---|
{rows}
"""


HARD_IN_FLOAT = ("fsdd_hardlstm64",)
"""The models whose gates are hard in float already."""


def page(records: list[Record]) -> str:
    """Return the page."""
    speed = [r for r in records if r["variant"] == "speed"]
    records = [r for r in records if r["variant"] != "speed"]
    by_variant: dict[str, list[Record]] = {}
    for record in records:
        by_variant.setdefault(record["variant"], []).append(record)
    floats = {(r["set"], r["seed"]): r for r in by_variant.pop("float", [])}
    masks = by_variant.pop("noise suppressor", [])
    order = ("4 bits", "hard gates", "4 bits, hard gates", "step gates")
    tables = [_labelled(name, by_variant[name], floats) for name in order if name in by_variant]
    tables += [_masks(masks)] if masks else []
    tables += [_speed(r) for r in speed]
    revisions = sorted({r["revision"] for r in records})
    seeds = sorted({r["seed"] for r in records})
    return PAGE.format(
        when=when(),
        machine=platform.machine(),
        python=platform.python_version(),
        revisions="revision " + ", ".join(revisions),
        seeds=", ".join(map(str, seeds)),
        tables="\n".join(tables),
    )


def _labelled(variant: str, records: list[Record], floats: dict[tuple[str, int], Record]) -> str:
    """Return the table of one way to convert; sets of which the float model was not trained yet are left out."""
    rows, all_lost, all_items = [], dict[str, float](), []
    for name in dict.fromkeys(r["set"] for r in records):
        own = [r for r in records if r["set"] == name and (name, r["seed"]) in floats]
        if not own:
            continue
        beside = [floats[name, r["seed"]] for r in own]
        trained, untrained = bits(own, "trained"), bits(own, "untrained")
        real, longer = bits(beside, "untrained"), bits(beside, "trained")
        lost = (longer - trained).mean(axis=0)
        low, high = interval(lost)
        all_lost[name] = 100 * lost.mean()
        all_items.append(lost)
        cells = [
            name,
            *(f"{100 * values.mean():.2f} %" for values in (real, longer, untrained, trained)),
            f"{100 * lost.mean():+.2f} ({low:+.2f} … {high:+.2f})",
            f"{100 * (real - trained).mean():+.2f}",
            str(len(own)),
            ", ".join(str(len(r["training"]["epochs"])) for r in own),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    if not rows:
        return f"## {variant}\n\nNo float model was trained equally long yet.\n"
    low, high = interval(np.concatenate(all_items))
    summary = (
        f"Mean over {len(rows)} sets: {np.mean([*all_lost.values()]):+.2f} points; the most of any set {max(all_lost.values()):+.2f}. All "
        f"test items pooled: {100 * np.concatenate(all_items).mean():+.2f} ({low:+.2f} … {high:+.2f})."
    )
    smooth = [lost for name, lost in all_lost.items() if name not in HARD_IN_FLOAT]
    if "hard gates" in variant and 0 < len(smooth) < len(rows):
        summary += f" Mean over the {len(smooth)} models whose gates are smooth in float: {np.mean(smooth):+.2f}."
    return LABELLED.format(variant=variant.capitalize(), rows="\n".join(rows), summary=summary)


def bits(records: list[Record], key: str) -> Any:
    """Return whether items were decided right, [seeds, items]."""
    return np.array([[float(one) for one in r[key]] for r in records])


def interval(lost: Any) -> tuple[float, float]:
    """Return the 95 % interval in points of the mean of ``lost`` [items], each item's mean over the seeds.

    Two items more, one lost and one won, keep a small set without a difference from being a certainty (Agresti and Min 2005).
    """
    n = len(lost) + 2
    mean = lost.sum() / n
    variance = ((lost**2).sum() + 2) / n - mean**2
    spread = 1.959964 * math.sqrt(variance / n)
    return 100 * (mean - spread), 100 * (mean + spread)


def _speed(record: Record) -> str:
    """Return the section of what tools/bench_qat.py measured."""
    seconds = record["seconds"]
    rows = [f"| {name} | {s:.2f} | {s / seconds['float']:.2f} |" for name, s in seconds.items()]
    shown = {name: record[name] for name in ("when", "machine", "threads", "revision")}
    return SPEED.format(rows="\n".join(rows), **shown, **record["choices"])


def _masks(records: list[Record]) -> str:
    rows = []
    for r in sorted(records, key=lambda r: int(r["seed"])):
        training = r["training"]
        cells = [str(r["seed"]), f"{r['untrained_db']:.1f} dB", f"{r['trained_db']:.1f} dB"]
        rows.append("| " + " | ".join([*cells, str(len(training["epochs"])), f"{training['seconds']:.0f}"]) + " |")
    return MASKS.format(rows="\n".join(rows))
