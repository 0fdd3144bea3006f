"""``archipel run``: submit a plan to a federation, wait for the sites' answers, run it and print its results."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.connecting import AtServer
from archipel.cli.json_option import AsJson
from archipel.cli.option_groups import with_groups
from archipel.cli.patience_option import PatienceOption, read_patience
from archipel.cli.plan_option import PLAN, Entry, StartFrom
from archipel.cli.quiet_screen import quiet
from archipel.cli.scores import arguments, as_document, print_scores
from archipel.cli.terms_options import (
    TERMS,
    GpuMemory,
    GpuOptional,
    Grace,
    Measurements,
    Memory,
    Processes,
    Processor,
    Resumes,
    Retries,
    Temporary,
    Threads,
    Wall,
    gpu_terms,
    worker_limits,
)

if TYPE_CHECKING:
    from archipel.researcher.site_selection import Wanted
    from archipel.simulation.scores import ModelScores
    from archipel.transport.rest import BaselinesView

app = typer.Typer(help="Run a plan on a federation's sites and show the result.")


@app.command()
@with_groups
def run(
    plan: Annotated[Path, typer.Argument(help=PLAN)],
    at: AtServer,
    site: Annotated[
        list[str] | None,
        typer.Option("--site", help="SITE or SITE=DATASET; may be repeated (by default all that fit)."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The experiment's name (by default made from the plan's).")] = None,
    title: Annotated[str, typer.Option(help="A short title, for the people who must approve the experiment.")] = "",
    description: Annotated[str, typer.Option(help="The purpose, for the people who must approve the experiment.")] = "",
    entry: Entry = None,
    start_from: StartFrom = None,
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds.")] = 10,
    quorum: Annotated[
        int | None,
        typer.Option(help="Number of sites that must deliver an update for a round to count (by default all)."),
    ] = None,
    patience: PatienceOption = None,
    deadline: Annotated[float, typer.Option(help="Seconds that a round may last.")] = TERMS.deadline_s,
    grace: Grace = TERMS.grace_s,
    retries: Retries = TERMS.retries,
    resumes: Resumes = TERMS.resumes,
    measurements: Measurements = TERMS.measurements,
    memory_mb: Memory = None,
    cpu_s: Processor = None,
    wall_s: Wall = None,
    tmp_mb: Temporary = None,
    processes: Processes = None,
    threads: Threads = None,
    gpu_memory_mb: GpuMemory = None,
    gpu_or_cpu: GpuOptional = False,
    seed: Annotated[int, typer.Option(help="Seed of the initial model and of the training.")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, a hyper-parameter.")] = None,
    validation_fraction: Annotated[
        float, typer.Option(help="Fraction of each site's subjects kept for validation.")
    ] = 0.2,
    baselines: Annotated[bool, typer.Option("--baselines", help="Also train each site alone, as a baseline.")] = False,
    out: Annotated[Path | None, typer.Option(help="The file for the last model (.safetensors).")] = None,
    as_json: AsJson = False,
) -> None:
    """Every site is asked for its approval first. Ctrl-C stops the watching only: the experiment continues.

    The same command with the same --name continues the experiment; `archipel experiment` watches and steers
    it.
    """
    from archipel.plans.job_builder import NO_ENSEMBLE

    limits = worker_limits(
        memory_mb=memory_mb, cpu_s=cpu_s, wall_s=wall_s, tmp_mb=tmp_mb, processes=processes, threads=threads
    )
    if not description:
        typer.echo("no --description: the people who must approve read that the researcher gave no purpose", err=True)
    with at.connect() as federation, warnings.catch_warnings():
        # Printed below, one line each.
        warnings.simplefilter("ignore", UserWarning)
        experiment = federation.create(
            plan,
            plan_entry=entry,
            sites=_chosen(site),
            rounds=rounds,
            start_from=start_from,
            arguments=arguments(set_),
            name=name,
            title=title,
            description=description,
            quorum=quorum,
            deadline=deadline,
            patience=read_patience(patience),
            grace=grace,
            retries=retries,
            resumes=resumes,
            measurements=measurements,
            limits=limits,
            gpu=gpu_terms(gpu_memory_mb, gpu_or_cpu),
            baselines=baselines,
            validation_fraction=validation_fraction,
            seed=seed,
        )
        # On standard error, so that --json leaves standard output to the result.
        for left_out, reason in experiment.left_out.items():
            typer.echo(f"left out: {left_out} ({reason})", err=True)
        for sentence in experiment.differing:
            typer.echo(sentence, err=True)
        if baselines and not experiment.job.baselines.ensemble:
            typer.echo(NO_ENSEMBLE, err=True)
        experiment.submit()
        asked = ", ".join(f"{entry.site} ({entry.dataset})" for entry in experiment.job.roster)
        typer.echo(f"experiment {experiment.name} is offered to {asked}", err=True)
        for sentence in experiment.lacking:
            typer.echo(sentence, err=True)
        if as_json:
            experiment.screen = quiet
        experiment.run()
        document = experiment.document()
        scores, ended_early = _scores(document.baselines), document.ended_early
        model = experiment.download(out) if out is not None else None
    if ended_early:
        typer.echo(ended_early, err=True)
    if as_json:
        typer.echo(json.dumps(as_document(scores)))
        return
    print_scores(scores, experiment.job.validation)
    if model is not None:
        typer.echo(f"model: {model}")


def _chosen(given: list[str] | None) -> Wanted:
    """What ``create`` takes: None, names, or a mapping from name to dataset."""
    pairs = [text.partition("=") for text in given or ()]
    names = [name for name, _, _ in pairs]
    if not any(equals for _, equals, _ in pairs):
        return names or None
    from archipel.vocabulary import BadInput

    for name, equals, dataset in pairs:
        if not name or (equals and not dataset):
            raise BadInput(f"--site {name}{equals}{dataset}", "is incomplete", "give SITE or SITE=DATASET")
        if names.count(name) > 1:
            raise BadInput(f"--site {name}", "is given twice", "name each site once; a job asks for one dataset of it")
    return {name: dataset or None for name, _, dataset in pairs}


def _scores(measured: BaselinesView) -> list[ModelScores]:
    from archipel.simulation.scores import ModelScores

    return [
        ModelScores(model=model, all_sites=found.validation, per_site=found.per_site, details=found.details)
        for model, found in measured.by_model().items()
    ]
