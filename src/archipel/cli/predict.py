"""``archipel predict``: run a downloaded model on new volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archipel.cli.plan_option import PLAN, Entry

app = typer.Typer(help="Run a downloaded model on new volumes.")


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .nii.gz volume, or a folder of them.")],
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
