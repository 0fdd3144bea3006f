"""What may change at a site, as one typed record per kind: what a follower of the site's changes is given.

A record names what changed and says nothing of it that the database does not say better: whoever follows reads the
dataset, cohort, experiment or task that it names. No record names a patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import Field, TypeAdapter

from archipel.vocabulary import Record, TaskKey


class ChangeKind(StrEnum):
    """Every kind of change. Those before ``link-changed`` are called as the journal's lines that record them."""

    SITE_MADE = "site-made"
    JOINED = "joined"
    CERTIFICATE_RENEWED = "certificate-renewed"
    DATASET_ADDED = "dataset-added"
    DATASET_MAPPED = "dataset-mapped"
    DATASET_REMOVED = "dataset-removed"
    SUBJECTS_EXCLUDED = "subjects-excluded"
    DATASETS_DISCLOSED = "datasets-disclosed"
    COHORT_FROZEN = "cohort-frozen"
    COHORT_NAMED = "cohort-named"
    COHORT_NARROWED = "cohort-narrowed"
    PATIENT_WITHDRAWN = "patient-withdrawn"
    PATIENT_READMITTED = "patient-readmitted"
    JOB_OFFERED = "job-offered"
    JOB_CHANGED = "job-changed"
    JOB_ASKER = "job-asker"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVOKED = "revoked"
    EXPERIMENT_ENDED = "experiment-ended"
    CHECKED = "checked"
    PLAN_READ = "plan-read-for-a-check"
    TASK_ACCEPTED = "task-accepted"
    TASK_BEGUN_AGAIN = "task-begun-again"
    UPDATE_MADE = "update-made"
    UPDATE_SENT = "update-sent"
    TASK_FAILED = "task-failed"
    TASK_REFUSED = "task-refused"
    ROUND_CLOSED = "round-closed"
    ERROR_RELEASED = "error-released"
    ERROR_SENT = "error-sent"
    WORKER_STARTED = "worker-started"
    SERVER_JOURNAL_FAULT = "server-journal-fault"
    LINK_CHANGED = "link-changed"
    DATASET_CHECKED = "dataset-checked"
    TASK_WITHDRAWN = "task-withdrawn"
    JOURNAL_GREW = "journal-grew"


class SiteChange(Record):
    """The site as a whole: made, joined, its certificate, or a fault that it found in its server's journal."""

    kind: Literal[
        ChangeKind.SITE_MADE, ChangeKind.JOINED, ChangeKind.CERTIFICATE_RENEWED, ChangeKind.SERVER_JOURNAL_FAULT,
        ChangeKind.DATASETS_DISCLOSED,
    ]  # fmt: skip


class DatasetChange(Record):
    """A dataset of the catalog: added, looked at again, mapped otherwise, removed, or subjects were left out of it."""

    kind: Literal[
        ChangeKind.DATASET_ADDED, ChangeKind.DATASET_CHECKED, ChangeKind.DATASET_MAPPED, ChangeKind.DATASET_REMOVED,
        ChangeKind.SUBJECTS_EXCLUDED,
    ]  # fmt: skip
    dataset: str


class CohortChange(Record):
    """A version of a dataset's cohort: frozen, named, or made smaller by a signed withdrawal."""

    kind: Literal[ChangeKind.COHORT_FROZEN, ChangeKind.COHORT_NAMED, ChangeKind.COHORT_NARROWED]
    dataset: str
    version: int
    cohort_hash: str


class WithdrawalChange(Record):
    """Somebody was withdrawn from a dataset, or from every one, or is back."""

    kind: Literal[ChangeKind.PATIENT_WITHDRAWN, ChangeKind.PATIENT_READMITTED]
    dataset: str


class ExperimentChange(Record):
    """An experiment: offered, decided about, checked, ended."""

    kind: Literal[
        ChangeKind.JOB_OFFERED, ChangeKind.JOB_CHANGED, ChangeKind.JOB_ASKER, ChangeKind.APPROVED,
        ChangeKind.REJECTED, ChangeKind.REVOKED, ChangeKind.EXPERIMENT_ENDED, ChangeKind.CHECKED,
        ChangeKind.PLAN_READ, ChangeKind.WORKER_STARTED,
    ]  # fmt: skip
    experiment: str


