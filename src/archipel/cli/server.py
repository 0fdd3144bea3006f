"""``archipel server``: found a federation's server, serve it, and decide who belongs to it.

Commands write to the state folder's database themselves and ring the doorbell of the serving process, if one runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archipel.cli.tables import cell, show

if TYPE_CHECKING:
    from archipel.server.federation import Federation

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Found, start and govern a federation's server.")
join_token = typer.Typer(no_args_is_help=True, help="Single-use tokens with which sites join.")
site = typer.Typer(no_args_is_help=True, help="The sites of the federation.")
certificate = typer.Typer(no_args_is_help=True, help="The sites' certificates.")
token = typer.Typer(no_args_is_help=True, help="Access tokens for researchers, monitors and operators.")
journal = typer.Typer(no_args_is_help=True, help="The server's append-only journal.")
for name, sub in (
    ("join-token", join_token),
    ("site", site),
    ("certificate", certificate),
    ("token", token),
    ("journal", journal),
):
    app.add_typer(sub, name=name)

State = Annotated[
    Path, typer.Option("--state", envvar="ARCHIPEL_SERVER_STATE", help="The server's state folder.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.callback()
def _private_files() -> None:
    os.umask(0o077)


@app.command()
def init(
    state: Annotated[
        Path, typer.Argument(envvar="ARCHIPEL_SERVER_STATE", help="The new state folder.", show_default=False)
    ],
    name: Annotated[str, typer.Option(help="The federation's name.")] = "federation",
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="A DNS name or address under which the server is reached; may be repeated, "
            "the first goes into join tokens [default: 127.0.0.1 and localhost]."
        ),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="Address to listen on [default: loopback when every host is, else 0.0.0.0].")
    ] = None,
    rest_port: Annotated[int, typer.Option(help="Port for people and for enrolment.")] = 8443,
    grpc_port: Annotated[int, typer.Option(help="Port for sites.")] = 8444,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL [default: SQLite in the state folder].")] = None,
) -> None:
    """Make a state folder: the federation's CA, keys, database and settings."""
    from archipel.server.federation import Federation
    from archipel.server.state import ServerState

    hosts = tuple(host or ("127.0.0.1", "localhost"))
    address = listen or ("127.0.0.1" if all(_is_loopback(one) for one in hosts) else "0.0.0.0")  # noqa: S104
    settings = _settings(
        name=name,
        hosts=hosts,
        rest_host=address,
        rest_port=rest_port,
        grpc_host=address,
        grpc_port=grpc_port,
        database=database,
    )
    with Federation.found(ServerState(state.absolute()), settings) as federation:
        print(f"federation  {settings.name}")
        print(f"state       {state.absolute()}")
        print(f"REST        {settings.rest_url}")
        print(f"sites       {settings.grpc_address}")
        print(f"CA          {federation.authority.fingerprint}")
        print(f"server key  {federation.identity.public}")
    print(f"next: archipel server start --state {state}")


@app.command()
def start(state: State) -> None:
    """Serve until stopped by SIGTERM or Ctrl-C."""
    from archipel.cli.logs import configure_logs
    from archipel.server.process import run
    from archipel.server.state import ServerState

    served = ServerState(state.absolute())
    configure_logs(served.settings().log_level)
    run(served)


@app.command()
def status(state: State, as_json: Json = False) -> None:
    """Whether the server answers, and what it holds. Exit code 1 when it does not answer."""
    import httpx

    with _opened(state) as federation:
        settings = federation.settings
        answer = _health(federation)
        facts: dict[str, Any] = {
            "federation": settings.name,
            "rest": settings.rest_url,
            "grpc": settings.grpc_address,
            "answers": answer is not None and answer.status_code == httpx.codes.OK,
            "database": bool(answer is not None and answer.json().get("database")),
            "sites": [found.site for found in federation.registry.sites()],
            "journal": federation.registry.journal_head(settings.name).number,
        }
    if as_json:
        print(json.dumps(facts))
    else:
        for key, value in facts.items():
            print(f"{key:<12}{', '.join(value) if isinstance(value, list) else cell(value)}")
    raise typer.Exit(0 if facts["answers"] else 1)


@join_token.command("create")
def join_token_create(
    site_name: Annotated[str, typer.Argument(metavar="SITE", help="The site's name in the federation.")],
    state: State,
    hours: Annotated[float | None, typer.Option(help="Hours until it expires [default: as in server.toml].")] = None,
) -> None:
    """Print a token with which one site may join once."""
    from datetime import timedelta

    with _opened(state) as federation:
        lifetime = None if hours is None else timedelta(hours=hours)
        print(federation.enrolment.create_token(site_name, lifetime).encode())


@join_token.command("list")
def join_token_list(state: State, as_json: Json = False) -> None:
    """List join tokens, used and open."""
    with _opened(state) as federation:
        rows = [row.model_dump() for row in federation.enrolment.tokens()]
    show("Join tokens", rows, as_json)


@join_token.command("revoke")
def join_token_revoke(token_id: Annotated[str, typer.Argument(metavar="ID")], state: State) -> None:
    """End a join token that was not used."""
    with _opened(state) as federation:
        federation.enrolment.revoke_token(token_id)
    print(f"join token {token_id} is revoked")


@site.command("list")
def site_list(
    state: State,
    removed: Annotated[bool, typer.Option("--removed", help="Removed sites too.")] = False,
    as_json: Json = False,
) -> None:
    """List the sites and what they announced of their datasets."""
    with _opened(state) as federation:
        rows = [found.model_dump(mode="json") for found in federation.registry.sites(removed=removed)]
    if not as_json:
        for row in rows:
            row["datasets"] = ", ".join(f"{one['name']} ({one['subjects']})" for one in row["datasets"])
    show("Sites", rows, as_json)


