"""What may run at this site: offers, their explanation, decisions, and the proof of an approval before each task.

It knows cohorts and datasets, and what of them is disclosed to the server. It runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.approval import authorisation, decisions, disclosure, offers, suitability
    from archipel.site.approval.authorisation import Authorisation
    from archipel.site.approval.earlier_jobs import approved_before
    from archipel.site.approval.explanation import duration, explain_offer, few_measure
    from archipel.site.approval.job_differences import differences
    from archipel.site.approval.lineage import starts_from
    from archipel.site.approval.offers import Offer
    from archipel.site.approval.past_decisions import EarlierDecision, earlier_decisions, newest_line
    from archipel.site.approval.policy_objections import samples_for
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "authorisation": ["Authorisation"],
            "job_differences": ["differences"],
            "earlier_jobs": ["approved_before"],
            "explanation": ["duration", "explain_offer", "few_measure"],
            "lineage": ["starts_from"],
            "offers": ["Offer"],
            "past_decisions": ["EarlierDecision", "earlier_decisions", "newest_line"],
            "policy_objections": ["samples_for"],
        },
        modules=["authorisation", "decisions", "disclosure", "offers", "suitability"],
    )

__all__ = [
    "Authorisation",
    "EarlierDecision",
    "Offer",
    "approved_before",
    "authorisation",
    "decisions",
    "differences",
    "disclosure",
    "duration",
    "earlier_decisions",
    "explain_offer",
    "few_measure",
    "newest_line",
    "offers",
    "samples_for",
    "starts_from",
    "suitability",
]
