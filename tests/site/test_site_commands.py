from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from archipel.cli.site import app
from archipel.governance import JournalHead, job_hash, sign_head
from archipel.site.approval import authorisation, offers
from archipel.site.audit import journal, journal_heads
from archipel.site.datasets import catalog
from archipel.site.services import datasets
from archipel.site.state import OfferState, SiteJournalKind, schema
from archipel.site.state.folder import StateFolder
from archipel.storage import utc_now
from archipel.tensors import blob_hash
from archipel.transport.wakeup import Wakeup
from archipel.vocabulary import ArchipelError, ErrorCode, Failure, PlanReference
from worlds.data_files import write_pairs, write_rows, write_volume
from worlds.people import ANNA
from worlds.site import PLAN, SERVER, Terminal, job_for, make_site, take_offer


def test_a_new_site_says_its_name_and_identity(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "s"), "--name", "charite"])
    identity = StateFolder.open(tmp_path / "s").identity.public
    assert "site charite created" in result.stdout
    assert identity in result.stdout
    status = Terminal(tmp_path / "s")("status").stdout
    assert "has not joined a federation yet" in status
    assert "agent stopped" in status


def test_the_state_folder_can_be_named_on_the_command(with_table: StateFolder) -> None:
    result = CliRunner().invoke(app, ["dataset", "list", "--state", str(with_table.folder), "--json"])
    assert [entry["name"] for entry in json.loads(result.stdout)] == ["table"]


def test_a_folder_that_is_no_site_is_named(tmp_path: Path) -> None:
    result = Terminal(tmp_path)("status")
    assert isinstance(result.exception, ArchipelError)
    assert "site.toml: is not there; run init first" in str(result.exception)


def test_status_for_a_program_holds_everything(terminal: Terminal, with_table: StateFolder) -> None:
    take_offer(with_table)
    bell = Wakeup(terminal.state)
    try:
        status = terminal.json("status")
    finally:
        bell.close()
    assert (status["site"], status["agent"], status["sandbox"]) == ("charite", "running", "required")
    assert status["federation"]["name"] == "North"
    assert [entry["subjects"] for entry in status["datasets"]] == [6]
    assert [entry["state"] for entry in status["experiments"]] == ["offered"]


def test_status_says_which_lines_of_the_opt_out_list_match_nobody(terminal: Terminal) -> None:
    assert terminal.json("status")["opt_outs"] is None
    listed = terminal.state / "opt-out.txt"
    listed.write_text("p-001\np-0O2\n")
    assert terminal.json("status")["opt_outs"] == {
        "patients": 2,
        "unmatched": [2],
        "also_there": [],
        "problem": None,
    }
    said = terminal("status").stdout
    assert "opt-out.txt names 2 patients; line 2 matches no subject in any dataset here" in said
    assert "p-0O2" not in said
    listed.write_text("".join(f"q-{number}\n" for number in range(1, 41)) + "p-002\n")
    said = terminal("status").stdout
    assert "names 41 patients; lines 1 to 40 match no subject in any dataset here" in said
    listed.write_text("a/b/c\n")
    assert "opt-out.txt line 1: names no subject" in terminal("status").stdout
    assert "line 1: names no subject" in terminal.json("status")["opt_outs"]["problem"]


def test_a_mistyped_patient_is_no_success_and_the_likely_one_is_named(terminal: Terminal) -> None:
    done = terminal("cohort", "withdraw", "p-0O2")
    assert done.exit_code == 1
    assert "p-0O2 matches no subject in any dataset here; did you mean p-002?" in done.stdout
    assert "0 of 1 are patients here" in done.stdout and "the others are noted" in done.stdout
    assert terminal.json("dataset", "list")[0]["subjects"] == 6
    again = terminal("cohort", "withdraw", "p-0O2")
    assert again.exit_code == 1 and "already" not in again.stdout
    done = terminal("cohort", "withdraw", "p-01", "p-3", "--dataset", "table")
    assert done.exit_code == 1
    assert "p-01 matches no subject in dataset table; did you mean p-001?" in done.stdout
    assert "p-3 matches no subject in dataset table; did you mean p-003?" in done.stdout
    done = terminal("cohort", "withdraw", "p-001", "somebody else")
    assert done.exit_code == 1
    assert "somebody else matches no subject in any dataset here\n" in done.stdout
    assert "1 of 2 is a patient here" in done.stdout
    assert terminal.json("dataset", "list")[0]["subjects"] == 5
    assert terminal("cohort", "withdraw", "p-003").exit_code == 0


