"""Decisions of a model: how often they are those of float, how often they are right, and for each class what it is taken for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qrnn.accuracy.confusion import Agreement, Confusion
from qrnn.system import tables

if TYPE_CHECKING:
    from rich.console import Console

MOST_CLASSES = 64
"""The classes that a report holds one by one; of more, those with the most mistakes."""

SHOWN_CLASSES = 20
"""The classes that the terminal shows one by one."""

MATRIX_CLASSES = 12
"""The most classes whose confusion matrix the terminal shows, which fits into 80 columns with counts of five digits."""

SHOWN_MISTAKES = 10
"""The kinds of mistakes that the terminal shows where the matrix is too wide."""


@dataclass
class Decisions:
    """The decisions of one output.

    ``rule`` is argmax over features, or a threshold on each feature; ``at`` is every step, or each sequence's end.
    """

    output: str
    rule: str
    at: str
    agreement: Agreement = field(default_factory=Agreement)
    correct: dict[str, Agreement] = field(default_factory=dict)
    """Correct decisions by source (float, quantized, onnxruntime); empty without labels."""
    chosen: dict[str, list[int]] = field(default_factory=dict)
    """The choice of each source, and under ``label`` the right one, by sequence; empty unless there is one decision per sequence."""
    confusion: dict[str, Confusion] = field(default_factory=dict)
    """The confusion matrix of each source; empty without labels."""

    @property
    def accuracy_drop(self) -> float:
        """Return the float model's accuracy minus the quantized model's, in percentage points; nan without labels, or decisions."""
        if "float" not in self.correct or not self.correct["float"].total:
            return float("nan")
        return 100 * (self.correct["float"].agree - self.correct["quantized"].agree) / self.correct["float"].total

    def worst_classes(self, most: int) -> list[int]:
        """Return the labels of the data, of more than ``most`` those on which the quantized model is wrong most often; in ascending order."""
        tallies = self.confusion["quantized"].by_class() if "quantized" in self.confusion else {}
        # Sorting is stable: of labels with as many mistakes the first ones are taken.
        worst = sorted(tallies, key=lambda label: tallies[label].agree - tallies[label].total)
        return sorted(worst[:most])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists.

        ``classes`` holds the accuracy of each class, of more than `MOST_CLASSES` those with the most mistakes, and ``class_count`` how many
        there are. ``confusion`` holds the matrices, whose rows are labels and whose columns are decisions, both in the order of ``classes``
        in it; it is None without labels, and for more classes than that.
        """
        tallies = {source: confusion.by_class() for source, confusion in self.confusion.items()}
        classes = sorted({number for confusion in self.confusion.values() for number in confusion.classes})
        few = 0 < len(classes) <= MOST_CLASSES
        matrices = {source: confusion.matrix(classes) for source, confusion in self.confusion.items() if few}
        return {
            "output": self.output,
            "rule": self.rule,
            "at": self.at,
            "agreement": self.agreement.to_dict(),
            "accuracy": {source: tally.to_dict() for source, tally in self.correct.items()},
            "accuracy_drop_points": None if math.isnan(self.accuracy_drop) else self.accuracy_drop,
            "class_count": len(tallies.get("quantized", {})),
            "classes": [
                {"class": label, **{source: found[label].to_dict() for source, found in tallies.items()}}
                for label in self.worst_classes(MOST_CLASSES)
            ],
            "confusion": {"classes": classes, **matrices} if few else None,
        }

    def render(self, out: Console) -> None:
        """Print agreement with float and, where there are labels, accuracy, also by class, and the confusion matrix."""
        a = self.agreement
        out.print(
            f"decisions ({self.rule} of {self.output}, {self.at}): {a.agree} of {a.total} as in float ({a.percent:.2f} %)",
            markup=False,
            soft_wrap=True,
        )
        if not self.correct:
            return
        rows = []
        for source, tally in self.correct.items():
            low, high = tally.interval
            interval = f"{100 * low:.2f} – {100 * high:.2f} %"
            rows.append((source, f"{tally.agree} of {tally.total}", f"{tally.percent:.2f} %", interval))
        columns = (tables.text("accuracy"), *map(tables.number, ("correct", "rate", "95 % interval")))
        out.print(tables.table(columns, rows))
        out.print(f"accuracy drop: {self.accuracy_drop:.2f} points")
        if self.confusion.get("quantized", Confusion()).counts:
            self._print_classes(out)
            self._print_confusion(out)

    def _print_classes(self, out: Console) -> None:
        quantized, real = (self.confusion[source].by_class() for source in ("quantized", "float"))
        mistakes = self.confusion["quantized"].mistakes()
        shown = self.worst_classes(SHOWN_CLASSES)
        rows = []
        for label in shown:
            tally = quantized[label]
            low, high = tally.interval
            taken = next((f"{choice} ({count})" for wrong, choice, count in mistakes if wrong == label), "")
            rates = (f"{real[label].percent:.2f} %", f"{tally.percent:.2f} %", f"{100 * low:.1f} – {100 * high:.1f} %")
            rows.append((str(label), f"{tally.agree} of {tally.total}", *rates, taken))
        figures = map(tables.number, ("correct", "float", "quantized", "95 % interval", "most taken for"))
        out.print(tables.table((tables.exact("class"), *figures), rows, "Accuracy by class"))
        if len(shown) < len(quantized):
            out.print(f"the {len(shown)} of {len(quantized)} classes with the most mistakes; --json has {MOST_CLASSES}")

    def _print_confusion(self, out: Console) -> None:
        confusion = self.confusion["quantized"]
        classes, mistakes = confusion.classes, confusion.mistakes()
        if not mistakes:
            out.print("confusion: none, every class is recognized wherever it is")
        elif len(classes) <= MATRIX_CLASSES:
            matrix = [[f"{count or '·'}" for count in row] for row in confusion.matrix(classes)]
            width = max(len(cell) for row in (*matrix, list(map(str, classes))) for cell in row)
            columns = (tables.exact("label"), *(tables.number(str(number).rjust(width)) for number in classes))
            rows = [(str(label), *row) for label, row in zip(classes, matrix, strict=True)]
            out.print(tables.table(columns, rows, "Confusion", gap=1))
            out.print("a row for each label, a column for each decision of the quantized model")
        else:
            rows = [(str(label), str(choice), str(count)) for label, choice, count in mistakes[:SHOWN_MISTAKES]]
            columns = tuple(map(tables.number, ("label", "decided", "times")))
            out.print(tables.table(columns, rows, "Mistakes"))
            if len(mistakes) > SHOWN_MISTAKES:
                out.print(f"the {SHOWN_MISTAKES} most frequent of {len(mistakes)} kinds of mistakes")
