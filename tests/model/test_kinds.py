"""Which classes are kinds of layers: the concrete ones of `qrnn.model.kinds`, by whose names files and backends know them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
from models import Shape, make_model

from model.qrnn_files import QrnnFile
from qrnn.backends import create_engine
from qrnn.conversion import quantize
from qrnn.errors import ModelFileError
from qrnn.export.kinds import own_code
from qrnn.model.definitions import run_row_loops
from qrnn.model.file import load, save
from qrnn.model.kinds import kind_name, quantized_kinds
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.layer import QuantLayer
from qrnn.model.matrix_layer import QuantMatrixLayer
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme


def small_model() -> QuantModel:
    real = make_model(Shape("gru", 3, 4, head=2), np.random.default_rng(1))
    data = {"x": np.random.default_rng(0).normal(size=(4, 5, 3))}
    return quantize(real, data, Scheme())


VARIED = {"QuantRecurrent"}
"""The kinds of which other kinds are variants: recurrent layers over bands, and for each band."""


def bases() -> dict[str, type]:
    """Return every class that a kind is derived from, up to `QuantLayer`, by name, but for kinds that have variants."""
    found = {base.__name__: base for kind in quantized_kinds().values() for base in kind.__mro__[1:]}
    return {name: base for name, base in found.items() if issubclass(base, QuantLayer) and name not in VARIED}


def test_no_base_of_a_kind_is_a_kind() -> None:
    assert {"QuantRecurrentDefinition", "QuantMatrixLayer", "QuantLayer"} <= bases().keys()
    assert not bases().keys() & quantized_kinds().keys()
    assert not any(inspect.isabstract(kind) for kind in quantized_kinds().values())
    assert len({kind_name(kind) for kind in quantized_kinds().values()}) == len(quantized_kinds())


@pytest.mark.parametrize("name", sorted(bases()))
def test_a_file_that_names_a_base_is_refused(name: str, tmp_path: Path) -> None:
    save(small_model(), tmp_path / "model.qrnn")
    opened = QrnnFile(tmp_path / "model.qrnn")
    for layer in opened.structure["layers"]:
        if layer["type"] == ("QuantDense" if name == "QuantMatrixLayer" else "QuantRecurrent"):
            layer["type"] = name
    with pytest.raises(ModelFileError, match=rf"expected one of \[.*\], got {name}"):
        load(opened.write(tmp_path / "edited.qrnn"))


def test_a_class_elsewhere_has_no_name_of_a_kind() -> None:
    """Neither one in another module, whatever its package, nor one that is called as a kind is."""

    @dataclass(frozen=True)
    class Doubled(QuantDense):
        pass

    named = type("QuantDense", (QuantDense,), {"__module__": QuantDense.__module__})
    for kind in (Doubled, named, QuantMatrixLayer):
        assert kind_name(kind) is None
        assert own_code(kind) is None
    assert kind_name(QuantDense) == "dense"


@pytest.mark.parametrize("module", ["run", "dense", "steps"])
def test_rows_of_a_layer_from_elsewhere_run_by_its_definition(module: str) -> None:
    """Whatever the engine's own methods are called, and the package that the class is from."""
    model = small_model()
    (dense,) = (layer for layer in model.layers if isinstance(layer, QuantDense))

    class Negated(QuantDense):
        def row_loops(self):  # type: ignore[no-untyped-def]
            def make(contract):  # type: ignore[no-untyped-def]
                def rows(first, last, x, out):  # type: ignore[no-untyped-def]
                    for m in range(first, last):
                        for k in range(out.shape[1]):
                            out[m, k] = -x[m, 0]

                return rows

            (found,) = super().row_loops()
            return (type(found)(make, (), found.inputs),)

    Negated.__module__ = module
    other = Negated(**{field.name: getattr(dense, field.name) for field in fields(dense)})
    x = np.arange(8, dtype=np.int16).reshape(2, 4)
    got = create_engine("reference", model).rows(other, x)
    np.testing.assert_array_equal(got, np.repeat(-x[:, :1], got.shape[1], 1))
    want = run_row_loops(dense.row_loops(), {dense.input: x}, 2, got.shape[1])
    np.testing.assert_array_equal(create_engine("reference", model).rows(dense, x), want)
