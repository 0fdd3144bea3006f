"""What may change at a site, as one typed record per kind: what a follower of the site's changes is given.

A record names what changed and repeats nothing that the database has: a follower reads the dataset,
cohort, experiment or task that it names. No record names a patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import Field, TypeAdapter

from archipel.site.state.journal_kinds import SiteJournalKind
from archipel.vocabulary import Record, TaskKey


class UnjournaledKind(StrEnum):
    """The kinds of changes that no line of the journal records, and of lines that have no record here."""

    LINK_CHANGED = "link-changed"
    DATASET_CHECKED = "dataset-checked"
    TASK_WITHDRAWN = "task-withdrawn"
    JOURNAL_GREW = "journal-grew"


ChangeKind = SiteJournalKind | UnjournaledKind
"""Every kind of change: that of the journal's line that records it, or one of the few that are not journaled."""


class SiteChange(Record):
    """The site as a whole: made, joined, its certificate, or a fault that it found in its server's journal."""

    kind: Literal[
        SiteJournalKind.SITE_MADE, SiteJournalKind.JOINED, SiteJournalKind.CERTIFICATE_RENEWED,
        SiteJournalKind.SERVER_JOURNAL_FAULT, SiteJournalKind.DATASETS_DISCLOSED,
    ]  # fmt: skip


class DatasetChange(Record):
    """A dataset of the catalog: added, scanned again, mapped in another way, removed, or subjects were left out of
    it.
    """

    kind: Literal[
        SiteJournalKind.DATASET_ADDED, UnjournaledKind.DATASET_CHECKED, SiteJournalKind.DATASET_MAPPED,
        SiteJournalKind.DATASET_REMOVED, SiteJournalKind.SUBJECTS_EXCLUDED,
    ]  # fmt: skip
    dataset: str


class CohortChange(Record):
    """A version of a dataset's cohort: frozen, named, or made smaller by a signed withdrawal."""

    kind: Literal[SiteJournalKind.COHORT_FROZEN, SiteJournalKind.COHORT_NAMED, SiteJournalKind.COHORT_REDUCED]
    dataset: str
    version: int
    cohort_hash: str


class WithdrawalChange(Record):
    """A patient was withdrawn from a dataset or from all of them, or was reinstated."""

    kind: Literal[SiteJournalKind.PATIENT_WITHDRAWN, SiteJournalKind.PATIENT_REINSTATED]
    dataset: str


class ExperimentChange(Record):
    """An experiment: offered, decided about, checked, ended."""

    kind: Literal[
        SiteJournalKind.JOB_OFFERED, SiteJournalKind.JOB_CHANGED, SiteJournalKind.JOB_ASKER, SiteJournalKind.APPROVED,
        SiteJournalKind.REJECTED, SiteJournalKind.REVOKED, SiteJournalKind.EXPERIMENT_ENDED, SiteJournalKind.CHECKED,
        SiteJournalKind.PLAN_READ_FOR_A_CHECK, SiteJournalKind.WORKER_STARTED, SiteJournalKind.PACKAGES_DISCLOSED,
    ]  # fmt: skip
    experiment: str


class TaskChange(Record):
    """A task: begun, done, sent, failed, refused or withdrawn by the server, its round closed, its error released."""

    kind: Literal[
        SiteJournalKind.TASK_ACCEPTED, SiteJournalKind.TASK_BEGUN_AGAIN, SiteJournalKind.UPDATE_MADE,
        SiteJournalKind.UPDATE_SENT, SiteJournalKind.TASK_FAILED, SiteJournalKind.TASK_REFUSED,
        UnjournaledKind.TASK_WITHDRAWN, SiteJournalKind.ROUND_CLOSED, SiteJournalKind.ERROR_RELEASED,
        SiteJournalKind.ERROR_SENT,
    ]  # fmt: skip
    task: TaskKey


class LinkChange(Record):
    """The connection to the server changed: the server welcomed the site, or not and why."""

    kind: Literal[UnjournaledKind.LINK_CHANGED] = UnjournaledKind.LINK_CHANGED
    connected: bool
    problem: str = ""


class JournalChange(Record):
    """The journal has a new line of a kind that has no record of its own here."""

    kind: Literal[UnjournaledKind.JOURNAL_GREW] = UnjournaledKind.JOURNAL_GREW
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
RECORD_OF: dict[ChangeKind, type[Record]] = {
    kind: record for record in _RECORDS for kind in get_args(record.model_fields["kind"].annotation)
}
"""Each kind's record."""

DECISIONS = frozenset(
    {
        SiteJournalKind.JOINED, SiteJournalKind.CERTIFICATE_RENEWED,
        SiteJournalKind.DATASET_ADDED, UnjournaledKind.DATASET_CHECKED,
        SiteJournalKind.DATASET_MAPPED, SiteJournalKind.DATASET_REMOVED,
        SiteJournalKind.SUBJECTS_EXCLUDED, SiteJournalKind.COHORT_FROZEN, SiteJournalKind.COHORT_NAMED,
        SiteJournalKind.PATIENT_WITHDRAWN, SiteJournalKind.PATIENT_REINSTATED,
        SiteJournalKind.APPROVED, SiteJournalKind.REJECTED, SiteJournalKind.REVOKED, SiteJournalKind.ERROR_RELEASED,
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
    if kind not in set(SiteJournalKind):
        return JournalChange(line_kind=kind)
    record = RECORD_OF[SiteJournalKind(kind)]
    known = dict(body)
    if record is DatasetChange:
        # Lines about a dataset have its name in ``name``.
        known["dataset"] = body.get("name")
    if record is TaskChange:
        known["task"] = {name: body[name] for name in TaskKey.model_fields if name in body}
    named = {name: known[name] for name in record.model_fields if name in known}
    return WHAT_CHANGED.validate_python(named | {"kind": kind})
