"""Select the cases that a run takes.

The suite has three sizes. By default a run leaves out what is marked ``matrix`` or ``long``. ``matrix`` marks the rest of wide products of
cases; ``.ci/run`` takes one shard of it by ``--shard K/N``. ``long`` marks sweeps that take many minutes each.

A test function marked ``wide`` is split here: the default run keeps a few cases in which every value of the named parameters occurs, and
the others get the mark ``matrix``.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest

Values = Mapping[str, int]


def stable(text: str) -> int:
    """Return a number of 32 bits that depends on the text alone, in every process."""
    return zlib.crc32(text.encode())


def covering(cases: Mapping[str, Values], names: Sequence[str], keep: int = 1) -> set[str]:
    """Return the ids of a few ``cases`` in which every value of each parameter in ``names`` occurs; at least ``keep``, if there are enough.

    The choice depends on ids and values alone. It takes the case with most values that have not occurred yet, again and again; of equal
    cases the one whose id has the least `stable` number, so that values of different parameters meet in changing combinations.
    """
    order = sorted(cases, key=stable)
    missing = {(name, values[name]) for values in cases.values() for name in names}
    chosen: list[str] = []
    while missing:
        best = max(order, key=lambda case: len(missing & {(name, cases[case][name]) for name in names}))
        missing -= {(name, cases[best][name]) for name in names}
        chosen.append(best)
    rest = [case for case in order if case not in set(chosen)]
    return set(chosen + rest[: max(0, keep - len(chosen))])


def numbered(items: Sequence[pytest.Item]) -> dict[str, Values]:
    """Return the ids of the cases of functions with their parameters' values as numbers, in the order in which the values occur."""
    seen: dict[tuple[str, str], list[object]] = defaultdict(list)
    found: dict[str, Values] = {}
    for item in items:
        callspec = getattr(item, "callspec", None)
        values: dict[str, int] = {}
        for name, value in (callspec.params if callspec else {}).items():
            before = seen[function_of(item), name]
            if not any(_same(value, other) for other in before):
                before.append(value)
            values[name] = next(k for k, other in enumerate(before) if _same(value, other))
        found[item.nodeid] = values
    return found


def _same(a: object, b: object) -> bool:
    return a is b or (isinstance(a, str | int | float) and type(a) is type(b) and a == b)


def function_of(item: pytest.Item) -> str:
    """Return the id of a case's function."""
    return item.nodeid.partition("[")[0]


def split_wide(items: Sequence[pytest.Item], values: Mapping[str, Values]) -> None:
    """Mark as ``matrix`` what the default run leaves out of the functions that are marked ``wide``."""
    functions: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        marked = any(item.get_closest_marker(name) for name in ("matrix", "long"))
        if item.get_closest_marker("wide") and not marked:
            functions[function_of(item)].append(item)
    for cases in functions.values():
        mark = cases[0].get_closest_marker("wide")
        assert mark is not None
        names = mark.args or tuple(values[cases[0].nodeid])
        cover = names if mark.kwargs.get("cover", True) else ()
        kept = covering({item.nodeid: values[item.nodeid] for item in cases}, cover, mark.kwargs.get("keep", 1))
        for item in cases:
            if item.nodeid not in kept:
                item.add_marker("matrix")


def parse_shard(text: str) -> tuple[int, int]:
    """Parse ``K/N`` as two numbers, K from 0 to N - 1."""
    number, _, count = text.partition("/")
    if number.isdecimal() and count.isdecimal() and int(number) < int(count):
        return int(number), int(count)
    raise pytest.UsageError(f"--shard {text}: expected K/N with K from 0 to N - 1, such as 0/4")


def shard_key(item: pytest.Item, values: Values) -> str:
    """Return what stays in one shard: a function, or a file's cases with the same values of the parameters in their mark ``shard_by``."""
    mark = item.get_closest_marker("shard_by")
    if mark is None or not set(mark.args) <= values.keys():
        return function_of(item)
    return f"{item.nodeid.partition('::')[0]} {[values[name] for name in mark.args]}"


def add_options(parser: pytest.Parser) -> None:
    """Add the options of the command line; conftest calls this, since pytest loads this module too late for its own hook."""
    parser.addoption(
        "--shard", metavar="K/N", help="of the tests marked matrix take the K-th of N parts, K from 0 to N - 1"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    values = numbered(
        [item for item in items if item.get_closest_marker("wide") or item.get_closest_marker("shard_by")]
    )
    split_wide(items, values)
    if config.getoption("shard") is None:
        return
    number, count = parse_shard(config.getoption("shard"))

    def left_out(item: pytest.Item) -> bool:
        in_matrix = item.get_closest_marker("matrix") is not None
        return in_matrix and stable(shard_key(item, values.get(item.nodeid, {}))) % count != number

    config.hook.pytest_deselected(items=[item for item in items if left_out(item)])
    items[:] = [item for item in items if not left_out(item)]
