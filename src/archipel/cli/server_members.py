"""``archipel server join-token|site|certificate|token``: who belongs to a federation and may speak to its server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.server_terminal import AsJson, State, opened
from archipel.cli.tables import show
from archipel.cli.times import readable

if TYPE_CHECKING:
    from archipel.server.membership.federation import Federation

join_token = typer.Typer(name="join-token", no_args_is_help=True, help="Single-use tokens with which sites join.")
site = typer.Typer(name="site", no_args_is_help=True, help="The sites of the federation.")
certificate = typer.Typer(name="certificate", no_args_is_help=True, help="The sites' certificates.")
token = typer.Typer(name="token", no_args_is_help=True, help="Access tokens for researchers, monitors and operators.")
apps = (join_token, site, certificate, token)
_SHOWN = 12
"""How much of a serial a table shows: enough to name it, and no narrow terminal breaks it over lines."""
_ID = "Its id, or how that begins."
_OF_A_SITE = ("site", "state", "connected", "last_seen", "datasets", "enrolled_at")
"""What a table shows of a site, in this order; ``--json`` has its identity key too."""


@join_token.command("create")
def join_token_create(
    site_name: Annotated[str, typer.Argument(metavar="SITE", help="The site's name in the federation.")],
    state: State,
    hours: Annotated[float | None, typer.Option(help="Hours until it expires (by default as in server.toml).")] = None,
) -> None:
    """Print a token with which one site may join once."""
    from datetime import timedelta

    with opened(state) as federation:
        lifetime = None if hours is None else timedelta(hours=hours)
        token = federation.enrolment.create_token(site_name, lifetime)
        until = next(row.expires_at for row in federation.enrolment.tokens() if row.id == token.id)
        enrolled = site_name in {found.site for found in federation.registry.sites()}
    print(token.encode())
    # Only the token goes to standard output, so that it can be piped into a message.
    typer.echo(f"lets {site_name} join once, until {readable(until)}; there: archipel site join TOKEN", err=True)
    if enrolled:
        again = "joining again ends its other certificates, and works with the identity key that it has"
        typer.echo(f"{site_name} is enrolled already: {again}", err=True)


@join_token.command("list")
def join_token_list(state: State, as_json: AsJson = False) -> None:
    """List join tokens, used and open."""
    with opened(state) as federation:
        rows = [row.model_dump() for row in federation.enrolment.tokens()]
    show("Join tokens", rows, as_json)


@join_token.command("revoke")
def join_token_revoke(token_id: Annotated[str, typer.Argument(metavar="ID", help=_ID)], state: State) -> None:
    """End a join token that was not used."""
    with opened(state) as federation:
        revoked = federation.enrolment.revoke_token(token_id)
    print(f"join token {revoked.id} for {revoked.site} is revoked")


@site.command("list")
def site_list(
    state: State,
    removed: Annotated[bool, typer.Option("--removed", help="Removed sites too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the sites, which are connected, and what they announced of their datasets."""
    from archipel.server.sites import presence

    with opened(state) as federation:
        connected = presence.read(federation.state)
        rows = [found.model_dump(mode="json") for found in federation.registry.sites(removed=removed)]
    # Nobody knows while the server is stopped.
    rows = [row | {"connected": None if connected is None else row["site"] in connected} for row in rows]
    if not as_json:
        for row in rows:
            row["datasets"] = ", ".join(f"{one['name']} ({one['subjects']})" for one in row["datasets"])
        rows = [{key: row[key] for key in _OF_A_SITE} for row in rows]
    show("Sites", rows, as_json)


@site.command("remove")
def site_remove(
    site_name: Annotated[str, typer.Argument(metavar="SITE")],
    state: State,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
) -> None:
    """End a site's membership; its certificates are revoked and its connection is cut at once."""
    with opened(state) as federation:
        federation.registry.site(site_name)
        question = f"Remove {site_name}? Its certificates and approvals end; it comes back with a new join token only"
        if not yes and not typer.confirm(question, default=False):
            print("nothing was removed")
            raise typer.Exit(1)
        federation.registry.remove_site(site_name)
        _ring(federation)
    print(f"site {site_name} is removed and its certificates are revoked")


@site.command("head")
def site_head(site_name: Annotated[str, typer.Argument(metavar="SITE")], state: State) -> None:
    """Print the newest head kept of a site's journal, signed by the server, for `site journal verify --head`."""
    from archipel.server.experiments import journal_heads

    with opened(state) as federation:
        print(journal_heads.of_site(federation, site_name).model_dump_json())
        for name, fault in journal_heads.faults(federation):
            if name == site_name:
                typer.echo(f"its journal went back: {fault}", err=True)


@certificate.command("list")
def certificate_list(state: State, as_json: AsJson = False) -> None:
    """List every certificate ever issued."""
    with opened(state) as federation:
        rows = [row.model_dump() for row in federation.registry.certificates()]
    if not as_json:
        rows = [row | {"serial": row["serial"][:_SHOWN]} for row in rows]
    show("Certificates", rows, as_json)


@certificate.command("revoke")
def certificate_revoke(
    serial: Annotated[str, typer.Argument(help="Its serial, or how that begins, as certificate list shows it.")],
    state: State,
    reason: Annotated[str, typer.Option(help="Why; goes into the journal.")] = "revoked",
) -> None:
    """End a certificate; whoever uses it is cut at once."""
    with opened(state) as federation:
        revoked = federation.registry.revoke_certificate(serial, reason)
        _ring(federation)
    print(f"certificate {revoked.serial} of {revoked.site} is revoked")


@token.command("create")
def token_create(
    name: Annotated[str, typer.Argument(help="The person or program it is for.")],
    state: State,
    scope: Annotated[list[str] | None, typer.Option(help="read, research or operate; may be repeated.")] = None,
    days: Annotated[float | None, typer.Option(help="Days until it expires (by default as in server.toml).")] = None,
    as_json: AsJson = False,
) -> None:
    """Print an access token, this once; without --scope it is one for research."""
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
def token_revoke(token_id: Annotated[str, typer.Argument(metavar="ID", help=_ID)], state: State) -> None:
    """End an access token now."""
    with opened(state) as federation:
        revoked = federation.tokens.revoke(token_id)
    print(f"access token {revoked.id} of {revoked.name} is revoked")


def _ring(federation: Federation) -> None:
    from archipel.transport.doorbell import ring

    ring(federation.state.root)
