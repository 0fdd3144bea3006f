"""A site's state folder: settings, keys, database, the kinds and states that it keeps, the cache of prepared samples.

It opens and holds what the other packages of the site work on; it makes no decision and knows none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.state import changes, sample_cache, schema, settings, stages
    from archipel.site.state.change_records import (
        DECISIONS,
        DatasetChange,
        LinkChange,
        TaskChange,
        UnjournaledKind,
        change_of_line,
    )
    from archipel.site.state.folder import FOLDERS, FederationMembership, StateFolder, open_database
    from archipel.site.state.journal_kinds import SiteJournalKind
    from archipel.site.state.sample_cache import open_sample_cache
    from archipel.site.state.settings import SandboxRule, SiteSettings, checked_proxy, set_gpus, set_proxy
    from archipel.site.state.states import OfferState, SiteTaskState
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "change_records": [
                "DECISIONS",
                "DatasetChange",
                "LinkChange",
                "TaskChange",
                "UnjournaledKind",
                "change_of_line",
            ],
            "folder": ["FOLDERS", "FederationMembership", "StateFolder", "open_database"],
            "journal_kinds": ["SiteJournalKind"],
            "states": ["OfferState", "SiteTaskState"],
            "sample_cache": ["open_sample_cache"],
            "settings": ["SandboxRule", "SiteSettings", "checked_proxy", "set_gpus", "set_proxy"],
        },
        modules=["changes", "sample_cache", "schema", "settings", "stages"],
    )

__all__ = [
    "DECISIONS",
    "FOLDERS",
    "DatasetChange",
    "FederationMembership",
    "LinkChange",
    "OfferState",
    "SandboxRule",
    "SiteJournalKind",
    "SiteSettings",
    "SiteTaskState",
    "StateFolder",
    "TaskChange",
    "UnjournaledKind",
    "change_of_line",
    "changes",
    "checked_proxy",
    "open_database",
    "open_sample_cache",
    "sample_cache",
    "schema",
    "set_gpus",
    "set_proxy",
    "settings",
    "stages",
]
