"""``archipel site``: what the people at a hospital say to their site, whether its agent runs or not.

Every command opens the state folder, does one thing and rings the running agent's doorbell when it should know.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from archipel.vocabulary import BadInput

app = typer.Typer(name="site", help="A hospital's side: data, approvals, journal and the agent.", no_args_is_help=True)
dataset_app = typer.Typer(name="dataset", help="The datasets this site has.", no_args_is_help=True)
journal_app = typer.Typer(name="journal", help="What happened at this site, provably.", no_args_is_help=True)
errors_app = typer.Typer(name="errors", help="Errors of plans in full; they stay here.", no_args_is_help=True)
app.add_typer(dataset_app)
app.add_typer(journal_app)
app.add_typer(errors_app)

State = Annotated[
    Path, typer.Option("--state", envvar="ARCHIPEL_SITE_STATE", help="The site's folder.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Note = Annotated[str, typer.Option("--note", help="Why, in your own words; kept in the journal.")]
Experiment = Annotated[str, typer.Argument(help="The experiment's name, as archipel site plans lists it.")]


@app.callback()
def _private_files() -> None:
    os.umask(0o077)


@contextmanager
def _opened(state: Path) -> Iterator[Any]:
    from archipel.site.state import SiteState

    site = SiteState.open(state)
    try:
        yield site
    finally:
        site.close()


def _console() -> Console:
    return Console(highlight=False, markup=False)


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


@app.command()
def init(
    state: Annotated[Path, typer.Argument(help="A new folder for the site's keys, database and work.")],
    name: Annotated[str, typer.Option("--name", help="The site's name in the federation, e.g. charite.")],
) -> None:
    """Make a new site: its folder, its settings and its identity key."""
    from archipel.site.state import SiteState

    site = SiteState.create(state, name)
    _console().print(f"site {site.name} made in {state}; identity {site.identity.public}")
    site.close()


@app.command()
def join(
    token: Annotated[str, typer.Argument(help="What the server's operator gave you: archipel1....")],
    state: State,
    proxy: Annotated[str | None, typer.Option("--proxy", help="http://host:port of a web proxy.")] = None,
) -> None:
    """Join the federation that a join token names."""
    from archipel.site import enrolment

    with _opened(state) as site:
        joined = enrolment.join(site, token, proxy)
        _console().print(f"site {site.name} joined {joined.name} ({joined.grpc}); next: archipel site start")


@app.command()
def start(state: State) -> None:
    """Run the agent until SIGTERM or Ctrl-C."""
    from archipel.site.process import run

    run(state.absolute())


@app.command()
def status(state: State, as_json: AsJson = False) -> None:
    """Say where this site stands."""
    from archipel.site import approvals, catalog, certificates

    with _opened(state) as site:
        found = site.federation()
        until = certificates.credentials(site).expires.isoformat() if found else None
        document = {
            "site": site.name,
            "identity_key": site.identity.public,
            "federation": found.model_dump() if found else None,
            "certificate_until": until,
            "agent": "running" if site.ring() else "stopped",
            "sandbox": site.settings.sandbox.value,
            "datasets": [entry.public() for entry in catalog.datasets(site)],
            "experiments": [_row(offer) for offer in approvals.offers(site)],
        }
    if as_json:
        _print_json(document)
        return
    console = _console()
    console.print(f"site {document['site']}, agent {document['agent']}, sandbox {document['sandbox']}")
    console.print(
        f"federation {found.name} at {found.grpc}, certificate until {until}"
        if found
        else "has joined no federation yet"
    )
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
        _console().print("no experiment was offered yet")
        return
    _print_table(["experiment", "state", "title", "plan", "rounds", "offered_at"], rows)


def _print_datasets(rows: Any) -> None:
    if not rows:
        _console().print("no dataset yet; add one with archipel site dataset add NAME PATH")
        return
    _print_table(["name", "kind", "subjects", "labels", "summary"], rows)


def _print_table(columns: list[str], rows: list[dict[str, Any]]) -> None:
    from archipel.site.wording import shown

    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(shown(_words(row[column]))) for column in columns))
    _console().print(table)


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items() if key not in ("kind", "subjects"))
    if isinstance(value, list):
        return " x ".join(str(inner) for inner in value)
    return str(value)


@dataset_app.command("add")
def dataset_add(
    name: Annotated[str, typer.Argument(help="The name under which researchers ask for it.")],
    path: Annotated[Path, typer.Argument(help="The folder that holds it.")],
    state: State,
    kind: Annotated[str, typer.Option("--kind", help="nifti-pairs or npz.")] = "nifti-pairs",
    label: Annotated[list[str] | None, typer.Option("--label", help="A label's name, e.g. 1=anterior.")] = None,
) -> None:
    """Check a folder of data and enter it in the catalog; nothing is added while anything is wrong with it."""
    from archipel.site import catalog

    labels = dict(_label(text) for text in label or [])
    console = _console()
    with _opened(state) as site, _listing_problems(console):
        with console.status(f"reading and hashing {_extent(path)} in {path}"):
            entry = catalog.add(site, name, path, kind, labels)
        console.print(f"dataset {entry.name} added: {entry.subjects} subjects; {_words(entry.summary)}")


def _extent(path: Path) -> str:
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return f"{len(sizes)} files ({sum(sizes) / 2**20:.0f} MiB)"


def _label(text: str) -> tuple[str, str]:
    value, equals, name = text.partition("=")
    if not (value.isdigit() and equals and name):
        raise BadInput(f"label {text}", "is not VALUE=NAME", "give for example --label 1=anterior")
    return value, name


@contextmanager
def _listing_problems(console: Console) -> Iterator[None]:
    from archipel.site.catalog import DatasetProblems
    from archipel.site.wording import shown

    try:
        yield
    except DatasetProblems as error:
        for problem in error.problems:
            console.print(f"- {shown(problem)}")
        raise


@dataset_app.command("list")
def dataset_list(state: State, as_json: AsJson = False) -> None:
    """List the datasets of this site."""
    from archipel.site import catalog

    with _opened(state) as site:
        entries = [entry.model_dump() for entry in catalog.datasets(site)]
    if as_json:
        _print_json(entries)
    else:
        _print_datasets(entries)


@dataset_app.command("remove")
def dataset_remove(name: Annotated[str, typer.Argument()], state: State) -> None:
    """Take a dataset out of the catalog; its files stay."""
    from archipel.site import catalog

    with _opened(state) as site:
        catalog.remove(site, name)
    _console().print(f"dataset {name} removed from the catalog; its files are untouched")


@app.command()
def plans(
    state: State,
    experiment: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="As if run on this dataset.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what researchers ask to run here, or show one in words with its plan's text."""
    from archipel.site import approvals

    with _opened(state) as site:
        if experiment is None:
            rows = [_row(offer) for offer in approvals.offers(site)]
            if as_json:
                _print_json(rows)
            else:
                _print_offers(rows)
            return
        offer = approvals.offered(site, experiment)
        if as_json:
            _print_json(
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
        words = explanation(offer.job, site.settings, site.joined().name, asked, 0)
        return [*words, ("What speaks against it?", str(error))]


def _explained_on(site: Any, offer: Any, entry: Any) -> list[tuple[str, str]]:
    from archipel.site import approvals
    from archipel.site.wording import explanation

    words = explanation(offer.job, site.settings, site.joined().name, entry.name, entry.subjects)
    against = approvals.reasons_against(site, offer.job, entry)
    return [*words, ("What speaks against it?", "; ".join(against))] if against else words


def _show(site: Any, offer: Any, explained: list[tuple[str, str]]) -> None:
    from archipel.site import approvals
    from archipel.site.wording import shown

    console = _console()
    console.print(Text(f"experiment {offer.experiment} ({offer.state.value})", style="bold"))
    for question, answer in explained:
        console.print(Text(f"\n{question}", style="bold"))
        console.print(Text(shown(answer)))
    source = approvals.plan_source(site, offer.job)
    console.print(Text(f"\nThe plan, {offer.job.plan.file_name}, {offer.job.plan.hash}", style="bold"))
    if source is None:
        console.print("has not been fetched yet; the running agent fetches it")
    else:
        console.print(Syntax(shown(source), "python", line_numbers=True, word_wrap=True, background_color="default"))
    console.print(Text(f"\njob {offer.job_hash}"))


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

    console = _console()
    with _opened(state) as site, _listing_problems(console):
        offer = approvals.offered(site, experiment)
        entry = approvals.asked_dataset(site, offer.job, dataset)
        with console.status(f"reading and hashing {_extent(Path(entry.root))} of dataset {entry.name}"):
            frozen = catalog.freeze(entry)
        if not yes:
            _show(site, offer, _explained_on(site, offer, frozen.dataset))
            if not typer.confirm("Run this on this site's data?", default=False):
                console.print("nothing was approved")
                raise typer.Exit(1)
        approval = approvals.approve(site, experiment, shown=job or offer.job_hash, frozen=frozen, note=note)
    people = f"{len(frozen.cohort.subjects)} subjects of dataset {entry.name}"
    console.print(f"approved {experiment} for {people}: job {approval.job_hash}, cohort {approval.cohort_hash}")


@app.command()
def reject(experiment: Experiment, state: State, note: Note = "") -> None:
    """Say no to an experiment."""
    from archipel.site import approvals

    with _opened(state) as site:
        approvals.reject(site, experiment, note)
    _console().print(f"rejected {experiment}")


@app.command()
def revoke(experiment: Experiment, state: State, note: Note = "") -> None:
    """Take an approval back; the worker is stopped at once."""
    from archipel.site import approvals

    with _opened(state) as site:
        approvals.revoke(site, experiment, note)
    _console().print(f"revoked {experiment}; nothing of it runs here any more")


@journal_app.command("verify")
def journal_verify(
    state: State,
    head: Annotated[Path | None, typer.Option("--head", help="A head of this journal that the server gave.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prove the journal whole, or say which line was changed, removed, inserted or cut off."""
    from archipel.governance import JournalHead
    from archipel.site import journal

    with _opened(state) as site:
        fresh = []
        if head is not None:
            try:
                fresh = [JournalHead.model_validate_json(head.read_text(encoding="utf-8"))]
            except (OSError, ValueError) as error:
                raise BadInput(str(head), "is not a journal head", "give the JSON file that the server gave") from error
        proof = journal.verify(site, fresh)
    if as_json:
        _print_json({"whole": proof.whole, "lines": proof.lines, "heads": proof.heads, "problems": proof.problems})
    else:
        console = _console()
        for problem in proof.problems:
            console.print(f"- {problem}")
        verdict = "is whole" if proof.whole else "is NOT whole"
        console.print(f"the journal {verdict}: {proof.lines} lines, held against {proof.heads} attested heads")
    if not proof.whole:
        raise typer.Exit(1)


@journal_app.command("show")
def journal_show(
    state: State,
    last: Annotated[int, typer.Option("--last", min=1, help="How many of the newest lines.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the newest lines of the journal."""
    from archipel.site import journal

    with _opened(state) as site:
        entries = [entry.model_dump(mode="json") for entry in journal.newest(site, last)]
    if as_json:
        _print_json(entries)
    else:
        _print_table(["number", "at", "kind", "body"], entries)


@journal_app.command("export")
def journal_export(
    state: State, to: Annotated[Path | None, typer.Argument(help="A file; without it, standard output.")] = None
) -> None:
    """Write the whole journal as JSON lines, the signed head last."""
    from archipel.site import journal
    from archipel.storage import write_private

    with _opened(state) as site:
        text = "".join(f"{line}\n" for line in journal.export(site))
    if to is None:
        typer.echo(text, nl=False)
    else:
        write_private(to, text.encode())


@errors_app.command("list")
def errors_list(state: State, as_json: AsJson = False) -> None:
    """List the tasks that failed here."""
    from archipel.site import failures

    with _opened(state) as site:
        rows = [_error_row(task) for task in failures.failed(site)]
    if as_json:
        _print_json(rows)
    elif rows:
        _print_table(["experiment", "round", "attempt", "kind", "failure", "released"], rows)
    else:
        _console().print("no task failed here")


def _error_row(task: Any) -> dict[str, Any]:
    key = task.key.model_dump(mode="json")
    return {**key, "failure": str(task.failure), "released": task.released, "done_at": task.done_at}


@errors_app.command("show")
def errors_show(
    experiment: Experiment, round_number: Annotated[int, typer.Argument(metavar="ROUND")], state: State
) -> None:
    """Show the full texts of a round's errors; they may quote data."""
    from archipel.site import failures
    from archipel.site.wording import shown

    with _opened(state) as site:
        for task in failures.of_round(site, experiment, round_number):
            typer.echo(f"{task.key}: {task.failure}\n{shown(task.detail)}")


@errors_app.command("release")
def errors_release(
    experiment: Experiment, round_number: Annotated[int, typer.Argument(metavar="ROUND")], state: State
) -> None:
    """Let the full texts of a round's errors go to the researcher."""
    from archipel.site import failures

    with _opened(state) as site:
        found = failures.release(site, experiment, round_number)
    _console().print(f"released {len(found)} error text(s) of {experiment} round {round_number}")