def test_a_withdrawal_by_mistake_is_undone_for_later_versions(terminal: Terminal) -> None:
    assert terminal("cohort", "withdraw", "p-002").exit_code == 0
    assert terminal.json("dataset", "list")[0]["subjects"] == 5
    assert "reinstated; freeze the dataset again" in terminal("cohort", "reinstate", "p-002").stdout
    version = terminal.json("cohort", "freeze", "table")
    assert (version["subjects"], version["remaining"]) == (6, 6)
    assert "is not withdrawn there" in str(terminal("cohort", "reinstate", "p-002").exception)


def test_whoever_withdrew_is_not_suggested_for_a_mistyped_id(terminal: Terminal) -> None:
    assert terminal("cohort", "withdraw", "p-002").exit_code == 0
    assert "p-002" not in terminal("cohort", "withdraw", "p-2").stdout


def test_a_patient_with_faulty_files_is_a_patient_here(
    terminal: Terminal, with_table: StateFolder, tmp_path: Path
) -> None:
    root = write_pairs(tmp_path / "brain")
    (root / "labels" / "sub-01.nii.gz").write_bytes(b"no volume")
    datasets.add(with_table, "brain", root, "nifti-pairs", leave_out_faulty=True, by=ANNA)
    assert terminal("cohort", "withdraw", "sub-01").exit_code == 0


