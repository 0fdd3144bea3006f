"""Preparing an approval and giving it are two requests: what is signed is what was shown, or nothing is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from archipel.governance import check_approval
from archipel.site.approval import authorisation, offers
from archipel.site.audit import journal
from archipel.site.cohorts import cohort_versions
from archipel.site.services import approvals, cohorts, datasets, withdrawals
from archipel.site.state import OfferState
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import Conflict, NotFound, Refused
from worlds.data_files import write_pairs, write_rows
from worlds.people import ANNA, approve
from worlds.site import Terminal, take_offer

ELSEWHERE = """
import json, sys
from pathlib import Path
from archipel.site.services import approvals
from archipel.vocabulary.actor import Actor
from archipel.site.state.folder import StateFolder

site, shown = StateFolder.open(Path(sys.argv[1])), json.loads(sys.argv[2])
berta = Actor(name="berta", authentication="console")
print(approvals.approve(site, shown.pop("experiment"), **shown, by=berta, note="seen").model_dump_json())
"""


def unchanged(site: StateFolder, lines: int, experiment: str = "heart") -> None:
    """Nothing was signed, kept or journaled."""
    offer = offers.offered(site.database, experiment)
    assert offer.state is OfferState.OFFERED and offer.approval is None
    assert len(journal.lines(site.database)) == lines and cohort_versions.versions(site.database, site.cohort_key) == []


@pytest.mark.processes
def test_another_process_approves_what_this_one_prepared(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    asked = approvals.prepare(with_table, "heart")
    unchanged(with_table, 3)
    shown = asked.model_dump(mode="json", include={"experiment", "job_hash", "cohort_hash"})
    command = [sys.executable, "-c", ELSEWHERE, str(with_table.folder), json.dumps(shown)]
    done = approvals.ApprovedExperiment.model_validate_json(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    assert (done.job_hash, done.cohort_hash) == (hashed, asked.cohort_hash)
    assert (done.dataset, done.version, done.subjects) == ("table", 1, 6)
    approval = offers.offered(with_table.database, "heart").approval
    assert approval is not None and approval.approved_at == done.approved_at
    identity = with_table.identity.public
    check_approval(approval, identity_key=identity, job_hash=hashed, cohort_hash=asked.cohort_hash)
    assert journal.lines(with_table.database)[-1].body["by"] == "console:berta"
    assert len(authorisation.authorise(with_table, "heart", hashed).cohort.subjects) == 6


def test_data_that_changed_since_it_was_shown_is_not_approved(with_table: StateFolder, tmp_path: Path) -> None:
    take_offer(with_table)
    asked = approvals.prepare(with_table, "heart")
    write_rows(tmp_path / "data", rows=9)
    with pytest.raises(Conflict, match="its cohort of dataset table has changed since it was shown; read the expl"):
        approvals.approve(with_table, "heart", job_hash=asked.job_hash, cohort_hash=asked.cohort_hash, by=ANNA)
    unchanged(with_table, 3)
    again = approvals.prepare(with_table, "heart")
    assert again.cohort_hash != asked.cohort_hash and again.subjects == 9
    approvals.approve(with_table, "heart", job_hash=again.job_hash, cohort_hash=again.cohort_hash, by=ANNA)


def test_a_patient_who_withdrew_since_it_was_shown_makes_it_another_cohort(with_table: StateFolder) -> None:
    take_offer(with_table)
    asked = approvals.prepare(with_table, "heart")
    withdrawals.withdraw(with_table, ["p-002"], by=ANNA)
    with pytest.raises(Conflict, match="has changed since it was shown"):
        approvals.approve(with_table, "heart", job_hash=asked.job_hash, cohort_hash=asked.cohort_hash, by=ANNA)
    unchanged(with_table, 4)


def test_a_job_that_changed_since_it_was_shown_is_not_approved(with_table: StateFolder) -> None:
    take_offer(with_table)
    asked = approvals.prepare(with_table, "heart")
    _, now = take_offer(with_table, seed=7)
    with pytest.raises(Conflict, match="its job has changed since it was shown; read the new one, then approve it"):
        approvals.approve(with_table, "heart", job_hash=asked.job_hash, cohort_hash=asked.cohort_hash, by=ANNA)
    unchanged(with_table, 4)
    # The cohort alone is the one that was shown.
    done = approvals.approve(with_table, "heart", job_hash=now, cohort_hash=asked.cohort_hash, by=ANNA)
    assert done.job_hash == now


def test_a_version_is_approved_under_its_own_hash_only(with_table: StateFolder, tmp_path: Path) -> None:
    take_offer(with_table)
    first = cohorts.freeze_version(with_table, "table", by=ANNA)
    write_rows(tmp_path / "data", rows=9)
    second = cohorts.freeze_version(with_table, "table", by=ANNA)
    asked = approvals.prepare(with_table, "heart", version=1)
    assert (asked.cohort_hash, asked.version, asked.subjects) == (first.hash, 1, 6)
    hashes = {"job_hash": asked.job_hash, "cohort_hash": asked.cohort_hash}
    with pytest.raises(Conflict, match="its cohort of dataset table has changed"):
        approvals.approve(with_table, "heart", **hashes, version=2, by=ANNA)
    with pytest.raises(Conflict, match="its cohort of dataset table has changed"):
        approvals.approve(with_table, "heart", **hashes, by=ANNA)
    assert approvals.approve(with_table, "heart", **hashes, version=1, by=ANNA).cohort_hash == first.hash
    assert approvals.prepare(with_table, "heart").cohort_hash == second.hash


def test_what_speaks_against_it_is_shown_and_refused(hospital: StateFolder, tmp_path: Path) -> None:
    datasets.add(hospital, "table", write_pairs(tmp_path / "data"), "nifti-pairs", by=ANNA)
    take_offer(hospital)
    asked = approvals.prepare(hospital, "heart")
    reasons = "\n".join(f"- {reason}" for reason in asked.objections)
    assert asked.objections and asked.offer.explanation[-1] == ("What prevents it?", reasons)
    with pytest.raises(Refused, match="it cannot be approved as it is"):
        approvals.approve(hospital, "heart", job_hash=asked.job_hash, cohort_hash=asked.cohort_hash, by=ANNA)
    unchanged(hospital, 3)


def test_nothing_is_prepared_before_the_plan_is_here_to_be_read(with_table: StateFolder) -> None:
    job, _ = take_offer(with_table)
    with_table.blobs.delete(job.plan.hash)
    with pytest.raises(Refused, match="its plan has not been fetched yet; start the agent"):
        approvals.prepare(with_table, "heart")
    with pytest.raises(NotFound, match="was not offered to this site"):
        approvals.prepare(with_table, "lung")


def test_rejecting_and_revoking_say_where_the_experiment_stands(with_table: StateFolder) -> None:
    take_offer(with_table)
    row = approvals.reject(with_table, "heart", by=ANNA, note="not now")
    assert (row.experiment, row.state, row.note) == ("heart", "rejected", "not now")
    with pytest.raises(Conflict, match="is rejected, not approved"):
        approvals.revoke(with_table, "heart", by=ANNA)
    approve(with_table, "heart")
    assert approvals.revoke(with_table, "heart", by=ANNA, note="ethics").state == "revoked"


def test_the_command_line_approves_what_it_showed(
    terminal: Terminal, with_table: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_offer(with_table)

    def confirmed(*_: object, **__: object) -> bool:
        write_rows(tmp_path / "data", rows=9)
        return True

    monkeypatch.setattr("typer.confirm", confirmed)
    refused = terminal("approve", "heart")
    assert isinstance(refused.exception, Conflict) and "has changed since it was shown" in str(refused.exception)
    unchanged(with_table, 3)
