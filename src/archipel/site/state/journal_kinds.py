"""The kinds of lines of a site's journal, from which the kinds of changes at a site are made."""

from __future__ import annotations

from enum import StrEnum


class SiteJournalKind(StrEnum):
    """The kinds of lines."""

    SITE_MADE = "site-made"
    JOINED = "joined"
    CERTIFICATE_RENEWED = "certificate-renewed"
    DATASET_ADDED = "dataset-added"
    DATASET_MAPPED = "dataset-mapped"
    DATASET_REMOVED = "dataset-removed"
    DATASETS_DISCLOSED = "datasets-disclosed"
    SUBJECTS_EXCLUDED = "subjects-excluded"
    COHORT_FROZEN = "cohort-frozen"
    COHORT_NAMED = "cohort-named"
    COHORT_REDUCED = "cohort-reduced"
    PATIENT_WITHDRAWN = "patient-withdrawn"
    PATIENT_REINSTATED = "patient-reinstated"
    JOB_OFFERED = "job-offered"
    JOB_CHANGED = "job-changed"
    JOB_ASKER = "job-asker"
    PACKAGES_DISCLOSED = "packages-disclosed"
    CHECKED = "checked"
    PLAN_READ_FOR_A_CHECK = "plan-read-for-a-check"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVOKED = "revoked"
    EXPERIMENT_ENDED = "experiment-ended"
    WORKER_STARTED = "worker-started"
    TASK_ACCEPTED = "task-accepted"
    TASK_BEGUN_AGAIN = "task-begun-again"
    TASK_REFUSED = "task-refused"
    TASK_FAILED = "task-failed"
    UPDATE_MADE = "update-made"
    UPDATE_SENT = "update-sent"
    ROUND_CLOSED = "round-closed"
    ERROR_RELEASED = "error-released"
    ERROR_SENT = "error-sent"
    SERVER_JOURNAL_FAULT = "server-journal-fault"
