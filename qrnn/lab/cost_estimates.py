"""What configurations cost that were not built for the target, estimated from those that were.

An estimate begins at the built configuration that differs in the fewest features, and adds what each difference was worth when it was the
only change. What two changes are worth together is rarely the sum of both: weights of four bits cost a core nothing beside operands of 8
bits, and much beside operands of 16. So every configuration that is built corrects the estimates of those that are near it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from qrnn.devices.fit import CODE_BYTES
from qrnn.devices.measure import Needs
from qrnn.lab.evaluate import Record, cost_figures
from qrnn.lab.moves import Space, gates_of
from qrnn.model.float_model import FloatModel
from qrnn.quantization.choices import resolved
from qrnn.quantization.scheme import Scheme

Features = dict[str, str]


class Built(NamedTuple):
    """A configuration that was built for the target: its features, and what it needs."""

    features: Features
    needs: Needs

    def differences(self, features: Features) -> list[str]:
        """Return the names of the features in which it differs."""
        return [
            name for name in self.features.keys() | features.keys() if self.features.get(name) != features.get(name)
        ]


@dataclass
class CostEstimates:
    """The built configurations of a model, and what they tell about others."""

    model: FloatModel
    space: Space
    built: list[Built] = field(default_factory=list)
    _worth: dict[tuple[str, str], float] = field(default_factory=dict)
    """(feature, value) → the instructions a step that it adds to the first configuration's."""

    def features(self, scheme: Scheme) -> Features:
        """Return what instructions depend on: the width of each part, the input's scheme, and the form of each gate.

        The size of a table, the calibrator, refinement and training do not count.
        """
        scheme, _ = resolved(self.model, scheme)
        given = dict(scheme.widths)
        widths = {part.key: part.general(scheme) for part in self.space.widths} | given
        forms = {f"gate {key}": value.split(":")[0] for key, value in gates_of(scheme, self.space.kinds).items()}
        general = {name: str(getattr(scheme, name)) for name in ("weights", "activations", "input")}
        return general | widths | forms

    def known(self, scheme: Scheme) -> bool:
        """Return whether a configuration with the same features has been counted."""
        features = self.features(scheme)
        return any(one.needs.counted and one.features == features for one in self.built)

    def add(self, scheme: Scheme, needs: Needs) -> None:
        """Add a configuration that was built."""
        self.built.append(Built(self.features(scheme), needs))

    def learn(self) -> None:
        """Find what each feature is worth, from all that was counted: the least squares, and the smallest where several would do."""
        counted = self._counted()
        if not counted:
            return
        first = counted[0]
        values = sorted({(n, one.features.get(n, "")) for one in counted for n in one.differences(first.features)})
        changed = np.array([[one.features.get(name) == value for name, value in values] for one in counted], float)
        more = np.array([_instructions(one) - _instructions(first) for one in counted])
        self._worth = dict(zip(values, np.linalg.lstsq(changed, more, rcond=None)[0].tolist(), strict=True))

    def figures(self, scheme: Scheme, needs: Needs) -> Record:
        """Return bytes and instructions a step of a configuration, whose ``needs`` are those of the target's cost model."""
        figures: dict[str, Any] = cost_figures(needs)
        features = self.features(scheme)
        linked = self._nearest([one for one in self.built if one.needs.flash_bytes is not None], features)
        if linked is not None and needs.flash_bytes is None:
            figures["flash_bytes"] += (linked.needs.flash_bytes or 0) - linked.needs.constant_bytes - CODE_BYTES
        counted = self._nearest(self._counted(), features)
        if counted is not None:
            figures["ram_bytes"] += counted.needs.stack_bytes or 0
            differ = counted.differences(features)
            worth = sum(self._of(features, name) - self._of(counted.features, name) for name in differ)
            figures["instructions"] = float(max(0, round(_instructions(counted) + worth)))
        return figures

    def _of(self, features: Features, name: str) -> float:
        return self._worth.get((name, features.get(name, "")), 0.0)

    def _counted(self) -> list[Built]:
        return [one for one in self.built if one.needs.counted]

    def _nearest(self, among: list[Built], features: Features) -> Built | None:
        return min(among, key=lambda one: len(one.differences(features)), default=None)


def _instructions(one: Built) -> float:
    return one.needs.instructions or 0.0
