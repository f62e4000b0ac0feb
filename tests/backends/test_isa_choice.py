"""Which instruction set of the cpu backend is taken: the best there is, or the one that is named."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from backends.raw_layers import FusableShape, fusable_model
from backends.test_isas import check_raw
from qrnn.backends import create_engine
from qrnn.backends.cpu import isa as isa_module
from qrnn.backends.cpu import packed
from qrnn.backends.cpu.isa import PLAIN, available_isas, choose_isa
from qrnn.errors import BackendError
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session


def small_model() -> QuantModel:
    return fusable_model(np.random.default_rng(0), FusableShape("rnn", True, 3, 3))


def test_an_instruction_set_that_is_not_to_be_had() -> None:
    for name in available_isas():
        assert create_engine("cpu", small_model(), 1, name) is not None
        assert getattr(choose_isa(name), "name", PLAIN) == name
    with pytest.raises(BackendError, match="unknown.*" + ", ".join(available_isas())):
        Session(small_model(), "cpu", isa="mmx")
    with pytest.raises(BackendError, match="reference"):
        Session(small_model(), "reference", isa=PLAIN)


def test_the_environment_names_an_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in available_isas():
        monkeypatch.setenv("QRNN_CPU_ISA", name)
        assert getattr(choose_isa(), "name", PLAIN) == name
        assert getattr(choose_isa(PLAIN), "name", PLAIN) == PLAIN, "the argument counts more than the environment"
    monkeypatch.setenv("QRNN_CPU_ISA", "mmx")
    with pytest.raises(BackendError, match="'mmx' is unknown"):
        Session(small_model(), "cpu")
    Session(small_model(), "reference")


def test_an_empty_variable_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QRNN_CPU_ISA", "")
    assert getattr(choose_isa(), "name", PLAIN) == available_isas()[0]


def test_a_processor_without_features_takes_plain_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QRNN_CPU_ISA", raising=False)
    monkeypatch.setattr(isa_module, "host_features", dict)
    assert available_isas() == (PLAIN,)
    assert choose_isa() is None
    with pytest.raises(BackendError, match="is not in this processor; expected one of plain"):
        choose_isa("avx2")
    model = small_model()
    rng = np.random.default_rng(0)
    with mock.patch.object(packed, "can_fuse", return_value=False):
        check_raw(model, rng, (3,), (PLAIN,))


def test_only_what_the_processor_has_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa_module, "host_features", lambda: {"avx2": True, "avx512f": True, "avx512vnni": True})
    assert available_isas() == ("avx2", PLAIN)


@pytest.mark.parametrize(("features", "left"), [("", (PLAIN,)), ("+avx,+avx2,-avx512f", ("avx2", PLAIN))])
def test_what_numba_compiles_for_counts(features: str, left: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """NUMBA_CPU_FEATURES (as NUMBA_CPU_NAME=generic sets it): an instruction that it leaves out ends the process in LLVM."""
    monkeypatch.setenv("NUMBA_CPU_FEATURES", features)
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    isa_module.host_features.cache_clear()
    try:
        assert available_isas() == left
    finally:
        isa_module.host_features.cache_clear()
