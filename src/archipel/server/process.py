"""The serving process: REST for people, gRPC for sites, the experiments' loops, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from archipel.server.experiments import Experiments
from archipel.server.membership import ServerContext
from archipel.server.rest import RestContext, RestServer, create_app, end_unused
from archipel.server.sites import FederationServicer, announcing, presence
from archipel.server.state import ServerState
from archipel.transport import SitesPort, process_memory, sites_port
from archipel.transport.listening import listen
from archipel.transport.wakeup import Wakeup, wake

_log = structlog.get_logger("archipel.server")


def run(state: ServerState) -> None:
    """Serve the state folder until SIGTERM or SIGINT."""
    os.umask(0o077)
    open_all_there_are()
    process_memory.single_arena()
    with state.held(), ServerContext.open(state) as federation:
        asyncio.run(_serve(federation))


def open_all_there_are() -> None:
    """Let this process open as many files as it may: each connection of a site or a person is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(federation: ServerContext) -> None:
    state, settings = federation.state, federation.settings
    federation.authority.ensure_server_certificate(state, settings.hosts, datetime.now(UTC))
    bound = listen(settings.rest_host, settings.rest_port, "rest_port")
    experiments = Experiments(federation)
    wire = FederationServicer(experiments)
    async with sites_port(
        wire,
        host=settings.grpc_host,
        port=settings.grpc_port,
        key=state.tls_key.read_bytes(),
        certificate=state.tls_certificate.read_bytes(),
        authority=state.ca_certificate.read_bytes(),
        folder=state.root / "port",
        silence_s=federation.limits.upload_s,
    ) as port:
        await _serve_on(federation, experiments, wire, bound, port)


async def _serve_on(
    federation: ServerContext,
    experiments: Experiments,
    wire: FederationServicer,
    bound: socket.socket,
    port: SitesPort,
) -> None:
    state, settings, last = federation.state, federation.settings, announcing.newest(federation.database)
    context = RestContext(
        federation=federation,
        experiments=experiments,
        connected=lambda: set(experiments.hub.streams),
        changed=lambda: _ring(state),
    )
    rest, bell, stop = (
        RestServer(create_app(context), state, bound, federation.limits),
        Wakeup(state.root),
        asyncio.Event(),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await experiments.start()
    await rest.start()

    async def cut_revoked() -> None:
        await wire.cut_revoked()
        port.bulk.cut_revoked()

    beside = [
        asyncio.create_task(_watch(bell, cut_revoked, federation.limits.revoked_retry_s)),
        asyncio.create_task(
            presence.follow(state, federation.registry, federation.limits, lambda: set(experiments.hub.streams))
        ),
        asyncio.create_task(announcing.follow(federation.database, last)),
        asyncio.create_task(end_unused(context)),
    ]
    process_memory.freeze_gc()
    _log.info("serving", rest=settings.rest_url, grpc=settings.grpc_address)
    await stop.wait()
    for task in beside:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await rest.stop()
    await experiments.stop()
    bell.close()


async def _watch(bell: Wakeup, cut_revoked: Callable[[], Awaitable[None]], retry_s: float) -> None:
    """Act on what another process or a REST call changed: connections with a revoked certificate are closed.

    A check that fails now (a full disk, say) is repeated later.
    """
    again = False
    while True:
        await (asyncio.sleep(retry_s) if again else bell.wait())
        try:
            await cut_revoked()
            again = False
        except Exception as error:
            _log.error("could not check for revoked certificates", error=str(error), exc_info=error)
            again = True


def _ring(state: ServerState) -> None:
    wake(state.root)
