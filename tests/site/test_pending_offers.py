"""Offers without a decision fill no disk: they are counted, measured, and make room when they have ended."""

from __future__ import annotations

from typing import Any

import pytest

from archipel.site.approval import decisions, offers
from archipel.site.approval.offer_limits import OfferLimits
from archipel.site.audit import journal
from archipel.site.state import OfferState
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import DataNeeds, PlanReference, Refused
from archipel.vocabulary.bounds import LONGEST_JOB
from worlds.people import ANNA, approve
from worlds.site import job_for, take_offer

FEW = OfferLimits(offers=3)


def named(number: int, **changes: Any) -> dict[str, Any]:
    return {"experiment": f"e{number}", **changes}


def refused(site: StateFolder, words: str, limits: OfferLimits, **changes: Any) -> None:
    """Before anything is fetched, and again when it would be kept; neither leaves a line."""
    before = len(journal.lines(site.database))
    job = job_for(site, **changes)
    for take in (offers.check_offer, offers.record):
        with pytest.raises(Refused, match=words):
            take(site, job, limits=limits)
    assert len(journal.lines(site.database)) == before


def test_one_offer_too_many_is_refused_until_somebody_decides(with_table: StateFolder) -> None:
    for number in range(FEW.offers):
        take_offer(with_table, FEW, **named(number))
    refused(
        with_table, f"finds {FEW.offers} offers of .* without a decision; approve or reject", FEW, **named(FEW.offers)
    )
    take_offer(with_table, FEW, **named(0))
    take_offer(with_table, FEW, **named(0, seed=7))
    decisions.reject(with_table.database, "e0", by=ANNA)
    take_offer(with_table, FEW, **named(FEW.offers))
    assert len(offers.names(with_table.database)) == FEW.offers + 1


def test_what_is_known_here_is_offered_again_at_every_connection(with_table: StateFolder) -> None:
    job, _ = take_offer(with_table)
    approve(with_table, "heart")
    for number in range(FEW.offers):
        take_offer(with_table, FEW, **named(number))
    offers.check_offer(with_table, job, limits=FEW)
    assert offers.record(with_table, job, limits=FEW) is OfferState.APPROVED


def test_offers_are_measured_together(with_table: StateFolder) -> None:
    small = OfferLimits(job_bytes=20_000)
    for number in range(2):
        take_offer(with_table, small, **named(number, description="x" * 4000))
    refused(
        with_table,
        "finds 2 offers of",
        small,
        **named(2, needs=DataNeeds(kind="volumes", labels={str(one): "x" * 900 for one in range(12)})),
    )


def test_a_job_longer_than_a_server_takes_is_not_taken_here(with_table: StateFolder) -> None:
    labels = {str(number): "x" * 900 for number in range(4900)}
    job = job_for(with_table, needs=DataNeeds(kind="volumes", labels=labels))
    tripled = job.model_copy(update={"needs": job.needs.model_copy(update={"labels": {"1": "x" * LONGEST_JOB}})})
    offers.check_offer(with_table, job)
    with pytest.raises(Refused, match=f"at most {LONGEST_JOB} are accepted"):
        offers.check_offer(with_table, tripled)


def test_offers_that_ended_undecided_make_room_with_their_plans(with_table: StateFolder) -> None:
    plans = []
    for number in range(4 * FEW.offers):
        plan = with_table.blobs.put(b"class P%d: pass\n" % number)
        plans.append(plan)
        take_offer(
            with_table, FEW, **named(number, plan=PlanReference(files={"p.py": plan}, entry="p.py", class_name="P"))
        )
        offers.end(with_table.database, f"e{number}", "cancelled")
    assert len(offers.names(with_table.database)) <= FEW.offers + 1
    assert sum(map(with_table.blobs.has, plans)) <= FEW.offers + 1
    assert journal.verify(with_table).whole


def test_the_plan_of_a_job_that_changed_goes(with_table: StateFolder) -> None:
    plans = [with_table.blobs.put(b"class P%d: pass\n" % number) for number in range(3)]
    for plan in plans:
        take_offer(with_table, plan=PlanReference(files={"p.py": plan}, entry="p.py", class_name="P"))
    assert [with_table.blobs.has(plan) for plan in plans] == [False, False, True]
