"""``archipel server join-token|site|certificate|token``: who belongs to a federation and may speak to its server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.server_terminal import AsJson, State, opened
from archipel.cli.tables import show

if TYPE_CHECKING:
    from archipel.server.federation import Federation

join_token = typer.Typer(name="join-token", no_args_is_help=True, help="Single-use tokens with which sites join.")
site = typer.Typer(name="site", no_args_is_help=True, help="The sites of the federation.")
certificate = typer.Typer(name="certificate", no_args_is_help=True, help="The sites' certificates.")
token = typer.Typer(name="token", no_args_is_help=True, help="Access tokens for researchers, monitors and operators.")
apps = (join_token, site, certificate, token)


@join_token.command("create")
def join_token_create(
    site_name: Annotated[str, typer.Argument(metavar="SITE", help="The site's name in the federation.")],
    state: State,
    hours: Annotated[float | None, typer.Option(help="Hours until it expires [default: as in server.toml].")] = None,
) -> None:
    """Print a token with which one site may join once."""
    from datetime import timedelta

    with opened(state) as federation:
        lifetime = None if hours is None else timedelta(hours=hours)
        print(federation.enrolment.create_token(site_name, lifetime).encode())


@join_token.command("list")
def join_token_list(state: State, as_json: AsJson = False) -> None:
    """List join tokens, used and open."""
    with opened(state) as federation:
        rows = [row.model_dump() for row in federation.enrolment.tokens()]
    show("Join tokens", rows, as_json)


@join_token.command("revoke")
def join_token_revoke(token_id: Annotated[str, typer.Argument(metavar="ID")], state: State) -> None:
    """End a join token that was not used."""
    with opened(state) as federation:
        federation.enrolment.revoke_token(token_id)
    print(f"join token {token_id} is revoked")


@site.command("list")
def site_list(
    state: State,
    removed: Annotated[bool, typer.Option("--removed", help="Removed sites too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the sites and what they announced of their datasets."""
    with opened(state) as federation:
        rows = [found.model_dump(mode="json") for found in federation.registry.sites(removed=removed)]
    if not as_json:
        for row in rows:
            row["datasets"] = ", ".join(f"{one['name']} ({one['subjects']})" for one in row["datasets"])
    show("Sites", rows, as_json)


@site.command("remove")
def site_remove(site_name: Annotated[str, typer.Argument(metavar="SITE")], state: State) -> None:
    """End a site's membership; its certificates are revoked and its connection is cut at once."""
    with opened(state) as federation:
        federation.registry.remove_site(site_name)
        _ring(federation)
    print(f"site {site_name} is removed and its certificates are revoked")


@site.command("head")
def site_head(site_name: Annotated[str, typer.Argument(metavar="SITE")], state: State) -> None:
    """Print the newest head kept of a site's journal, signed by the server, for `site journal verify --head`."""
    from archipel.server import heads

    with opened(state) as federation:
        print(heads.of_site(federation, site_name).model_dump_json())
        for name, fault in heads.faults(federation):
            if name == site_name:
                typer.echo(f"its journal went back: {fault}", err=True)


@certificate.command("list")
def certificate_list(state: State, as_json: AsJson = False) -> None:
    """List every certificate ever issued."""
    with opened(state) as federation:
        rows = [row.model_dump() for row in federation.registry.certificates()]
    show("Certificates", rows, as_json)


@certificate.command("revoke")
def certificate_revoke(
    serial: str, state: State, reason: Annotated[str, typer.Option(help="Why; goes into the journal.")] = "revoked"
) -> None:
    """End a certificate; whoever uses it is cut at once."""
    with opened(state) as federation:
        federation.registry.revoke_certificate(serial, reason)
        _ring(federation)
    print(f"certificate {serial} is revoked")


@token.command("create")
def token_create(
    name: Annotated[str, typer.Argument(help="The person or program it is for.")],
    state: State,
    scope: Annotated[list[str] | None, typer.Option(help="read, research or operate; may be repeated.")] = None,
    days: Annotated[float | None, typer.Option(help="Days until it expires [default: as in server.toml].")] = None,
    as_json: AsJson = False,
) -> None:
    """Print an access token, this once. [default scope: research]"""
    from datetime import UTC, datetime, timedelta

    with opened(state) as federation:
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
def token_list(state: State, as_json: AsJson = False) -> None:
    """List access tokens."""
    with opened(state) as federation:
        rows = [row.model_dump(mode="json") for row in federation.tokens.all()]
    show("Access tokens", rows, as_json)


@token.command("revoke")
def token_revoke(token_id: Annotated[str, typer.Argument(metavar="ID")], state: State) -> None:
    """End an access token now."""
    with opened(state) as federation:
        federation.tokens.revoke(token_id)
    print(f"access token {token_id} is revoked")


def _ring(federation: Federation) -> None:
    from archipel.transport.doorbell import ring

    ring(federation.state.root)
