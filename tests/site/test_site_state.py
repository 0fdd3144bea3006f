from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from archipel.site.membership.creation import create_site
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.site.state.settings import set_proxy
from archipel.vocabulary import ArchipelError, BadInput, Conflict, ErrorCode
from worlds.damaged_databases import DAMAGES, Damage
from worlds.site import make_site


def test_the_newest_revision_leads_to_exactly_the_schema(hospital: StateFolder) -> None:
    from alembic.autogenerate import compare_metadata  # here: few tests need it, and it takes long
    from alembic.migration import MigrationContext

    with hospital.database.read() as connection:
        assert (
            compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), schema.metadata) == []
        )


def test_opening_an_upgraded_database_keeps_its_rows(hospital: StateFolder) -> None:
    again = StateFolder.open(hospital.folder)
    assert again.joined().name == "North"
    assert again.identity.public == hospital.identity.public
    again.close()


def test_a_state_folder_of_an_older_schema_is_refused_in_one_sentence_and_left_alone(hospital: StateFolder) -> None:
    """The folder is made by hand: its database holds what version 0.1.0 wrote first, in that version's form."""
    hospital.close()
    file = hospital.folder / "site.db"
    file.unlink()
    with sqlite3.connect(file) as old:
        old.executescript(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);"
            "INSERT INTO alembic_version VALUES ('0007');"
            "CREATE TABLE datasets (name VARCHAR(63) PRIMARY KEY); INSERT INTO datasets VALUES ('heart');"
        )
    with pytest.raises(ArchipelError) as refused:
        StateFolder.open(hospital.folder)
    sentence = (
        f"{file}: has schema '0007', which this version of Archipel does not know; "
        "open it with the version of Archipel that made it, or start over in a new state folder"
    )
    assert (str(refused.value), refused.value.code) == (sentence, ErrorCode.CONFIGURATION)
    with sqlite3.connect(file) as old:
        assert old.execute("SELECT version_num, name FROM alembic_version, datasets").fetchall() == [("0007", "heart")]


def test_everything_in_the_folder_is_readable_by_its_owner_only(hospital: StateFolder) -> None:
    hospital.joined()
    for path in [hospital.folder, *hospital.folder.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    names = {path.name for path in hospital.folder.iterdir()}
    assert {"site.toml", "site.db", "keys", "blobs", "spool", "state", "logs"} <= names


def test_an_unknown_key_is_named_with_the_nearest_known_one(hospital: StateFolder) -> None:
    file = hospital.folder / "site.toml"
    file.write_text('prxy = ""\n' + file.read_text())
    with pytest.raises(ArchipelError, match="prxy: is not a known key; did you mean proxy") as caught:
        StateFolder.open(hospital.folder)
    assert caught.value.code is ErrorCode.CONFIGURATION


@pytest.mark.parametrize(
    "line",
    ['sandbox = "none"', 'proxy = "proxy:3128"', "uid_base = 0", "reconnect_first_s = 0", 'policy = "open"'],
)
def test_a_value_that_does_not_fit_is_named(hospital: StateFolder, line: str) -> None:
    key = line.split(" ", maxsplit=1)[0]
    (hospital.folder / "site.toml").write_text(f'site = "charite"\n{line}\n')
    with pytest.raises(ArchipelError, match=key):
        StateFolder.open(hospital.folder)


def test_setting_the_proxy_keeps_the_rest_of_the_file(hospital: StateFolder) -> None:
    file = hospital.folder / "site.toml"
    before = file.read_text().splitlines()
    set_proxy(file, "http://proxy.clinic:3128")
    after = file.read_text().splitlines()
    assert [line for line in after if line not in before] == ['proxy = "http://proxy.clinic:3128"']
    assert StateFolder.open(hospital.folder).settings.proxy == "http://proxy.clinic:3128"
    with pytest.raises(BadInput, match="is not the address of a web proxy; give http://host:port"):
        set_proxy(file, 'http://x:1"\nsandbox = "none-i-accept-the-risk')


@pytest.mark.parametrize("name", ["Charité", "", "a b", "-x", "a" * 64, "x\n"])
def test_a_name_no_site_may_have_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="is not a valid name"):
        create_site(tmp_path / "state", name)
    assert not (tmp_path / "state").exists()


def test_a_folder_in_use_is_not_taken_over(hospital: StateFolder, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="is a site already"):
        create_site(hospital.folder, "other")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(Conflict, match="is not empty"):
        create_site(tmp_path / "full", "other")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_a_lost_identity_key_is_not_replaced_silently(hospital: StateFolder) -> None:
    (hospital.keys / "identity.key").unlink()
    with pytest.raises(ArchipelError, match="restore it from the backup"):
        _ = StateFolder.open(hospital.folder).identity
    assert not (hospital.keys / "identity.key").exists()


def test_one_folder_has_one_agent(hospital: StateFolder) -> None:
    other = StateFolder.open(hospital.folder)
    with hospital.held(), pytest.raises(Conflict, match="by an agent already"), other.held():
        pass
    with other.held():
        pass
    other.close()


def test_two_sites_on_one_machine_have_their_own_keys(tmp_path: Path) -> None:
    first, second = make_site(tmp_path / "a", "a"), make_site(tmp_path / "b", "b")
    assert first.identity.public != second.identity.public
    assert first.cohort_key != second.cohort_key


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES)
def test_a_damaged_database_is_not_taken_for_a_new_one(hospital: StateFolder, damage: Damage, sentence: str) -> None:
    hospital.close()
    file = hospital.folder / "site.db"
    damage(file)
    for _ in range(2):
        with pytest.raises(ArchipelError) as refused:
            StateFolder.open(hospital.folder)
        assert (str(refused.value), refused.value.code) == (f"{file}: {sentence}", ErrorCode.CONFIGURATION)
