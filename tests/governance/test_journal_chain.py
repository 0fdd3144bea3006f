"""The journal shows a changed, removed, inserted or cut-off line, and never forks between processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData, insert, select

from archipel.governance import (
    IdentityKey,
    JournalEntry,
    JournalHead,
    append,
    check_chain,
    head,
    journal_table,
    sign_head,
)
from archipel.governance.journal import GENESIS, HeadFault, entries
from archipel.storage import Database
from worlds.examples import examples

METADATA = MetaData()
JOURNAL = journal_table(METADATA)


def fresh(folder: Path) -> Database:
    database = Database(f"sqlite:///{folder / 'journal.db'}")
    METADATA.create_all(database.engine)
    return database


def written(bodies: list[dict[str, Any]]) -> list[JournalEntry]:
    """A whole chain, in memory."""
    database = Database("sqlite://")
    METADATA.create_all(database.engine)
    with database.write() as connection:
        for number, body in enumerate(bodies):
            append(connection, JOURNAL, f"kind-{number % 3}", body)
        chain = list(entries(connection, JOURNAL))
    database.close()
    return chain


bodies = st.lists(
    st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(max_size=5) | st.booleans(), max_size=3),
    min_size=2,
    max_size=8,
)
lines = st.data()


@given(bodies)
@examples(25)
def test_an_undisturbed_journal_is_whole_and_contains_its_own_heads(found: list[dict[str, Any]]) -> None:
    chain = written(found)
    assert [line.number for line in chain] == list(range(1, len(found) + 1))
    assert chain[0].previous == GENESIS
    assert check_chain(chain) == []


@given(bodies, lines)
@examples(25)
def test_a_changed_line_is_named(found: list[dict[str, Any]], draw: Any) -> None:
    chain = written(found)
    at = draw.draw(st.integers(0, len(chain) - 1))
    change = draw.draw(
        st.sampled_from([{"kind": "other"}, {"at": "2000-01-01T00:00:00.000000+00:00"}, {"body": {"changed": "yes!!"}}])
    )
    chain[at] = chain[at].model_copy(update=change)
    (fault,) = check_chain(chain)
    assert fault.startswith(f"line {at + 1} ")
    assert "was changed" in fault


@given(bodies, lines)
@examples(25)
def test_a_changed_line_whose_hash_was_made_to_fit_breaks_the_next_one(found: list[dict[str, Any]], draw: Any) -> None:
    chain = written(found)
    at = draw.draw(st.integers(0, len(chain) - 2))
    forged = chain[at].model_copy(update={"body": {"changed": "yes!!"}})
    chain[at] = forged.model_copy(update={"hash": forged.expected_hash()})
    (fault,) = check_chain(chain)
    assert fault.startswith(f"line {at + 2} ")


@given(bodies, lines)
@examples(25)
def test_a_removed_line_is_named(found: list[dict[str, Any]], draw: Any) -> None:
    chain = written(found)
    at = draw.draw(st.integers(0, len(chain) - 2))
    del chain[at]
    assert check_chain(chain)[0].startswith(f"line {at + 1} is missing")


@given(bodies, lines)
@examples(25)
def test_an_inserted_line_is_found(found: list[dict[str, Any]], draw: Any) -> None:
    chain = written(found)
    at = draw.draw(st.integers(0, len(chain) - 1))
    previous = chain[at - 1].hash if at else GENESIS
    forged = chain[at].model_copy(update={"number": at + 1, "previous": previous, "body": {"inserted": "yes!!"}})
    forged = forged.model_copy(update={"hash": forged.expected_hash()})
    renumbered = [line.model_copy(update={"number": line.number + 1}) for line in chain[at:]]
    assert check_chain([*chain[:at], forged, *renumbered])
    assert check_chain([*chain[:at], forged, *chain[at:]])


@given(bodies, lines)
@examples(25)
def test_a_cut_off_end_is_found_by_a_head_kept_elsewhere(found: list[dict[str, Any]], draw: Any) -> None:
    chain = written(found)
    keep = draw.draw(st.integers(0, len(chain) - 1))
    attested = _head_of(chain[-1])
    assert check_chain(chain[:keep]) == []
    (fault,) = check_chain(chain[:keep], [attested])
    assert f"cut off after line {keep}" in fault


@given(bodies)
@examples(10)
def test_a_journal_written_anew_does_not_contain_the_old_head(found: list[dict[str, Any]]) -> None:
    attested = _head_of(written(found)[-1])
    other = written([{**body, "rewritten": True} for body in found])
    (fault,) = check_chain(other, [attested])
    assert "rewritten" in fault


def _head_of(line: JournalEntry) -> JournalHead:
    return JournalHead(owner="berlin", number=line.number, hash=line.hash, at=line.at)


def test_a_signed_head_is_its_owners_and_nobody_elses(tmp_path: Path) -> None:
    database = fresh(tmp_path)
    key, other = IdentityKey.generate(), IdentityKey.generate()
    with database.write() as connection:
        append(connection, JOURNAL, "started", {})
        signed = sign_head(key, head(connection, JOURNAL, "berlin"))
    assert signed.is_signed_by(key.public)
    assert not signed.is_signed_by(other.public)
    assert not signed.model_copy(update={"number": 2}).is_signed_by(key.public)
    assert not signed.model_copy(update={"owner": "paris"}).is_signed_by(key.public)


def test_an_empty_journal_has_a_head(tmp_path: Path) -> None:
    with fresh(tmp_path).read() as connection:
        assert head(connection, JOURNAL, "berlin").number == 0
    assert check_chain([]) == []


def test_a_line_is_not_there_when_its_change_failed(tmp_path: Path) -> None:
    database = fresh(tmp_path)
    with pytest.raises(RuntimeError), database.write() as connection:
        append(connection, JOURNAL, "approved", {})
        raise RuntimeError("the change failed")
    with database.read() as connection:
        assert list(entries(connection, JOURNAL)) == []


def test_the_stored_body_is_canonical_and_a_change_in_the_database_is_found(tmp_path: Path) -> None:
    database = fresh(tmp_path)
    with database.write() as connection:
        append(connection, JOURNAL, "approved", {"b": 1.0, "a": "ä"})
    with database.write() as connection:
        assert connection.scalar(select(JOURNAL.c.body)) == '{"a":"ä","b":1}'
        connection.execute(JOURNAL.update().values(body=json.dumps({"a": "ö", "b": 1})))
        (fault,) = check_chain(entries(connection, JOURNAL))
    assert "line 1 (approved" in fault


_APPENDER = """
import sys
from sqlalchemy import MetaData
from archipel.governance import append, journal_table
from archipel.storage import Database
table = journal_table(MetaData())
database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    with database.write() as connection:
        append(connection, table, sys.argv[2], {"number": number})
