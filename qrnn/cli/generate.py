"""The command ``qrnn generate``."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qrnn.cli.common import (
    BackendOption,
    IsaOption,
    check_json,
    check_output,
    npz_bytes,
    print_json,
    read_arrays,
    report_console,
)
from qrnn.cli.generating import (
    BlankOption,
    FeedOption,
    OneHotOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    feed_of,
    sampling_of,
)
from qrnn.errors import DataError

if TYPE_CHECKING:
    from qrnn.model.quant_model import QuantModel

SHOWN = 5
"""The most sequences whose tokens are printed."""

_TOKENS = re.compile(r"\s*\d+(\s*,\s*\d+)*\s*")


def generate(
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="A .qrnn file.")],
    prompt: Annotated[
        str,
        typer.Option(
            metavar="PROMPT",
            help="DATA.npz: the first steps of the input that is fed, and all of every other input, batch first; lengths of the prompts (or "
            "frames) beside them. Or token ids, such as 5,1,7, of a model with one input.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="OUT.npz: tokens or values, lengths, and the final state.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="The most steps that follow; 100 when left out, and of a transducer any number."),
    ] = None,
    stop: Annotated[
        list[int] | None, typer.Option(metavar="TOKEN", help="A token that ends a sequence; may be repeated.")
    ] = None,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    seed: Annotated[int, typer.Option(help="The seed of the first sequence's draws; that of the n-th is n more.")] = 0,
    feed: FeedOption = None,
    one_hot: OneHotOption = False,
    blank: BlankOption = None,
    most_symbols: Annotated[
        int | None, typer.Option(min=1, help="The most tokens of a transducer in one frame; 10 when left out.")
    ] = None,
    scores: Annotated[bool, typer.Option("--scores", help="Write log probabilities of the tokens, too.")] = False,
    backend: BackendOption = "cpu",
    threads: Annotated[int | None, typer.Option(help="Cores to use; all when left out.")] = None,
    isa: IsaOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print tokens and what was done as JSON.")] = False,
) -> None:
    """Feed a model's output back to its input: the tokens or values that follow each prompt."""
    import numpy as np

    from qrnn.model.file import load
    from qrnn.running.generating import MOST_SYMBOLS
    from qrnn.running.session import Session
    from qrnn.system.atomic import write_atomically

    is_file = _TOKENS.fullmatch(prompt) is None
    if output is not None:
        output = check_output(output, (model, *([Path(prompt)] if is_file else [])))
    check_json(json, output)
    quantized = load(model)
    inputs = dict(read_arrays(Path(prompt))) if is_file else _token_prompt(quantized, prompt)
    lengths = inputs.pop("lengths", None)
    session = Session(quantized, backend, threads, isa)
    limit = 100 if steps is None and blank is None else steps
    start = time.perf_counter()
    result = session.generate(
        inputs, lengths, steps=limit, sampling=sampling_of(temperature, top_k, top_p), seed=seed, stop=tuple(stop or ()), feed=feed_of(feed),
        one_hot=True if one_hot else None, blank=blank, most_symbols=most_symbols or MOST_SYMBOLS, scores=scores,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    arrays: dict[str, Any] = {"lengths": result.lengths, "stopped": result.stopped}
    arrays |= {"tokens": result.tokens} if result.values is None else {"values": result.values}
    arrays |= {} if result.scores is None else {"scores": result.scores}
    arrays |= {} if result.frames is None else {"frames": result.frames}
    if output is not None:
        state = np.frombuffer(session.save_state(result.state), np.uint8)
        write_atomically(output, npz_bytes({**arrays, "state": state}))
    made = [row[:n].tolist() for row, n in zip(result.tokens, result.lengths, strict=True)]
    total = int(result.lengths.sum())
    if json:
        print_json(
            {
                "tokens": made,
                "lengths": result.lengths.tolist(),
                "seconds": seconds,
                "output": None if output is None else str(output),
            }
        )
        return
    out = report_console(output)
    for n, row in enumerate(made[:SHOWN] if result.values is None else ()):
        ended = ", stopped" if result.stopped[n] else ""
        out.print(
            f"  {n}: {' '.join(map(str, row))} ({len(row)} tokens{ended})",
            markup=False,
            soft_wrap=True,
            highlight=False,
        )
    what = "tokens" if result.values is None else "steps"
    out.print(f"{len(made)} sequences, {total} {what} on backend {backend} in {seconds:.2f} s (compilation included)")
    if output is not None:
        out.print(f"wrote {output}", markup=False, soft_wrap=True)


def _token_prompt(model: QuantModel, text: str) -> dict[str, Any]:
    """Return the arrays of a prompt of token ids; DataError for a model that reads more than tokens."""
    import numpy as np

    needed = [i for i in model.inputs if i.kind in ("features", "tokens")]
    if len(needed) != 1:
        raise DataError(
            f"--prompt {text!r}: the model has the inputs {[i.name for i in needed]}; give an .npz file of arrays"
        )
    (given,) = needed
    tokens = [int(word) for word in text.split(",")]
    most = given.vocabulary if given.kind == "tokens" else given.features
    if max(tokens) >= most:
        raise DataError(f"--prompt: token {max(tokens)}, expected tokens in 0…{most - 1}")
    array = np.array([tokens], np.int64)
    return {given.name: array if given.kind == "tokens" else np.eye(most)[array]}
