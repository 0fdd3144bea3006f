"""``archipel run``: submit a plan to a federation, wait for the sites' answers, run it and say what it reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from archipel.cli.scores import Scores, arguments, as_document, print_scores

app = typer.Typer(help="Run a plan on a federation's sites and say what it reached.")


@app.command()
def run(
    plan: Annotated[Path, typer.Argument(help="The plan's Python file.")],
    server: Annotated[str | None, typer.Option(envvar="ARCHIPEL_SERVER", help="The server's https address.")] = None,
    token: Annotated[str | None, typer.Option(envvar="ARCHIPEL_TOKEN", help="Your access token.")] = None,
    authority: Annotated[
        str | None, typer.Option("--ca", envvar="ARCHIPEL_CA", help="The CA's certificate file or sha256 fingerprint.")
    ] = None,
    proxy: Annotated[str | None, typer.Option(help="http://host:port of a web proxy.")] = None,
    site: Annotated[
        list[str] | None, typer.Option("--site", help="SITE or SITE=DATASET; may be repeated [default: all that fit].")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The experiment's name [default: made from the plan's].")] = None,
    title: Annotated[str, typer.Option(help="What it is, in a few words, for the people who must approve it.")] = "",
    description: Annotated[str, typer.Option(help="What it is for, in words for the people who must approve it.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds.")] = 10,
    quorum: Annotated[int | None, typer.Option(help="So many sites make a round [default: all].")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds that a round may last.")] = 3600.0,
    seed: Annotated[int, typer.Option(help="Seed of the initial model and of the training.")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, a hyper-parameter.")] = None,
    validation_fraction: Annotated[float, typer.Option(help="Share of each site's subjects that validate.")] = 0.2,
    baselines: Annotated[bool, typer.Option("--baselines", help="Train each site alone, too.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where the last model goes, as .safetensors.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Every site is asked for its approval first. Ctrl-C stops the watching only: the experiment goes on."""
    from archipel.researcher import connect

    with connect(server, token=token, ca=authority, proxy=proxy) as federation:
        experiment = federation.create(
            plan,
            sites=_chosen(site),
            rounds=rounds,
            arguments=arguments(set_),
            name=name,
            title=title,
            description=description,
            quorum=quorum,
            deadline=deadline,
            baselines=baselines,
            validation_fraction=validation_fraction,
            seed=seed,
        )
        experiment.submit()
        # On standard error, so that --json leaves standard output to the result.
        typer.echo(f"experiment {experiment.name} is offered to {', '.join(experiment.job.sites)}", err=True)
        if as_json:
            experiment.screen = _quiet
        experiment.run()
        scores = _scores(experiment.document()["baselines"])
        model = experiment.download(out) if out is not None else None
    if as_json:
        typer.echo(json.dumps(as_document(scores)))
        return
    print_scores(scores)
    if model is not None:
        typer.echo(f"model: {model}")


def _chosen(given: list[str] | None) -> Any:
    """What ``create`` takes: None, names, or a mapping from name to dataset."""
    pairs = [text.partition("=") for text in given or ()]
    if not any(equals for _, equals, _ in pairs):
        return [name for name, _, _ in pairs] or None
    from archipel.vocabulary import BadInput

    for name, _, dataset in pairs:
        if not (name and dataset):
            raise BadInput(f"--site {name}", "names no dataset, others do", "give SITE=DATASET for each, or for none")
    return {name: dataset for name, _, dataset in pairs}


def _quiet() -> Any:
    import io

    from rich.console import Console

    from archipel.researcher.screens import LogScreen

    return LogScreen(Console(file=io.StringIO()))


def _scores(measured: dict[str, Any]) -> list[Scores]:
    found: list[tuple[str, Any]] = [(one, measured[one]) for one in ("federated", "ensemble") if one in measured]
    found += [(f"{site} alone", one) for site, one in sorted(measured.get("local", {}).items())]
    return [Scores(name, one["validation"], one["per_site"]) for name, one in found]
