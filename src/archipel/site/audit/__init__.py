"""The site's audit log: the hash-chained journal, the journal heads of site and server, and its export for others.

It knows the state folder. What a line means is known only to the package that writes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.audit import export, journal, journal_heads
    from archipel.site.audit.journal_entries import (
        Approved,
        CertificateRenewed,
        Checked,
        CohortFrozen,
        CohortNamed,
        CohortReduced,
        DatasetAdded,
        DatasetMapped,
        DatasetRemoved,
        DatasetsDisclosed,
        Decided,
        ErrorReleasedLine,
        ExperimentEnded,
        JobAsker,
        JobChanged,
        JobOffered,
        Joined,
        PackagesDisclosed,
        PatientReinstated,
        PatientWithdrawn,
        PlanRead,
        RoundSettled,
        SiteMade,
        SubjectsExcluded,
        TaskAcceptedLine,
        TaskFailedLine,
        TaskLine,
        UpdateMade,
        WorkerStarted,
        add_entry,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "journal_entries": [
                "Approved",
                "CertificateRenewed",
                "Checked",
                "CohortFrozen",
                "CohortNamed",
                "CohortReduced",
                "DatasetAdded",
                "DatasetMapped",
                "DatasetRemoved",
                "DatasetsDisclosed",
                "Decided",
                "ErrorReleasedLine",
                "ExperimentEnded",
                "JobAsker",
                "JobChanged",
                "JobOffered",
                "Joined",
                "PackagesDisclosed",
                "PatientReinstated",
                "PatientWithdrawn",
                "PlanRead",
                "RoundSettled",
                "SiteMade",
                "SubjectsExcluded",
                "TaskAcceptedLine",
                "TaskFailedLine",
                "TaskLine",
                "UpdateMade",
                "WorkerStarted",
                "add_entry",
            ]
        },
        modules=["export", "journal", "journal_heads"],
    )

__all__ = [
    "Approved",
    "CertificateRenewed",
    "Checked",
    "CohortFrozen",
    "CohortNamed",
    "CohortReduced",
    "DatasetAdded",
    "DatasetMapped",
    "DatasetRemoved",
    "DatasetsDisclosed",
    "Decided",
    "ErrorReleasedLine",
    "ExperimentEnded",
    "JobAsker",
    "JobChanged",
    "JobOffered",
    "Joined",
    "PackagesDisclosed",
    "PatientReinstated",
    "PatientWithdrawn",
    "PlanRead",
    "RoundSettled",
    "SiteMade",
    "SubjectsExcluded",
    "TaskAcceptedLine",
    "TaskFailedLine",
    "TaskLine",
    "UpdateMade",
    "WorkerStarted",
    "add_entry",
    "export",
    "journal",
    "journal_heads",
]
