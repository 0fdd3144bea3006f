"""``archipel site``: the commands of the people at a hospital, whether the site's agent runs or not.

Every command opens the state folder and does one thing; the running agent follows what changes there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli import secrets
from archipel.cli.connecting import Proxy
from archipel.cli.dataset_display import listing_problems, print_datasets
from archipel.cli.json_option import AsJson
from archipel.cli.offer_display import print_earlier, print_offers, show_offer
from archipel.cli.site_check import check
from archipel.cli.site_cohort import cohort_app
from archipel.cli.site_dataset import dataset_app
from archipel.cli.site_gpu import gpu_app, print_gpus
from archipel.cli.site_membership import renew
from archipel.cli.site_records import errors_app, journal_app
from archipel.cli.site_report import dataset_report
from archipel.cli.site_terminal import (
    Experiment,
    Note,
    State,
    console,
    opened,
    person,
    print_json,
    words,
)
from archipel.vocabulary.visible import escape_hidden_lines, quote, quote_name

if TYPE_CHECKING:
    from archipel.site.services import OptOutList

app = typer.Typer(name="site", help="A hospital's site: data, approvals, journal and the agent.", no_args_is_help=True)
app.add_typer(dataset_app)
app.add_typer(cohort_app)
app.add_typer(gpu_app)
app.add_typer(journal_app)
app.add_typer(errors_app)
dataset_app.command("report")(dataset_report)


@app.callback()
def _private_files() -> None:
    os.umask(0o077)


@app.command()
def init(
    state: Annotated[Path, typer.Argument(help="A new folder for the site's keys, database and files.")],
    name: Annotated[str, typer.Option("--name", help="The site's name in the federation, e.g. charite.")],
) -> None:
    """Make a new site: its folder, its settings and its identity key."""
    from archipel.site.membership import create_site

    site = create_site(state, name)
    console().print(f"site {site.name} created in {state}; identity {site.identity.public}")
    site.close()


# Read by hand, so that a token that is given as an argument is refused in words that do not repeat it.
@app.command(context_settings={"allow_extra_args": True})
def join(
    context: typer.Context,
    state: State,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="The file with the join token (archipel1...), or - (by default ARCHIPEL_JOIN_TOKEN or "
            "ARCHIPEL_JOIN_TOKEN_FILE, else a prompt or standard input).",
        ),
    ] = None,
    proxy: Proxy = None,
) -> None:
    """Join the federation that a join token names."""
    from archipel.site.membership import enrolment

    token = secrets.join_token(token_file, context.args)
    with opened(state) as site:
        joined = enrolment.join(site, token, proxy)
        console().print(f"site {site.name} joined {quote_name(joined.name)} ({joined.grpc}); next: archipel site start")


app.command()(renew)


@app.command()
def start(state: State) -> None:
    """Run the agent until SIGTERM or Ctrl-C."""
    from archipel.cli.logs import configure_logs
    from archipel.site.agent import run

    with opened(state) as site:
        configure_logs(site.settings.log_level)
    run(state.resolve())


@app.command()
def status(state: State, as_json: AsJson = False) -> None:
    """Show this site's status."""
    from archipel.site.services import status as services

    with opened(state) as site:
        overview = services.status(site)
    if as_json:
        print_json(overview.model_dump(mode="json"))
        return
    screen, federation, link = console(), overview.federation, overview.link
    screen.print(f"site {overview.site}, agent {overview.agent}, sandbox {overview.sandbox}")
    if overview.sandbox_problem is not None:
        screen.print(overview.sandbox_problem)
    print_gpus(overview.gpus)
    if federation is None:
        screen.print("has not joined a federation yet")
    else:
        name, until = quote_name(federation.name), overview.certificate_until
        screen.print(f"federation {name} at {federation.grpc}, certificate until {until}")
    if link is not None:
        stands = "connected" if link.connected else f"not connected: {quote(link.problem)}"
        screen.print(words(f"{stands} (since {link.since})"))
    for fault in overview.server_journal_faults:
        screen.print(f"the server's journal lost or changed lines: {fault}; ask its operator which of the two happened")
    print_datasets(overview.datasets)
    _print_opt_outs(overview.opt_outs)
    print_offers(overview.experiments)


