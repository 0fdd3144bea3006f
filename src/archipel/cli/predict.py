"""``archipel predict``: run a downloaded model on new volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run a downloaded model on new volumes.")


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .nii.gz volume, or a folder of them.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Where the labels go: a file, or a folder.")],
    model: Annotated[list[Path], typer.Option("--model", help="A .safetensors file; several make an ensemble.")],
    plan: Annotated[Path, typer.Option("--plan", help="The plan's Python file. It is run: use one you trust.")],
) -> None:
    """Write label volumes on each image's own grid."""
    from archipel.plans import load
    from archipel.plans.inference import predict_path, read_models

    for path in predict_path(load(plan), read_models(model), source, target):
        typer.echo(str(path))
