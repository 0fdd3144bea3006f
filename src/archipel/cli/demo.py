"""``archipel demo``: three hospitals on this machine train one network; ends with a table and ``demo-results/``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from archipel.researcher.outcome import ExperimentResult

app = typer.Typer(help="Run a whole federation on this machine: three hospitals, a server, one model.")

PHANTOM_SITES = ("site-a", "site-b", "site-c")
PHANTOM_SUBJECTS = 20
PHANTOM_ROUNDS = 12
PHANTOM_EPOCHS = 2
DATA_ROUNDS = 30


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Argument(help="A folder of site-*/images/*.nii.gz and site-*/labels/*.nii.gz.")
    ] = None,
    results: Annotated[Path, typer.Option(help="The folder for the report.")] = Path("demo-results"),
    subjects: Annotated[
        int, typer.Option(min=2, help="Number of phantom subjects per hospital, when DATA is not given.")
    ] = PHANTOM_SUBJECTS,
    rounds: Annotated[int | None, typer.Option(min=1, help="Number of rounds.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, max=10, help="Epochs per round.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the initial model, of the training and of the phantom.")] = 0,
) -> None:
    """Generate phantom head MRI (or take a folder of real volumes) and train on it as a federation."""
    from rich.console import Console

    from archipel.lab.demo import DemoTerms, run_demo, site_folders

    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="archipel-phantom-") as place:
        if data is None:
            from archipel.data.synthetic import phantom

            console.print(f"drawing phantom MRI for {len(PHANTOM_SITES)} hospitals, {subjects} subjects each")
            phantom.generate(Path(place), PHANTOM_SITES, subjects, seed)
        roots = site_folders(data or Path(place))
        terms = DemoTerms(
            title="One network, three hospitals" if len(roots) == 3 else f"One network, {len(roots)} hospitals",
            data="generated phantom MRI" if data is None else data.resolve().name,
            rounds=rounds or (PHANTOM_ROUNDS if data is None else DATA_ROUNDS),
            epochs=epochs or (PHANTOM_EPOCHS if data is None else 1),
            seed=seed,
            folder=results,
        )
        result = run_demo(roots, terms, console.print)
    _print(result, console, results)


def _print(result: ExperimentResult, console: Console, results: Path) -> None:
    from rich.table import Column, Table

    from archipel.researcher.outcome import ModelKind

    sites = [site.name for site in result.sites]
    table = Table(
        Column("trained on", no_wrap=True),
        "Dice, all held-out",
        *(f"at {site}" for site in sites),
        title="Whole structure, last model",
    )
    names = {
        ModelKind.FEDERATED: "all sites, federated",
        ModelKind.POOLED: "all sites, pooled",
        ModelKind.ENSEMBLE: "ensemble of the local models",
    }
    best = max(score.value for score in result.scores if score.kind is not ModelKind.POOLED)
    for score in result.scores:
        cells = [f"{score.per_site[site]:.3f}" if site in score.per_site else "-" for site in sites]
        mean = f"[bold]{score.value:.4f}[/bold]" if score.value == best else f"{score.value:.4f}"
        table.add_row(names.get(score.kind, f"{score.name} alone"), mean, *cells)
    console.print(table)
    ratio = f"federated / pooled {result.ratio:.4f}; " if result.ratio is not None else ""
    console.print(
        f"{ratio}{result.held_out} held-out subjects, {result.rounds} rounds, {result.seconds['total']:.0f} s; "
        f"report: {results / 'report.html'}"
    )
