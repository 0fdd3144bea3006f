"""``archipel site``: what the people at a hospital say to their site, whether its agent runs or not.

Every command opens the state folder, does one thing and rings the running agent's doorbell when it should know.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from archipel.cli.site_membership import renew
from archipel.cli.site_records import errors_app, journal_app
from archipel.cli.site_terminal import (
    AsJson,
    Experiment,
    Note,
    State,
    console,
    opened,
    print_json,
    print_table,
    words,
)
from archipel.vocabulary import BadInput

app = typer.Typer(name="site", help="A hospital's side: data, approvals, journal and the agent.", no_args_is_help=True)
dataset_app = typer.Typer(name="dataset", help="The datasets this site has.", no_args_is_help=True)
app.add_typer(dataset_app)
app.add_typer(journal_app)
app.add_typer(errors_app)
app.command()(renew)


@app.callback()
def _private_files() -> None:
    os.umask(0o077)


@app.command()
def init(
    state: Annotated[Path, typer.Argument(help="A new folder for the site's keys, database and work.")],
    name: Annotated[str, typer.Option("--name", help="The site's name in the federation, e.g. charite.")],
) -> None:
    """Make a new site: its folder, its settings and its identity key."""
    from archipel.site.state import SiteState

    site = SiteState.create(state, name)
    console().print(f"site {site.name} made in {state}; identity {site.identity.public}")
    site.close()


@app.command()
def join(
    token: Annotated[str, typer.Argument(help="What the server's operator gave you: archipel1....")],
    state: State,
    proxy: Annotated[str | None, typer.Option("--proxy", help="http://host:port of a web proxy.")] = None,
) -> None:
    """Join the federation that a join token names."""
    from archipel.site import enrolment

    with opened(state) as site:
        joined = enrolment.join(site, token, proxy)
        console().print(f"site {site.name} joined {joined.name} ({joined.grpc}); next: archipel site start")


@app.command()
def start(state: State) -> None:
    """Run the agent until SIGTERM or Ctrl-C."""
    from archipel.cli.logs import configure_logs
    from archipel.site.process import run

    with opened(state) as site:
        configure_logs(site.settings.log_level)
    run(state.absolute())


@app.command()
def status(state: State, as_json: AsJson = False) -> None:
    """Say where this site stands."""
    from archipel.site import approvals, catalog, certificates, standing

    with opened(state) as site:
        found = site.federation()
        running = site.ring()
        link = standing.read(site) if running else None
        until = certificates.credentials(site).expires.isoformat() if found else None
        document = {
            "site": site.name,
            "identity_key": site.identity.public,
            "federation": found.model_dump() if found else None,
            "certificate_until": until,
            "agent": "running" if running else "stopped",
            "link": link.model_dump() if link else None,
            "sandbox": site.settings.sandbox.value,
            "datasets": [_dataset_row(entry) for entry in catalog.datasets(site)],
            "experiments": [_row(offer) for offer in approvals.offers(site)],
        }
    if as_json:
        print_json(document)
        return
    screen = console()
    screen.print(f"site {document['site']}, agent {document['agent']}, sandbox {document['sandbox']}")
    screen.print(
        f"federation {found.name} at {found.grpc}, certificate until {until}"
        if found
        else "has joined no federation yet"
    )
    if link is not None:
        stands = "connected" if link.connected else f"not connected: {link.problem}"
        screen.print(words(f"{stands} (since {link.since})"))
    _print_datasets(document["datasets"])
    _print_offers(document["experiments"])


def _row(offer: Any) -> dict[str, Any]:
    return {
        "experiment": offer.experiment,
        "state": offer.state.value,
        "title": offer.job.title,
        "plan": offer.job.plan.file_name,
        "rounds": offer.job.terms.rounds,
        "job_hash": offer.job_hash,
        "plan_hash": offer.job.plan.hash,
        "cohort_hash": offer.cohort_hash,
        "offered_at": offer.offered_at,
        "decided_at": offer.decided_at,
        "note": offer.note,
    }


def _print_offers(rows: Any) -> None:
    if not rows:
        console().print("no experiment was offered yet")
        return
    print_table(["experiment", "state", "title", "plan", "rounds", "offered_at"], rows)


def _print_datasets(rows: Any) -> None:
    if not rows:
        console().print("no dataset yet; add one with archipel site dataset add NAME PATH")
        return
    shapes = [row | {"summary": _shape(row["summary"])} for row in rows]
    print_table(["name", "format", "kind", "subjects", "labels", "summary"], shapes)


def _dataset_row(entry: Any) -> dict[str, Any]:
    return {
        "name": entry.name,
        "format": entry.format,
        "kind": entry.kind,
        "subjects": entry.subjects,
        "labels": entry.mapping.label_names,
        "summary": entry.summary.model_dump(mode="json", exclude_defaults=True),
    }


def _shape(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary without what is said beside it."""
    return {key: value for key, value in summary.items() if key not in ("kind", "subjects", "samples")}


