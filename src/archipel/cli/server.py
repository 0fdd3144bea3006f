"""``archipel server``: create a federation's server, serve it and show its status; other files add its commands.

Commands write to the state folder's database themselves and wake the serving process, if one runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli import server_journal, server_members
from archipel.cli.json_option import AsJson
from archipel.cli.server_terminal import State, opened, operator
from archipel.cli.tables import show
from archipel.cli.times import readable

if TYPE_CHECKING:
    from archipel.server import ServerStatus
    from archipel.server.state import ServerSettings

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Create, start and administer a federation's server."
)
for sub in (*server_members.apps, server_journal.app):
    app.add_typer(sub)


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
            help="A DNS name or address of the server; may be repeated. Join tokens contain the first (by "
            "default 127.0.0.1 and localhost)."
        ),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="Address to listen on (by default loopback when every host is, else 0.0.0.0).")
    ] = None,
    rest_port: Annotated[int, typer.Option(help="Port of the REST interface, for people and for enrolment.")] = 8443,
    grpc_port: Annotated[int, typer.Option(help="Port for sites.")] = 8444,
    database: Annotated[
        str | None, typer.Option(help="sqlite:///PATH (by default a file in the state folder).")
    ] = None,
) -> None:
    """Make a state folder: the federation's CA, keys, database and settings."""
    from archipel.server.membership import ServerContext
    from archipel.server.state import ServerState, listening_address

    hosts = tuple(host or ("127.0.0.1", "localhost"))
    address = listen or listening_address(hosts)
    settings = _settings(
        name=name,
        hosts=hosts,
        rest_host=address,
        rest_port=rest_port,
        grpc_host=address,
        grpc_port=grpc_port,
        database=database,
    )
    with ServerContext.create(ServerState(state.absolute()), settings, by=operator()) as federation:
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
    from archipel.server import run
    from archipel.server.state import ServerState

    served = ServerState(state.absolute())
    configure_logs(served.settings().log_level)
    run(served)


@app.command()
def status(state: State, as_json: AsJson = False) -> None:
    """Show whether the server answers, and what it holds. Exit code 1 when it does not answer."""
    from archipel.server import read_status

    with opened(state) as federation:
        found = read_status(federation)
    if as_json:
        print(found.model_dump_json())
    else:
        _print_status(found, state)
    raise typer.Exit(0 if found.answers else 1)


def _print_status(status: ServerStatus, state: Path) -> None:
    if status.answers:
        stands = "answers"
    elif status.running:
        stands = "runs, but its REST interface does not answer; see its log"
    else:
        stands = f"stopped; start it with archipel server start --state {state}"
    if status.database is False:
        stands += "; it cannot reach its database"
    sites = [f"{site} (connected)" if site in status.connected else site for site in status.sites]
    lines = {
        "federation": status.federation,
        "server": stands,
        "REST": status.rest,
        "gRPC": status.grpc,
        "sites": ", ".join(sites) or "none yet; archipel server join-token create SITE lets one join",
        "journal": f"{status.journal} lines",
    }
    for key, value in lines.items():
        print(f"{key:<12}{value}")
    for fault in status.own_journal_faults:
        print(f"this server's own journal lost or changed lines: {fault}")
    for fault in status.journal_faults:
        print(readable(f"a site's journal lost or changed lines: {fault}"))
    rows = [
        {
            "experiment": summary.experiment,
            "state": summary.state,
            "asked_by": summary.asked_by,
            "round": f"{summary.round} of {summary.rounds}",
            "created": summary.created,
            "reason": summary.reason or summary.waits_for,
        }
        for summary in status.experiments
    ]
    show("Experiments", rows, False)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder for the copy, which holds private keys.")], state: State
) -> None:
    """Copy the state folder, whether the server runs or not; the copy can take its place."""
    from archipel.server import backup as backups

    with opened(state) as federation:
        copied = backups.copy(federation, folder.resolve())
    print(f"copied to {folder}: {copied.lines} lines of the journal, {copied.blobs} blobs, {copied.updates} updates")
    for fault in copied.faults:
        typer.echo(f"- {fault}", err=True)
    if copied.faults:
        raise typer.Exit(1)


def _settings(**values: str | int | tuple[str, ...] | None) -> ServerSettings:
    from pydantic import ValidationError

    from archipel.server.state import ServerSettings
    from archipel.vocabulary import ArchipelError, ErrorCode

    try:
        return ServerSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        kind = first["type"] if first["type"] in _OPTIONS else str(first["loc"][0])
        option, cause, remedy = _OPTIONS.get(kind, (first["loc"][0], first["msg"], "give another one"))
        raise ArchipelError(f"{option} {first['input']!r}", cause, remedy, code=ErrorCode.CONFIGURATION) from error


_NO_HOST, _NO_PORT = "is not a DNS name or IP address", ("is not a port", "give a number from 1 to 65535")
_NO_ADDRESS = (_NO_HOST, "give an address of this machine, such as 0.0.0.0 for all of them")
_OPTIONS = {
    "name": (
        "--name",
        "is not a name that a federation may have",
        "use letters, digits, spaces, . _ and -, at most 100, the first a letter or a digit",
    ),
    "hosts": ("--host", _NO_HOST, "give the name alone, without https:// and port, as in --host fl.example.org"),
    "rest_host": ("--listen", *_NO_ADDRESS),
    "grpc_host": ("--listen", *_NO_ADDRESS),
    "rest_port": ("--rest-port", *_NO_PORT),
    "grpc_port": ("--grpc-port", *_NO_PORT),
    "port_twice": ("--grpc-port", "is also the port of --rest-port", "give two different ports"),
    "database": ("--database", "is not an SQLite address, and no other database is supported", "give sqlite:///PATH"),
}
"""For each setting that init takes, and for a wrong combination: its option, what is wrong, and the remedy."""
