"""The commands by their names, and the parsing of their arguments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from qrnn.cli import (
    bench,
    compare,
    compile,
    convert,
    data,
    demo,
    diff,
    explain,
    export,
    finetune,
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
from qrnn.cli.group import Commands
from qrnn.errors import QrnnError
from qrnn.system.version import __version__

app = typer.Typer(
    name="qrnn",
    cls=Commands,
    help="Integer-only recurrent networks: convert a trained model of ONNX or Keras, run it, measure it against float, and export it as C.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"qrnn {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    pass


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
    finetune.finetune,
    targets.targets,
    export.export,
    verify.verify,
    fit.fit,
    demo.demo,
):
    app.command()(_command)
app.add_typer(data.data)

_COMPLETION = "_QRNN_COMPLETE"
"""The variable by which the lines that ``--install-completion`` writes ask for completions."""

_UsageError = typer.BadParameter.__base__
"""The base class of Typer's exceptions for wrong arguments; each prints itself, with the command's usage."""


def execute(arguments: Sequence[str]) -> int:
    """Run the command that ``arguments`` name and return the exit status. Exceptions of the command are raised as they are.

    Typer's own entry point would turn a broken pipe into exit status 1, and an end of file inside a command into "Aborted!".
    """
    command = get_command(app)
    if _COMPLETION in os.environ:  # the shell asks what may follow; Typer answers and ends the process
        command.main(list(arguments), "qrnn", _COMPLETION)
    try:
        with command.make_context("qrnn", list(arguments)) as context:
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