@dataset_app.command("add")
def dataset_add(
    name: Annotated[str, typer.Argument(help="The name under which researchers ask for it.")],
    path: Annotated[Path, typer.Argument(help="The folder that holds it.")],
    state: State,
    layout: Annotated[
        str, typer.Option("--format", help="How it lies there; see archipel site dataset formats.")
    ] = "nifti-pairs",
    mapping: Annotated[Path | None, typer.Option("--mapping", help="A TOML file with the dataset's mapping.")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE, an option of the format.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="A label's name, e.g. 1=anterior.")] = None,
    leave_out_faulty: Annotated[
        bool, typer.Option("--leave-out-faulty", help="Go on without the subjects that have errors.")
    ] = False,
) -> None:
    """Check a folder of data and enter it in the catalog; nothing is added while anything is wrong with it."""
    from archipel.site import catalog

    asked = read_mapping(mapping, dict(_label(text) for text in label or []))
    options = dict(_option(text) for text in option or [])
    screen = console()
    with opened(state) as site, _listing_problems(screen):
        with screen.status(f"reading and hashing {_extent(path)} in {path}"):
            entry = catalog.add(
                site, name, path, layout, options=options, mapping=asked, leave_out_faulty=leave_out_faulty
            )
        shape = _shape(entry.summary.model_dump(mode="json", exclude_defaults=True))
        screen.print(f"dataset {entry.name} added: {entry.subjects} subjects; {words(shape)}")


def _extent(path: Path) -> str:
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return f"{len(sizes)} files ({sum(sizes) / 2**20:.0f} MiB)"


def _label(text: str) -> tuple[str, str]:
    value, equals, name = text.partition("=")
    if not (value.isdigit() and equals and name):
        raise BadInput(f"label {text}", "is not VALUE=NAME", "give for example --label 1=anterior")
    return value, name


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise BadInput(f"option {text}", "is not NAME=VALUE", "see archipel site dataset formats")
    return name, value


def read_mapping(path: Path | None, labels: dict[str, str]) -> Any:
    """The mapping in a TOML file, with label names given beside it. Raises BadInput naming the key that is wrong."""
    import tomllib

    from pydantic import ValidationError

    from archipel.data import DataMapping

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
        found = DataMapping.model_validate(document)
    except (OSError, ValueError) as error:
        cause = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            cause = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise BadInput(f"mapping {path}", cause, "see From folder to cohort in the documentation") from error
    return found.model_copy(update={"label_names": {**found.label_names, **labels}})


@contextmanager
def _listing_problems(screen: Console) -> Iterator[None]:
    from archipel.site.catalog import DatasetProblems
    from archipel.site.wording import shown

    try:
        yield
    except DatasetProblems as error:
        for problem in error.problems:
            screen.print(f"- {shown(str(problem))}")
        raise


@dataset_app.command("formats")
def dataset_formats() -> None:
    """List the formats a dataset may have, with their options."""
    from archipel.data import FORMATS

    rows = [
        {
            "format": one.name,
            "kind": one.kind,
            "layout": one.title,
            "options": "; ".join(f"{name}: {text}" for name, text in one.options.items()),
        }
        for one in FORMATS.values()
    ]
    print_table(["format", "kind", "layout", "options"], rows)


@dataset_app.command("list")
def dataset_list(state: State, as_json: AsJson = False) -> None:
    """List the datasets of this site."""
    from archipel.site import catalog

    with opened(state) as site:
        entries = [
            _dataset_row(entry) | {"root": entry.root, "scanned_at": entry.scanned_at}
            for entry in catalog.datasets(site)
        ]
    if as_json:
        print_json(entries)
    else:
        _print_datasets(entries)


@dataset_app.command("remove")
def dataset_remove(name: Annotated[str, typer.Argument()], state: State) -> None:
    """Take a dataset out of the catalog; its files stay."""
    from archipel.site import catalog

    with opened(state) as site:
        catalog.remove(site, name)
    console().print(f"dataset {name} removed from the catalog; its files are untouched")


