"""``archipel server journal``: the server's append-only journal, shown and verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from archipel.cli.json_option import AsJson
from archipel.cli.server_terminal import State, opened
from archipel.cli.tables import show

app = typer.Typer(name="journal", no_args_is_help=True, help="The server's append-only journal.")


@app.command("verify")
def verify(
    state: State,
    head: Annotated[
        Path | None,
        typer.Option(help="A signed head kept elsewhere (JSON), as by a site: `archipel site journal server-head`."),
    ] = None,
) -> None:
    """Verify the journal, or name the line that was changed, removed, inserted or cut off."""
    from archipel.server.experiments import journal_heads, own_journal
    from archipel.vocabulary import ArchipelError, ErrorCode

    with opened(state) as federation:
        key, name = federation.identity.public, federation.settings.name
        kept = [journal_heads.read_own(head, key, name)] if head is not None else []
        proof = own_journal.verify(federation.registry, kept)
    if not proof.whole:
        raise ArchipelError(
            "journal",
            "; ".join(proof.problems),
            "compare it with the backup and find out who changed it",
            code=ErrorCode.TRUST,
        )
    if kept:
        print(f"the journal is intact up to line {proof.attested}; it has {proof.lines} lines")
    else:
        print(
            f"all {proof.lines} entries are consistent; only a head kept elsewhere (--head) "
            "can prove that none were removed from the end"
        )


@app.command("show")
def show_lines(
    state: State,
    after: Annotated[int, typer.Option(help="Only lines after this number.")] = 0,
    last: Annotated[int | None, typer.Option(min=1, help="Only this number of the newest entries.")] = None,
    head: Annotated[
        bool, typer.Option("--head", help="Print the signed head instead, for a copy that is kept elsewhere.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the journal's lines."""
    from archipel.server.experiments import own_journal

    with opened(state) as federation:
        if head:
            print(own_journal.signed_head(federation.registry, federation.identity).model_dump_json())
            return
        lines = own_journal.newest(federation.registry, after, last)
    rows = [line.model_dump(mode="json") for line in lines]
    if not as_json:
        rows = [
            {"number": line.number, "at": line.at, "kind": line.kind, "body": json.dumps(line.body)} for line in lines
        ]
    show("Journal", rows, as_json)
