"""``archipel simulate``: run a plan's federated rounds in one process, on folders of one's own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run a plan's federated rounds in one process.")


@app.command()
def simulate(
    plan: Annotated[Path, typer.Argument(help="The plan's Python file.")],
    data: Annotated[Path, typer.Argument(help="A folder with one folder of data per site.")],
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the initial model and of the training.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where the last model goes, as .safetensors.")] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Train each site alone, too.")] = False,
) -> None:
    """The same rounds, steps and numbers as a deployed federation, without network and sandbox."""
    import asyncio

    from rich.console import Console

    from archipel.plans import draft, load
    from archipel.simulation import scanned_site
    from archipel.simulation import simulate as run
    from archipel.vocabulary import BadInput, Baselines, RosterEntry, RoundTerms, TaskKind

    console = Console(highlight=False)
    folders = sorted(path for path in data.iterdir() if path.is_dir()) if data.is_dir() else []
    if not folders:
        raise BadInput(str(data), "holds no folder of a site", "name a folder with one folder of data for each site")
    needs = load(plan).needs
    sites = [scanned_site(path.name.lower(), path, needs) for path in folders]
    nobody = "ed25519:" + "0" * 64
    drafted = draft(
        plan,
        experiment="simulation",
        roster=[RosterEntry(site=site.name, identity_key=nobody, dataset="data") for site in sites],
        server_key=nobody,
        seed=seed,
        terms=RoundTerms(rounds=rounds, quorum=len(sites), deadline_s=360_000),
        baselines=Baselines(local=baselines, ensemble=baselines),
    )
    with tempfile.TemporaryDirectory(prefix="archipel-simulation-") as place:
        book = asyncio.run(run(drafted.job, plan, drafted.initial_model, sites, Path(place)))
        for record in book.records:
            numbers = {**record.metrics, **{f"validation {name}": one for name, one in record.validation.items()}}
            means = ", ".join(f"{name} {one.mean():.4f}" for name, one in numbers.items() if one.weight)
            what = "round" if record.stage.kind is TaskKind.TRAIN else str(record.stage.kind)
            about = f" of {record.stage.about}" if record.stage.about else ""
            console.print(f"{what} {record.stage.round}{about}: {means} ({record.seconds:.1f} s)")
        if out is not None:
            out.write_bytes(book.models[book.model].read_bytes())
            console.print(f"model: {out}")
