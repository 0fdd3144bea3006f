"""The options by which a researcher's commands name a server; their defaults come from the environment."""

from __future__ import annotations

from typing import Annotated

import typer

Server = Annotated[str | None, typer.Option("--server", envvar="ARCHIPEL_SERVER", help="The server's https address.")]
Token = Annotated[str | None, typer.Option("--token", envvar="ARCHIPEL_TOKEN", help="Your access token.")]
Authority = Annotated[
    str | None, typer.Option("--ca", envvar="ARCHIPEL_CA", help="The CA's certificate file or sha256 fingerprint.")
]
Proxy = Annotated[str | None, typer.Option("--proxy", help="http://host:port of a web proxy.")]
