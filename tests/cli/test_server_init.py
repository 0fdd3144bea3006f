"""``archipel server init`` as it is typed: each wrong value is one error with its option, the cause and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from archipel.cli.server import app
from archipel.server.state.folder import ServerState
from archipel.server.state.settings import ServerSettings
from archipel.vocabulary import ArchipelError, ErrorCode

NO_HOST = "is not a DNS name or IP address; give the name alone, without https:// and port, as in --host fl.example.org"


def init(folder: Path, *words: str) -> ArchipelError | None:
    done = CliRunner().invoke(app, ["init", str(folder), *words])
    assert done.exception is None or isinstance(done.exception, ArchipelError), done.exception
    return done.exception


@pytest.mark.parametrize(
    "host",
    [
        "https://fl.example.org",
        "fl.example.org:8443",
        "fl_example",
        "two words",
        "-x.org",
        "a..b",
        "256.1.1.1",
        "1::2::3",
        "fe80::1%eth0",
        "",
    ],
)
def test_what_is_no_host_is_said_in_words(tmp_path: Path, host: str) -> None:
    error = init(tmp_path / "server", f"--host={host}")
    assert str(error) == f"--host {host!r}: {NO_HOST}"
    assert error is not None and error.code is ErrorCode.CONFIGURATION
    assert not (tmp_path / "server").exists()


def test_the_wrong_one_of_several_hosts_is_named(tmp_path: Path) -> None:
    error = init(tmp_path / "server", "--host", "fl.example.org", "--host", "10.0.0.300")
    assert str(error) == f"--host '10.0.0.300': {NO_HOST}"


@pytest.mark.parametrize("host", ["fl.example.org", "LOCALHOST", "10.0.0.1", "::1", "2001:db8::7", "xn--mnchen-3ya.de"])
def test_names_and_addresses_of_both_kinds_are_hosts(tmp_path: Path, host: str) -> None:
    assert init(tmp_path / "server", "--host", host) is None
    assert ServerState(tmp_path / "server").settings().hosts == (host,)


@pytest.mark.parametrize(
    ("option", "value", "cause"),
    [
        ("--name", "/etc", "is not a name that a federation may have; use letters, digits, spaces, . _ and -"),
        (
            "--listen",
            "0.0.0",
            "is not a DNS name or IP address; give an address of this machine, such as 0.0.0.0 for all",
        ),
        ("--rest-port", "0", "is not a port; give a number from 1 to 65535"),
        ("--grpc-port", "70000", "is not a port; give a number from 1 to 65535"),
        ("--grpc-port", "8443", "is also the port of --rest-port; give two different ports"),
        ("--database", "postgresql://db/fl", "is not an SQLite address, and no other database is supported; give sql"),
    ],
)
def test_every_option_says_what_it_takes(tmp_path: Path, option: str, value: str, cause: str) -> None:
    error = init(tmp_path / "server", option, value)
    shown = value if option.endswith("port") else repr(value)
    assert str(error).startswith(f"{option} {shown}: {cause}")
    assert not (tmp_path / "server").exists()


def test_one_port_on_two_addresses_is_two_ports() -> None:
    common = {"name": "north", "hosts": ("localhost",), "rest_port": 8443, "grpc_port": 8443}
    assert ServerSettings.model_validate({**common, "grpc_host": "127.0.0.2"}).grpc_port == 8443
    for address in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(ValueError, match="is also rest_port, and the two must be different"):
            ServerSettings.model_validate({**common, "grpc_host": address})


def test_a_host_that_was_mistyped_in_the_settings_is_said_in_words_too(tmp_path: Path) -> None:
    assert init(tmp_path / "server", "--host", "fl.example.org") is None
    path = tmp_path / "server" / "server.toml"
    path.write_text(path.read_text().replace("fl.example.org", "https://fl.example.org"))
    with pytest.raises(ArchipelError, match=r"server.toml: hosts.0: is not a DNS name or IP address; fix its value"):
        ServerState(tmp_path / "server").settings()
