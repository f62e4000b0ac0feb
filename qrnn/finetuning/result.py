"""The result of a fine-tuning: the model, and what it does before and after on the validation data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from qrnn.finetuning.checkpoint import Epoch
from qrnn.finetuning.scores import Score
from qrnn.model.quant_model import QuantModel
from qrnn.system import tables
from qrnn.system.reports import Report

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 12
"""The number of epochs that the terminal lists: the first, the best, the last, and some between."""


@dataclass(frozen=True)
class Measures:
    """How a model does on the validation data: the score of the goal, and the SQNR against the float model by output, in dB."""

    score: Score
    sqnr_db: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**self.score.to_dict(), "right_percent": self.score.percent, "sqnr_db": self.sqnr_db}


@dataclass(frozen=True)
class Finetuned(Report):
    """The result of `qrnn.finetune`.

    ``model`` is the best of ``untrained``, the model without training, and those after each epoch, by the wrong decisions on the validation
    data and then by the loss; ``best`` is its epoch, 0 for ``untrained``. ``before`` are the measures of ``untrained``, ``after`` those of
    ``model``, and ``real`` the float model's score, None where it is what is followed. ``goal`` and ``ended`` say in words what was trained
    towards and why it ended. ``sequences`` are those that were trained on, ``judged`` those of the validation data.
    """

    model: QuantModel
    untrained: QuantModel
    goal: str
    before: Measures
    after: Measures
    real: Score | None
    history: tuple[Epoch, ...]
    best: int
    ended: str
    sequences: int
    judged: int

    @property
    def seconds(self) -> float:
        """Return the time of all epochs, those of interrupted runs too."""
        return sum(epoch.seconds for epoch in self.history)

    def describe_lines(self) -> Iterator[str]:
        """Yield what training came to, in a few lines."""
        yield f"Finetuned {self.model.name!r}: {self.goal}"
        yield f"  without training: {self.before.score}"
        yield f"  {self._chosen()}: {self.after.score}"
        yield f"  {len(self.history)} epochs in {self.seconds:.0f} s; {self.ended}"

    def _chosen(self) -> str:
        return (
            f"after epoch {self.best}" if self.best else "no epoch is better, so the model is the one without training"
        )

    def render(self, out: Console) -> None:
        """Print the goal, the epochs, and the measures before and after."""
        out.print(f"{self.model.name}: {self.goal}", soft_wrap=True)
        out.print(f"{self.sequences} sequences to train on, {self.judged} to judge on", soft_wrap=True)
        rows = [
            (
                f"{e.number}{' *' if e.number == self.best else ''}",
                f"{e.training_loss:.4f}",
                str(e.score),
                f"{e.seconds:.1f}",
            )
            for e in self._shown()
        ]
        columns = (
            tables.text("epoch"),
            tables.number("loss"),
            tables.text("on the validation data"),
            tables.number("s"),
        )
        if rows:
            out.print(tables.table(columns, rows))
        titles = ("float", "without training", "after training")
        out.print(tables.table((tables.text(""), *map(tables.number, titles)), self._compared()))
        out.print(f"{len(self.history)} epochs in {self.seconds:.0f} s: {self.ended}", soft_wrap=True)
        out.print(f"kept: {self._chosen()}", soft_wrap=True)

    def _compared(self) -> list[tuple[str, ...]]:
        """Return the rows of the table of before and after."""
        both, rows = (self.before, self.after), list[tuple[str, ...]]()
        if self.real is not None and self.real.wrong is not None:
            scores = (self.real, *(m.score for m in both))
            rows.append((f"right of {self.real.total}", *map(_right, scores)))
            rows.append(("loss", *(f"{score.loss:.4f}" for score in scores)))
        else:
            rows.append(("loss", "" if self.real is None else str(self.real), *(str(m.score) for m in both)))
        return [
            *rows,
            *((f"SQNR of {name}", "", *(_db(m.sqnr_db[name]) for m in both)) for name in self.before.sqnr_db),
        ]

    def _shown(self) -> list[Epoch]:
        """Return some of the epochs, the first, the best and the last among them."""
        count = len(self.history)
        if count <= SHOWN:
            return list(self.history)
        numbers = {1, count, max(self.best, 1)} | {1 + k * (count - 1) // (SHOWN - 2) for k in range(SHOWN - 2)}
        return [epoch for epoch in self.history if epoch.number in numbers]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "goal": self.goal,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "float": None if self.real is None else self.real.to_dict(),
            "best_epoch": self.best,
            "epochs": [asdict(epoch) for epoch in self.history],
            "seconds": self.seconds,
            "ended": self.ended,
            "sequences": self.sequences,
            "judged": self.judged,
        }


def _right(score: Score) -> str:
    return f"{score.total - (score.wrong or 0)} ({score.percent or 0.0:.2f} %)"


def _db(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f} dB"
