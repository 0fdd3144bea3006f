"""What a person can do at a site, as functions with typed results that any user interface renders.

It knows everything at the site. It prints nothing and asks nothing. Each function takes the opened state folder: an
interface needs nothing else. A function of the inner packages takes less: the database, a key, a folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.services import (
        approvals,
        checks,
        cohort_documents,
        cohorts,
        dataset_documents,
        datasets,
        failures,
        gpus,
        journal,
        offer_documents,
        status,
        withdrawals,
    )
    from archipel.site.services.dataset_documents import DatasetRow
    from archipel.site.services.datasets import AddedDataset, FolderExtent
    from archipel.site.services.journal import VerifiedJournal
    from archipel.site.services.offer_documents import OfferDocument, OfferRow
    from archipel.site.services.status import OptOutList
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "dataset_documents": ["DatasetRow"],
            "datasets": ["AddedDataset", "FolderExtent"],
            "journal": ["VerifiedJournal"],
            "offer_documents": ["OfferDocument", "OfferRow"],
            "status": ["OptOutList"],
        },
        modules=[
            "approvals",
            "checks",
            "cohort_documents",
            "cohorts",
            "dataset_documents",
            "datasets",
            "failures",
            "gpus",
            "journal",
            "offer_documents",
            "status",
            "withdrawals",
        ],
    )

__all__ = [
    "AddedDataset",
    "DatasetRow",
    "FolderExtent",
    "OfferDocument",
    "OfferRow",
    "OptOutList",
    "VerifiedJournal",
    "approvals",
    "checks",
    "cohort_documents",
    "cohorts",
    "dataset_documents",
    "datasets",
    "failures",
    "gpus",
    "journal",
    "offer_documents",
    "status",
    "withdrawals",
]
