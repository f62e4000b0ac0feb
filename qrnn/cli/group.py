"""How the command line shows and finds its commands: whole sentences in the list, ``--version``, and words for a file without a command."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class Commands(TyperGroup):
    """The group of qrnn's commands."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands with the first sentence of their help, over several lines where it is long; the base class would cut it."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, _first_sentence(command.help or "")))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments begin with; the file of a model in its place gets the commands that take it."""
        if args and args[0] not in self.commands:
            from qrnn.trained_files import is_trained

            if is_trained(args[0]):
                ctx.fail(
                    f"{args[0]} is no command. To see what a trained model holds and which calibration data it needs: qrnn inspect {args[0]}. "
                    f"To convert it: qrnn convert {args[0]} --calibration DATA.npz -o MODEL.qrnn."
                )
            if args[0].endswith(".qrnn"):
                ctx.fail(
                    f"{args[0]} is no command. To see what a converted model holds: qrnn inspect {args[0]}. To run it: qrnn run {args[0]} "
                    "--input DATA.npz -o OUT.npz."
                )
        return super().resolve_command(ctx, args)


def _first_sentence(text: str) -> str:
    """Return the first paragraph's first sentence, in one line."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    end = paragraph.find(". ")
    return paragraph if end < 0 else paragraph[: end + 1]
