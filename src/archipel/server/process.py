"""The serving process: REST on TLS and the doorbell, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

import structlog

from archipel.server.federation import Federation
from archipel.server.rest import RestContext, RestServer, create_app, listen
from archipel.server.rest.context import ControlVerb
from archipel.server.state import ServerState
from archipel.transport.doorbell import Doorbell, ring
from archipel.vocabulary import ErrorCode, Job, NotFound, Refused, Value

_log = structlog.get_logger("archipel.server")


def run(state: ServerState) -> None:
    """Serve the state folder until SIGTERM or SIGINT."""
    os.umask(0o077)
    with state.held(), Federation.open(state) as federation:
        asyncio.run(_serve(federation))


async def _serve(federation: Federation) -> None:
    state, settings = federation.state, federation.settings
    federation.authority.ensure_server_certificate(state, settings.hosts, datetime.now(UTC))
    bound = listen(settings.rest_host, settings.rest_port, "rest_port")
    context = RestContext(
        federation=federation, experiments=NoExperiments(), connected=lambda: (), changed=lambda: _ring(state)
    )
    rest, bell, stop = RestServer(create_app(context), state, bound), Doorbell(state.root), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await rest.start()
    _log.info("serving", rest=settings.rest_url)
    await stop.wait()
    await rest.stop()
    bell.close()


def _ring(state: ServerState) -> None:
    ring(state.root)


class NoExperiments:
    """An ExperimentService of a server that holds none."""

    async def submit(self, job: Job, owner: str) -> dict[str, Any]:
        """Refuses."""
        raise Refused(job.experiment, "this process runs no experiments", "start the server", code=ErrorCode.POLICY)

    async def all(self) -> list[dict[str, Any]]:
        """None."""
        return []

    async def get(self, experiment: str) -> dict[str, Any]:
        """Refuses."""
        raise _missing(experiment)

    async def control(self, experiment: str, verb: ControlVerb) -> dict[str, Any]:
        """Refuses."""
        raise _missing(experiment)

    async def set_arguments(self, experiment: str, values: Mapping[str, Value]) -> dict[str, Any]:
        """Refuses."""
        raise _missing(experiment)

    async def rounds(self, experiment: str) -> list[dict[str, Any]]:
        """Refuses."""
        raise _missing(experiment)

    async def events(self, experiment: str, after: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
        """Refuses."""
        raise _missing(experiment)
        yield {}

    async def models(self, experiment: str) -> list[dict[str, Any]]:
        """Refuses."""
        raise _missing(experiment)

    async def open_model(self, experiment: str, name: str) -> tuple[BinaryIO, int]:
        """Refuses."""
        raise _missing(experiment)


def _missing(experiment: str) -> NotFound:
    return NotFound(f"experiment {experiment}", "is not here", "list experiments")
