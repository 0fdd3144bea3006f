"""``archipel simulate``: run a plan's federated rounds on this machine, on local folders."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.json_option import AsJson
from archipel.cli.library_output import plan_heard
from archipel.cli.patience_option import PatienceOption, read_patience
from archipel.cli.plan_option import PLAN, Entry, StartFrom
from archipel.cli.scores import arguments, as_document, print_scores
from archipel.cli.split_options import Alpha, Count, Split, SplitColumn, SplitSeed, read_split
from archipel.cli.terms_options import Threads, worker_limits

if TYPE_CHECKING:
    from archipel.plans import StartingModel
    from archipel.rounds import MemoryExperimentStore
    from archipel.simulation import SimulatedSite, VirtualSites
    from archipel.vocabulary import DataNeeds

app = typer.Typer(help="Run a plan's federated rounds on this machine.")


@app.command()
def simulate(
    plan: Annotated[Path, typer.Argument(help=PLAN)],
    data: Annotated[
        Path,
        typer.Argument(help="A folder of one folder of data per site, or as --sites or --split says."),
    ],
    sites: Annotated[
        Path | None,
        typer.Option("--sites", help="A TOML file with one table per site: path, format, options, mapping."),
    ] = None,
    layout: Annotated[
        str | None, typer.Option("--format", help="The format of the sites' folders (by default detected).")
    ] = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE, an option of the format.")] = None,
    mapping: Annotated[Path | None, typer.Option("--mapping", help="A TOML file with the sites' mapping.")] = None,
    split: Split = None,
    virtual_sites: Count = None,
    alpha: Alpha = None,
    split_column: SplitColumn = None,
    split_seed: SplitSeed = 0,
    entry: Entry = None,
    start_from: StartFrom = None,
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds.")] = 5,
    patience: PatienceOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the initial model and of the training.")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, a hyper-parameter.")] = None,
    validation_fraction: Annotated[
        float, typer.Option(help="Fraction of each site's subjects kept for validation.")
    ] = 0.2,
    out: Annotated[Path | None, typer.Option(help="The file for the last model (.safetensors).")] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of processes that train at the same time; it does not change the results.",
        ),
    ] = 1,
    threads: Threads = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Also train each site alone, as a baseline.")] = False,
    pooled: Annotated[
        bool, typer.Option("--pooled", help="Also train on all sites' data together, as a baseline.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the same rounds as a deployed federation, with the same results, without network and sandbox.

    An experiment's name for --start-from needs ARCHIPEL_SERVER and ARCHIPEL_CA, and your access token.
    """
    from archipel.vocabulary import WorkerLimits
    from archipel.vocabulary.threads import thread_variables

    # Before anything loads numpy: as many threads as a hospital's worker has, and as each of --workers has.
    os.environ.update(thread_variables(threads or WorkerLimits().threads))
    limits = worker_limits(threads=threads)
    from archipel.plans import load_to_train, package
    from archipel.plans.job_builder import NO_ENSEMBLE
    from archipel.plans.loading import own_line_named
    from archipel.researcher.simulating import draft_at, run_drafted
    from archipel.simulation import train_pooled
    from archipel.simulation.scores import model_scores, scores
    from archipel.storage import disk_errors_named
    from archipel.vocabulary import BadInput, differing_values

    if out is not None and not os.access(out.parent, os.W_OK):
        raise BadInput(str(out.parent), "is not a folder that can be written to", "choose another place for --out")
    if sites is not None and (layout or option or mapping or split):
        raise BadInput(
            "--sites",
            "cannot be used together with --format, --option, --mapping or --split",
            "write the sites' formats, options and mappings into its tables",
        )
    division = read_split(split, virtual_sites, alpha, split_column, split_seed)
    specs = _sites(load_to_train(package(plan, entry=entry)).needs, data, division, sites, layout, option, mapping)
    if division is not None:
        typer.echo(division.in_words, err=True)
    # On standard error, so that --json leaves standard output to the result.
    for sentence in differing_values({site.name: site.values for site in specs}):
        typer.echo(sentence, err=True)
    values = arguments(set_)
    start = _starting_model(start_from) if start_from is not None else None
    drafted = draft_at(
        specs,
        plan,
        entry=entry,
        rounds=rounds,
        patience=read_patience(patience),
        baselines=baselines,
        validation_fraction=validation_fraction,
        seed=seed,
        arguments=values,
        start_from=start,
        limits=limits,
    )
    if baselines and not drafted.job.baselines.ensemble:
        typer.echo(NO_ENSEMBLE, err=True)
    with plan_heard(), own_line_named(drafted.plan):
        made = run_drafted(drafted, specs, division, workers=workers)
    store = made.store
    if not as_json:
        _print_rounds(store)
    if store.reason:
        typer.echo(store.reason, err=True)
    if out is not None:
        with disk_errors_named(out.parent):
            out.write_bytes(made.tensor_file(store.model))
    reached = model_scores(store)
    if pooled:
        with tempfile.TemporaryDirectory(prefix="archipel-pooled-") as place, plan_heard():
            trained = train_pooled(
                plan,
                specs,
                entry=entry,
                # As many passes as the federated model had, which may have ended early.
                rounds=store.progress().rounds_done,
                folder=Path(place),
                fraction=validation_fraction,
                seed=seed,
                arguments=values,
                start_from=start,
                limits=limits,
            )
        reached.insert(1, scores("pooled", trained.per_site))
    if as_json:
        typer.echo(json.dumps(as_document(reached)))
        return
    print_scores(reached, drafted.job.validation)
    if out is not None:
        typer.echo(f"model: {out}")


def _starting_model(given: str) -> StartingModel:
    from archipel.cli.secrets import asked
    from archipel.plans import read_starting_model
    from archipel.researcher import connect
    from archipel.researcher.starting_from import names_experiment

    if not names_experiment(given):
        return read_starting_model(Path(given))
    with connect(token=asked("ARCHIPEL_TOKEN", "Access token")) as federation:
        return federation.starting_model(given)


def _sites(
    needs: DataNeeds,
    data: Path,
    split: VirtualSites | None,
    sites: Path | None,
    layout: str | None,
    option: list[str] | None,
    mapping: Path | None,
) -> list[SimulatedSite]:
    from archipel.cli.site_dataset import read_options
    from archipel.data import read_mapping
    from archipel.simulation import simulated_sites

    options, rules = read_options(option or []), read_mapping(mapping) if mapping else None
    return simulated_sites(data, needs, split=split, file=sites, layout=layout, options=options, mapping=rules)


def _print_rounds(store: MemoryExperimentStore) -> None:
    from archipel.cli.screens import screen_for
    from archipel.vocabulary import TaskKind

    console = screen_for()
    for record in store.records:
        numbers = {**record.metrics, **{f"validation {name}": one for name, one in record.validation.items()}}
        means = ", ".join(f"{name} {one.mean():.4f}" for name, one in numbers.items() if one.weight)
        what = "round" if record.stage.kind is TaskKind.TRAIN else str(record.stage.kind)
        about = f" of {record.stage.about}" if record.stage.about else ""
        console.print(f"{what} {record.stage.round}{about}: {means} ({record.seconds:.1f} s)")
