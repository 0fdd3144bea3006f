"""``archipel server join-token|site|certificate|token``: who belongs to a federation and may connect to its server."""

from __future__ import annotations

from typing import Annotated

import typer

from archipel.cli.json_option import AsJson
from archipel.cli.server_terminal import State, opened, operator
from archipel.cli.tables import show
from archipel.cli.times import readable

join_token = typer.Typer(name="join-token", no_args_is_help=True, help="Single-use tokens with which sites join.")
site = typer.Typer(name="site", no_args_is_help=True, help="The sites of the federation.")
certificate = typer.Typer(name="certificate", no_args_is_help=True, help="The sites' certificates.")
token = typer.Typer(name="token", no_args_is_help=True, help="Access tokens for researchers, monitors and operators.")
apps = (join_token, site, certificate, token)
_SHOWN = 12
"""How much of a serial a table shows: enough to name it, and short enough for a narrow terminal."""
_ID = "The id, or its first characters."
_OF_A_SITE = ("site", "state", "connected", "last_seen", "datasets", "enrolled_at")
"""What a table shows of a site, in this order; ``--json`` has its identity key too."""


@join_token.command("create")
def join_token_create(
    site_name: Annotated[str, typer.Argument(metavar="SITE", help="The site's name in the federation.")],
    state: State,
    hours: Annotated[float | None, typer.Option(help="Hours until it expires (by default as in server.toml).")] = None,
) -> None:
    """Print a token with which one site may join once."""
    from datetime import UTC, datetime

    from archipel.server.membership import issue_join_token

    with opened(state) as federation:
        issued = issue_join_token(
            federation.enrolment, federation.registry, site_name, hours, datetime.now(UTC), by=operator()
        )
    print(issued.token.encode())
    # Only the token goes to standard output, so that it can be piped into a message.
    until = readable(issued.expires_at)
    typer.echo(f"lets {site_name} join once, until {until}; at the site: archipel site join", err=True)
    if issued.rejoins:
        again = "joining again revokes its other certificates and requires its present identity key"
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
        revoked = federation.enrolment.revoke_token(token_id, by=operator())
    print(f"join token {revoked.id} for {revoked.site} is revoked")


@site.command("list")
def site_list(
    state: State,
    removed: Annotated[bool, typer.Option("--removed", help="Also list removed sites.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the sites, whether they are connected, and what they disclose of their datasets."""
    from archipel.server.membership import list_members
    from archipel.server.sites import presence

    with opened(state) as federation:
        members = list_members(federation.registry, presence.read(federation.state), removed=removed)
    rows = [member.model_dump(mode="json") for member in members]
    if not as_json:
        for row, member in zip(rows, members, strict=True):
            row["datasets"] = ", ".join(f"{dataset.name} ({dataset.subjects})" for dataset in member.datasets)
        rows = [{key: row[key] for key in _OF_A_SITE} for row in rows]
    show("Sites", rows, as_json)


@site.command("remove")
def site_remove(
    site_name: Annotated[str, typer.Argument(metavar="SITE")],
    state: State,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation (for scripts).")] = False,
) -> None:
    """End a site's membership; its certificates are revoked and its connection is closed at once."""
    from archipel.server.membership import remove_site

    with opened(state) as federation:
        federation.registry.site(site_name)
        ends = "Its certificates and approvals end; it can come back only with a new join token"
        question = f"Remove {site_name}? {ends}"
        if not yes and not typer.confirm(question, default=False):
            print("nothing was removed")
            raise typer.Exit(1)
        remove_site(federation.registry, federation.state, site_name, by=operator())
    print(f"site {site_name} is removed and its certificates are revoked")


@site.command("head")
def site_head(site_name: Annotated[str, typer.Argument(metavar="SITE")], state: State) -> None:
    """Print the newest head kept of a site's journal, signed by the server, for `site journal verify --head`."""
    from archipel.server.experiments import journal_heads

    with opened(state) as federation:
        found = journal_heads.shown_to_operator(federation.database, federation.identity, site_name)
    print(found.head.model_dump_json())
    for fault in found.faults:
        typer.echo(f"its journal lost or changed lines: {fault}", err=True)


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
    serial: Annotated[
        str, typer.Argument(help="The serial number that `certificate list` shows, or its first characters.")
    ],
    state: State,
    reason: Annotated[str, typer.Option(help="The reason; the journal records it.")] = "revoked",
) -> None:
    """End a certificate; connections that use it are closed at once."""
    from archipel.server.membership import revoke_certificate

    with opened(state) as federation:
        revoked = revoke_certificate(federation.registry, federation.state, serial, reason, by=operator())
    print(f"certificate {revoked.serial} of {revoked.site} is revoked")


@token.command("create")
def token_create(
    name: Annotated[str, typer.Argument(help="The person or program it is for.")],
    state: State,
    scope: Annotated[list[str] | None, typer.Option(help="read, models, research or operate; may be repeated.")] = None,
    days: Annotated[float | None, typer.Option(help="Days until it expires (by default as in server.toml).")] = None,
    as_json: AsJson = False,
) -> None:
    """Create an access token and print it; it is shown only once. Without --scope it is for research."""
    from datetime import UTC, datetime

    from archipel.server.membership import issue_access_token
    from archipel.vocabulary.states import Scope

    with opened(state) as federation:
        tokens, settings, authority = federation.tokens, federation.settings, federation.authority
        scopes = scope or [Scope.RESEARCH]
        issued = issue_access_token(tokens, settings, authority, name, scopes, days, datetime.now(UTC), by=operator())
    if as_json:
        print(issued.model_dump_json())
        return
    print(issued.token)
    # Only the token goes to standard output, so that it can be piped into a file or a password store.
    typer.echo(f"for {issued.url} with CA {issued.ca}; it is shown only once", err=True)


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
        revoked = federation.tokens.revoke(token_id, by=operator())
    print(f"access token {revoked.id} of {revoked.name} is revoked")
