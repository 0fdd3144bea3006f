from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import text

from archipel.governance import IdentityKey, JournalHead, sign_head
from archipel.governance.journal import JournalEntry
from archipel.site.audit import journal, journal_heads
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import BadInput
from worlds.examples import examples
from worlds.site import SERVER


def keep_receipt(site: StateFolder, receipt: JournalHead) -> None:
    journal_heads.record_seen(site, None, receipt.model_dump(mode="json"))


@pytest.fixture
def written(hospital: StateFolder) -> StateFolder:
    """A site whose journal has lines 1..6; the server countersigned it at 3 and 6."""
    for number in range(2, 7):
        with hospital.database.write() as connection:
            journal.append(connection, "note", {"number": number})
        if number in (3, 6):
            keep_receipt(hospital, sign_head(SERVER, journal.signed_head(hospital)))
    return hospital


def change(site: StateFolder, *statements: str) -> None:
    with site.database.write() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_a_whole_journal_is_proven_against_its_receipts(written: StateFolder) -> None:
    proof = journal.verify(written)
    assert (proof.whole, proof.lines, proof.journal_heads, proof.attested) == (True, 6, 2, 6)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("""UPDATE journal SET body = '{"number":9}' WHERE number = 4""", "line 4 .* was changed"),
        ("""UPDATE journal SET body = '{"number":9,"number":4}' WHERE number = 4""", "line 4 .* was changed"),
        ("UPDATE journal SET body = 'not json' WHERE number = 4", "line 4 .* was changed"),
        ("""UPDATE journal SET body = '{"n":NaN}' WHERE number = 4""", "line 4 .* was changed"),
        (f"""UPDATE journal SET body = '{{"n":{"[" * 9999}{"]" * 9999}}}' WHERE number = 4""", "line 4 .* was changed"),
        ("UPDATE journal SET kind = 'approved' WHERE number = 4", "line 4 .* was changed"),
        ("UPDATE journal SET at = '2020' WHERE number = 4", "line 4 .* was changed"),
        ("UPDATE journal SET hash = 'sha256:x' WHERE number = 4", "line 4 .* was changed"),
        ("UPDATE journal SET previous = '' WHERE number = 4", "line 4 .* was changed"),
        ("DELETE FROM journal WHERE number = 4", "line 4 is missing"),
        ("DELETE FROM journal WHERE number > 4", "the end was cut off after line 4: line 6 was attested"),
        ("DELETE FROM journal", "the end was cut off after line 0"),
        ("INSERT INTO journal SELECT 7, at, kind, body, previous, hash FROM journal WHERE number = 6", "line 7 .* was"),
    ],
)
def test_what_was_done_to_the_journal_is_found(written: StateFolder, statement: str, words: str) -> None:
    change(written, statement)
    proof = journal.verify(written)
    assert not proof.whole
    assert any(re.search(words, problem) for problem in proof.problems), proof.problems


def rewritten(site: StateFolder, drop: int | None = None, insert_after: int | None = None) -> None:
    """Forge the chain again from the start, every hash right, as one who owns the database could."""
    lines = journal.lines(site.database)
    change(site, "DELETE FROM journal")
    for line in lines:
        if line.number == drop:
            continue
        with site.database.write() as connection:
            journal.append(connection, line.kind, line.body)
            if line.number == insert_after:
                journal.append(connection, "approved", {"experiment": "never"})


def test_a_line_inserted_into_a_chain_made_anew_is_found_by_the_receipts(written: StateFolder) -> None:
    rewritten(written, insert_after=2)
    assert "line 3 is not the one attested" in journal.verify(written).problems[0]


def test_a_line_removed_from_a_chain_made_anew_is_found_by_the_receipts(written: StateFolder) -> None:
    rewritten(written, drop=5)
    assert any("line 6 was attested" in problem for problem in journal.verify(written).problems)


def test_a_cut_with_its_receipts_is_found_by_a_fresh_head(written: StateFolder) -> None:
    fresh = sign_head(SERVER, journal.signed_head(written))
    change(written, "DELETE FROM journal WHERE number > 2", "DELETE FROM receipts")
    assert journal.verify(written).whole
    assert "cut off after line 2: line 6 was attested" in journal.verify(written, [fresh]).problems[0]