class TaskChange(Record):
    """A task: begun, done, sent, failed, refused or withdrawn by the server, its round closed, its error released."""

    kind: Literal[
        ChangeKind.TASK_ACCEPTED, ChangeKind.TASK_BEGUN_AGAIN, ChangeKind.UPDATE_MADE, ChangeKind.UPDATE_SENT,
        ChangeKind.TASK_FAILED, ChangeKind.TASK_REFUSED, ChangeKind.TASK_WITHDRAWN, ChangeKind.ROUND_CLOSED,
        ChangeKind.ERROR_RELEASED, ChangeKind.ERROR_SENT,
    ]  # fmt: skip
    task: TaskKey


class LinkChange(Record):
    """The connection to the server stands otherwise: welcomed by it, or not and why."""

    kind: Literal[ChangeKind.LINK_CHANGED] = ChangeKind.LINK_CHANGED
    connected: bool
    problem: str = ""


class JournalChange(Record):
    """The journal has a new line of a kind that has no record of its own here."""

    kind: Literal[ChangeKind.JOURNAL_GREW] = ChangeKind.JOURNAL_GREW
    line_kind: str


WhatChanged = Annotated[
    SiteChange | DatasetChange | CohortChange | WithdrawalChange | ExperimentChange | TaskChange | LinkChange
    | JournalChange,
    Field(discriminator="kind"),
]  # fmt: skip
"""Any of the records, told apart by its kind."""
WHAT_CHANGED: TypeAdapter[WhatChanged] = TypeAdapter(WhatChanged)
_RECORDS = (
    SiteChange, DatasetChange, CohortChange, WithdrawalChange, ExperimentChange, TaskChange, LinkChange, JournalChange,
)  # fmt: skip
RECORD_OF = {kind: record for record in _RECORDS for kind in get_args(record.model_fields["kind"].annotation)}
"""Each kind's record."""
NOT_JOURNALED = frozenset(
    {ChangeKind.LINK_CHANGED, ChangeKind.DATASET_CHECKED, ChangeKind.TASK_WITHDRAWN, ChangeKind.JOURNAL_GREW}
)
"""Kinds that no line of the journal has."""

DECISIONS = frozenset(
    {
        ChangeKind.JOINED, ChangeKind.CERTIFICATE_RENEWED,
        ChangeKind.DATASET_ADDED, ChangeKind.DATASET_CHECKED, ChangeKind.DATASET_MAPPED, ChangeKind.DATASET_REMOVED,
        ChangeKind.SUBJECTS_EXCLUDED, ChangeKind.COHORT_FROZEN, ChangeKind.COHORT_NAMED,
        ChangeKind.PATIENT_WITHDRAWN, ChangeKind.PATIENT_READMITTED,
        ChangeKind.APPROVED, ChangeKind.REJECTED, ChangeKind.REVOKED, ChangeKind.ERROR_RELEASED,
    }
)  # fmt: skip
"""What people decide here, on which the agent acts. What it does itself is not among them: it would wake itself."""


class Change(Record):
    """One change: its number, counted from 1 without gaps, when it was (UTC), and what changed.

    ``line`` is the number of the journal's line that records it, None for what is not journaled.
    """

    number: int
    at: str
    line: int | None
    what: WhatChanged

    @property
    def kind(self) -> ChangeKind:
        """What kind of change it is."""
        return self.what.kind


def change_of_line(kind: str, body: Mapping[str, object]) -> WhatChanged:
    """The change that a journal line of this kind and body records.

    Raises ValidationError when the body lacks what the kind's record names.
    """
    if kind not in set(ChangeKind) - NOT_JOURNALED:
        return JournalChange(line_kind=kind)
    record = RECORD_OF[ChangeKind(kind)]
    known = dict(body)
    if record is DatasetChange:
        # Lines about a dataset call it by its name alone.
        known["dataset"] = body.get("name")
    if record is TaskChange:
        known["task"] = {name: body[name] for name in TaskKey.model_fields if name in body}
    named = {name: known[name] for name in record.model_fields if name in known}
    return WHAT_CHANGED.validate_python(named | {"kind": kind})
