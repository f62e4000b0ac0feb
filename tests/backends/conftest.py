"""Fewer forms of steps to compile, each of which takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest

from qrnn.backends.cpu import packed
from qrnn.backends.cpu.functions import PLAIN

FUNCTION_VARIANTS_OF = packed.function_variants_of
"""What tests of specialized steps put back."""


@pytest.fixture(autouse=True, scope="session")
def few_forms() -> Iterator[None]:
    """Steps are compiled for plain tables or for functions of any kinds, not for each combination that a random test comes upon."""

    def few(d: packed.QuantDirection) -> tuple[int, ...]:
        found = FUNCTION_VARIANTS_OF(d)
        return found if set(found) == {PLAIN} else ()

    with mock.patch.object(packed, "function_variants_of", few):
        yield
