"""``archipel experiment``: experiments at a federation's server, watched and steered by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.connecting import AtServer
from archipel.cli.json_option import AsJson
from archipel.cli.option_groups import with_groups
from archipel.cli.quiet_screen import quiet
from archipel.cli.scores import arguments
from archipel.cli.tables import show
from archipel.cli.times import readable

if TYPE_CHECKING:
    from archipel.researcher import Experiment

app = typer.Typer(
    help="Experiments at a server: list, watch, steer, history, events, report, download.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="The experiment's name.")]
_COLUMNS = ("experiment", "state", "round", "rounds", "asked_by", "created", "reason")


@app.command("list")
@with_groups
def list_(
    at: AtServer,
    as_json: AsJson = False,
) -> None:
    """Every experiment of the federation, newest first."""
    with at.connect() as federation:
        rows = [
            {key: getattr(summary, key) for key in _COLUMNS} | {"reason": summary.reason or summary.waits_for or None}
            for summary in federation.summaries()
        ]
        show("experiments", rows, as_json)


@app.command()
@with_groups
def watch(name: Name, at: AtServer) -> None:
    """Show an experiment until it pauses or ends. Ctrl-C stops the watching only."""
    with _experiment(name, at) as experiment:
        experiment.watch()


@app.command()
@with_groups
def failures(
    name: Name,
    at: AtServer,
    as_json: AsJson = False,
) -> None:
    """List the failures of sites, with an error's full text if a person at the site released it."""
    from archipel.researcher.packages import lacking
    from archipel.researcher.tables import failure_rows

    with _experiment(name, at) as experiment:
        rows = failure_rows(experiment.events(), lacking(experiment.document()))
        show(f"failures of {name}", rows, as_json)


@app.command()
@with_groups
def packages(
    name: Name,
    at: AtServer,
    as_json: AsJson = False,
) -> None:
    """List which of the packages that the plan imports each site has."""
    from archipel.researcher.packages import package_rows

    with _experiment(name, at) as experiment:
        show(f"packages of {name}", package_rows(experiment.document()), as_json)


@app.command()
@with_groups
def history(
    name: Name,
    at: AtServer,
    as_json: AsJson = False,
) -> None:
    """List the rounds: one row for each round and site, and one for all of them (all_sites)."""
    from archipel.researcher.tables import history_rows

    with _experiment(name, at) as experiment:
        rows = history_rows(experiment.rounds(), experiment.document().baselines)
    columns = dict.fromkeys(key for row in rows for key in row)
    show(f"history of {name}", [{key: row.get(key) for key in columns} for row in rows], as_json)


@app.command()
@with_groups
def events(
    name: Name,
    at: AtServer,
    as_json: AsJson = False,
) -> None:
    """List everything that happened, oldest first, one line each."""
    from archipel.researcher.event_lines import event_line

    with _experiment(name, at) as experiment:
        happened = experiment.events()
    if as_json:
        typer.echo(json.dumps([event.model_dump(mode="json") for event in happened]))
        return
    for event in happened:
        typer.echo(f"{readable(event.at)}  {readable(event_line(event))}")


@app.command()
@with_groups
def report(
    name: Name,
    at: AtServer,
    out: Annotated[Path, typer.Option(help="The file (.html), or the folder for it.")] = Path(),
) -> None:
    """Write the report: one HTML file with every model at every site."""
    with _experiment(name, at) as experiment:
        typer.echo(f"report: {experiment.report(out)}")


@app.command()
@with_groups
def download(
    name: Name,
    at: AtServer,
    which: Annotated[str, typer.Option("--model", help="last, best or local:SITE.")] = "last",
    out: Annotated[Path, typer.Option(help="The file (.safetensors), or the folder for it.")] = Path(),
) -> None:
    """Write a model with its card and its plan."""
    with _experiment(name, at) as experiment:
        typer.echo(f"model: {experiment.download(out, which)}")


@app.command()
@with_groups
def start(name: Name, at: AtServer) -> None:
    """Start an experiment that enough sites have approved, and return at once."""
    with _experiment(name, at) as experiment:
        _say(name, experiment.start())


@app.command()
@with_groups
def pause(name: Name, at: AtServer) -> None:
    """Pause an experiment after the round that is open."""
    with _experiment(name, at) as experiment:
        _say(name, experiment.pause())


@app.command()
@with_groups
def step(
    name: Name,
    at: AtServer,
    as_json: AsJson = False,
) -> None:
    """Run one round of an experiment, then pause."""
    with _experiment(name, at) as experiment:
        if as_json:
            experiment.screen = quiet
        record = experiment.step_once()
        if as_json:
            typer.echo(record.model_dump_json())
            return
        _say(name, f"{experiment.status} after round {record.round} of {experiment.job.terms.rounds}")


@app.command("set")
@with_groups
def set_(
    name: Name,
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="Hyper-parameters and their values.")],
    at: AtServer,
    as_json: AsJson = False,
) -> None:
    """Change hyper-parameters from the next round on, inside the bounds that the sites approved."""
    given = arguments(values, option="")
    with _experiment(name, at) as experiment:
        now = experiment.set(**given)
    if as_json:
        typer.echo(json.dumps(now))
        return
    for parameter, value in now.items():
        typer.echo(f"{parameter}={value}")


@app.command()
@with_groups
def resume(name: Name, at: AtServer) -> None:
    """Continue an experiment that is paused."""
    with _experiment(name, at) as experiment:
        _say(name, experiment.resume())


@app.command()
@with_groups
def finish(name: Name, at: AtServer) -> None:
    """End an experiment early, with results: complete the open round, measure the last model, train the baselines."""
    with _experiment(name, at) as experiment:
        _say(name, experiment.finish(), experiment.document().reason)


@app.command()
@with_groups
def cancel(name: Name, at: AtServer) -> None:
    """End an experiment permanently; the models of its finished rounds stay."""
    with _experiment(name, at) as experiment:
        _say(name, experiment.cancel())


@contextmanager
def _experiment(name: str, at: AtServer) -> Iterator[Experiment]:
    with at.connect() as federation:
        yield federation.experiment(name)


def _say(name: str, state: str, reason: str | None = None) -> None:
    typer.echo(f"experiment {name} is {state}" + (f": {reason}" if reason else ""))
