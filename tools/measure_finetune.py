"""Measure what fine-tuning buys: labelled sets and a noise suppressor of the shared folder; write docs/benchmarks/training.md.

    python tools/measure_finetune.py --shared DIR --records FOLDER [--variants NAME …] [--only SET …] [--seeds N …] [--within SECONDS] [--page
    FILE]

Each experiment, one way to convert one model with one seed, is kept as a file of FOLDER, and its training as a checkpoint there, so that a
run that was interrupted goes on where it was, and long runs can be made in pieces. ``--within`` begins no experiment after so many seconds.
Records of other epochs are measured again, those of another revision with ``--fresh``; the page names the revisions of its records. Test
data are not seen by calibration, training or the choice of an epoch, which a tenth of the training data decides.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from finetune_page import page
from finetune_sets import (
    CALIBRATED_CLIPS,
    CLIP_FRAMES,
    CLIPS,
    JUDGED_CLIPS,
    SEEN_FRAMES,
    Labelled,
    beside,
    labelled,
    noise_suppressor,
    speech_like,
)
from provenance import revision

import qrnn
from qrnn.accuracy.metrics import sqnr_db
from qrnn.equations.oracle import run_oracle_batch
from qrnn.finetuning.examples import examples, held_out
from qrnn.finetuning.goals import goal_of
from qrnn.finetuning.scores import Runner, decided, float_runner, quantized_runner, with_followed
from qrnn.model.batch import make_batch
from qrnn.system.atomic import write_atomically

Record = dict[str, Any]

GATES = "gates,rounding,bias"
VARIANTS = {
    "4 bits": qrnn.Scheme(weights=4),
    "hard gates": qrnn.Scheme(gates="hard", refine=GATES),
    "4 bits, hard gates": qrnn.Scheme(weights=4, gates="hard", refine=GATES),
    "step gates": qrnn.Scheme(gates="step"),
}
"""The ways to convert, each with the refinement that does most for it without training."""

STEPPED = ("fsdd_lstm64",)
"""The sets on which step gates are measured."""

FLOAT, MASK = "float", "noise suppressor"
"""The names of two more experiments: the float model trained equally long, and distillation of the noise suppressor at 4 bits."""

EPOCHS = {"mnist_gru128x2": 6, MASK: 16}
MOST_EPOCHS = 12
"""The epochs of a set, and of those that `EPOCHS` does not name."""


@dataclass(frozen=True)
class Experiment:
    """One way to convert, or `FLOAT`, of one set with one seed."""

    variant: str
    set: str
    seed: int
    epochs: int

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.variant}--{self.set}--{self.seed}".replace(" ", "_").replace(",", "")

    @property
    def training(self) -> qrnn.Training:
        """How it is trained."""
        rate = {"step gates": 2e-3, MASK: 1e-3}.get(self.variant, 5e-4)
        return qrnn.Training(
            epochs=self.epochs,
            learning_rate=rate,
            seed=self.seed,
            batch=8 if self.set == MASK else 32,
        )


def experiments(variants: list[str], only: list[str], seeds: list[int], epochs: int | None) -> Iterator[Experiment]:
    """Yield the experiments that are asked for, seed by seed; ``epochs`` in the place of those of each set."""

    def made(variant: str, name: str, seed: int) -> Experiment:
        return Experiment(variant, name, seed, EPOCHS.get(name, MOST_EPOCHS) if epochs is None else epochs)

    names = [
        *(f"fsdd_{name}" for name in ("lstm64", "gru64", "gru64x2", "bilstm64", "rnn64", "hardlstm64")),
        "mnist_gru128x2",
    ]
    for seed in seeds:
        for variant in variants:
            if variant == MASK:
                yield made(variant, MASK, seed)
                continue
            for name in names:
                if (not only or name in only) and (variant != "step gates" or name in STEPPED):
                    yield made(variant, name, seed)


def right(run: Runner, model: qrnn.FloatModel, test: dict[str, Any]) -> str:
    """Return for each test sequence whether it is decided right, as a text of 0 and 1."""
    judged = examples(model, test, goal_of(model, test), "test data")
    found = []
    for piece in judged.pieces(200):
        places = piece.places()
        values = run(piece.batch)[judged.goal.outputs[0]][places.where].reshape(len(places.labels), -1)
        found.append(decided(values, judged.goal) == places.labels)
    return "".join("1" if one else "0" for one in np.concatenate(found))


def measured(one: Experiment, case: Labelled, folder: Path) -> Record:
    """Train and test one conversion of a labelled set, or its float model."""
    model = qrnn.load_onnx(case.path)
    if one.variant == FLOAT:
        from finetune_float import trained  # PyTorch

        own, _ = held_out(
            examples(model, case.training, goal_of(model, case.training)), one.training.held_out, one.seed
        )
        own = with_followed(own)
        return {
            "untrained": right(float_runner(model), model, case.test),
            "trained": right(float_runner(trained(own, one.training)), model, case.test),
        }
    scheme = VARIANTS[one.variant]
    found = qrnn.finetune(
        model,
        case.calibration,
        case.training,
        scheme=scheme,
        training=one.training,
        checkpoint=folder / f"{one.name}.checkpoint",
        progress=_say,
    )
    return {
        "untrained": right(quantized_runner(found.untrained), model, case.test),
        "trained": right(quantized_runner(found.model), model, case.test),
        "training": found.to_dict(),
    }


def suppressed(one: Experiment, shared: Path, folder: Path) -> Record:
    """Distil the noise suppressor at 4 bits from audio that is made here, and test it on the frames of the clip that nothing has seen."""
    path, calibration, clip = noise_suppressor(shared)
    model = qrnn.load_onnx(path)
    scheme = qrnn.Scheme(weights=4, activations=16)
    made = speech_like(CLIPS + JUDGED_CLIPS, 1000 + one.seed, calibration["input_2"])
    found = qrnn.finetune(
        model,
        {
            "input_2": beside(calibration["input_2"], made[:CALIBRATED_CLIPS]),
            "lengths": [SEEN_FRAMES, *[CLIP_FRAMES] * CALIBRATED_CLIPS],
        },
        {"input_2": made[:CLIPS]},
        validation={"input_2": made[CLIPS:]},
        scheme=scheme,
        training=one.training,
        checkpoint=folder / f"{one.name}.checkpoint",
        progress=_say,
    )
    want = run_oracle_batch(model, make_batch(model.inputs, clip)).outputs["activation_2"][:, SEEN_FRAMES:]

    def db(quantized: qrnn.QuantModel) -> float:
        return sqnr_db(want, qrnn.Session(quantized).run(clip, real="float64").outputs["activation_2"][:, SEEN_FRAMES:])

    return {
        "untrained_db": db(qrnn.quantize(model, calibration, scheme)),
        "trained_db": db(found.model),
        "training": found.to_dict(),
    }


def _say(progress: Any) -> None:
    if progress.last is not None and progress.share * 1000 % 10 < 1:
        left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
        print(f"\r  epoch {progress.last.number}: {progress.last.score}{left}   ", end="", flush=True)


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Measure what fine-tuning buys.")
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--records", type=Path, required=True, help="folder in which measurements are kept")
    parser.add_argument(
        "--variants", nargs="*", default=[FLOAT, *VARIANTS, MASK], help="ways to convert; all when left out"
    )
    parser.add_argument("--only", nargs="*", default=[], help="labelled sets; all when left out")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="of every experiment; those of each set when left out")
    parser.add_argument("--within", type=float, default=float("inf"), help="begin no experiment after so many seconds")
    parser.add_argument("--fresh", action="store_true", help="measure again what another revision measured")
    parser.add_argument("--page", type=Path, help="the page to write")
    arguments = parser.parse_args()
    folder, began = arguments.records, time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    sets = {case.name: case for case in labelled(arguments.shared)}
    for one in experiments(arguments.variants, arguments.only, arguments.seeds, arguments.epochs):
        file = folder / f"{one.name}.json"
        if file.is_file():
            earlier = json.loads(file.read_text("utf-8"))
            same = earlier["choices"] == one.training.to_dict()
            if same and (not arguments.fresh or earlier["revision"] == revision()):
                continue
            (folder / f"{one.name}.checkpoint").unlink(missing_ok=True)
        if time.monotonic() - began > arguments.within:
            break
        print(one.name, flush=True)
        found = (
            suppressed(one, arguments.shared, folder) if one.variant == MASK else measured(one, sets[one.set], folder)
        )
        record = {"variant": one.variant, "set": one.set, "seed": one.seed, "revision": revision(), **found}
        record["choices"] = one.training.to_dict()
        write_atomically(file, (json.dumps(record, indent=1) + "\n").encode())
        shown = {k: v.count("1") / len(v) if isinstance(v, str) else v for k, v in found.items() if k != "training"}
        print(f"\r  {shown}", flush=True)
    if arguments.page is not None:
        records = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
        write_atomically(arguments.page, page(records).encode())


if __name__ == "__main__":
    main()