def test_a_head_without_the_servers_signature_proves_nothing(written: StateFolder) -> None:
    forged = sign_head(IdentityKey.generate(), journal.signed_head(written))
    assert "does not carry the server's or this site's signature" in journal.verify(written, [forged]).problems[0]
    with pytest.raises(BadInput, match="is not signed by this server"):
        keep_receipt(written, forged)
    other = sign_head(SERVER, forged.model_copy(update={"owner": "other", "signature": ""}))
    assert "is of the journal of other" in journal.verify(written, [other]).problems[0]


def test_a_receipt_forged_in_the_database_is_found(written: StateFolder) -> None:
    change(written, "UPDATE receipts SET number = 2 WHERE number = 3")
    assert any("does not carry the server's signature" in problem for problem in journal.verify(written).problems)
    change(written, "UPDATE receipts SET hash = 'x' WHERE number = 2")
    assert any("cannot be read: it was changed" in problem for problem in journal.verify(written).problems)


def test_a_receipt_kept_twice_is_kept_once_and_the_first_stays(written: StateFolder) -> None:
    def kept() -> list[object]:
        with written.database.read() as connection:
            return list(connection.execute(text("SELECT number, signature FROM receipts WHERE number = 6")).all())

    before = kept()
    assert len(before) == 1
    for at in ("2026", "2027"):
        later = journal.signed_head(written).model_copy(update={"at": at})
        keep_receipt(written, sign_head(SERVER, later))
    assert kept() == before


def test_how_far_the_journal_is_attested_is_known(written: StateFolder) -> None:
    assert journal.unattested_head(written) is None
    change(written, "DELETE FROM receipts WHERE number = 6")
    assert journal.verify(written).attested == 3
    head = journal.unattested_head(written)
    assert head is not None and head.is_signed_by(written.identity.public)
    assert journal.verify(written, [head]).attested == 6
    change(written, "DELETE FROM journal WHERE number > 3")
    assert (journal.verify(written).whole, journal.verify(written).attested) == (True, 3)
    change(written, "DELETE FROM receipts")
    assert (journal.verify(written).whole, journal.verify(written).attested) == (True, 0)
    change(written, "DELETE FROM journal")
    assert journal.verify(written).problems == ("every line is gone: the first of a site's journal is site-made",)


def test_a_receipt_that_only_the_site_itself_signed_attests_nothing(written: StateFolder) -> None:
    own = journal.signed_head(written)
    change(written, f"UPDATE receipts SET at = '{own.at}', signature = '{own.signature}' WHERE number = 6")
    proof = journal.verify(written)
    assert not proof.whole and proof.attested == 3


def test_an_export_holds_every_line_and_the_signed_head(written: StateFolder) -> None:
    *lines, head = [json.loads(line) for line in journal.export(written)]
    assert [JournalEntry(**line) for line in lines] == journal.lines(written.database)
    assert JournalHead(**head).is_signed_by(written.identity.public)
    assert head["number"] == 6


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(1, 6), column=st.sampled_from(["at", "kind", "body", "previous", "hash"]), data=st.data())
def test_one_character_changed_anywhere_is_found(
    written: StateFolder, number: int, column: str, data: st.DataObject
) -> None:
    with written.database.read() as connection:
        query = f"SELECT {column} FROM journal WHERE number = {number}"
        before = connection.exec_driver_sql(query).scalar_one()
    place = data.draw(st.integers(0, len(before) - 1))
    character = data.draw(st.characters(codec="ascii").filter(lambda other: other != before[place]))
    store(written, column, number, before[:place] + character + before[place + 1 :])
    try:
        assert any(f"line {number} " in problem for problem in journal.verify(written).problems)
    finally:
        store(written, column, number, before)
    assert journal.verify(written).whole


def store(site: StateFolder, column: str, number: int, value: str) -> None:
    with site.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE journal SET {column} = ? WHERE number = ?", (value, number))