def _print_opt_outs(opt_outs: OptOutList | None) -> None:
    from archipel.site.withdrawn import OPT_OUT, line_ranges

    if opt_outs is None:
        return
    screen, unmatched = console(), opt_outs.unmatched
    if opt_outs.problem:
        screen.print(f"nothing runs: {opt_outs.problem}")
        return
    match = "match" if len(unmatched) > 1 else "matches"
    nobody = f"; {line_ranges(unmatched)} {match} no subject in any dataset here" if unmatched else ""
    screen.print(f"{OPT_OUT} names {opt_outs.patients} patients{nobody}")
    for one in opt_outs.also_there:
        screen.print(escape_hidden_lines(f"the patient of line {one.line} {one.advice}"))


@app.command()
def plans(
    state: State,
    experiment: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Explain the job as if it ran on this dataset.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what researchers ask to run here, or show one in words with its plan's text."""
    from archipel.site.services import offer_documents

    with opened(state) as site:
        if experiment is None:
            rows = offer_documents.rows(site)
            if as_json:
                print_json([row.model_dump(mode="json") for row in rows])
            else:
                print_offers(rows)
            return
        offer = offer_documents.document(site, offer_documents.full_name(site, experiment), dataset)
    if as_json:
        print_json(offer.model_dump(mode="json"))
    else:
        show_offer(offer)


app.command()(check)


@app.command()
def approve(
    experiment: Experiment,
    state: State,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Run it on this dataset instead.")] = None,
    version: Annotated[
        int | None,
        typer.Option(
            "--cohort", help="A version that was frozen before; without it, the dataset is frozen as it is now."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts, with --job.")] = False,
    job: Annotated[str | None, typer.Option("--job", help="Approve only the job with this hash.")] = None,
    note: Note = "",
) -> None:
    """Show what would run here, ask for confirmation, freeze a cohort or take a frozen version, and sign."""
    from archipel.site.services import approvals, offer_documents
    from archipel.vocabulary import BadInput, Watch

    screen = console()
    with opened(state) as site, listing_problems(screen):
        name = offer_documents.full_name(site, experiment)
        if yes and name != experiment:
            # A person reads the name before confirming; a script must give the full name.
            raise BadInput(f"experiment {experiment}", f"matches the beginning of {name}", "name it in full with --yes")
        reading = f"reading the data that {name} would run on"
        with screen.progress(reading) as show:
            asked = approvals.prepare(site, name, dataset=dataset, version=version, job_hash=job, watch=Watch(show))
        if yes:
            print_earlier(asked.offer)
        else:
            show_offer(asked.offer)
        for warning in asked.warnings:
            screen.print(f"warning: {warning}")
        if not yes and not typer.confirm("Run this on this site's data?", default=False):
            screen.print("nothing was approved")
            raise typer.Exit(1)
        screen.print(f"approving job {asked.job_hash} of {name}")
        with screen.progress(reading) as show:
            done = approvals.approve(
                site, name, job_hash=asked.job_hash, cohort_hash=asked.cohort_hash,
                last_decision=asked.last_decision,
                by=person(), dataset=dataset, version=version, note=note, watch=Watch(show),
            )  # fmt: skip
    people = f"{done.subjects} subjects of dataset {done.dataset} version {done.version}"
    screen.print(f"approved {name} for {people}: job {done.job_hash}, cohort {done.cohort_hash}")


@app.command()
def reject(experiment: Experiment, state: State, note: Note = "") -> None:
    """Reject an experiment."""
    from archipel.site.services import approvals, offer_documents

    with opened(state) as site:
        name = offer_documents.full_name(site, experiment)
        approvals.reject(site, name, by=person(), note=note)
    console().print(f"rejected {name}")


@app.command()
def revoke(experiment: Experiment, state: State, note: Note = "") -> None:
    """Revoke an approval; the worker is stopped at once."""
    from archipel.site.services import approvals, offer_documents

    with opened(state) as site:
        name = offer_documents.full_name(site, experiment)
        approvals.revoke(site, name, by=person(), note=note)
    console().print(f"revoked {name}; nothing of it runs here any more")
