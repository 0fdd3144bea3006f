"""``archipel server journal``: the server's append-only journal, shown and proved whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.server_terminal import AsJson, State, opened
from archipel.cli.tables import show

if TYPE_CHECKING:
    from archipel.governance import JournalHead
    from archipel.server.membership.federation import Federation

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
    from archipel.vocabulary import ArchipelError, ErrorCode

    with opened(state) as federation:
        kept = [_head(head, federation)] if head else []
        faults = federation.registry.journal_faults(kept)
        length = federation.registry.journal_head(SERVER_JOURNAL).number
    if faults:
        raise ArchipelError(
            "journal", "; ".join(faults), "compare with the backup and find out who did it", code=ErrorCode.TRUST
        )
    if kept:
        print(f"the journal is whole up to line {kept[0].number}; it has {length} lines")
    else:
        print(f"the chain of {length} lines fits; that its end was not cut off only a --head kept elsewhere shows")


@app.command("show")
def show_lines(
    state: State,
    after: Annotated[int, typer.Option(help="Only lines after this number.")] = 0,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many of the newest lines.")] = None,
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
        lines = [line.model_dump(mode="json") for line in federation.registry.journal(after)]
    if not as_json:
        lines = [
            {"number": line["number"], "at": line["at"], "kind": line["kind"], "body": json.dumps(line["body"])}
            for line in lines
        ]
    show("Journal", lines, as_json)


def _head(path: Path, federation: Federation) -> JournalHead:
    from pydantic import ValidationError

    from archipel.governance import SERVER_JOURNAL, JournalHead
    from archipel.vocabulary import ArchipelError, ErrorCode

    try:
        head = JournalHead.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ArchipelError(
            str(path),
            "is not a journal head",
            "give a file that `site journal server-head` or `journal show --head` printed",
            code=ErrorCode.BAD_INPUT,
        ) from error
    # Heads printed by an older version carry the federation's name.
    if head.owner not in (SERVER_JOURNAL, federation.settings.name):
        raise ArchipelError(
            str(path),
            f"is a head of the journal of {head.owner}",
            "give one of this server's",
            code=ErrorCode.BAD_INPUT,
        )
    if not head.is_signed_by(federation.identity.public):
        raise ArchipelError(
            str(path), "is not signed by this server", "give a head of this server's journal", code=ErrorCode.TRUST
        )
    return head
