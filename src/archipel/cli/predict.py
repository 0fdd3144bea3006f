"""``archipel predict``: run a downloaded model on new data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archipel.cli.library_output import plan_heard
from archipel.cli.local_data import (
    ModelOnData,
    limit_threads,
    say_arguments,
)
from archipel.cli.option_groups import with_groups

SOURCE = (
    "A folder in any format that a site can add, or the file of a table; the truth may be missing. For a plan that "
    "segments also a .nii.gz volume or a folder of them; for several modalities, a folder with a file of each for "
    "every case: T1/CASE.nii.gz and T2/CASE.nii.gz, or CASE_T1.nii.gz and CASE_T2.nii.gz."
)
TARGET = (
    "The file for what is predicted: .csv with one row per sample, or .npz with arrays. For a plan that segments the "
    "folder for label volumes, or a .nii.gz file for one."
)
app = typer.Typer(help="Run a downloaded model on new data.")


@app.command()
@with_groups
def predict(
    source: Annotated[Path, typer.Argument(metavar="IN", help=SOURCE)],
    target: Annotated[Path, typer.Argument(metavar="OUT", help=TARGET)],
    used: ModelOnData,
) -> None:
    """Write what the model predicts for each sample: a label volume, or one row of numbers and classes."""
    limit_threads()
    from archipel.inference import predict as run

    with plan_heard():
        found = run(used.model, source, target, **used.arguments())
    say_arguments(found.arguments)
    for path in found.files:
        typer.echo(str(path))
