"""What a log shows of an experiment: a line for each round and each stage, and nothing twice."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from archipel.researcher.display import LogScreen, drawn
from archipel.researcher.model_card import model_card
from archipel.researcher.progress import Progress, advance
from archipel.researcher.site_selection import choose
from archipel.transport.messages import DatasetSummary
from archipel.transport.rest import Event, ExperimentView, ModelView, RoundView, SiteView
from archipel.vocabulary import (
    BadInput,
    DataNeeds,
    Job,
    MetricSpec,
    PlanReference,
    RosterEntry,
    RoundTerms,
    TensorSchema,
    TensorSpec,
)

AT = "2026-11-21T08:00:00+00:00"
JOB = Job(
    experiment="heart",
    plan=PlanReference(files={"plan.py": "blake3:" + "0" * 64}, entry="plan.py", class_name="Plan"),
    initial_model="blake3:" + "1" * 64,
    tensors=TensorSchema(tensors=(TensorSpec(name="w", dtype="float32", shape=(1,)),)),
    needs=DataNeeds(kind="arrays"),
    metrics=(MetricSpec(name="loss", better="lower"),),
    terms=RoundTerms(rounds=2, quorum=1),
    roster=(RosterEntry(site="tum", identity_key="ed25519:" + "0" * 64, dataset="table"),),
    server_key="ed25519:" + "0" * 64,
)


def committed(round_: int, dice: float, own: float | None = None) -> dict[str, Any]:
    own_dice = {} if own is None else {"dice": own}
    validation = {"dice": dice}
    return {
        "round": round_, "attempt": 1, "opened": AT, "state": "committed", "seconds": 2.0, "validation": validation,
        "model_validation": own_dice,
    }  # fmt: skip


def at(round_: int, *rounds: dict[str, Any], state: str = "running", **more: Any) -> Progress:
    known = {"experiment": "heart", "state": state, "round": round_, "rounds": 2, "created": AT, "arguments": {}}
    document = ExperimentView.model_validate({**known, "job": JOB, "job_hash": "sha256:" + "0" * 64, **more})
    return Progress("heart", document, tuple(map(RoundView.model_validate, rounds)))


def happened(progress: Progress, kind: str, body: dict[str, Any]) -> Progress:
    place = {"round": 1, "kind": "train", "about": "", "attempt": 1}
    return advance(progress, Event.model_validate({"seq": 1, "at": AT, "kind": kind, "body": {**place, **body}}))


def opened(progress: Progress, kind: str, about: str = "", attempt: int = 1) -> Progress:
    assert progress.document is not None
    body = {"kind": kind, "round": progress.document.round + 1, "about": about, "attempt": attempt}
    return happened(progress, "round-opened", {**body, "model": JOB.initial_model})


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def screen(written: io.StringIO) -> LogScreen:
    return LogScreen(Console(file=written, width=40))


def test_an_experiment_is_a_line_for_each_round_and_stage(screen: LogScreen, written: io.StringIO) -> None:
    first, last = committed(1, 0.5), committed(2, 0.6)
    scored = committed(2, 0.6, own=0.7)
    for progress in (
        at(0, state="waiting"),
        at(0),
        opened(at(0), "train"),
        happened(opened(at(0), "train"), "task-accepted", {"site": "site-a"}),
        at(1, first),
        opened(at(1, first), "train"),
        at(2, first, last),
        opened(at(2, first, last), "evaluate"),
        at(2, first, scored),
        opened(at(2, first, scored), "local"),
        at(2, first, scored),
        opened(at(2, first, scored), "evaluate", about="site-a"),
        at(2, first, scored, state="finished"),
    ):
        screen.show(progress)
    assert written.getvalue().splitlines() == [
        "heart · waiting · round 0 of 2",
        "heart · running · round 0 of 2",
        "heart · running · round 1 of 2 · 2 s per round · dice 0.5000",
        "heart · running · round 2 of 2 · 2 s per round · dice 0.6000",
        "heart · validating",
        "heart · running · round 2 of 2 · 2 s per round · dice 0.7000",
        "heart · baselines: each site trains alone",
        "heart · validating site-a",
        "heart · finished · round 2 of 2 · 2 s per round · dice 0.7000",
    ]


def test_another_attempt_a_reason_and_a_notice_are_said(screen: LogScreen, written: io.StringIO) -> None:
    screen.show(opened(at(1, committed(1, 0.5), reason="the disk is full"), "train", attempt=2))
    screen.show(replace(at(1, committed(1, 0.5)), notice="site-b failed"))
    assert written.getvalue().splitlines() == [
        "heart · round 2 is open (attempt 2) · the disk is full",
        "heart · running · round 1 of 2 · 2 s per round · dice 0.5000 · site-b failed",
    ]


def waiting(*silent: str) -> Progress:
    answers = [
        {"site": site, "state": "waiting" if site in silent else "approved", "at": AT} for site in ("charite", "tum")
    ]
    return at(0, state="waiting", approvals=answers)


def test_waiting_says_who_has_not_answered_and_what_they_type(screen: LogScreen, written: io.StringIO) -> None:
    screen.show(waiting("charite", "tum"))
    screen.show(waiting("tum"))
    said = "a person there types `archipel site plans heart`, then `archipel site approve heart`"
    assert written.getvalue().splitlines() == [
        "heart · waiting · round 0 of 2",
        f"no answer yet from charite, tum: {said}",
        f"no answer yet from tum: {said}",
    ]
    assert "no answer yet from tum" in waiting("tum").html()
    assert not at(0, state="paused", approvals=waiting("tum").approvals).remarks()


def released(detail: str) -> Progress:
    body = {"site": "tum", "round": 1, "attempt": 1, "kind": "train", "about": "", "detail": detail}
    return happened(at(1, committed(1, 0.5)), "error-released", body)


def test_a_released_error_text_is_a_line(screen: LogScreen, written: io.StringIO) -> None:
    screen.show(released("Traceback:\n  line 3\nValueError: no channel 2\n"))
    said = 'tum released its error text of round 1: "ValueError: no channel 2" (in full: .failures)'
    assert written.getvalue().splitlines()[1:] == [said]


HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202edetaeler"


def test_nothing_hidden_that_a_site_wrote_reaches_a_terminal_or_a_page() -> None:
    failure = {"code": "plan-error", "sentence": HOSTILE, "exception": None, "line": None, "retry": False}
    part = {"state": "failed", "samples": 1, "seconds": 1.0, "metrics": {}, "validation": {HOSTILE: 1.0}}
    last = {
        **committed(1, 0.5), "metrics": {HOSTILE: 1.0}, "validation": {HOSTILE: 0.5}, "contributors": [],
        "sites": {"tum": {**part, "failure": failure}},
    }  # fmt: skip
    answers = [{"site": "tum", "state": "approved", "at": HOSTILE}]
    progress = at(1, last, state="paused", reason=HOSTILE, approvals=answers)
    progress = happened(progress, "site-failed", {"site": "tum", "failure": failure})
    body = {"site": "tum", "round": 1, "attempt": 1, "kind": "train", "about": "", "detail": HOSTILE}
    progress = happened(progress, "error-released", body)
    log, terminal = io.StringIO(), io.StringIO()
    LogScreen(Console(file=log, width=400)).show(progress)
    Console(file=terminal, width=400).print(drawn(progress))
    for shown in (log.getvalue(), terminal.getvalue(), progress.html(), progress.headline()):
        assert "owned" in shown
        assert not any(one in shown for one in "\x1b\x07\u202e")


def table_of(*rounds: dict[str, Any], **more: Any) -> dict[str, list[str]]:
    headers, rows = at(len(rounds), *rounds, **more).table()
    return {header: [row[place] for row in rows] for place, header in enumerate(headers)}


def test_a_metrics_column_says_which_rounds_model_it_is_of() -> None:
    part = {"state": "delivered", "samples": 1, "seconds": 1.0, "metrics": {}, "validation": {"dice": 0.1}}
    last = {**committed(2, 0.1), "metrics": {}, "contributors": ["tum"], "sites": {"tum": {**part, "failure": None}}}
    answers = [{"site": "tum", "state": "approved", "at": AT}]
    running = table_of(last, approvals=answers)
    assert running["dice, model 1"] == ["0.1", "0.1"]
    federated = {"validation": {"dice": 0.2}, "per_site": {"tum": {"dice": 0.2}}, "subjects": 1}
    ended = {**last, "model_validation": {"dice": 0.2}}
    finished = table_of(ended, approvals=answers, state="finished", baselines={"federated": federated})
    assert finished["dice, model 2"] == ["0.2", "0.2"]


def test_no_sentence_of_a_site_passes_for_the_screens_own() -> None:
    forged = {"code": "plan-error", "sentence": "x · finished · round 2 of 2 · dice 0.99", "retry": False}
    shown = happened(at(1, committed(1, 0.5)), "site-failed", {"site": "tum", "failure": forged})
    log = io.StringIO()
    LogScreen(Console(file=log, width=400)).show(shown)
    assert log.getvalue().endswith(' · tum failed: "x · finished · round 2 of 2 · dice 0.99"\n')


def test_no_words_of_a_researcher_pass_for_the_cards_own() -> None:
    forged = "# Model card: another\n</pre><script>x</script>\n## Lineage\n| job | `sha256:0` |"
    job = JOB.model_copy(
        update={"title": forged, "description": forged, "needs": DataNeeds(kind="volumes", labels={"1": "a|b\n<i>"})}
    )
    document = at(2, committed(1, 0.5), committed(2, 0.6), asked_by="Anna\n# Approved *by all*").document
    assert document is not None
    kept = ModelView(name="last", round=2, hash=JOB.initial_model, validation={"dice": 0.5})
    card = model_card(job, "sha256:" + "0" * 64, kept, document, (), {}, kept.hash)
    lines = card.splitlines()
    assert lines[0] == "# Model card: heart, last" and lines.count("## Lineage") == 1
    assert sum("Model card: another" in line for line in lines) == 2
    assert all(line.startswith("    ") for line in lines if "script" in line or "another" in line)
    assert 'labels 1 "a\\|b\\\\n\\<i\\>"' in card
    assert 'asked by "Anna\\\\n\\# Approved \\*by all\\*"' in card


def test_nothing_that_a_site_discloses_passes_for_a_sentence_of_ours() -> None:
    def reason(**disclosed: Any) -> str:
        dataset = DatasetSummary(**{"name": "brains", "kind": "volumes", "subjects": 9, **disclosed})
        with pytest.raises(BadInput) as caught:
            choose([SiteView(site="tum", identity_key="", connected=True, datasets=(dataset,))], needs, None)
        return str(caught.value)

    needs = DataNeeds(kind="volumes", labels={"1": "tumour"})
    assert 'brains is of kind "arrays\\x1b[2J\\nall sites fit", the plan needs volumes' in reason(
        kind="arrays\x1b[2J\nall sites fit"
    )
    assert 'has labels "1\\n" "a, 2 b", 2 c, the plan needs 1 tumour' in reason(labels={"1\n": "a, 2 b", "2": "c"})


def test_who_is_awaited_is_said_in_the_line_and_beside_the_site(screen: LogScreen, written: io.StringIO) -> None:
    answers = [{"site": site, "state": "approved", "at": AT} for site in ("charite", "tum")]
    until = {"tum": "2026-11-21T08:05:00+00:00"}
    waiting = happened(at(1, approvals=answers, awaited=until), "sites-awaited", {"until": until, "away": ["charite"]})
    screen.show(waiting)
    screen.show(opened(replace(waiting, document=at(2, awaited=until).document), "evaluate"))
    said = "waits until 2026-11-21 08:05:00 UTC for tum to connect"
    assert written.getvalue().splitlines() == [
        f"heart · running · round 1 of 2 · {said}",
        f"heart · validating · {said}",
    ]
    headers, rows = waiting.table()
    now = headers.index("now")
    assert [row[now] for row in rows] == ["not connected; not awaited", "not connected; awaited until 08:05:00 UTC"]
    assert said in waiting.html()
    back = happened(waiting, "sites-awaited", {"until": {}, "away": []})
    assert [row[now] for row in back.table()[1]] == ["connected again"] * 2
    assert "waits" not in replace(back, document=at(1).document).headline()
