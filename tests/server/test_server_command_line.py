"""``archipel server``: what an operator types, from init to a served federation, as real processes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from archipel import __version__
from archipel.cli import main
from archipel.governance import JournalHead, sign_head
from archipel.lab.ports import free_port
from archipel.server.experiments import journal_heads
from archipel.server.membership.federation import ServerContext
from archipel.server.process import run
from archipel.server.state.folder import ServerState
from archipel.transport.enrolment import JoinToken
from archipel.vocabulary import ArchipelError
from worlds.server import Applicant


@dataclass
class Done:
    """What a command left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def archipel(*words: str, state: Path | None = None) -> Done:
    """Run a command in this process, as the ``archipel`` script does."""
    environment = {"COLUMNS": "300", "NO_COLOR": "1"} | ({"ARCHIPEL_SERVER_STATE": str(state)} if state else {})
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment),
        patch.object(sys, "argv", ["archipel", *words]),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        main()
    return Done(int(left.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    ports = ("--rest-port", str(free_port()), "--grpc-port", str(free_port()))
    done = archipel("server", "init", str(folder), "--name", "north sea", "--host", "localhost", *ports)
    assert done.returncode == 0, done.stderr
    return folder


def start(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "archipel", "server", "start", "--state", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for _ in range(300):
        if process.poll() is not None or archipel("server", "status", state=folder).returncode == 0:
            break
        time.sleep(0.1)
    return process


@pytest.mark.processes
def test_help_names_every_sub_command_without_loading_them() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from archipel.cli.main import SUB_COMMANDS, app\n"
        "out = CliRunner().invoke(app, ['--help']).output\n"
        "assert all(name in out for name in SUB_COMMANDS), out\n"
        "heavy = {'sqlalchemy', 'fastapi', 'torch', 'numpy', 'cryptography', 'grpc'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_error_is_one_line_with_thing_cause_and_remedy(tmp_path: Path) -> None:
    done = archipel("server", "site", "list", state=tmp_path / "nowhere")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"error: {tmp_path}/nowhere/server.toml: is not there; run init first, or name the right folder with --state"
    )


def test_the_version_is_the_packages() -> None:
    assert archipel("--version").stdout.strip() == __version__


def test_an_unknown_sub_command_is_a_usage_error() -> None:
    done = archipel("sever")
    assert done.returncode == 2
    assert "Did you mean 'server'" in done.stderr


def test_what_an_operator_types(state: Path) -> None:
    token = JoinToken.decode(archipel("server", "join-token", "create", "berlin", state=state).stdout.strip())
    assert (token.site, token.url.startswith("https://localhost:")) == ("berlin", True)
    spare = JoinToken.decode(archipel("server", "join-token", "create", "rome", "--hours", "1", state=state).stdout)
    assert archipel("server", "join-token", "revoke", spare.id, state=state).returncode == 0
    with ServerContext.open(ServerState(state)) as federation:
        federation.enrolment.enrol(Applicant("berlin").request(token), datetime.now(UTC))
    tokens = json.loads(archipel("server", "join-token", "list", "--json", state=state).stdout)
    assert {row["site"]: bool(row["used_at"]) for row in tokens} == {"berlin": True, "rome": False}
    assert "berlin" in archipel("server", "site", "list", state=state).stdout
    (certificate,) = json.loads(archipel("server", "certificate", "list", "--json", state=state).stdout)
    assert certificate["serial"][:12] in archipel("server", "certificate", "list", state=state).stdout
    done = archipel("server", "certificate", "revoke", certificate["serial"][:12], "--reason", "lost", state=state)
    assert certificate["serial"] in done.stdout
    made = json.loads(archipel("server", "token", "create", "ada", "--scope", "operate", "--json", state=state).stdout)
    assert made["token"].startswith("archipel_")
    assert archipel("server", "token", "revoke", made["id"], state=state).returncode == 0
    again = archipel("server", "token", "revoke", made["id"][:6], state=state)
    assert re.search(r"was revoked on \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; no action is needed", again.stderr)
    assert "ada" in archipel("server", "token", "list", state=state).stdout
    assert archipel("server", "site", "remove", "berlin", "--yes", state=state).returncode == 0
    assert "certificate-revoked" in archipel("server", "journal", "show", state=state).stdout
    assert "all 9 entries are consistent" in archipel("server", "journal", "verify", state=state).stdout
    refused = archipel("server", "token", "create", "ada", "--scope", "admin", state=state)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    newest = json.loads(archipel("server", "journal", "show", "--last", "2", "--json", state=state).stdout)
    assert [line["number"] for line in newest] == [8, 9]


def test_who_gives_a_join_token_is_told_what_it_does(state: Path) -> None:
    done = archipel("server", "join-token", "create", "berlin", state=state)
    assert JoinToken.decode(done.stdout.strip()).site == "berlin"
    assert re.search(r"lets berlin join once, until 20.* UTC; at the site: archipel site join$", done.stderr)
    assert "enrolled already" not in done.stderr
    with ServerContext.open(ServerState(state)) as federation:
        federation.enrolment.enrol(
            Applicant("berlin").request(JoinToken.decode(done.stdout.strip())), datetime.now(UTC)
        )
    again = archipel("server", "join-token", "create", "berlin", state=state)
    assert "berlin is enrolled already: joining again revokes its other certificates" in again.stderr


def test_a_site_is_removed_only_when_somebody_says_so(state: Path) -> None:
    nobody = archipel("server", "site", "remove", "nobody", "--yes", state=state)
    assert "site nobody: is not enrolled; see `archipel server site list`" in nobody.stderr
    token = JoinToken.decode(archipel("server", "join-token", "create", "berlin", state=state).stdout.strip())
    with ServerContext.open(ServerState(state)) as federation:
        federation.enrolment.enrol(Applicant("berlin").request(token), datetime.now(UTC))
    with patch.object(sys, "stdin", io.StringIO("n\n")):
        assert archipel("server", "site", "remove", "berlin", state=state).returncode == 1
    assert "berlin" in archipel("server", "site", "list", state=state).stdout
    with patch.object(sys, "stdin", io.StringIO("y\n")):
        assert archipel("server", "site", "remove", "berlin", state=state).returncode == 0
    assert "Sites: none" in archipel("server", "site", "list", state=state).stdout


UNKNOWN = [
    (("join-token", "revoke", "abcdef"), "join-token list"),
    (("certificate", "revoke", "abcdef", "--reason", "lost"), "certificate list"),
    (("token", "revoke", "abcdef"), "token list"),
    (("site", "remove", "nobody", "--yes"), "site list"),
]


@pytest.mark.parametrize(("words", "listing"), UNKNOWN, ids=[listing for _, listing in UNKNOWN])
def test_the_list_that_an_error_tells_to_type_has_the_names(state: Path, words: tuple[str, ...], listing: str) -> None:
    archipel("server", "token", "create", "ada", "--scope", "operate", state=state)
    token = JoinToken.decode(archipel("server", "join-token", "create", "berlin", state=state).stdout.strip())
    with ServerContext.open(ServerState(state)) as federation:
        federation.enrolment.enrol(Applicant("berlin").request(token), datetime.now(UTC))
    refused = archipel("server", *words, state=state)
    typed = re.search(r"`archipel (server [a-z -]+)`", refused.stderr)
    assert refused.returncode == 1 and typed is not None and typed[1] == f"server {listing}"
    shown = archipel(*typed[1].split(), "--json", state=state)
    assert shown.returncode == 0
    (row,) = json.loads(shown.stdout)
    name = next(str(row[key]) for key in ("serial", "id", "site") if key in row)
    again = [name if word in ("abcdef", "nobody") else word for word in words]
    done = archipel("server", *again, state=state)
    # A token that was used lets its site in: what ends that is the next command to type.
    if listing == "join-token list":
        undo = re.search(r"`archipel (server site remove berlin)`", done.stderr)
        assert undo is not None
        done = archipel(*undo[1].split(), "--yes", state=state)
        assert "Sites: none" in archipel("server", "site", "list", state=state).stdout
    assert done.returncode == 0, done.stderr


def test_a_stopped_server_is_said_to_be_stopped_and_how_to_start_it(state: Path) -> None:
    done = archipel("server", "status", state=state)
    assert (done.returncode, "Experiments: none" in done.stdout) == (1, True)
    assert f"stopped; start it with archipel server start --state {state}" in done.stdout
    facts = json.loads(archipel("server", "status", "--json", state=state).stdout)
    assert (facts["running"], facts["answers"], facts["database"]) == (False, False, None)


def test_a_head_kept_elsewhere_finds_a_cut_off_end(state: Path, tmp_path: Path) -> None:
    archipel("server", "token", "create", "ada", state=state)
    kept = tmp_path / "head.json"
    kept.write_text(archipel("server", "journal", "show", "--head", state=state).stdout)
    assert archipel("server", "journal", "verify", "--head", str(kept), state=state).returncode == 0
    with ServerContext.open(ServerState(state)) as federation, federation.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM journal WHERE number = 2")
    assert archipel("server", "journal", "verify", state=state).returncode == 0
    found = archipel("server", "journal", "verify", "--head", str(kept), state=state)
    assert found.returncode == 1
    assert "the end was cut off after line 1" in found.stderr


def test_an_operator_gives_a_hospital_the_head_of_its_journal_and_sees_that_one_went_back(state: Path) -> None:
    berlin = Applicant("berlin")
    token = JoinToken.decode(archipel("server", "join-token", "create", "berlin", state=state).stdout.strip())
    missing = archipel("server", "site", "head", "berlin", state=state)
    assert missing.returncode == 1 and "journal head of berlin: is not kept here" in missing.stderr
    with ServerContext.open(ServerState(state)) as federation:
        federation.enrolment.enrol(berlin.request(token), datetime.now(UTC))
        key = federation.identity.public
        with federation.database.write() as connection:
            for number in (9, 4):
                unsigned = JournalHead(owner="berlin", number=number, hash="sha256:" + "1" * 64, at=f"day {number}")
                head = sign_head(berlin.identity, unsigned)
                journal_heads.take_first(connection, berlin.identity.public, "berlin", head)
    given = archipel("server", "site", "head", "berlin", state=state)
    found = JournalHead.model_validate_json(given.stdout)
    assert (found.owner, found.number) == ("berlin", 9) and found.is_signed_by(key)
    said = "line 9 existed on day 9; on day 4 line 4 was the last: a backup was restored there, or lines were removed"
    assert said in given.stderr
    assert f"a site's journal lost or changed lines: berlin: {said}" in archipel("server", "status", state=state).stdout
    (fault,) = json.loads(archipel("server", "status", "--json", state=state).stdout)["journal_faults"]
    assert said in fault


def test_a_head_of_a_sites_journal_is_none_of_the_servers(state: Path, tmp_path: Path) -> None:
    with ServerContext.open(ServerState(state)) as federation:
        head = federation.registry.journal_head("berlin")
        (tmp_path / "head.json").write_text(sign_head(federation.identity, head).model_dump_json())
    done = archipel("server", "journal", "verify", "--head", str(tmp_path / "head.json"), state=state)
    assert done.returncode == 1 and "is a head of the journal of berlin; give one of this server's" in done.stderr


@pytest.mark.processes
def test_a_started_server_answers_and_stops_when_told(state: Path) -> None:
    process = start(state)
    try:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        facts = json.loads(archipel("server", "status", "--json", state=state).stdout)
        assert (facts["answers"], facts["database"], facts["federation"]) == (True, True, "north sea")
        assert (facts["running"], facts["connected"], facts["experiments"]) == (True, [], [])
        archipel("server", "token", "create", "Ada Lovelace", state=state)
        with pytest.raises(ArchipelError, match="is served by another process"):
            run(ServerState(state))
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "access-token-created" in output and "Ada Lovelace" in output
    assert archipel("server", "status", state=state).returncode == 1


@pytest.mark.processes
@pytest.mark.parametrize("which", ["rest_port", "grpc_port"])
def test_a_port_in_use_is_one_clear_line(state: Path, which: str) -> None:
    port = getattr(ServerState(state).settings(), which)
    with socket.create_server(("127.0.0.1", port)):
        words = [sys.executable, "-m", "archipel", "server", "start", "--state", str(state)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}: the port is in use by another process" in done.stderr
    assert f"change {which} in server.toml" in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1
