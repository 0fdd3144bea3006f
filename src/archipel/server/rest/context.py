"""What the REST interface is given: the federation, the experiments behind an interface, and who is connected."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fastapi import Request

from archipel.server.experiments import ExperimentService, UnusedBlobs
from archipel.server.membership import ServerContext
from archipel.server.rest.attempts import Attempts
from archipel.transport.connections import Connection


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class RestContext:
    """``connected`` gives the sites that have a control stream now; ``changed`` is called after every change made
    here.
    """

    federation: ServerContext
    experiments: ExperimentService
    connected: Callable[[], Collection[str]]
    changed: Callable[[], None]
    now: Callable[[], datetime] = _utc
    enrolment_attempts: Attempts = field(default_factory=Attempts)
    unused: UnusedBlobs = field(default_factory=UnusedBlobs)


def connection_of(request: Request) -> Connection:
    """The connection on which this request came."""
    connection: Connection = request.state.connection
    return connection


def context_of(request: Request) -> RestContext:
    """The context of the application that serves this request."""
    context: RestContext = request.app.state.context
    return context
