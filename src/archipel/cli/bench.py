"""``archipel bench``: measure this machine; every figure comes as JSON and can be run alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Measure rounds, training and the way of the data on this machine.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON for programs.")]


@app.command("round")
def round_(
    sites: Annotated[int, typer.Option(min=1, help="How many sites.")] = 4,
    size_mb: Annotated[float, typer.Option("--size-mb", min=0.001, help="Size of the model in 10^6 bytes.")] = 20.0,
    pairs: Annotated[int, typer.Option(min=1, help="How many rounds, each beside one of the reference.")] = 7,
    folder: Annotated[Path | None, typer.Option(help="Where to work; by default the system's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """A round of real processes and sandboxed workers beside the same bytes over plain gRPC with mutual TLS."""
    from archipel.lab.bench_round import bench_round

    _print(bench_round(sites, size_mb, pairs, folder), as_json)


@app.command()
def training(
    pairs: Annotated[int, typer.Option(min=1, help="How many pairs of epochs.")] = 9,
    as_json: AsJson = False,
) -> None:
    """A site's local epoch in the sandboxed worker beside the same epoch as a bare PyTorch loop."""
    import asyncio

    from archipel.lab.bench_training import run

    _print(asyncio.run(run(pairs=pairs)), as_json)


@app.command()
def data(
    files: Annotated[int, typer.Option(min=0, help="How many files the catalog registers; 0 leaves it out.")] = 100_000,
    pairs: Annotated[int, typer.Option(min=1, help="How many pairs of epochs and of imports.")] = 9,
    data: Annotated[Path | None, typer.Option("--data", help="site-*/images and labels, to import.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where to work; by default the system's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """From files to batches: the loader beside memory, a catalog of many files, an import beside bare nibabel."""
    from archipel.lab.bench_data import bench_data

    _print(bench_data(files, pairs, data, folder), as_json)


def _print(figures: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(figures))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)
