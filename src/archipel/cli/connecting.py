"""The options by which a researcher's commands name a server; their defaults come from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli import secrets

if TYPE_CHECKING:
    from archipel.researcher import Federation

Server = Annotated[str | None, typer.Option("--server", envvar="ARCHIPEL_SERVER", help="The server's https address.")]
Token = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        callback=secrets.access_token,
        metavar="FILE",
        help="The file with your access token, or - (by default ARCHIPEL_TOKEN, ARCHIPEL_TOKEN_FILE, or a prompt).",
    ),
]
"""The token itself, once the option is read."""
Authority = Annotated[
    str | None, typer.Option("--ca", envvar="ARCHIPEL_CA", help="The CA's certificate file or sha256 fingerprint.")
]
Proxy = Annotated[
    str | None,
    typer.Option(
        "--proxy",
        envvar="ARCHIPEL_PROXY",
        callback=secrets.proxy,
        help="http://host:port of a web proxy; http://user@host:port asks for the user's password.",
    ),
]


@dataclass(frozen=True)
class AtServer:
    """Which server a command speaks to, and as whom."""

    server: Server = None
    token: Token = None
    authority: Authority = None
    proxy: Proxy = None

    def connect(self) -> Federation:
        """Connect to the server. Raises as ``archipel.connect`` does."""
        from archipel.researcher import connect

        return connect(self.server, token=self.token, ca=self.authority, proxy=self.proxy)
