"""``archipel bench``: measure this machine; every figure comes as JSON and can be run alone.

The benchmarks are in ``benchmarks/`` beside ``src/``: they are part of a checkout and not of a wheel.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.json_option import note_json
from archipel.vocabulary import BadInput, NotFound

if TYPE_CHECKING:
    from pydantic import JsonValue

app = typer.Typer(
    no_args_is_help=True,
    help="Benchmarks: rounds, training, simulation, data, large datasets, masks, and kills at any moment.",
)

AsJson = Annotated[bool, typer.Option("--json", callback=note_json, help="Print one line of JSON for programs.")]


@app.command("round")
def round_(
    sites: Annotated[int, typer.Option(min=1, help="Number of sites.")] = 4,
    size_mb: Annotated[float, typer.Option("--size-mb", min=0.001, help="Size of the model in 10^6 bytes.")] = 20.0,
    pairs: Annotated[int, typer.Option(min=1, help="Number of rounds; after each, the reference runs one round.")] = 7,
    folder: Annotated[
        Path | None, typer.Option(help="The folder for temporary files (by default the system's).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A round of real processes and sandboxed workers beside the same bytes over plain gRPC with mutual TLS."""
    _print(_benchmark("bench_round").bench_round(sites, size_mb, pairs, folder), as_json)


@app.command()
def training(
    pairs: Annotated[int, typer.Option(min=1, help="Number of pairs of epochs.")] = 9,
    as_json: AsJson = False,
) -> None:
    """A site's local epoch in the sandboxed worker beside the same epoch as a bare PyTorch loop."""
    import asyncio

    _print(asyncio.run(_benchmark("bench_training").run(pairs=pairs)), as_json)


@app.command()
def simulation(
    sites: Annotated[int, typer.Option(min=1, help="Number of sites.")] = 100,
    patients: Annotated[int, typer.Option(min=10, help="Number of patients of each site.")] = 200,
    rounds: Annotated[int, typer.Option(min=2, help="Number of rounds in each run; the first is not counted.")] = 6,
    turns: Annotated[int, typer.Option(min=1, help="Number of runs of each kind.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Simulated rounds of many sites, in one process and in two workers, beside the same as a bare PyTorch loop."""
    _print(_benchmark("bench_simulation").bench_simulation(sites, patients, rounds, turns), as_json)


@app.command()
def data(
    files: Annotated[
        int, typer.Option(min=0, help="Number of files to register in the catalog (0: skip this benchmark).")
    ] = 100_000,
    pairs: Annotated[int, typer.Option(min=1, help="Number of pairs of epochs and of imports.")] = 9,
    data: Annotated[
        Path | None, typer.Option("--data", help="A folder of site-*/images and site-*/labels to import.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="The folder for temporary files (by default the system's).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """From files to batches: the loader beside memory, a catalog of many files, an import beside bare nibabel."""
    _print(_benchmark("bench_data").bench_data(files, pairs, data, folder), as_json)


@app.command()
def size(
    rows: Annotated[int, typer.Option(min=0, help="Rows of an .npz file (0: skip them).")] = 1_000_000,
    volumes: Annotated[int, typer.Option(min=0, help="Volumes of 8 x 8 x 8 voxels (0: skip them).")] = 100_000,
    folder: Annotated[
        Path | None, typer.Option(help="The folder for temporary files (by default the system's).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A large dataset from its files to a trained round: seconds and peak memory of each process, step by step."""
    _print(_benchmark("bench_size").bench_size(rows, volumes, folder), as_json)


@app.command()
def kills(
    seed: Annotated[int, typer.Option(min=0, help="The seed that draws what is killed, and when.")] = 0,
    kills: Annotated[int, typer.Option("--kills", min=1, help="Number of kills in all.")] = 100,
    per_run: Annotated[int, typer.Option("--per-run", min=1, help="Number of kills in one run of the plan.")] = 6,
    folder: Annotated[
        Path | None, typer.Option(help="The folder for temporary files (by default the system's).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """kill -9 of server, agents and workers at drawn moments of a small plan: each run must end with the same model."""
    _print(_benchmark("bench_kills").bench_kills(seed, kills, per_run, folder), as_json)


@app.command()
def secagg(
    params: Annotated[int, typer.Option(min=1, help="Number of parameters of a model.")] = 5_000_000,
    sites: Annotated[str, typer.Option(help="Numbers of sites, with commas between them.")] = "4,10,30,100",
    pairs: Annotated[int, typer.Option(min=1, help="Number of pairs of turns.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Masks of secure aggregation beside the bare keystream and addition; the time to open a sum; memory."""
    try:
        numbers = [int(number) for number in sites.split(",")]
    except ValueError as error:
        raise BadInput(f"--sites {sites}", "is not numbers with commas between them", "give --sites 4,10") from error
    _print(_benchmark("bench_secagg").bench_secagg(params, numbers, pairs), as_json)


def _benchmark(name: str) -> ModuleType:
    """The module of that name in the checkout that this command runs from; raises NotFound where there is none."""
    folder = Path(__file__).resolve().parents[3] / "benchmarks"
    if not (folder / f"{name}.py").is_file():
        raise NotFound(
            "benchmarks", "are not part of an installed archipel", "run this command in a checkout: make bench"
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def _print(figures: Mapping[str, JsonValue], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(figures))
        return
    from rich.table import Table

    from archipel.cli.screens import screen_for

    table = Table(show_header=False)
    for name, value in figures.items():
        table.add_row(name, str(value))
    screen_for().print(table)
