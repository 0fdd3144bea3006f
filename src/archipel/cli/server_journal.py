"""``archipel server journal``: the server's append-only journal, shown and proved whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from archipel.cli.server_terminal import AsJson, State, opened
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
    """Prove the journal whole, or say which line was changed, removed, inserted or cut off."""
    from archipel.governance import SERVER_JOURNAL
    from archipel.server.experiments import journal_heads
    from archipel.vocabulary import ArchipelError, ErrorCode

    with opened(state) as federation:
        key, name = federation.identity.public, federation.settings.name
        kept = [journal_heads.read_own(head, key, name)] if head is not None else []
        faults = federation.registry.journal_faults(kept)
        length = federation.registry.journal_head(SERVER_JOURNAL).number
    if faults:
        raise ArchipelError(
            "journal", "; ".join(faults), "compare with the backup and find out who did it", code=ErrorCode.TRUST
        )
    if kept:
        print(f"the journal is whole up to line {kept[0].number}; it has {length} lines")
    else:
        print(
            f"all {length} entries are consistent; only a head kept elsewhere (--head) "
            "can prove that none were removed from the end"
        )


@app.command("show")
def show_lines(
    state: State,
    after: Annotated[int, typer.Option(help="Only lines after this number.")] = 0,
    last: Annotated[int | None, typer.Option(min=1, help="Only this number of the newest entries.")] = None,
    head: Annotated[bool, typer.Option("--head", help="Print the signed head instead, to be kept elsewhere.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the journal's lines."""
    from archipel.governance import SERVER_JOURNAL, sign_head

    with opened(state) as federation:
        if head:
            print(sign_head(federation.identity, federation.registry.journal_head(SERVER_JOURNAL)).model_dump_json())
            return
        if last is not None:
            after = max(after, federation.registry.journal_head(SERVER_JOURNAL).number - last)
        lines = federation.registry.journal(after)
    rows = [line.model_dump(mode="json") for line in lines]
    if not as_json:
        rows = [
            {"number": line.number, "at": line.at, "kind": line.kind, "body": json.dumps(line.body)} for line in lines
        ]
    show("Journal", rows, as_json)