@site.command("remove")
def site_remove(site_name: Annotated[str, typer.Argument(metavar="SITE")], state: State) -> None:
    """End a site's membership; its certificates are revoked and its connection is cut at once."""
    with _opened(state) as federation:
        federation.registry.remove_site(site_name)
        _ring(federation)
    print(f"site {site_name} is removed and its certificates are revoked")


@certificate.command("list")
def certificate_list(state: State, as_json: Json = False) -> None:
    """List every certificate ever issued."""
    with _opened(state) as federation:
        rows = [row.model_dump() for row in federation.registry.certificates()]
    show("Certificates", rows, as_json)


@certificate.command("revoke")
def certificate_revoke(
    serial: str, state: State, reason: Annotated[str, typer.Option(help="Why; goes into the journal.")] = "revoked"
) -> None:
    """End a certificate; whoever uses it is cut at once."""
    with _opened(state) as federation:
        federation.registry.revoke_certificate(serial, reason)
        _ring(federation)
    print(f"certificate {serial} is revoked")


@token.command("create")
def token_create(
    name: Annotated[str, typer.Argument(help="The person or program it is for.")],
    state: State,
    scope: Annotated[list[str] | None, typer.Option(help="read, research or operate; may be repeated.")] = None,
    days: Annotated[float | None, typer.Option(help="Days until it expires [default: as in server.toml].")] = None,
    as_json: Json = False,
) -> None:
    """Print an access token, this once. [default scope: research]"""
    from datetime import UTC, datetime, timedelta

    with _opened(state) as federation:
        settings = federation.settings
        lifetime = timedelta(days=settings.access_token_days if days is None else days)
        text, made = federation.tokens.create(name, scope or ["research"], lifetime, datetime.now(UTC))
        facts = {
            "token": text,
            "id": made.id,
            "scopes": list(made.scopes),
            "expires_at": made.expires_at,
            "url": settings.rest_url,
            "ca": federation.authority.fingerprint,
        }
    if as_json:
        print(json.dumps(facts))
        return
    print(text)
    # Only the token goes to standard output, so that it can be piped into a file or a password store.
    typer.echo(f"for {facts['url']} with CA {facts['ca']}; it is not shown again", err=True)


@token.command("list")
def token_list(state: State, as_json: Json = False) -> None:
    """List access tokens."""
    with _opened(state) as federation:
        rows = [row.model_dump(mode="json") for row in federation.tokens.all()]
    show("Access tokens", rows, as_json)


@token.command("revoke")
def token_revoke(token_id: Annotated[str, typer.Argument(metavar="ID")], state: State) -> None:
    """End an access token now."""
    with _opened(state) as federation:
        federation.tokens.revoke(token_id)
    print(f"access token {token_id} is revoked")


@journal.command("verify")
def journal_verify(
    state: State,
    head: Annotated[
        Path | None, typer.Option(help="A signed head kept elsewhere (JSON), which the journal must contain.")
    ] = None,
) -> None:
    """Prove the journal whole, or say which line was changed, removed, inserted or cut off."""
    from archipel.vocabulary import ArchipelError, ErrorCode

    with _opened(state) as federation:
        kept = [_head(head, federation.identity.public)] if head else []
        faults = federation.registry.journal_faults(kept)
        length = federation.registry.journal_head(federation.settings.name).number
    if faults:
        raise ArchipelError(
            "journal", "; ".join(faults), "compare with the backup and find out who did it", code=ErrorCode.TRUST
        )
    print(f"the journal is whole: {length} lines")


@journal.command("show")
def journalshow(
    state: State,
    after: Annotated[int, typer.Option(help="Only lines after this number.")] = 0,
    head: Annotated[bool, typer.Option("--head", help="Print the signed head instead, to be kept elsewhere.")] = False,
    as_json: Json = False,
) -> None:
    """Show the journal's lines."""
    from archipel.governance import sign_head

    with _opened(state) as federation:
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


@contextmanager
def _opened(state: Path) -> Iterator[Federation]:
    from archipel.server.federation import Federation
    from archipel.server.state import ServerState

    with Federation.open(ServerState(state.absolute())) as federation:
        yield federation


def _ring(federation: Federation) -> None:
    from archipel.transport.doorbell import ring

    ring(federation.state.root)


def _health(federation: Federation) -> Any:
    """The server's answer to a health request on its own machine, or None when nobody answers."""
    import ssl

    import httpx

    settings = federation.settings
    context = ssl.create_default_context(cadata=federation.authority.pem)
    # The certificate names the public hosts; asked over its listening address, only the CA can be checked.
    context.check_hostname = False
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.rest_host, settings.rest_host)  # noqa: S104
    address = f"[{host}]" if ":" in host else host
    try:
        return httpx.get(
            f"https://{address}:{settings.rest_port}/v1/health", verify=context, timeout=5, trust_env=False
        )
    except httpx.TransportError:
        return None


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


def _settings(**values: Any) -> Any:
    from pydantic import ValidationError

    from archipel.server.settings import ServerSettings
    from archipel.vocabulary import ArchipelError, ErrorCode

    try:
        return ServerSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ArchipelError(
            f"{key} {first['input']!r}", first["msg"], "give another one", code=ErrorCode.CONFIGURATION
        ) from error


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
