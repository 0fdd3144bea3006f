"""What a site with a valid certificate may not make the server keep: numbers, words and texts have their bounds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from test_models_that_last import store

from archipel.governance import JournalHead
from archipel.rounds import Opened, ParticipantStatus, Stage
from archipel.server.experiments import views
from archipel.server.experiments.experiment_store import SqlExperimentStore
from archipel.server.experiments.records import MOST_DETAILS
from archipel.server.membership.federation import ServerContext
from archipel.transport.messages import from_site
from archipel.transport.rest import ErrorReleased, TaskAccepted
from archipel.vocabulary import (
    EXCEPTION_CLASSES,
    ErrorCode,
    Failure,
    NotPermitted,
    Task,
    TaskKey,
    TaskKind,
    TrainingPass,
)
from worlds.server import Applicant, records_of

KEY = {"experiment": "first", "round": 1, "attempt": 1, "kind": "train", "about": ""}
FAILURE = {"code": "plan-error", "sentence": "the plan raised"}


def opened(kept: SqlExperimentStore, attempt: int = 1) -> TaskKey:
    """An open round of training."""
    key = TaskKey(experiment="first", round=1, attempt=attempt)
    one = TrainingPass(round=1, arguments={})
    task = Task(key=key, job_hash=kept.job_hash, models=(kept.job.initial_model,), passes=(one,))
    kept.open(Opened(Stage(kind=TaskKind.TRAIN, round=1), attempt, task, {"berlin": ParticipantStatus.INVITED}, 60.0))
    return key


def released(federation: ServerContext) -> list[dict[str, Any]]:
    return [one.body for one in views.events(federation.database, "first", 0) if isinstance(one.body, ErrorReleased)]


@given(st.sampled_from(["round", "attempt"]), st.integers(max_value=-1) | st.integers(min_value=2**53))
def test_a_task_is_numbered_within_what_every_database_holds(name: str, number: int) -> None:
    with pytest.raises(ValidationError):
        from_site.validate_python({"type": "task-accepted", "key": {**KEY, name: number}})


@pytest.mark.parametrize(
    "failure",
    [
        {**FAILURE, "sentence": "x" * 1001},
        {**FAILURE, "exception": "X" * 201},
        {**FAILURE, "line": -1},
        {**FAILURE, "line": 2**63},
        {**FAILURE, "code": "patient-7"},
    ],
    ids=["sentence", "class", "negative", "line", "code"],
)
def test_a_failure_out_of_bounds_is_no_message(failure: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        from_site.validate_python({"type": "task-failed", "key": KEY, "failure": failure})


@given(st.sampled_from(sorted(EXCEPTION_CLASSES)) | st.text(max_size=200))
def test_an_exception_class_is_one_of_the_list_whoever_names_it(name: str) -> None:
    found = Failure(code=ErrorCode.PLAN_ERROR, sentence="the plan raised", exception=name).exception
    assert found == (name if name in EXCEPTION_CLASSES else "Exception")


@pytest.mark.parametrize(
    "change", [{"number": 2**53}, {"number": -1}, {"owner": "x" * 64}, {"at": "x" * 41}, {"signature": "x" * 201}]
)
def test_a_journal_head_out_of_bounds_is_none(change: dict[str, Any]) -> None:
    head = {"owner": "berlin", "number": 1, "hash": "sha256:" + "0" * 64, "at": "", "signature": ""}
    assert JournalHead.model_validate(head).number == 1
    with pytest.raises(ValidationError):
        JournalHead.model_validate({**head, **change})


def test_a_released_text_is_kept_once_and_only_so_many_of_one_task(
    federation: ServerContext, enrolled: Applicant
) -> None:
    kept, records = store(federation, enrolled, "higher"), records_of(federation)
    key = opened(kept)
    with pytest.raises(NotPermitted, match="which did not fail there"):
        records.keep_detail("berlin", key, "early")
    kept.failed(key, "berlin", Failure.model_validate(FAILURE))
    for _ in range(3):
        records.keep_detail("berlin", key, "first")
    assert [one.detail for one in released(federation)] == ["first"]
    for number in range(1, MOST_DETAILS):
        records.keep_detail("berlin", key, f"more {number}")
    with pytest.raises(NotPermitted, match=f"is one too many about first round 1.1 train: {MOST_DETAILS} are kept"):
        records.keep_detail("berlin", key, "one too many")
    records.keep_detail("berlin", key, "first")
    assert len(released(federation)) == MOST_DETAILS
    assert sum(line.kind == "error-released" for line in federation.registry.journal()) == MOST_DETAILS
    again = opened(kept, attempt=2)
    kept.failed(again, "berlin", Failure.model_validate(FAILURE))
    records.keep_detail("berlin", again, "first")
    assert [(one.attempt, one.detail) for one in released(federation)][-1] == (2, "first")


def test_researchers_see_that_a_site_works_on_its_task(federation: ServerContext, enrolled: Applicant) -> None:
    kept = store(federation, enrolled, "higher")
    before = len(federation.registry.journal())
    kept.heard(opened(kept), ["berlin"], ())
    newest = views.events(federation.database, "first", 0)[-1]
    assert newest.body == TaskAccepted(site="berlin", **KEY)
    assert len(federation.registry.journal()) == before + 1, "only the round's opening is a line of the journal"
