"""Options of commands that feed an output of a model back: ``qrnn generate`` and ``qrnn export``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qrnn.errors import DataError

if TYPE_CHECKING:
    from qrnn.model.choosing import Sampling

FeedOption = Annotated[
    str | None,
    typer.Option(
        "--feed",
        metavar="IN=OUT",
        help="The input that is fed and the output that is fed back to it, where they are not the only ones that fit.",
    ),
]

OneHotOption = Annotated[
    bool, typer.Option("--one-hot", help="The input of features takes a token, as 1 at its place and 0 elsewhere.")
]

BlankOption = Annotated[
    int | None,
    typer.Option(
        metavar="TOKEN", help="The blank of a transducer, at which the state stays and the next frame follows."
    ),
]

TemperatureOption = Annotated[
    float | None,
    typer.Option(metavar="T", help="Draw tokens by the softmax of scores / T; the largest score when left out or 0."),
]

TopKOption = Annotated[int | None, typer.Option(metavar="K", help="Draw among the K largest scores alone.")]

TopPOption = Annotated[
    float | None,
    typer.Option(metavar="P", help="Draw among the likeliest tokens alone whose probabilities add up to P."),
]


def feed_of(text: str | None) -> dict[str, str] | None:
    """Return the pair that ``--feed`` names; DataError for a text that is not IN=OUT."""
    if text is None:
        return None
    name, equals, output = text.partition("=")
    if not (name and equals and output):
        raise DataError(f"--feed {text!r}, expected IN=OUT, the names of an input and of an output of the model")
    return {name: output}


def sampling_of(temperature: float | None, top_k: int | None, top_p: float | None) -> Sampling | None:
    """Return how tokens are drawn; None where none of the options asks for it, or the temperature is 0."""
    from qrnn.model.choosing import Sampling

    if temperature == 0.0 or (temperature is None and top_k is None and top_p is None):
        if top_k is not None or top_p is not None:
            raise DataError("--temperature 0 takes the largest score; leave out --top-k and --top-p")
        return None
    return Sampling(1.0 if temperature is None else temperature, top_k, top_p)
