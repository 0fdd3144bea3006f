"""Whether a server answers and what it holds, as one record: asked of its state folder and of the server itself."""

from __future__ import annotations

import ssl

import httpx
from pydantic import ValidationError

from archipel.server.experiments import journal_heads, views
from archipel.server.membership import Authority, ServerContext
from archipel.server.sites import presence
from archipel.server.state import ServerSettings
from archipel.transport.rest import ExperimentSummary, Health
from archipel.vocabulary import Record


class ServerStatus(Record):
    """``running``: a process serves the folder; ``answers``: its REST interface does, and reaches its database.

    ``database`` is None when nothing answers. ``journal`` is how many lines the journal has; the faults are sentences.
    """

    federation: str
    rest: str
    grpc: str
    running: bool
    answers: bool
    database: bool | None
    sites: tuple[str, ...]
    connected: tuple[str, ...]
    journal: int
    experiments: tuple[ExperimentSummary, ...]
    journal_faults: tuple[str, ...]
    own_journal_faults: tuple[str, ...]


def read_status(federation: ServerContext) -> ServerStatus:
    """The status now; waits at most a few seconds for the server's answer."""
    settings, database = federation.settings, federation.database
    connected = presence.read(federation.state)
    health = ask_health(settings, federation.authority)
    return ServerStatus(
        federation=settings.name,
        rest=settings.rest_url,
        grpc=settings.grpc_address,
        running=connected is not None,
        answers=health is not None and health.database,
        database=health.database if health is not None else None,
        sites=tuple(site.site for site in federation.registry.sites()),
        connected=tuple(sorted(connected or ())),
        journal=federation.registry.journal_head(settings.name).number,
        experiments=tuple(views.experiments(database)),
        journal_faults=tuple(f"{fault.site}: {fault}" for fault in journal_heads.faults(database)),
        own_journal_faults=tuple(str(fault) for fault in journal_heads.own_faults(database)),
    )


def ask_health(settings: ServerSettings, authority: Authority) -> Health | None:
    """The server's answer to a health request on its own machine, or None when no server answers."""
    context = ssl.create_default_context(cadata=authority.pem)
    # The certificate names the public hosts; asked over its listening address, only the CA can be checked.
    context.check_hostname = False
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.rest_host, settings.rest_host)  # noqa: S104
    address = f"[{host}]" if ":" in host else host
    url = f"https://{address}:{settings.rest_port}/v1/health"
    try:
        return Health.model_validate_json(httpx.get(url, verify=context, timeout=5, trust_env=False).content)
    except (httpx.TransportError, ValidationError):
        return None
