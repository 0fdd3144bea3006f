"""``archipel predict``: run a downloaded model on new volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archipel.cli.plan_option import PLAN, Entry

SOURCE = (
    "A .nii.gz volume, or a folder of them. For a plan of several modalities, a folder with a file of each for every "
    "case: T1/CASE.nii.gz and T2/CASE.nii.gz, or CASE_T1.nii.gz and CASE_T2.nii.gz."
)
app = typer.Typer(help="Run a downloaded model on new volumes.")


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(metavar="IN", help=SOURCE)],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file or folder for the predicted labels.")],
    model: Annotated[list[Path], typer.Option("--model", help="A .safetensors file; several make an ensemble.")],
    plan: Annotated[Path, typer.Option("--plan", help=f"{PLAN} The plan is run: use one that you trust.")],
    entry: Entry = None,
) -> None:
    """Write label volumes on each image's own grid."""
    from archipel.plans import load_own, package
    from archipel.plans.inference import predict_path, read_models
    from archipel.storage import disk_errors_named

    loaded, models = load_own(package(plan, entry=entry)), read_models(model)
    with disk_errors_named(target):
        written = predict_path(loaded, models, source, target)
    for path in written:
        typer.echo(str(path))
