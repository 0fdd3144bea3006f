"""Whoever can write the site's database changes no setting of a later version, and stops no withdrawal."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select, text, update

from archipel.site.cohorts import cohort_versions
from archipel.site.services import cohort_documents, cohorts, withdrawals
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import Refused
from worlds.people import ANNA
from worlds.site import Terminal

_rows = schema.cohort_pieces


def rewrite(site: StateFolder, number: int, old: bytes, new: bytes) -> None:
    """Another text in one piece of the only cohort; a head keeps its length in front."""
    with site.database.write() as connection:
        content = connection.scalar(select(_rows.c.content).where(_rows.c.number == number))
        assert old in content
        changed = content.replace(old, new)
        if number == 0:
            changed = (len(changed) - 8).to_bytes(8, "little") + changed[8:]
        connection.execute(update(_rows).where(_rows.c.number == number).values(content=changed))


ATTACKS = [
    pytest.param(b'"validation_fraction":0.4', b'"validation_fraction":0.0', id="fraction"),
    pytest.param(b'"settings":{', b'"settings":{"recipe":{"spacing_mm":[9,9,9]},', id="recipe"),
    pytest.param(b'"pseudonyms-of.', b'"pseudonyms-xx.', id="pseudonyms"),
]


@pytest.mark.parametrize(("old", "new"), ATTACKS)
def test_a_changed_setting_is_not_taken_over_by_the_next_version(
    with_table: StateFolder, old: bytes, new: bytes
) -> None:
    cohorts.freeze_version(with_table, "table", by=ANNA, fraction=0.4, pseudonymise=True)
    rewrite(with_table, 0, old, new)
    words = r"cohort table version 1: (is not what was frozen|cannot be read); this site's database was changed by hand"
    with pytest.raises(Refused, match=words):
        cohorts.freeze_version(with_table, "table", by=ANNA)
    with pytest.raises(Refused, match=words):
        cohort_documents.rows(with_table)
    refused = Terminal(with_table.folder)("cohort", "list")
    assert refused.exit_code and re.search(words, str(refused.exception))


def test_the_way_out_is_to_give_every_setting(with_table: StateFolder) -> None:
    cohorts.freeze_version(with_table, "table", by=ANNA, fraction=0.4, pseudonymise=True)
    rewrite(with_table, 0, b'"validation_fraction":0.4', b'"validation_fraction":0.0')
    terminal = Terminal(with_table.folder)
    remedy = str(terminal("cohort", "freeze", "table").exception)
    asked = re.search(r"give (--[a-z-]+), --pseudonymise or (--no-pseudonymise), and (--spacing)$", remedy)
    assert asked is not None, remedy
    done = terminal("cohort", "freeze", "table", asked[1], "0.2", asked[2], asked[3], "no")
    assert done.exit_code == 0 and "dataset table version 2" in done.stdout
    assert terminal("cohort", "show", "table").exit_code == 0


def test_pseudonyms_that_an_attacker_removed_are_missed(with_table: StateFolder) -> None:
    """Without the check the next version would show plans the ids."""
    kept = cohorts.freeze_version(with_table, "table", by=ANNA, pseudonymise=True)
    named = cohort_versions.stored(with_table.database, with_table.cohort_key, "table").cohort
    with with_table.database.write() as connection:
        cohort_versions.stored_cohorts.write(connection, kept.hash, named.model_copy(update={"pseudonyms": {}}))
    with pytest.raises(Refused, match="is not what was frozen"):
        cohorts.freeze_version(with_table, "table", by=ANNA)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        ("UPDATE cohorts SET version = 3 WHERE version = 1", "cohort table version 3: is not what was frozen"),
        ("DELETE FROM cohorts WHERE version = 2", "cohort table version 2: is gone"),
        ("DELETE FROM cohorts", "cohort table version 2: is gone"),
    ],
)
def test_an_older_version_is_not_taken_for_the_newest(with_table: StateFolder, attack: str, words: str) -> None:
    """The first version shows plans the ids, the second pseudonyms."""
    cohorts.freeze_version(with_table, "table", by=ANNA)
    cohorts.freeze_version(with_table, "table", by=ANNA, pseudonymise=True)
    with with_table.database.write() as connection:
        connection.execute(text("PRAGMA defer_foreign_keys = ON"))
        if attack.startswith("DELETE"):
            connection.execute(text("DELETE FROM cohort_pieces WHERE cohort_hash IN (SELECT hash " + attack[7:] + ")"))
        connection.execute(text(attack))
    with pytest.raises(Refused, match=words):
        cohorts.freeze_version(with_table, "table", by=ANNA)
    with pytest.raises(Refused, match=words):
        cohort_documents.document(with_table, "table")


def test_a_cohort_that_cannot_be_read_stops_no_withdrawal_and_is_named(with_table: StateFolder) -> None:
    cohorts.freeze_version(with_table, "table", by=ANNA)
    rewrite(with_table, 0, b'"settings"', b'"sittings"')
    done = withdrawals.withdraw(with_table, ["p-002"], by=ANNA)
    assert [(one.dataset, one.version) for one in done.unreadable] == [("table", 1)]
    assert (done.patients, done.datasets) == (1, ("table",))
    said = " ".join(Terminal(with_table.folder)("cohort", "withdraw", "p-003").stdout.split())
    assert "dataset table version 1 was changed by hand and cannot be read: no task runs on it" in said
    assert "1 withdrawn" in said


@pytest.mark.parametrize("new", [b'"files":["t"]', b'"files":{},"missing":7', b'"files":{"t":1}'])
def test_a_broken_kind_of_samples_is_one_clear_error(with_table: StateFolder, new: bytes) -> None:
    cohorts.freeze_version(with_table, "table", by=ANNA)
    old = b'"files":{"table":"table.npz"}'
    with with_table.database.read() as connection:
        pieces = connection.execute(select(_rows.c.number, _rows.c.content)).all()
    (number,) = [number for number, content in pieces if old in content]
    rewrite(with_table, number, old, new.ljust(len(old)))
    with pytest.raises(Refused, match="cohort table version 1: cannot be read; this site's database was changed"):
        cohort_documents.document(with_table, "table")