"""


@pytest.mark.processes
def test_two_processes_append_to_one_chain(tmp_path: Path) -> None:
    database = fresh(tmp_path)
    count = 40
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _APPENDER, database.url, name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("agent", "command-line")
    ]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with database.read() as connection:
        chain = list(entries(connection, JOURNAL))
    assert check_chain(chain) == []
    assert sorted(line.kind for line in chain) == ["agent"] * count + ["command-line"] * count


def test_a_line_forced_in_beside_the_chain_is_found(tmp_path: Path) -> None:
    database = fresh(tmp_path)
    with database.write() as connection:
        for number in range(3):
            append(connection, JOURNAL, "kind", {"number": number})
        last = list(entries(connection, JOURNAL))[-1]
        row = last.model_dump(mode="json") | {"number": 9, "body": "{}"}
        connection.execute(insert(JOURNAL).values(**row))
        assert check_chain(entries(connection, JOURNAL))


def test_a_line_changed_to_what_has_no_canonical_form_is_named() -> None:
    first, second = written([{"rate": 1}, {"rate": 2}])
    changed = first.model_copy(update={"body": {"rate": 2**53}})
    assert [problem[:18] for problem in check_chain([changed, second])] == ["line 1 (kind-0, 20"]


def test_the_time_in_a_head_of_another_party_moves_no_cursor_and_begins_no_line() -> None:
    head = JournalHead(owner="berlin", number=3, hash="sha256:" + "0" * 64, at="now\x1b[2J\nall is well")
    for other in (head, head.model_copy(update={"number": 2})):
        said = str(HeadFault(kept=head, shown=other))
        assert said.isprintable() and "now\\x1b[2J\\nall is well" in said


@pytest.mark.parametrize(
    "body", [{}, {"z": 2.0, "a": {"ß": ['"\\', None, True, 1e-7]}, "at": "x", "previous": 3}, {"body": {"hash": ""}}]
)
def test_a_line_is_hashed_as_its_canonical_document(body: dict[str, Any]) -> None:
    for line in written([body, body]):
        assert line.fits_its_hash() and line.body == body
