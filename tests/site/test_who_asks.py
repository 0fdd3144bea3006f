"""Who asks: the name that the server gives is shown where people decide, and kept."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from archipel.cli.site import app
from archipel.site.approval import offers
from archipel.site.audit import journal
from archipel.site.state.folder import StateFolder
from worlds.people import approve
from worlds.site import job_for, take_offer


def plans(site: StateFolder, *words: str) -> str:
    done = CliRunner().invoke(app, ["plans", *words, "--state", str(site.folder)], env={"COLUMNS": "250"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_name_is_in_the_list_in_words_for_programs_and_in_the_journal(hospital: StateFolder) -> None:
    offers.record(hospital, job_for(hospital), "Anna Berg")
    assert "Anna Berg" in plans(hospital)
    assert "Asked by, as the server says:\n  | Anna Berg\n  Federation:\n  | North\n" in plans(hospital, "heart")
    assert json.loads(plans(hospital, "--json"))[0]["asked_by"] == "Anna Berg"
    line = journal.lines(hospital.database)[-1]
    assert (line.kind, line.body["asked_by"]) == ("job-offered", "Anna Berg")


def test_another_name_for_a_known_job_is_noted_once_and_asks_nobody_again(with_table: StateFolder) -> None:
    job, _ = take_offer(with_table)
    approve(with_table, "heart")
    for name in ("Anna Berg", "Anna Berg", ""):
        assert offers.record(with_table, job, name) == "approved"
    assert offers.offered(with_table.database, "heart").asked_by == "Anna Berg"
    lines = [line.body for line in journal.lines(with_table.database) if line.kind == "job-asker"]
    assert lines == [{"experiment": "heart", "asked_by": "Anna Berg", "before": ""}]


def test_a_name_is_a_strangers_text(hospital: StateFolder) -> None:
    offers.record(hospital, job_for(hospital), "Anna\x1b[2J")
    for said in (plans(hospital), plans(hospital, "heart")):
        assert "\x1b[2J" not in said and "Anna" in said


def test_an_offer_whose_server_names_nobody_says_so(hospital: StateFolder) -> None:
    offers.record(hospital, job_for(hospital), "")
    assert "The server does not say who asks." in plans(hospital, "heart")
