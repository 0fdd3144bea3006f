"""What the commands of ``archipel server`` share: their options, and the opened state folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from archipel.server.membership import ServerContext
    from archipel.vocabulary import Actor

State = Annotated[
    Path, typer.Option("--state", envvar="ARCHIPEL_SERVER_STATE", help="The server's state folder.", show_default=False)
]


@contextmanager
def opened(state: Path) -> Iterator[ServerContext]:
    """The federation kept in this folder, closed at the end of the block."""
    from archipel.server.membership import ServerContext
    from archipel.server.state import ServerState

    with ServerContext.open(ServerState(state.absolute())) as federation:
        yield federation


def operator() -> Actor:
    """Who gave the command: the operating system's account."""
    from archipel.vocabulary import Actor

    return Actor.of_terminal()
