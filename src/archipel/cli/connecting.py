"""The options by which a researcher's commands name a server; their defaults come from the environment."""

from __future__ import annotations

from typing import Annotated

import typer

from archipel.cli import secrets

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
