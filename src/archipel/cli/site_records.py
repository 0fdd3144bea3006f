"""``archipel site journal`` and ``archipel site errors``: what happened at a site, proven, shown and released."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.json_option import AsJson
from archipel.cli.rows import Lines
from archipel.cli.site_terminal import Experiment, State, console, opened, person, print_json, print_table
from archipel.vocabulary import BadInput, Conflict
from archipel.vocabulary.remedies import ExportJournal
from archipel.vocabulary.visible import quote_lines

if TYPE_CHECKING:
    from archipel.governance import JournalHead
    from archipel.site.services import VerifiedJournal

journal_app = typer.Typer(name="journal", help="The site's append-only journal.", no_args_is_help=True)
errors_app = typer.Typer(name="errors", help="Full error texts of plans; they stay at this site.", no_args_is_help=True)


@journal_app.command("verify")
def journal_verify(
    state: Annotated[
        Path | None,
        typer.Option("--state", envvar="ARCHIPEL_SITE_STATE", help="The site's state folder.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="An exported journal, instead of a site's state folder.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="With --file: the site's identity key, as `server site list --json` shows it."),
    ] = None,
    head: Annotated[
        Path | None, typer.Option("--head", help="A head of this journal that `archipel server site head` printed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify the journal as far as it is attested, or name the line that was changed, removed, inserted or cut off."""
    from archipel.site.services import journal

    fresh = [] if head is None else [_head(head)]
    if file is not None:
        _verify_file(file, key, fresh, as_json)
        return
    if state is None:
        raise BadInput("--state", "is missing", "name the site's folder, or an exported journal with --file")
    with opened(state) as site:
        proof = journal.verify(site, fresh)
    if as_json:
        print_json(proof.model_dump(mode="json"))
    else:
        screen = console()
        for problem in proof.problems:
            screen.print(f"- {problem}")
        screen.print(_verdict(proof))
    if not proof.whole:
        raise typer.Exit(1)


def _head(path: Path) -> JournalHead:
    from archipel.governance import JournalHead

    try:
        return JournalHead.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            str(path), "is not a journal head", "give a file that `archipel server site head` printed"
        ) from error


def _verify_file(file: Path, key: str | None, fresh: list[JournalHead], as_json: bool) -> None:
    from archipel.site.services import journal

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            str(file),
            "cannot be read",
            "give a file that `archipel site journal export` wrote",
            command=ExportJournal(),
        ) from error
    proof = journal.verify_export(text, key, fresh)
    if as_json:
        print_json(proof.model_dump(mode="json"))
    else:
        screen = console()
        for problem in proof.problems:
            screen.print(f"- {problem}")
        if proof.whole:
            screen.print(f"the export of {proof.site} is intact: {proof.lines} lines, signed by {proof.key}")
            if key is None:
                screen.print(
                    "this does not prove whose key it is: compare it with the site's key at the server, or give "
                    "that key with --key"
                )
        else:
            screen.print(f"the export of {proof.site} is NOT intact: {proof.lines} lines")
    if not proof.whole:
        raise typer.Exit(1)


def _verdict(proof: VerifiedJournal) -> str:
    """What verifying proved, in one sentence: lines after the last attested head may be cut off."""
    if not proof.whole:
        return f"the journal is NOT intact: {proof.lines} lines, compared with {proof.journal_heads} attested heads"
    if not proof.joined:
        return f"the chain of {proof.lines} lines is consistent; it can be attested after joining a federation"
    if not proof.attested:
        return (
            f"the chain of {proof.lines} lines is consistent but not attested: lines may be missing at its end. "
            f"Ask the server's operator for a head (archipel server site head {proof.site}) and give it with --head"
        )
    whole = f"the journal is intact up to line {proof.attested}: compared with {proof.journal_heads} attested heads"
    if proof.attested == proof.lines:
        return f"{whole}, and nothing follows it"
    first, last = proof.attested + 1, proof.lines
    rest = f"line {last} is" if first == last else f"lines {first}-{last} are"
    return f"{whole}; {rest} not attested yet (the server attests them at the next heartbeat of a connected agent)"


@journal_app.command("server-head")
def journal_server_head(state: State) -> None:
    """Print the newest head of the server's journal that this site received, for `archipel server journal verify
    --head`.
    """
    from archipel.site.services import journal

    with opened(state) as site:
        found = journal.server_head(site)
    typer.echo(found.head.model_dump_json())
    for fault in found.faults:
        typer.echo(f"the server's journal lost or changed lines: {fault}", err=True)


@journal_app.command("show")
def journal_show(
    state: State,
    last: Annotated[int, typer.Option("--last", min=1, help="Number of the newest lines to show.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the newest lines of the journal."""
    from archipel.cli import journal_lines
    from archipel.site.services import journal

    with opened(state) as site:
        newest = journal.newest(site, last)
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in newest.lines])
    else:
        before = newest.disclosed_before
        rows = journal_lines.rows(newest.lines, before.body if before else None)
        print_table(["number", "at", "kind", "body"], rows)


@journal_app.command("export")
def journal_export(
    state: State,
    to: Annotated[Path | None, typer.Argument(help="The file to write (by default standard output).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write the whole journal as JSON lines, the signed head last; `verify --file` verifies it anywhere."""
    from archipel.site.services import journal
    from archipel.storage import write_private

    if to is not None and to.exists() and not force:
        raise Conflict(str(to), "exists already", "name another file, or overwrite it with --force")
    with opened(state) as site:
        written = journal.export(site)
    if to is None:
        typer.echo(written.text, nl=False)
    else:
        write_private(to, written.text.encode())
    where = "" if to is None else f" to {to}"
    typer.echo(f"wrote {written.lines} lines{where}, the last with its head signed by {written.key}", err=to is None)


@errors_app.command("list")
def errors_list(state: State, as_json: AsJson = False) -> None:
    """List the tasks that failed here."""
    from archipel.site.services import failures

    with opened(state) as site:
        rows = [row.model_dump(mode="json") for row in failures.rows(site)]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(["experiment", "round", "attempt", "kind", "failure", "released"], rows)
    else:
        console().print("no task failed here")


@errors_app.command("show")
def errors_show(
    experiment: Experiment, round_number: Annotated[int, typer.Argument(metavar="ROUND")], state: State
) -> None:
    """Show the full texts of a round's errors; they may quote data."""
    from archipel.site.services import failures, offer_documents

    with opened(state) as site:
        found = failures.texts(site, offer_documents.full_name(site, experiment), round_number)
    screen = console()
    for one in found:
        screen.print(f"{one.task}: {one.failure}")
        screen.print(Lines(quote_lines(one.text)))


@errors_app.command("release")
def errors_release(
    experiment: Experiment, round_number: Annotated[int, typer.Argument(metavar="ROUND")], state: State
) -> None:
    """Release the full texts of a round's errors to the researcher."""
    from archipel.site.services import failures, offer_documents

    with opened(state) as site:
        name = offer_documents.full_name(site, experiment)
        found = failures.release(site, name, round_number, by=person())
    console().print(f"released {len(found)} error text(s) of {name} round {round_number}")
