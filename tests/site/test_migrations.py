"""A site of an older version opens with this one: nothing is lost, and what can prove nothing any more asks again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from site_world import job_for, table
from sqlalchemy import Connection, inspect, text

from archipel.governance import canonical, job_hash
from archipel.site.approval import approvals
from archipel.site.audit import journal
from archipel.site.datasets import catalog
from archipel.site.services import datasets
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder

MIGRATIONS = Path(schema.__file__).parent / "migrations"
OLD = "2026-01-01T00:00:00.000000+00:00"
COHORT = "sha256:" + "c" * 64


def back_to(site: StateFolder, revision: str) -> None:
    """Give the site's database the schema of an older version, the journal and the federation kept."""
    with site.database.write() as connection:
        kept = {
            name: [dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()]
            for name in ("journal", "federation")
        }
        for name in inspect(connection).get_table_names():
            connection.execute(text(f"DROP TABLE {name}"))
        _upgrade(connection, revision)
        for name, rows in kept.items():
            for row in rows:
                _insert(connection, name, row)


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _insert(connection: Connection, name: str, row: dict[str, object]) -> None:
    columns = ", ".join(row)
    connection.execute(text(f"INSERT INTO {name} ({columns}) VALUES ({', '.join(':' + key for key in row)})"), row)


def used(site: StateFolder, tmp_path: Path, revision: str) -> None:
    """What a used site of that version has: a dataset with label names, a cohort and experiments in every state."""
    back_to(site, revision)
    common = {"name": "table", "root": str(table(tmp_path / "data")), "subjects": 6, "added_at": OLD, "scanned_at": OLD}
    first = {"kind": "npz", "summary": '{"subjects":6}', "labels": '{"1":"front"}'}
    second = {"format": "npz", "summary": '{"kind":"arrays","subjects":6}', "mapping": '{"label_names":{"1":"front"}}'}
    with site.database.write() as connection:
        _insert(connection, "datasets", common | (first if revision == "0001" else second))
        cohort = {"hash": COHORT, "dataset": "table", "subjects": 6, "body": "{}", "frozen_at": OLD}
        _insert(connection, "cohorts", cohort)
        for state in ("offered", "approved", "revoked", "ended"):
            job = job_for(site, experiment=f"heart-{state}")
            row = {
                "experiment": job.experiment,
                "job": canonical(job).decode(),
                "job_hash": job_hash(job),
                "plan_hash": job.plan.hash,
                "state": state,
                "cohort_hash": None if state == "offered" else COHORT,
                "approval": json.dumps(_approval(site, job.experiment, job_hash(job))) if state == "approved" else None,
                "offered_at": OLD,
            }
            _insert(connection, "experiments", row)
        task = {"experiment": "heart-approved", "round": 1, "attempt": 1, "kind": "train", "about": "", "task": "{}"}
        _insert(connection, "tasks", task | {"task_hash": COHORT, "state": "closed", "accepted_at": OLD})
        tensor_file = {"experiment": "heart-approved", "round": 1, "attempt": 1, "path": "frame", "committed": True}
        _insert(connection, "state_frames", tensor_file)


def _approval(site: StateFolder, experiment: str, job: str) -> dict[str, str]:
    return {
        "experiment": experiment,
        "site": site.name,
        "job_hash": job,
        "cohort_hash": COHORT,
        "approved_at": OLD,
        "signature": "00",
    }


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_a_used_site_of_an_older_version_keeps_its_rows_and_asks_again(
    hospital: StateFolder, tmp_path: Path, revision: str
) -> None:
    used(hospital, tmp_path, revision)
    hospital.close()
    site = StateFolder.open(hospital.folder)
    states = {offer.experiment: offer.state.value for offer in approvals.offers(site)}
    assert states == {
        "heart-offered": "offered",
        "heart-approved": "offered",
        "heart-revoked": "revoked",
        "heart-ended": "ended",
    }
    assert all(offer.approval is None and offer.cohort_hash is None for offer in approvals.offers(site))
    entry = catalog.dataset(site, "table")
    assert (entry.format, entry.subjects, entry.mapping.label_names) == ("npz", 6, {"1": "front"})
    asked = [line.body["experiment"] for line in journal.lines(site) if line.kind == "approval-asked-again"]
    assert set(asked) == {"heart-approved"}
    assert journal.verify(site).whole
    with site.database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM tasks")).scalar() == 1
        assert connection.execute(text("SELECT count(*) FROM state_frames")).scalar() == 1
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
    assert datasets.check(site, "table").subjects == 6
    site.close()


def test_opening_twice_migrates_once(hospital: StateFolder, tmp_path: Path) -> None:
    used(hospital, tmp_path, "0001")
    for _ in range(2):
        hospital.close()
        StateFolder.open(hospital.folder).close()
    kinds = [line.kind for line in journal.lines(StateFolder.open(hospital.folder))]
    assert kinds.count("approval-asked-again") == 1


def test_of_withdrawals_before_it_is_known_who_was_ever_in_a_frozen_cohort(with_table: StateFolder) -> None:
    back_to(with_table, "0004")
    with with_table.database.write() as connection:
        _insert(connection, "sides", {"dataset": "table", "fraction": 0.2, "token": "a", "validates": False})
        for token in "ab":
            row = {"dataset": "", "token": token, "source": "person", "withdrawn_at": OLD}
            _insert(connection, "withdrawals", row)
    with_table.close()
    site = StateFolder.open(with_table.folder)
    with site.database.read() as connection:
        rows = connection.execute(text("SELECT token, known FROM withdrawals ORDER BY token")).all()
    assert [tuple(row) for row in rows] == [("a", 1), ("b", 0)]
    assert journal.verify(site).whole
    site.close()


def test_of_tasks_before_it_is_known_whose_rounds_are_closed(with_table: StateFolder) -> None:
    back_to(with_table, "0005")
    row = {"experiment": "heart", "job": "{}", "job_hash": COHORT, "plan_hash": COHORT, "state": "ended"}
    key = {"experiment": "heart", "round": 2, "attempt": 1, "kind": "train", "about": ""}
    rest = {"task": "{}", "task_hash": COHORT, "accepted_at": OLD, "done_at": OLD}
    with with_table.database.write() as connection:
        _insert(connection, "experiments", row | {"offered_at": OLD})
        for number, state in [(1, "closed"), (2, "failed"), (3, "failed"), (4, "sent"), (5, "rolled-back")]:
            _insert(connection, "tasks", {**key, "round": number, "state": state, **rest})
        journal.append(connection, "round-closed", {**key, "committed": False})
        journal.append(connection, "round-closed", {**key, "round": 3})
        connection.execute(
            text("UPDATE journal SET body = '{ damaged' WHERE number = (SELECT max(number) FROM journal)")
        )
    with_table.close()
    site = StateFolder.open(with_table.folder)
    with site.database.read() as connection:
        closed = connection.execute(text("SELECT round FROM tasks WHERE closed_at IS NOT NULL ORDER BY round"))
        assert closed.scalars().all() == [1, 2, 5]
    site.close()
