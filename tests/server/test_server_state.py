"""The state folder: private, whole or not a state, and never another server's."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from archipel.server.membership.federation import ServerContext
from archipel.server.state.folder import ServerState
from archipel.server.state.settings import ServerSettings
from archipel.storage import load_settings
from archipel.vocabulary import ArchipelError, Conflict, ErrorCode
from worlds.people import OLGA
from worlds.server import make_server, settings


def test_only_the_owner_can_read_any_of_it(federation: ServerContext) -> None:
    root = federation.state.root
    secrets = [root, federation.state.keys, federation.state.spool, *federation.state.keys.iterdir()]
    secrets += [path for path in root.iterdir() if path.is_file()]
    assert {path.name for path in federation.state.keys.iterdir()} == {
        "ca.key",
        "ca.pem",
        "identity.key",
        "tls.key",
        "tls.pem",
    }
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_settings_come_back_as_they_were_written(federation: ServerContext) -> None:
    assert federation.state.settings() == federation.settings


def test_an_unknown_key_names_the_nearest_one(federation: ServerContext) -> None:
    file = federation.state.settings_file
    file.write_text(file.read_text() + "hartbeat_s = 3\n")
    with pytest.raises(ArchipelError, match=r"hartbeat_s: is not a known key; did you mean heartbeat_s\?") as refused:
        ServerContext.open(federation.state)
    assert refused.value.code is ErrorCode.CONFIGURATION


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("rest_port = 0", "rest_port"),
        ("hosts = []", "hosts"),
        ('log_level = "loud"', "log_level"),
        ('trusted_proxies = ["proxy.example.org"]', "is not an IP address or network"),
        ('trusted_proxies = ["10.0.0.5/8"]', "is not an IP address or network"),
    ],
)
def test_a_value_that_does_not_fit_is_named(tmp_path: Path, line: str, word: str) -> None:
    kept = [text for text in settings().as_toml().splitlines() if not text.startswith(line.split(maxsplit=1)[0])]
    (tmp_path / "server.toml").write_text("\n".join([*kept, line]))
    with pytest.raises(ArchipelError, match=word):
        load_settings(tmp_path / "server.toml", ServerSettings)


def test_init_on_a_servers_state_changes_nothing(federation: ServerContext) -> None:
    before = {path: path.read_bytes() for path in federation.state.keys.iterdir()}
    with pytest.raises(Conflict, match="holds a server's state already"):
        ServerContext.create(federation.state, settings(), by=OLGA)
    assert {path: path.read_bytes() for path in federation.state.keys.iterdir()} == before


def test_init_in_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(Conflict, match=r"contains other files \(thesis.tex\)"):
        ServerContext.create(ServerState(tmp_path), settings(), by=OLGA)


def test_an_init_cut_short_can_be_run_again(federation: ServerContext) -> None:
    federation.state.settings_file.unlink()
    with ServerContext.create(federation.state, settings(), by=OLGA) as again:
        assert [line.kind for line in again.registry.journal()] == ["server-initialised"]


def test_a_database_that_is_gone_is_not_made_anew_in_silence(federation: ServerContext) -> None:
    (federation.state.root / "server.db").unlink()
    with pytest.raises(ArchipelError, match="the database does not exist; restore it"):
        ServerContext.open(federation.state)


def test_another_servers_database_is_refused(federation: ServerContext, tmp_path: Path) -> None:
    url = f"sqlite:///{federation.state.root / 'server.db'}"
    with pytest.raises(Conflict, match="another server's database"):
        make_server(tmp_path / "second", database=url)


def test_a_folder_that_is_no_state_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArchipelError, match="run init first"), ServerState(tmp_path).held():
        pass


def test_one_process_serves_a_folder(federation: ServerContext) -> None:
    refused = pytest.raises(ArchipelError, match="served by another process")
    with federation.state.held(), refused, federation.state.held():
        pass
    with federation.state.held():
        pass


def test_a_lost_key_is_named(federation: ServerContext) -> None:
    federation.state.ca_key.unlink()
    with pytest.raises(ArchipelError, match=r"ca\.key"):
        ServerContext.open(federation.state)
