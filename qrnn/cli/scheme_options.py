"""The options by which commands choose how a model is converted: the fields of `qrnn.Scheme`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qrnn.quantization.scheme import Scheme
    from qrnn.targets import Target

TargetOption = Annotated[
    str, typer.Option(help="Known hardware whose defaults to take, or its FILE.toml (see: qrnn targets).")
]

GatesOption = Annotated[
    str | None,
    typer.Option(
        help="Gate functions: pwl:N (N segments on the half range), hard, hard:ALPHA,BETA or step, for all or as GATE=…, "
        "separated by commas: input, forget, candidate, output, cell, reset, update, head; sigmoid, tanh (see: qrnn gates)."
    ),
]

CalibratorOption = Annotated[str | None, typer.Option(help="robust, minmax, percentile or mse.")]

ActivationsOption = Annotated[
    str | None, typer.Option(help="Bits of the matrix products' operands: 8, 16, or auto, chosen layer by layer.")
]

WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="Bits of the weights of recurrent layers and convolutions: 8 or 4. Or 16, those of all layers but recurrent ones, which takes "
        "twice their multiply-adds; or auto, 16 where 8 are far too few."
    ),
]

RefineOption = Annotated[
    str | None,
    typer.Option(
        help="Win accuracy back without training: some of equalize, channels, gates, rounding, bias, separated by commas; all; none. "
        "Without it: rounding,bias for --weights 4, channels,rounding,bias for 16, and none for 8."
    ),
]

InputSchemeOption = Annotated[str | None, typer.Option(help="Input: auto, 8, 8-per-feature, 16 or 16-per-feature.")]

WidthsOption = Annotated[
    str | None,
    typer.Option(
        metavar="KEY=WIDTH,…",
        help="Widths of single parts: TENSOR=8, 8-per-feature, 16 or 16-per-feature for an input; LAYER.x=8, 8-per-feature or 16 and "
        "LAYER.h=8 or 16 for operands; LAYER.W=8 or 4 and LAYER.R=8 or 4 for weights.",
    ),
]


def chosen_scheme(
    device: Target,
    *,
    gates: str | None,
    calibrator: str | None,
    activations: str | None,
    weights: str | None,
    refine: str | None,
    input_scheme: str | None,
    widths: str | None,
) -> Scheme:
    """Return the target's scheme with the options that are given."""
    from qrnn.quantization.scheme import Scheme

    given = {
        "gates": gates,
        "calibrator": calibrator,
        "activations": int(activations) if activations in ("8", "16") else activations,
        "weights": int(weights) if weights in ("16", "8", "4") else weights,
        "input": input_scheme,
        "refine": refine,
        "widths": widths,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(Scheme(**device.scheme), **chosen)  # type: ignore[arg-type]
