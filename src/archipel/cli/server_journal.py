"""``archipel server journal``: the server's append-only journal, shown and proved whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from archipel.cli.server_terminal import AsJson, State, opened
from archipel.cli.tables import show

app = typer.Typer(name="journal", no_args_is_help=True, help="The server's append-only journal.")


@app.command("verify")
def verify(
    state: State,
    head: Annotated[
        Path | None, typer.Option(help="A signed head kept elsewhere (JSON), which the journal must contain.")
    ] = None,
) -> None:
    """Prove the journal whole, or say which line was changed, removed, inserted or cut off."""
    from archipel.vocabulary import ArchipelError, ErrorCode

    with opened(state) as federation:
        kept = [_head(head, federation.identity.public)] if head else []
        faults = federation.registry.journal_faults(kept)
        length = federation.registry.journal_head(federation.settings.name).number
    if faults:
        raise ArchipelError(
            "journal", "; ".join(faults), "compare with the backup and find out who did it", code=ErrorCode.TRUST
        )
    print(f"the journal is whole: {length} lines")


@app.command("show")
def show_lines(
    state: State,
    after: Annotated[int, typer.Option(help="Only lines after this number.")] = 0,
    head: Annotated[bool, typer.Option("--head", help="Print the signed head instead, to be kept elsewhere.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the journal's lines."""
    from archipel.governance import sign_head

    with opened(state) as federation:
        if head:
            print(
                sign_head(
                    federation.identity, federation.registry.journal_head(federation.settings.name)
                ).model_dump_json()
            )
            return
        lines = [line.model_dump(mode="json") for line in federation.registry.journal(after)]
    if not as_json:
        lines = [
            {"number": line["number"], "at": line["at"], "kind": line["kind"], "body": json.dumps(line["body"])}
            for line in lines
        ]
    show("Journal", lines, as_json)


def _head(path: Path, server_key: str) -> Any:
    from pydantic import ValidationError

    from archipel.governance import JournalHead
    from archipel.vocabulary import ArchipelError, ErrorCode

    try:
        head = JournalHead.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ArchipelError(
            str(path),
            "is not a journal head",
            "give a file that `journal show --head` printed",
            code=ErrorCode.BAD_INPUT,
        ) from error
    if not head.is_signed_by(server_key):
        raise ArchipelError(
            str(path), "is not signed by this server", "give a head of this server's journal", code=ErrorCode.TRUST
        )
    return head
