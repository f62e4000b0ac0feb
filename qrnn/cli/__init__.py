"""The command line: one file a command, no numerics. Mistakes of the user end in one line on stderr and exit status 2."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Any

import typer

from qrnn.cli import (
    bench,
    compare,
    convert,
    demo,
    diff,
    explain,
    export,
    fit,
    gates,
    inspect,
    run,
    sweep,
    targets,
    tune,
    verify,
)
from qrnn.errors import QrnnError

app = typer.Typer(
    name="qrnn",
    help="Integer-only recurrent networks: convert a trained ONNX model, run it, and measure it against float.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (
    convert.convert,
    run.run,
    compare.compare,
    explain.explain,
    diff.diff,
    bench.bench,
    inspect.inspect,
    gates.gates,
    sweep.sweep,
    tune.tune,
    targets.targets,
    export.export,
    verify.verify,
    fit.fit,
    demo.demo,
):
    app.command()(_command)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main() -> None:
    """Entry point of the ``qrnn`` command."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal or pipe may know fewer characters than the report
    try:
        app()
    except QrnnError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
