"""The commands by their names, and the parsing of their arguments."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from typer.main import get_command

from qrnn.cli import (
    bench,
    compare,
    compile,
    convert,
    demo,
    diff,
    explain,
    export,
    fit,
    gates,
    generate,
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
    generate.generate,
    compile.compile,
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

_UsageError = typer.BadParameter.__base__
"""The base class of Typer's exceptions for wrong arguments; each prints itself, with the command's usage."""


def execute(arguments: Sequence[str]) -> int:
    """Run the command that ``arguments`` name and return the exit status. Exceptions of the command are raised as they are.

    Typer's own entry point would turn a broken pipe into exit status 1, and an end of file inside a command into "Aborted!".
    """
    try:
        with get_command(app).make_context("qrnn", list(arguments)) as context:
            context.command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort:
        raise QrnnError("aborted") from None
    except Exception as error:
        if _UsageError is None or not isinstance(error, _UsageError):
            raise
        error.show()  # type: ignore[attr-defined]
        return 2
    return 0
