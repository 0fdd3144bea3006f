"""The newest revision and the tables of the code say the same; a state folder of an older schema is refused."""

from __future__ import annotations

import sqlite3

import pytest

from archipel.server.membership.federation import ServerContext
from archipel.server.state.schema import metadata
from archipel.vocabulary import ArchipelError, ErrorCode
from worlds.damaged_databases import DAMAGES, Damage


def test_the_newest_revision_leads_to_exactly_the_tables(federation: ServerContext) -> None:
    from alembic.autogenerate import compare_metadata  # here: few tests need it, and it takes long
    from alembic.migration import MigrationContext

    with federation.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_a_state_folder_of_an_older_schema_is_refused_in_one_sentence_and_left_alone(federation: ServerContext) -> None:
    """The folder is made by hand: its database holds what version 0.1.0 wrote first, in that version's form."""
    federation.database.close()
    file = federation.state.root / "server.db"
    file.unlink()
    with sqlite3.connect(file) as old:
        old.executescript(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);"
            "INSERT INTO alembic_version VALUES ('0002');"
            "CREATE TABLE sites (site VARCHAR(63) PRIMARY KEY); INSERT INTO sites VALUES ('berlin');"
        )
    with pytest.raises(ArchipelError) as refused:
        ServerContext.open(federation.state)
    sentence = (
        f"{file}: has schema '0002', which this version of Archipel does not know; "
        "open it with the version of Archipel that made it, or start over in a new state folder"
    )
    assert (str(refused.value), refused.value.code) == (sentence, ErrorCode.CONFIGURATION)
    with sqlite3.connect(file) as old:
        assert old.execute("SELECT version_num, site FROM alembic_version, sites").fetchall() == [("0002", "berlin")]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES)
def test_a_damaged_database_is_not_taken_for_a_new_one(
    federation: ServerContext, damage: Damage, sentence: str
) -> None:
    federation.close()
    file = federation.state.root / "server.db"
    damage(file)
    for _ in range(2):
        with pytest.raises(ArchipelError) as refused:
            ServerContext.open(federation.state)
        assert (str(refused.value), refused.value.code) == (f"{file}: {sentence}", ErrorCode.CONFIGURATION)
