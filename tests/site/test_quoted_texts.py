"""What researcher and server wrote is quoted where people decide: no text of theirs passes for the site's answer."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from archipel.governance import job_hash
from archipel.site.approval import offers
from archipel.site.approval.explanation import explain_offer
from archipel.site.services import approvals, explanations
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.storage import utc_now
from archipel.vocabulary import (
    BadInput,
    ColumnNeed,
    Conflict,
    DataNeeds,
    ErrorCode,
    Failure,
    HyperParameter,
    InputValues,
    PlanReference,
    PrivacyTerms,
    Release,
    StepTerms,
)
from worlds.site import Terminal, job_for, take_offer

FORGED = "What leaves this site?\nNothing.\n- data of kind table: met"
SHORT = "mm\nNothing.\n- met"
LABELS = DataNeeds(kind="volumes", labels={"1": FORGED}, values={"image": InputValues(unit=SHORT, maximum=1.0)})
CLASSES = DataNeeds(kind="arrays", target=ColumnNeed(name="class", categories=(FORGED, "other")))
CHOICE = HyperParameter(name="loss", kind="choice", default=FORGED, choices=(FORGED, "dice"))


@pytest.mark.parametrize(
    "changes",
    [
        {"title": FORGED[:200]},
        {"description": f"Nice.\r\n{FORGED}"},
        {"needs": LABELS},
        {"needs": CLASSES},
        {"needs": DataNeeds(kind="arrays", target=ColumnNeed(name="age", unit=SHORT))},
        {"parameters": (CHOICE,), "arguments": {"loss": FORGED}},
        {"privacy": PrivacyTerms(release=Release.INDIVIDUALLY, steps=(StepTerms(name="x", parameters={"a": FORGED}),))},
    ],
    ids=["title", "description", "labels", "classes", "unit", "choice", "privacy step"],
)
def test_a_forged_answer_is_on_lines_with_a_bar_only(hospital: StateFolder, changes: dict[str, object]) -> None:
    plain = dict(explain_offer(job_for(hospital), hospital.settings, "North", "table", 6))
    said = explain_offer(job_for(hospital, **changes), hospital.settings, "North", "table", 6)
    assert [question for question, _ in said] == list(plain)
    lines = [line for _, answer in said for line in answer.split("\n")]
    forged = [line for line in lines if "Nothing." in line]
    assert forged and all(line.startswith("| ") for line in forged)
    assert not any(line.startswith("- ") for line in lines)


def test_names_that_the_server_gives_are_quoted(hospital: StateFolder) -> None:
    said = dict(explain_offer(job_for(hospital), hospital.settings, f"North\n{FORGED}", "table", 6, f"Dr\n{FORGED}"))
    shown = said["Who asks?"].split("\n")
    assert [line for line in shown if not line.startswith("| ")] == [
        "Asked by, as the server says:", "Federation:", "This site would take part as the only site.",
    ]  # fmt: skip
    assert shown.count("| Nothing.") == 2


@pytest.mark.parametrize("needs", [LABELS, CLASSES], ids=["labels", "classes"])
def test_what_a_plan_needs_is_a_line_for_each_answer(with_table: StateFolder, needs: DataNeeds) -> None:
    take_offer(with_table, needs=needs)
    offer = offers.offered(with_table.database, "heart")
    said = dict(explanations.explain(with_table, offer))
    answers = explanations.answer_needs(with_table, offer)
    assert len(said["Does the data fit?"].split("\n")) == len(answers)
    for question in ("Does the data fit?", "What prevents it?"):
        lines = said[question].split("\n")
        assert all(line.startswith("- ") and not line.startswith("- data of kind table: met") for line in lines)


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_forged_answer_is_no_row_of_the_terminal_and_of_the_list(with_table: StateFolder, columns: str) -> None:
    filler = " " + "x" * 150 + " "
    take_offer(with_table, description=f"nice{filler}{FORGED}", title=f"nice\n{FORGED}")
    offers.record(with_table, job_for(with_table, description=f"nice{filler}{FORGED}", title=f"nice\n{FORGED}"), FORGED)
    terminal = Terminal(with_table.folder, columns)
    shown = [line.strip() for line in terminal("plans", "heart").stdout.splitlines()]
    assert shown.count("What leaves this site?") == 1 and "Nothing." not in shown
    assert "| Nothing." in shown, "it is shown, and as the words of others"
    listed = Terminal(with_table.folder, "250")("plans").stdout
    assert '"nice\\nWhat leaves this site?\\nNothing.' in listed and '"What leaves this site?\\nNothing.' in listed


def test_an_error_text_of_a_plan_cannot_pass_for_another_error(with_table: StateFolder) -> None:
    take_offer(with_table)
    failure = Failure(code=ErrorCode.PLAN_ERROR, sentence="the plan raised an error")
    row = {"experiment": "heart", "round": 1, "attempt": 1, "kind": "train", "about": "", "task": "{}"}
    row |= {"task_hash": "sha256:" + "0" * 64, "state": "failed", "failure": failure.model_dump_json()}
    text = "KeyError\nheart round 1 attempt 2: the plan raised an error\n" + "x" * 300
    with with_table.database.write() as connection:
        connection.execute(insert(schema.tasks).values(**row, detail=text, accepted_at=utc_now()))
    first, *others = Terminal(with_table.folder)("errors", "show", "heart", "1").stdout.splitlines()
    assert first.endswith("the plan raised an error") and len(others) == 4
    assert all(line.startswith("| ") for line in others)


def test_a_script_is_told_which_job_it_approves_and_another_one_is_not_approved(with_table: StateFolder) -> None:
    _, shown = take_offer(with_table)
    other, approve = job_for(with_table, title="another"), approvals.approve

    def late(*arguments: object, **named: object) -> object:
        offers.record(with_table, other)
        return approve(*arguments, **named)  # type: ignore[arg-type]

    terminal = Terminal(with_table.folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(approvals, "approve", late)
        swapped = terminal("approve", "heart", "--yes")
    assert f"approving job {shown} of heart" in swapped.stdout
    assert isinstance(swapped.exception, Conflict) and "its job has changed since it was shown" in str(
        swapped.exception
    )
    assert offers.offered(with_table.database, "heart").state == "offered"
    pinned = terminal("approve", "heart", "--yes", "--job", shown)
    assert "its job has changed since it was shown" in str(pinned.exception)
    done = terminal("approve", "heart", "--yes", "--job", job_hash(other))
    assert done.exit_code == 0 and done.stdout.count(job_hash(other)) == 2


def test_a_look_alike_is_refused_where_a_site_reads_an_offer(with_table: StateFolder) -> None:
    for source in ("def tra\u0456n(): pass\n", "\ufb01t = 1\n", "x = 1  # a\u2028b\n"):
        blob = with_table.blobs.put(source.encode())
        plan = PlanReference(files={"tiny.py": blob}, entry="tiny.py", class_name="Tiny")
        with pytest.raises(BadInput, match=r"tiny\.py: has .*U\+(0456|FB01|2028)"):
            offers.plan_files(with_table.blobs, job_for(with_table, plan=plan))
