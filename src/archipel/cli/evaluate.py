"""``archipel evaluate``: score a downloaded model on labelled volumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.json_option import AsJson
from archipel.cli.plan_option import PLAN, Entry

if TYPE_CHECKING:
    from archipel.plans.inference import Evaluation

app = typer.Typer(help="Score a downloaded model on labelled volumes.")


@app.command()
def evaluate(
    model: Annotated[list[Path], typer.Option("--model", help="A .safetensors file; several files are an ensemble.")],
    plan: Annotated[Path, typer.Option("--plan", help=f"{PLAN} The plan is run: use one that you trust.")],
    data: Annotated[
        Path, typer.Option("--data", help="A folder with images/ and labels/, one such per site, or a dataset.")
    ],
    entry: Entry = None,
    layout: Annotated[
        str | None, typer.Option("--format", help="The format of the data (by default detected).")
    ] = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE, an option of the format.")] = None,
    mapping: Annotated[
        Path | None, typer.Option("--mapping", help="A TOML file with the data's mapping of labels and modalities.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Dice per label and of the whole structure, and HD95 in mm, for each subject and their mean.

    The 95 % interval of the mean comes from drawing patients again (bootstrap), each with all its volumes.
    """
    from archipel.cli.site_dataset import read_options
    from archipel.data import read_mapping
    from archipel.plans import load_own, package
    from archipel.plans.inference import evaluate_folder, read_models

    evaluation = evaluate_folder(
        load_own(package(plan, entry=entry)), read_models(model), data,
        layout=layout, options=read_options(option or []),
        mapping=read_mapping(mapping) if mapping else None,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(evaluation))
        return
    _print(evaluation)


def _print(found: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    from archipel.vocabulary.counting import pluralise

    columns = [(metric, structure) for metric, values in found["mean"].items() for structure in values]
    table = Table("subject", *(f"{metric} {structure}" for metric, structure in columns))
    below = [(f"mean of {found['count']}", found["mean"]), ("standard deviation", found["deviation"])]
    for name, scores in [*found["subjects"].items(), *below]:
        cells = [scores[metric][structure] for metric, structure in columns]
        table.add_row(name, *("-" if cell is None else f"{cell:.3f}" for cell in cells))
    intervals = [found["interval"][metric][structure] for metric, structure in columns]
    patients = pluralise(found["patients"], "patient")
    table.add_row(
        f"95 % interval of the mean ({patients} drawn again)",
        *("-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}" for interval in intervals),
    )
    Console().print(table)
