"""A server is copied while it runs, and the copy is a server's state folder with everything that its database names."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from sqlalchemy import text
from test_models_that_last import close, store
from typer.testing import CliRunner

from archipel.cli.server import app
from archipel.server import backup
from archipel.server.experiments import views
from archipel.server.membership.federation import ServerContext
from archipel.server.state.folder import ServerState
from archipel.vocabulary import Conflict
from worlds.server import Applicant


def hashes(federation: ServerContext) -> set[str]:
    return {model.hash for model in views.models(federation.database, "first")}


def test_a_copy_is_a_server_with_the_same_keys_journal_and_models(
    federation: ServerContext, enrolled: Applicant, tmp_path: Path
) -> None:
    close(store(federation, enrolled, "higher"), 1, 0.5)
    copied = backup.copy(federation, tmp_path / "copy")
    assert copied.faults == () and copied.lines == federation.registry.journal_head("north sea").number
    with ServerContext.open(ServerState(tmp_path / "copy")) as other:
        assert other.registry.journal() == federation.registry.journal()
        assert (other.identity.public, other.authority.pem) == (federation.identity.public, federation.authority.pem)
        assert hashes(other) == hashes(federation)
        assert all(other.blobs.has(blob) for blob in hashes(other))
    for path in (tmp_path / "copy").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.is_relative_to(tmp_path / "copy" / "blobs"), path


def test_a_round_that_commits_while_it_is_copied_leaves_nothing_out(
    federation: ServerContext, enrolled: Applicant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store(federation, enrolled, "higher")
    close(kept, 1, 0.5)
    first, rounds = hashes(federation), iter((2, 3))
    really = backup._copy_named

    def busy(*words: object) -> list[str]:
        # Two at once, each better than the one before: the model of the first round is not kept any more.
        for number in rounds:
            close(kept, number, 0.5 + number / 10)
        return really(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(backup, "_copy_named", busy)
    assert backup.copy(federation, tmp_path / "copy").faults == ()
    assert not any(federation.blobs.has(blob) for blob in first - hashes(federation))
    with ServerContext.open(ServerState(tmp_path / "copy")) as other:
        assert hashes(other) == hashes(federation) != first
        assert all(other.blobs.has(blob) for blob in hashes(other))
        assert not any(other.blobs.has(blob) for blob in first - hashes(other))


def test_what_lies_elsewhere_lies_in_the_copy(federation: ServerContext, tmp_path: Path) -> None:
    settings = federation.settings.model_copy(
        update={"database": f"sqlite:///{federation.state.root / 'server.db'}", "blobs": str(tmp_path / "far")}
    )
    federation.state.write_settings(settings)
    with ServerContext.open(federation.state) as other:
        backup.copy(other, tmp_path / "copy")
    with ServerContext.open(ServerState(tmp_path / "copy")) as other:
        assert (other.settings.database, other.settings.blobs) == (None, "blobs")
        assert other.database.engine.url.database == str(tmp_path / "copy" / "server.db")


def test_no_folder_is_written_over_and_nothing_is_left_half(
    federation: ServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup.copy(federation, tmp_path / "copy")
    with pytest.raises(Conflict, match="is there already; name a new folder for each copy"):
        backup.copy(federation, tmp_path / "copy")

    def broken(*_words: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(backup, "_copy_database", broken)
    with pytest.raises(OSError, match="gone"):
        backup.copy(federation, tmp_path / "other")
    assert not list(tmp_path.glob("other*"))


def test_what_is_damaged_is_copied_and_told_of(federation: ServerContext, enrolled: Applicant, tmp_path: Path) -> None:
    kept = store(federation, enrolled, "higher")
    federation.blobs.path(kept.job.plan.hash).write_bytes(b"changed")
    with federation.database.write() as connection:
        connection.execute(text("UPDATE journal SET body = '{}' WHERE number = 2"))
    done = CliRunner().invoke(app, ["backup", str(tmp_path / "copy"), "--state", str(federation.state.root)])
    assert done.exit_code == 1
    assert f"{kept.job.plan.hash} is named by the database and is missing or damaged" in done.stderr
    assert "line 2 (" in done.stderr and "was changed" in done.stderr
    assert (tmp_path / "copy" / "server.toml").exists()