def test_an_opt_out_list_may_name_patients_who_are_not_here(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("p-001\np-0O2\n")
    done = terminal("cohort", "withdraw", "--file", str(tmp_path / "list.txt"))
    assert done.exit_code == 0
    assert "no dataset here contains 1 of them; a dataset that contains them later leaves them out" in done.stdout
    assert "p-0O2" not in done.stdout


def test_freezing_says_when_the_version_was_there_and_when_few_measure(
    terminal: Terminal, with_table: StateFolder, tmp_path: Path
) -> None:
    said = terminal("cohort", "freeze", "table", "--name", "spring", "--validation-fraction", "0.25").stdout
    assert "dataset table version 1 spring: 6 subjects" in said and "already" not in said
    assert "warning: only " in said and "close to one patient's own value" in said
    said = terminal("cohort", "freeze", "table", "--name", "spring").stdout
    assert "version 1 exists already with the same content" in said
    document = terminal.json("cohort", "freeze", "table", "--name", "spring")
    assert document["is_new"] is False and document["version"] == 1
    (warning,) = document["warnings"]
    assert warning.endswith("close to one patient's own value")
    assert terminal.json("cohort", "list")[0]["validation_fraction"] == 0.25
    write_rows(tmp_path / "data", rows=60)
    assert "warning" not in terminal("cohort", "freeze", "table").stdout


def test_approving_says_how_many_measure_the_model(terminal: Terminal, with_table: StateFolder) -> None:
    take_offer(with_table, validation_fraction=0.25)
    said = terminal("approve", "heart", answer="n\n").stdout
    assert "of the 6 subjects (asked for: about 25%)" in said
    assert "WARNING: only " in said


def test_every_problem_of_a_dataset_is_printed(terminal: Terminal, tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "brain")
    (root / "labels" / "sub-00.nii.gz").unlink()
    write_volume(root / "labels" / "sub-01.nii.gz", np.zeros((6, 7, 9), np.uint8))
    result = terminal("dataset", "add", "brain", str(root))
    assert "- sub-00: no label beside the image" in result.stdout
    assert "- sub-01: the image has shape" in result.stdout
    assert "dataset brain: has 2 problems; fix the data and add it again" in str(result.exception)
    assert len(terminal.json("dataset", "list")) == 1


def test_a_dataset_is_added_with_label_names_and_removed(terminal: Terminal, tmp_path: Path) -> None:
    result = terminal(
        "dataset", "add", "brain", str(write_pairs(tmp_path / "b")), "--label", "1=front", "--label", "2=back"
    )
    assert "dataset brain added: 3 subjects" in result.stdout
    assert terminal.json("dataset", "list")[0]["labels"] == {"1": "front", "2": "back"}
    assert "its files are untouched" in terminal("dataset", "remove", "brain").stdout
    wrong = terminal("dataset", "add", "brain", str(tmp_path / "b"), "--label", "front")
    assert "is not VALUE=NAME; give for example --label 1=anterior" in str(wrong.exception)


def test_approving_shows_what_will_run_and_asks(terminal: Terminal, with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    no = terminal("approve", "heart", answer="n\n")
    assert no.exit_code == 1
    assert "nothing was approved" in no.stdout
    for words in ("Who asks?", "What leaves this site?", "1 class Tiny(Plan):", "rate (now 0.1): 0 to 1", hashed):
        assert words in no.stdout, words
    assert offers.offered(with_table.database, "heart").state == "offered"
    yes = terminal("approve", "heart", answer="y\n")
    assert f"approved heart for 6 subjects of dataset table version 1: job {hashed}" in yes.stdout
    authorisation.authorise(with_table, "heart", hashed)


@pytest.mark.parametrize("decisions", [["approve"], ["reject"], ["approve", "revoke"]])
def test_a_note_on_a_decision_is_in_the_journal_and_shown_with_the_experiment(
    terminal: Terminal, with_table: StateFolder, decisions: list[str]
) -> None:
    take_offer(with_table)
    for verb in decisions:
        asked = ["--yes"] if verb == "approve" else []
        assert terminal(verb, "heart", *asked, "--note", f"ethics vote on {verb}").exit_code == 0
        assert journal.lines(with_table.database)[-1].body["note"] == f"ethics vote on {verb}"
    note = f"ethics vote on {decisions[-1]}"
    for shown in (terminal("plans"), terminal("plans", "heart"), terminal("status")):
        assert note in shown.stdout
    assert terminal.json("plans")[0]["note"] == note
    with with_table.database.read() as connection:
        approval = connection.scalar(select(schema.experiments.c.approval))
    assert note not in (approval or ""), "what is signed is sent to the server"


def test_the_subjects_a_person_is_asked_about_are_those_on_the_disk(
    terminal: Terminal, with_table: StateFolder, tmp_path: Path
) -> None:
    take_offer(with_table)
    write_rows(tmp_path / "data", rows=8)
    asked = terminal("approve", "heart", answer="y\n")
    assert "Dataset table, which holds 8 subjects" in asked.stdout
    assert terminal.json("dataset", "list")[0]["subjects"] == 8
    (tmp_path / "data" / "table.npz").unlink()
    gone = terminal("approve", "heart", answer="y\n")
    assert "no .npz file in the folder" in gone.stdout
    assert "Who asks?" not in gone.stdout


def test_decisions_by_a_script_need_no_answer(terminal: Terminal, with_table: StateFolder) -> None:
    take_offer(with_table)
    assert terminal("approve", "heart", "--yes", "--note", "board 12/3").exit_code == 0
    assert terminal.json("plans")[0]["note"] == "board 12/3"
    assert "nothing of it runs here any more" in terminal("revoke", "heart").stdout
    assert "rejected heart" in terminal("reject", "heart", "--note", "no").stdout
    assert terminal.json("plans")[0]["state"] == "rejected"
    kinds = [line["kind"] for line in terminal.json("journal", "show", "--last", "3")]
    assert kinds == ["approved", "revoked", "rejected"]


def test_a_script_approves_only_the_job_it_names(terminal: Terminal, with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    other = terminal("approve", "heart", "--yes", "--job", "sha256:" + "0" * 64)
    assert "its job has changed since it was shown; read the new one" in str(other.exception)
    assert terminal("approve", "heart", "--yes", "--job", hashed).exit_code == 0


def test_nobody_is_asked_about_another_job_than_the_one_named(terminal: Terminal, with_table: StateFolder) -> None:
    # Shown one job, and another named: were the other one offered before the answer, it would be approved unseen.
    _, shown = take_offer(with_table)
    other = job_for(with_table, title="another")

    def answers(*_: object, **__: object) -> bool:
        offers.record(with_table, other)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.confirm", answers)
        result = terminal("approve", "heart", "--job", job_hash(other))
    assert "its job has changed since it was shown" in str(result.exception)
    offer = offers.offered(with_table.database, "heart")
    assert (offer.state, offer.job_hash) == (OfferState.OFFERED, shown)


def test_a_plan_cannot_hide_its_lines_from_the_terminal(terminal: Terminal, with_table: StateFolder) -> None:
    hidden = "steal = 1  # \x1b[1A\x1b[2K\x1b[8m \u200b [red]x[/red]"
    source = PLAN + hidden.encode()
    with_table.blobs.put(source)
    reference = PlanReference(files={"tiny.py": blob_hash(source)}, entry="tiny.py", class_name="Tiny")
    offers.record(with_table, job_for(with_table, plan=reference, title="\x1b[2Jnice"))
    result = terminal("plans", "heart")
    assert r"steal = 1  # \x1b[1A\x1b[2K\x1b[8m \u200b [red]x[/red]" in result.stdout
    assert r"\x1b[2Jnice" in result.stdout
    assert "\x1b[2J" not in result.stdout
    assert r"\x1b[2Jnice" in terminal("plans").stdout


@pytest.mark.parametrize("blank", ["\u3164", "\u115f", "\u1160", "\uffa0"])
def test_a_letter_that_shows_nothing_is_written_out(terminal: Terminal, with_table: StateFolder, blank: str) -> None:
    source = PLAN + f"quiet = ['samples,{blank}']\n".encode()
    with_table.blobs.put(source)
    reference = PlanReference(files={"tiny.py": blob_hash(source)}, entry="tiny.py", class_name="Tiny")
    offers.record(with_table, job_for(with_table, plan=reference))
    shown = terminal("plans", "heart").stdout
    written = blank.encode("unicode_escape").decode()
    assert f"quiet = ['samples,{written}']" in shown and blank not in shown


def test_a_job_with_reasons_against_it_shows_them_before_anybody_is_asked(
    terminal: Terminal, with_table: StateFolder
) -> None:
    job, _ = take_offer(with_table)
    catalog.remove(with_table.database, "table", by=ANNA)
    document = terminal.json("plans", "heart")
    questions = dict(document["explanation"])
    assert "dataset table: is not in the catalog" in questions["What prevents it?"]
    assert document["job"] == job.model_dump(mode="json")
    assert document["files"] == {"tiny.py": PLAN.decode()}


def test_every_file_of_a_plan_is_shown_with_its_name_and_hash(terminal: Terminal, with_table: StateFolder) -> None:
    losses = b"def loss(): return 'second'  # \x1b[2J\n"
    files = {"tiny.py": blob_hash(PLAN), "losses.py": with_table.blobs.put(losses)}
    take_offer(with_table, plan=PlanReference(files=files, entry="tiny.py", class_name="Tiny"))
    shown = terminal("plans", "heart").stdout
    assert f"The plan, tiny.py, {files['tiny.py']}" in shown and "class Tiny" in shown
    assert f"A file of the plan, losses.py, {files['losses.py']}" in shown and "return 'second'" in shown
    assert "tiny.py, which uses losses.py (the whole text of each is below)" in " ".join(shown.split())
    assert "\x1b[2J" not in shown
    document = terminal.json("plans", "heart")
    assert document["files"] == {"tiny.py": PLAN.decode(), "losses.py": losses.decode()}
    with_table.blobs.delete(files["losses.py"])
    assert terminal("plans", "heart").stdout.count("has not been fetched yet") == 2
    assert "its plan has not been fetched yet" in str(terminal("approve", "heart", "--yes").exception)


def test_verifying_the_journal_answers_by_exit_code(
    terminal: Terminal, with_table: StateFolder, tmp_path: Path
) -> None:
    head = tmp_path / "head.json"
    head.write_text(sign_head(SERVER, journal.signed_head(with_table)).model_dump_json())
    assert terminal.json("journal", "verify", "--head", str(head))["journal_heads"] == 1
    with with_table.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM journal WHERE number = 2")
    assert terminal("journal", "verify").exit_code == 0
    cut = terminal("journal", "verify", "--head", str(head))
    assert cut.exit_code == 1
    assert "- the end was cut off after line 1" in cut.stdout
    assert "NOT intact" in cut.stdout
    head.write_text("{}")
    assert "is not a journal head" in str(terminal("journal", "verify", "--head", str(head)).exception)


def test_verifying_the_journal_says_how_far_it_is_attested(terminal: Terminal, with_table: StateFolder) -> None:
    def verdict() -> str:
        return " ".join(terminal("journal", "verify").stdout.split())

    def write(*kinds: str) -> None:
        for kind in kinds:
            with with_table.database.write() as connection:
                journal.append(connection, kind, {})

    assert "the chain of 2 lines is consistent but not attested: lines may be missing at its end" in verdict()
    assert "archipel server site head charite" in verdict()
    receipt = sign_head(SERVER, journal.signed_head(with_table)).model_dump(mode="json")
    journal_heads.record_seen(with_table, None, receipt)
    assert "the journal is intact up to line 2: compared with 1 attested heads, and nothing follows it" in verdict()
    write("note")
    assert "intact up to line 2: compared with 1 attested heads; line 3 is not attested yet" in verdict()
    write("note", "note")
    assert "lines 3-5 are not attested yet" in verdict()
    with with_table.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM journal WHERE number > 2")
        connection.exec_driver_sql("DELETE FROM receipts")
    assert "but not attested" in verdict() and "is intact" not in verdict()
    with with_table.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM journal")
    assert "every line is gone" in verdict() and "is NOT intact" in verdict()
    with with_table.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM federation")
    write(SiteJournalKind.SITE_MADE)
    assert "it can be attested after joining" in verdict()


def test_a_server_whose_journal_went_back_is_seen_in_the_status(terminal: Terminal, with_table: StateFolder) -> None:
    missing = terminal("journal", "server-head").exception
    assert "head of the server's journal: none came yet" in str(missing)
    assert terminal.json("status")["server_journal_faults"] == []
    for number in (42, 17):
        unsigned = JournalHead(owner="server", number=number, hash="sha256:" + "1" * 64, at=f"day {number}")
        journal_heads.record_seen(with_table, sign_head(SERVER, unsigned).model_dump(mode="json"), None)
    (fault,) = terminal.json("status")["server_journal_faults"]
    assert fault.startswith("line 42 existed on day 42; on day 17 line 17 was the last: a backup was restored there")
    assert "the server's journal lost or changed lines: line 42" in terminal("status").stdout
    assert json.loads(terminal("journal", "server-head").stdout)["number"] == 17


def test_the_journal_is_shown_in_full(terminal: Terminal) -> None:
    assert "format npz, name table, subjects 6" in terminal("journal", "show").stdout


def test_the_journal_is_exported_as_json_lines(terminal: Terminal, tmp_path: Path) -> None:
    printed = terminal("journal", "export").stdout
    assert [json.loads(line)["number"] for line in printed.splitlines()] == [1, 2, 2]
    terminal("journal", "export", str(tmp_path / "journal.jsonl"))
    assert (tmp_path / "journal.jsonl").read_text().splitlines()[:2] == printed.splitlines()[:2]


def test_errors_are_listed_shown_and_released(terminal: Terminal, with_table: StateFolder) -> None:
    take_offer(with_table)
    failure = Failure(
        code=ErrorCode.PLAN_ERROR, sentence="the plan raised an error", exception="KeyError", file="plan.py", line=7
    )
    row = {"experiment": "heart", "round": 1, "attempt": 1, "kind": "train", "about": "", "task": "{}"}
    row |= {"task_hash": "sha256:" + "0" * 64, "state": "failed", "failure": failure.model_dump_json()}
    with with_table.database.write() as connection:
        connection.execute(schema.tasks.insert().values(**row, detail="KeyError: \x1b[2Jp-001", accepted_at=utc_now()))
    assert terminal.json("errors", "list")[0]["failure"] == "the plan raised an error [KeyError] (plan.py:7)"
    assert r"KeyError: \x1b[2Jp-001" in terminal("errors", "show", "heart", "1").stdout
    assert "released 1 error text(s) of heart round 1" in terminal("errors", "release", "heart", "1").stdout
    assert terminal.json("errors", "list")[0]["released"] is True
    assert "errors of heart round 9: there are none here" in str(terminal("errors", "show", "heart", "9").exception)


@pytest.mark.processes
def test_the_commands_work_as_processes_and_say_errors_in_one_line(tmp_path: Path) -> None:
    def archipel(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from archipel.cli import main; main()", "site", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    state, data = str(tmp_path / "state"), str(write_rows(tmp_path / "data"))
    made = archipel("init", state, "--name", "charite")
    assert (made.returncode, made.stderr) == (0, "")
    added = archipel("dataset", "add", "table", data, "--format", "npz", "--state", state)
    assert (added.returncode, added.stderr) == (0, "")
    again = archipel("dataset", "add", "table", data, "--format", "npz", "--state", state)
    assert again.returncode == 1
    assert again.stderr.startswith("error: dataset table: is in the catalog already")
    assert again.stderr.count("\n") == 1
    unjoined = archipel("approve", "heart", "--yes", "--state", state)
    assert unjoined.stderr == "error: experiment heart: was not offered to this site; see archipel site plans\n"
    assert archipel("journal", "verify", "--state", state).returncode == 0


@pytest.mark.processes
def test_a_running_agents_tracebacks_hold_no_values(hospital: StateFolder) -> None:
    program = (
        "import sys, structlog; from archipel.cli import main; from archipel.site.agent import process\n"
        "def run(folder):\n"
        "    patient = 'sub-' + str(4711)\n"
        "    structlog.get_logger('x').debug('not at this level')\n"
        "    try:\n"
        "        raise RuntimeError('went wrong')\n"
        "    except RuntimeError as error:\n"
        "        structlog.get_logger('x').error('a task failed', exc_info=error)\n"
        "process.run = run; main()\n"
    )
    settings = hospital.folder / "site.toml"
    settings.write_text('log_level = "warning"\n' + settings.read_text())
    command = [sys.executable, "-c", program, "site", "start", "--state", str(hospital.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "a task failed" in done.stderr and "RuntimeError: went wrong" in done.stderr
    assert "sub-4711" not in done.stderr and "not at this level" not in done.stderr
    assert done.stdout == ""


@pytest.mark.processes
def test_two_processes_append_to_one_journal_without_breaking_its_chain(tmp_path: Path) -> None:
    site = make_site(tmp_path / "state")
    program = (
        "import sys; from pathlib import Path\n"
        "from archipel.site.audit import journal; from archipel.site.state.folder import StateFolder\n"
        "site = StateFolder.open(Path(sys.argv[1]))\n"
        "for number in range(40):\n"
        "    with site.database.write() as connection:\n"
        "        journal.append(connection, 'note', {'number': number})\n"
    )
    command = [sys.executable, "-c", program, str(site.folder)]
    running = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    verified = journal.verify(site)
    assert (verified.whole, verified.lines) == (True, 81)


def test_a_plan_of_one_line_without_end_is_shown_whole(terminal: Terminal, with_table: StateFolder) -> None:
    # One text of the plan, and not 900,000 parts of it: that those are read too is another test's to say.
    source = PLAN + b"x = '" + b"(" * 900_000 + b"'"
    with_table.blobs.put(source)
    reference = PlanReference(files={"tiny.py": blob_hash(source)}, entry="tiny.py", class_name="Tiny")
    offers.record(with_table, job_for(with_table, plan=reference))
    assert terminal("plans", "heart").stdout.count("(") > 900_000
