"""``archipel site gpu``: which GPUs jobs may use here, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.json_option import AsJson
from archipel.cli.site_terminal import State, console, opened, print_json
from archipel.vocabulary.visible import escape_hidden

if TYPE_CHECKING:
    from archipel.site.gpus import GpuRow
    from archipel.site.state import StateFolder

gpu_app = typer.Typer(name="gpu", help="The GPUs that jobs may use at this site.", no_args_is_help=True)
Device = Annotated[
    str, typer.Argument(help="An index, or the UUID of a GPU or of a MIG slice, as nvidia-smi -L shows them.")
]


@gpu_app.command("list")
def gpu_list(state: State, as_json: AsJson = False) -> None:
    """The GPUs that were named, whether a worker can use them, and those that can be named."""
    from archipel.site.services import gpus

    with opened(state) as site:
        listing = gpus.listing(site)
    if as_json:
        print_json(listing.model_dump(mode="json"))
        return
    if not listing.gpus:
        console().print("no GPU is named: everything runs on the CPU")
    print_gpus(listing.gpus)
    for words in listing.nameable:
        console().print(f"can be named: {escape_hidden(words)}")


@gpu_app.command("add")
def gpu_add(
    device: Device,
    state: State,
    experiments: Annotated[
        int | None, typer.Option(min=1, max=16, help="How many experiments may share each GPU from now on.")
    ] = None,
) -> None:
    """Let jobs use a GPU. It is looked for first, and nothing is changed unless a worker can use it."""
    from archipel.site.services import gpus

    with opened(state) as site:
        _say(site, gpus.add(site, device, experiments))


@gpu_app.command("remove")
def gpu_remove(device: Device, state: State) -> None:
    """Let no job use this GPU any more."""
    from archipel.site.services import gpus

    with opened(state) as site:
        _say(site, gpus.remove(site, device))


def _say(site: StateFolder, names: Sequence[str]) -> None:
    screen = console()
    screen.print(f"GPUs that jobs may use: {', '.join(names) or 'none'}")
    if site.agent_runs():
        screen.print("The agent runs with the settings from before: stop it and start it again.")


def print_gpus(rows: Iterable[GpuRow]) -> None:
    """A line for each GPU that was named."""
    for row in rows:
        if row.problem is not None:
            console().print(f"GPU {row.name} cannot be used: {escape_hidden(row.problem)}")
            continue
        shared = "one experiment" if row.experiments == 1 else f"{row.experiments} experiments"
        line = f"GPU {row.name}: {row.model}, {row.memory_mb} MiB, {shared} at a time with {row.memory_mb_each} MiB"
        console().print(escape_hidden(f"{line} each" if row.experiments > 1 else line))
        if row.note:
            console().print(f"  {row.note}")
