"""``archipel``: finds the sub-command, loads only its file, and prints an error as one line.

Every sub-command's file ``cli/<name>.py`` has a Typer application called ``app``; the table below is all that
``archipel --help`` reads, so that it answers at once.
"""

from __future__ import annotations

import importlib
import json
import signal
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from archipel.cli.json_option import json_was_given
from archipel.cli.library_output import silence_libraries
from archipel.cli.times import readable
from archipel.vocabulary import ArchipelError

if TYPE_CHECKING:
    # Typer carries its own copy of click and names these types nowhere else.
    from typer._click.core import Command, Context

SUB_COMMANDS = {
    "server": "Create, start and administer a federation's server.",
    "site": "A hospital's agent: join, datasets, approvals, journal.",
    "run": "Run a plan on a federation's sites and show the result.",
    "demo": "Run a whole federation on this machine: three hospitals, a server, one model.",
    "simulate": "Run a plan's federated rounds on this machine.",
    "experiment": "Experiments at a server: list, watch, steer, history, events, report, download.",
    "predict": "Run a downloaded model on new data.",
    "evaluate": "Measure a downloaded model on data whose truth is known.",
    "bench": "Benchmarks: rounds, training, simulation, data, large datasets, and kills at any moment.",
}

_COMPLETION = {"install_completion", "show_completion"}
"""Options that Typer adds to an application of its own; a sub-command does not need them."""


class _LazyGroup(TyperGroup):
    """Names and help come from the table; the command itself is loaded when it is called."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(SUB_COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        return TyperCommand(cmd_name, help=SUB_COMMANDS[cmd_name]) if cmd_name in SUB_COMMANDS else None

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        # A misspelt name is compared with these.
        self.commands = {name: TyperCommand(name, help=text) for name, text in SUB_COMMANDS.items()}
        name, command, rest = super().resolve_command(ctx, args)
        if name in SUB_COMMANDS:
            command = get_command(importlib.import_module(f"archipel.cli.{name}").app)
            command.name = name
            command.params = [one for one in command.params if one.name not in _COMPLETION]
        return name, command, rest


app = typer.Typer(
    name="archipel",
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated learning for medical imaging: hospitals train one model together, and no image leaves its "
    "hospital.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from archipel.version import VERSION

        print(VERSION)
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    return


def main() -> None:
    """Run the command line; an ArchipelError is one red line on standard error and exit code 1.

    With ``--json`` the error is on standard output too, as a document: code, values and the command that is its remedy.

    SIGTERM ends a command as Ctrl-C does: its processes are stopped and its temporary files are removed.
    """
    signal.signal(signal.SIGTERM, _terminated)
    silence_libraries()
    try:
        app()
    except ArchipelError as error:
        if json_was_given():
            print(json.dumps({"error": error.document()}, indent=2))
        _print_error(readable(str(error)))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _terminated(number: int, _frame: object) -> None:
    # Only once: a second signal must not interrupt the clean-up.
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _print_error(text: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from archipel.vocabulary.visible import escape_hidden

    # A part of it may come from another party: invisible characters are written out, and no further line passes for an
    # error of its own.
    shown = escape_hidden(text, keep="\n").replace("\n", "\n  ")
    line = Text.assemble(("error: ", "bold red"), (shown, "red"))
    # A terminal wraps the line as it likes; a log or a pipe gets it whole.
    console = Console(stderr=True)
    console.print(line, soft_wrap=True, highlight=False)
