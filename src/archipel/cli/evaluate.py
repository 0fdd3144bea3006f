"""``archipel evaluate``: measure a downloaded model on data whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.json_option import AsJson
from archipel.cli.library_output import plan_heard
from archipel.cli.local_data import (
    ModelOnData,
    limit_threads,
    say_arguments,
)
from archipel.cli.option_groups import with_groups
from archipel.inference.resampling import RESAMPLES

if TYPE_CHECKING:
    from archipel.inference import Evaluation

_MOST_ROWS = 100
app = typer.Typer(help="Measure a downloaded model on data whose truth is known.")


@app.command()
@with_groups
def evaluate(
    used: ModelOnData,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="A folder in any format that a site can add, or the file of a table; or a folder of folders "
            "with images/ and labels/ each.",
        ),
    ],
    validation_fraction: Annotated[
        float | None,
        typer.Option(help="Measure only the subjects that a site with this fraction holds out (by default all)."),
    ] = None,
    total_only: Annotated[
        bool,
        typer.Option("--total-only", help="Measure all subjects together only: no values per subject, no interval."),
    ] = False,
    resamples: Annotated[
        int, typer.Option(min=0, help="Draws of the bootstrap over subjects; 0 for no interval.")
    ] = RESAMPLES,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """The plan's validation metrics over all subjects with a 95 % interval, and of each subject.

    A plan that segments is also measured by HD95 in mm.
    """
    limit_threads()
    from archipel.inference import evaluate as run

    with plan_heard():
        found = run(
            used.model,
            data,
            **used.arguments(),
            validation_fraction=validation_fraction,
            per_subject=not total_only,
            resamples=resamples,
            seed=seed,
        )
    say_arguments(found.arguments)
    if as_json:
        typer.echo(json.dumps(found.as_document()))
        return
    _print(found)


def _print(found: Evaluation) -> None:
    from rich.table import Table
    from rich.text import Text

    from archipel.cli.screens import screen_for
    from archipel.vocabulary.counting import pluralise
    from archipel.vocabulary.visible import escape_hidden

    console = screen_for()
    by_subject = list(next(iter(found.subjects.values()), ()))
    if by_subject and len(found.subjects) <= _MOST_ROWS:
        table = Table("subject", *map(escape_hidden, by_subject))
        for subject, values in found.subjects.items():
            table.add_row(Text(escape_hidden(subject)), *(_number(values[name]) for name in by_subject))
        console.print(table)
    elif by_subject:
        console.print(f"{len(found.subjects)} subjects: --json has the values of each")
    table = Table("metric", f"all {found.count} subjects", "95 % interval", "counted")
    for name, one in found.metrics.items():
        interval = "-" if one.low is None else f"{_number(one.low)} to {_number(one.high)}"
        table.add_row(Text(escape_hidden(name)), _number(one.value), interval, pluralise(one.weight, one.counts))
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