@app.command()
def plans(
    state: State,
    experiment: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="As if run on this dataset.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what researchers ask to run here, or show one in words with its plan's text."""
    from archipel.site import approvals

    with opened(state) as site:
        if experiment is None:
            rows = [_row(offer) for offer in approvals.offers(site)]
            if as_json:
                print_json(rows)
            else:
                _print_offers(rows)
            return
        offer = approvals.offered(site, experiment)
        if as_json:
            print_json(
                _row(offer)
                | {
                    "job": offer.job.model_dump(mode="json"),
                    "explanation": _explained(site, offer, dataset),
                    "source": approvals.plan_source(site, offer.job),
                }
            )
        else:
            _show(site, offer, _explained(site, offer, dataset))


def _explained(site: Any, offer: Any, dataset: str | None) -> list[tuple[str, str]]:
    from archipel.site import approvals
    from archipel.site.wording import explanation
    from archipel.vocabulary import NotFound

    try:
        return _explained_on(site, offer, approvals.asked_dataset(site, offer.job, dataset))
    except NotFound as error:
        asked = dataset or offer.job.entry(site.name).dataset
        answers = explanation(offer.job, site.settings, site.joined().name, asked, 0)
        return [*answers, ("What speaks against it?", str(error))]


def _explained_on(site: Any, offer: Any, entry: Any) -> list[tuple[str, str]]:
    from archipel.site import approvals
    from archipel.site.wording import explanation

    answers = explanation(offer.job, site.settings, site.joined().name, entry.name, entry.subjects)
    against = approvals.reasons_against(site, offer.job, entry)
    return [*answers, ("What speaks against it?", "; ".join(against))] if against else answers


def _show(site: Any, offer: Any, explained: list[tuple[str, str]]) -> None:
    from archipel.site import approvals
    from archipel.site.wording import shown

    screen = console()
    screen.print(Text(f"experiment {offer.experiment} ({offer.state.value})", style="bold"))
    for question, answer in explained:
        screen.print(Text(f"\n{question}", style="bold"))
        screen.print(Text(shown(answer)))
    source = approvals.plan_source(site, offer.job)
    screen.print(Text(f"\nThe plan, {offer.job.plan.file_name}, {offer.job.plan.hash}", style="bold"))
    if source is None:
        screen.print("has not been fetched yet; the running agent fetches it")
    else:
        screen.print(Syntax(shown(source), "python", line_numbers=True, word_wrap=True, background_color="default"))
    screen.print(Text(f"\njob {offer.job_hash}"))


@app.command()
def approve(
    experiment: Experiment,
    state: State,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Run it on this dataset instead.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    job: Annotated[str | None, typer.Option("--job", help="Approve only the job with this hash.")] = None,
    note: Note = "",
) -> None:
    """Show what would run here, ask, freeze the cohort and sign."""
    from archipel.site import approvals, catalog

    screen = console()
    with opened(state) as site, _listing_problems(screen):
        offer = approvals.offered(site, experiment)
        entry = approvals.asked_dataset(site, offer.job, dataset)
        with screen.status(f"reading and hashing {_extent(Path(entry.root))} of dataset {entry.name}"):
            frozen = catalog.freeze(site, entry)
        if not yes:
            _show(site, offer, _explained_on(site, offer, frozen.dataset))
            if not typer.confirm("Run this on this site's data?", default=False):
                screen.print("nothing was approved")
                raise typer.Exit(1)
        approval = approvals.approve(site, experiment, shown=job or offer.job_hash, frozen=frozen, note=note)
    people = f"{len(frozen.cohort.subjects)} subjects of dataset {entry.name}"
    screen.print(f"approved {experiment} for {people}: job {approval.job_hash}, cohort {approval.cohort_hash}")


@app.command()
def reject(experiment: Experiment, state: State, note: Note = "") -> None:
    """Say no to an experiment."""
    from archipel.site import approvals

    with opened(state) as site:
        approvals.reject(site, experiment, note)
    console().print(f"rejected {experiment}")


@app.command()
def revoke(experiment: Experiment, state: State, note: Note = "") -> None:
    """Take an approval back; the worker is stopped at once."""
    from archipel.site import approvals

    with opened(state) as site:
        approvals.revoke(site, experiment, note)
    console().print(f"revoked {experiment}; nothing of it runs here any more")
