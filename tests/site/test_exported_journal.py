"""An exported journal is proved without the site's folder: by its chain, the signature at its end, and who says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from archipel.cli.site import app
from archipel.governance import IdentityKey, JournalHead, sign_head
from archipel.site.approval import decisions, offers
from archipel.site.audit import export, journal
from archipel.site.membership.creation import create_site
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import BadInput, Conflict
from worlds.examples import examples
from worlds.people import ANNA
from worlds.site import SERVER, job_for


def text_of(site: StateFolder) -> str:
    return "".join(f"{line}\n" for line in journal.export(site))


def terminal(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["journal", *map(str, words)], env={"COLUMNS": "250", "ARCHIPEL_SITE_STATE": ""})


def test_an_export_proves_itself_and_says_whose_key_signed(with_table: StateFolder) -> None:
    proof = export.verify(text_of(with_table))
    assert proof.whole and (proof.site, proof.key) == ("charite", with_table.identity.public)
    assert proof.lines == len(journal.lines(with_table.database))
    assert export.verify(text_of(with_table), with_table.identity.public).whole


@examples(80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_character_changed_anywhere_is_found(with_table: StateFolder, data: st.DataObject) -> None:
    text = text_of(with_table)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from('0a}"{,:Z\n ').filter(lambda one: one != text[place]))
    changed = text[:place] + other + text[place + 1 :]
    if changed.split() == text.split():
        return
    try:
        assert not export.verify(changed, with_table.identity.public).whole
    except BadInput as error:
        assert "does not end with a signed head" in str(error)


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\n", "\r\n"])
def test_no_character_in_a_note_breaks_the_proof(with_table: StateFolder, end: str) -> None:
    offers.record(with_table, job_for(with_table), f"Dr.{end}Who")
    decisions.reject(with_table.database, "heart", by=ANNA, note=f"no{end}{{}}{end}yes")
    text = text_of(with_table)
    assert export.verify(text).problems == ()
    assert export.verify(text.replace("\n", "\r\n")).problems == (), "as it comes from a Windows editor"


def test_a_line_that_says_one_thing_twice_is_found(with_table: StateFolder) -> None:
    text = text_of(with_table)
    forged = text.replace('"kind":"dataset-added"', '"kind":"dataset-removed","kind":"dataset-added"')
    assert forged != text and not export.verify(forged).whole
    inside = text.replace('"name":"table"', '"name":"brains","name":"table"')
    assert inside != text and not export.verify(inside).whole


@pytest.mark.parametrize("gone", [0, 1, -2])
def test_a_line_that_was_taken_out_is_found(with_table: StateFolder, gone: int) -> None:
    lines = text_of(with_table).splitlines()
    del lines[gone]
    assert not export.verify("\n".join(lines)).whole
    with pytest.raises(BadInput, match="does not end with a signed head: its end was cut off"):
        export.verify("\n".join(lines[:-1]))


def test_a_journal_written_anew_by_another_key_is_found_by_who_knows_the_key_or_kept_a_head(
    with_table: StateFolder, tmp_path: Path
) -> None:
    kept = sign_head(SERVER, journal.signed_head(with_table))
    other = create_site(tmp_path / "other", "charite")
    forged = text_of(other)
    other.close()
    assert export.verify(forged).whole
    of_another = export.verify(forged, with_table.identity.public)
    assert any("the journal is of another site" in problem for problem in of_another.problems)
    assert not export.verify(forged, None, [kept]).whole


def test_a_head_that_nobody_known_signed_proves_nothing(with_table: StateFolder) -> None:
    stranger = sign_head(IdentityKey.generate(), journal.signed_head(with_table))
    assert any(
        "it is not signed by a known key" in one
        for one in export.verify(text_of(with_table), None, [stranger]).problems
    )


def test_what_was_written_is_said_and_no_file_is_written_over(with_table: StateFolder, tmp_path: Path) -> None:
    file, state = tmp_path / "journal.jsonl", ("--state", with_table.folder)
    said = terminal("export", file, *state).stdout
    count = len(journal.lines(with_table.database))
    assert f"wrote {count} lines to {file}, the last with its head signed by {with_table.identity.public}" in said
    assert isinstance(terminal("export", file, *state).exception, Conflict)
    assert terminal("export", file, "--force", *state).exit_code == 0
    printed = terminal("export", *state)
    assert json.loads(printed.stdout.splitlines()[-1])["number"] == count and f"wrote {count} lines" in printed.stderr


def test_a_file_is_verified_without_a_sites_folder(with_table: StateFolder, tmp_path: Path) -> None:
    file, head = tmp_path / "journal.jsonl", tmp_path / "head.json"
    file.write_text(text_of(with_table))
    head.write_text(sign_head(with_table.identity, journal.signed_head(with_table)).model_dump_json())
    done = terminal("verify", "--file", file, "--head", head)
    assert done.exit_code == 0 and "the export of charite is intact" in done.stdout
    assert "compare it with the site's key at the server, or give that key with --key" in done.stdout
    stranger = IdentityKey.generate().public
    done = terminal("verify", "--file", file, "--key", stranger, "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["whole"] is False
    later = JournalHead.model_validate_json(head.read_text()).model_copy(update={"number": 99})
    head.write_text(sign_head(with_table.identity, later).model_dump_json())
    done = terminal("verify", "--file", file, "--head", head)
    assert done.exit_code == 1 and "line 99 was attested" in done.stdout
