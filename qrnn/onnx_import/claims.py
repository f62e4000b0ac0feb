"""What recurrent nodes say of the axes of X: which is time and which the batch, where their rows may be bands or their steps bands of a frame.

A node whose axes leave no choice names them at once. The others wait for the end of the first pass, since one node alone does not tell a
layer over the bands of each step, [bands, N·T, features], from one over time for each band, [T, N·bands, features].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qrnn.onnx_import.roles import Axis, Claim, Roles

UNKNOWN, FIRST, ABSENT = 50, 20, 10
"""Points for a reading in which the batch is an axis of open size, or the first axis of an input; and for a batch of one sequence."""

OPEN, CARRIED, ONE_WAY, BOTH_WAYS = 100, 20, 10, 5
"""Points for a reading in which time is an axis of open size, or one along which a node runs with a state that the caller carries, or in one
direction alone; and for one in which a node that runs in both directions runs along another axis."""


@dataclass(frozen=True)
class Reading:
    """A reading of all claims: the axes that are time and batch; None for an axis of size 1 that nothing tells from others."""

    time: Axis | None
    batch: Axis | None


def claim(roles: Roles, made: Claim) -> None:
    """Name the axes of a recurrent node, or note them for `settle` where they may be read otherwise."""
    if made.rows.parts or made.sequence.size is not None or made.rows.size is not None:
        roles.claims.append(made)
    else:
        _plain(roles, made)


def settle(roles: Roles) -> None:
    """Name the axes of the nodes that wait: as batch and time where that fits all of them, else by the reading that fits best."""
    waiting, roles.claims = roles.claims, []
    reading = None if _are_plain(roles, waiting) else _best(roles, waiting)
    if reading is None:
        for made in waiting:
            _plain(roles, made)
        return
    roles.one_sequence = reading.batch is None
    if reading.time is not None:
        roles.same(reading.time, roles.time)
    if reading.batch is not None:
        roles.same(reading.batch, roles.batch)
    for made in waiting:
        if _runs_over_time(roles, made, reading):
            if made.sequence.source is None and not roles.is_time(made.sequence):
                roles.made_time.append(made.sequence)
            roles.same(made.sequence, roles.time, made.node)
            if not _bands(roles, made, reading):
                roles.same(made.rows, roles.batch, made.node)
                for axis in made.states:
                    roles.same(axis, roles.batch, made.node)


def _plain(roles: Roles, made: Claim) -> None:
    """Name the axes of a node that runs over the steps of each sequence."""
    time, batch = made.sequence, made.rows
    if time.source is None and not roles.is_time(time):
        roles.made_time.append(time)
    if batch.source is None and not roles.is_batch(batch):
        roles.made_batch.append(batch)
    roles.same(time, roles.time, made.node)
    roles.same(batch, roles.batch, made.node)
    for axis in made.states:
        roles.same(axis, roles.batch, made.node)


def _are_plain(roles: Roles, waiting: Sequence[Claim]) -> bool:
    """Return whether all rows can be one batch, and no axis is that of rows in one node and that of steps in another."""
    rows = {roles.root(made.rows) for made in waiting if made.rows.size != 1}
    steps = {roles.root(made.sequence) for made in waiting if made.sequence.size != 1}
    sizes = {made.rows.size for made in waiting}
    return not any(made.rows.parts for made in waiting) and len(sizes) < 2 and rows.isdisjoint(steps)


def _parts(roles: Roles, axis: Axis) -> list[Axis]:
    """Return the axes that one is merged of, without those of size 1."""
    if axis.size == 1:
        return []
    return [part for own in axis.parts for part in _parts(roles, own)] if axis.parts else [roles.root(axis)]


def _runs_over_time(roles: Roles, made: Claim, reading: Reading) -> bool:
    return made.sequence.size == 1 if reading.time is None else roles.root(made.sequence) is roles.root(reading.time)


def _bands(roles: Roles, made: Claim, reading: Reading) -> list[Axis]:
    """Return what the rows of a node hold beside the batch."""
    batch = None if reading.batch is None else roles.root(reading.batch)
    return [part for part in _parts(roles, made.rows) if part is not batch]


def _fits(roles: Roles, made: Claim, reading: Reading) -> bool:
    """Return whether a node can be read so."""
    left = _bands(roles, made, reading)
    if _runs_over_time(roles, made, reading):
        return all(part.size is not None and part is not reading.time for part in left)
    batch = None if reading.batch is None else roles.root(reading.batch)
    if made.states or made.sequence.size in (None, 1) or roles.root(made.sequence) is batch:
        return False
    return left == ([] if reading.time is None else [roles.root(reading.time)])


def _readings(roles: Roles, waiting: Sequence[Claim]) -> Iterator[Reading]:
    """Yield all readings; axes that are known to be time or batch stay that."""
    time, batch = roles.root(roles.time), roles.root(roles.batch)
    times: list[Axis | None] = [time]
    if time is roles.time:
        times = [*dict.fromkeys(roles.root(made.sequence) for made in waiting if made.sequence.size != 1)]
        times += [None] if any(made.sequence.size == 1 for made in waiting) else []
    batches: list[Axis | None] = [batch]
    if batch is roles.batch:
        batches = [None, *dict.fromkeys(part for made in waiting for part in _parts(roles, made.rows))]
    yield from (Reading(t, b) for t in times for b in batches if t is None or t is not b)


def _best(roles: Roles, waiting: Sequence[Claim]) -> Reading | None:
    """Return the reading that fits all nodes and has the most points; None where none fits."""
    fitting = [r for r in _readings(roles, waiting) if all(_fits(roles, made, r) for made in waiting)]
    return max(fitting, key=lambda r: _score(roles, waiting, r), default=None)


def _score(roles: Roles, waiting: Sequence[Claim], reading: Reading) -> int:
    """Return the points of a reading: what speaks for it in the file and in the nodes."""
    score = ABSENT if reading.batch is None else 0
    if reading.batch is not None:
        first = any(roles.root(value.axes[0]) is reading.batch for value in roles.inputs.values() if value.axes)
        score = UNKNOWN if reading.batch.size is None else FIRST if first else 0
    score += OPEN if reading.time is not None and reading.time.size is None else 0
    for number, made in enumerate(waiting):
        if _runs_over_time(roles, made, reading):
            score += (CARRIED if made.states else 0) + (ONE_WAY if made.one_way else 0)
            score += number == len(waiting) - 1  # of layers alike, those over the bands of a step come first
        elif not made.one_way:
            score += BOTH_WAYS
    return score
