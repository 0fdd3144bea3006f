from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text, update

from archipel.data import Cohort, DataMapping, DataSchema, Preprocessing, SampleCounts, cohort_hash
from archipel.governance import Approval, IdentityKey, canonical, check_approval
from archipel.governance import approve as sign
from archipel.site.approval import authorisation, decisions, offers, stored_jobs, suitability
from archipel.site.audit import journal
from archipel.site.cohorts import cohort_versions, stored_cohorts
from archipel.site.datasets import catalog
from archipel.site.datasets.catalog import DatasetProblems
from archipel.site.execution import failures
from archipel.site.services import approvals, cohorts
from archipel.site.state import changes, schema
from archipel.site.state.folder import StateFolder
from archipel.site.state.settings import SiteSettings
from archipel.site.withdrawals.withdrawals import withdraw
from archipel.site.withdrawn.opt_outs import OptOut
from archipel.storage import utc_now
from archipel.strategies import STRATEGIES
from archipel.strategies.fedavg import FedAvg
from archipel.transport.wakeup import Wakeup
from archipel.vocabulary import (
    Conflict,
    DataNeeds,
    ErrorCode,
    Failure,
    HyperParameter,
    Job,
    NotFound,
    PrivacyTerms,
    Refused,
    Release,
    RosterEntry,
    RoundTerms,
    StepTerms,
    StrategyTerms,
    TaskKey,
    WorkerLimits,
)
from worlds.data_files import write_rows
from worlds.people import ANNA, approve
from worlds.site import PLAN, job_for, take_offer

MOMENTUM = StrategyTerms(name="fedavg", parameters={"momentum": 0.9})


def refused(
    site: StateFolder, job_hash: str, code: ErrorCode = ErrorCode.NOT_APPROVED, words: str | None = None
) -> None:
    with pytest.raises(Refused, match=words) as caught:
        authorisation.authorise(site, "heart", job_hash)
    assert caught.value.code is code


def test_nothing_is_allowed_before_a_person_approved(with_table: StateFolder) -> None:
    refused(with_table, "sha256:" + "0" * 64, words="was never offered here")
    _, hashed = take_offer(with_table)
    refused(with_table, hashed, words="is offered, not approved")
    decisions.reject(with_table.database, "heart", note="not now", by=ANNA)
    refused(with_table, hashed, words="is rejected")


def test_an_approval_is_the_sites_signature_over_the_job_and_its_cohort(with_table: StateFolder) -> None:
    job, hashed = take_offer(with_table)
    approval = approve(with_table, "heart")
    check_approval(approval, identity_key=with_table.identity.public, job_hash=hashed)
    allowed = authorisation.authorise(with_table, "heart", hashed)
    assert (allowed.job, allowed.approval) == (job, approval)
    assert list(allowed.cohort.subjects) == [f"p-{n:03}" for n in range(6)]
    line = journal.lines(with_table.database)[-1]
    assert (line.kind, line.body["signature"]) == ("approved", approval.signature)


def test_the_cohort_is_what_lies_on_the_disk_when_a_person_approves(with_table: StateFolder, tmp_path: Path) -> None:
    _, hashed = take_offer(with_table)
    write_rows(tmp_path / "data", rows=9)
    approve(with_table, "heart")
    assert len(authorisation.authorise(with_table, "heart", hashed).cohort.subjects) == 9
    assert catalog.dataset(with_table.database, "table").subjects == 9
    (tmp_path / "data" / "table.npz").write_bytes(b"spoilt")
    with pytest.raises(DatasetProblems, match=r"table.npz: cannot be read"):
        approve(with_table, "heart")


def test_a_changed_job_asks_again_and_the_same_job_does_not(with_table: StateFolder) -> None:
    job, first = take_offer(with_table)
    approve(with_table, "heart")
    assert offers.record(with_table, job) == "approved"
    _, second = take_offer(with_table, terms=RoundTerms(rounds=4, quorum=1))
    refused(with_table, second, words="is offered")
    refused(with_table, first, words="is offered")
    assert offers.offered(with_table.database, "heart").approval is None
    approve(with_table, "heart")
    assert authorisation.authorise(with_table, "heart", second).job.terms.rounds == 4
    refused(with_table, first, words="another job was approved")
    kinds = [line.kind for line in journal.lines(with_table.database)]
    assert kinds[2:] == ["job-offered", "cohort-frozen", "approved", "job-changed", "approved"]


def test_a_job_that_changed_while_a_person_read_is_not_approved(with_table: StateFolder) -> None:
    _, read = take_offer(with_table)
    asked = approvals.prepare(with_table, "heart")
    _, now = take_offer(with_table, seed=7)
    with pytest.raises(Conflict, match="has changed since it was shown; read the new one"):
        approvals.approve(with_table, "heart", job_hash=read, cohort_hash=asked.cohort_hash, by=ANNA)
    refused(with_table, now)


def test_a_dataset_removed_while_a_person_read_is_not_approved(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    frozen = cohorts.freeze(with_table, catalog.dataset(with_table.database, "table"))
    catalog.remove(with_table.database, "table", by=ANNA)
    with pytest.raises(NotFound, match="was removed in the meantime"):
        decisions.approve(with_table, "heart", job_hash=hashed, frozen=frozen, by=ANNA)
    refused(with_table, hashed)


def test_revoking_takes_effect_at_once_and_can_be_undone_by_approving_again(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    with pytest.raises(Conflict, match="is offered, not approved"):
        decisions.revoke(with_table.database, "heart", by=ANNA)
    approve(with_table, "heart")
    authorisation.authorise(with_table, "heart", hashed)
    decisions.revoke(with_table.database, "heart", note="the ethics board asked", by=ANNA)
    refused(with_table, hashed, ErrorCode.REVOKED, "was revoked by this site")
    approve(with_table, "heart")
    authorisation.authorise(with_table, "heart", hashed)


def test_an_ended_experiment_stays_ended(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    offers.end(with_table.database, "heart", "finished")
    offers.end(with_table.database, "heart", "finished")
    refused(with_table, hashed, words="is ended")
    with pytest.raises(Conflict, match="has ended"):
        approve(with_table, "heart")
    with pytest.raises(Conflict, match="is ended"):
        decisions.reject(with_table.database, "heart", by=ANNA)
    assert [line.kind for line in journal.lines(with_table.database)].count("experiment-ended") == 1


def test_every_decision_wakes_whoever_listens_with_the_change_to_be_read(with_table: StateFolder) -> None:
    listener = Wakeup(with_table.folder)
    try:
        frozen = cohorts.freeze(with_table, catalog.dataset(with_table.database, "table"))
        approving = partial(decisions.approve, with_table, job_hash=take_offer(with_table)[1], frozen=frozen)
        revoking, rejecting = (
            partial(decisions.revoke, with_table.database),
            partial(decisions.reject, with_table.database),
        )
        by_kind = {"approved": approving, "revoked": revoking, "rejected": rejecting}
        for kind, decide in by_kind.items():
            take_offer(with_table)
            known = changes.newest(with_table)
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener._socket.recv(16)
            decide("heart", by=ANNA)
            assert listener._socket.recv(16) == b"!"
            assert kind in [change.kind for change in changes.read(with_table, known)]
    finally:
        listener.close()


def test_a_listener_that_was_killed_does_not_stop_a_decision(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    Wakeup(with_table.folder)._socket.close()
    approve(with_table, "heart")
    authorisation.authorise(with_table, "heart", hashed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"privacy": PrivacyTerms(release=Release.INDIVIDUALLY)}, "updates would leave individually"),
        ({"needs": DataNeeds(kind="arrays", minimum_subjects=7)}, "has 6 subjects; the plan needs 7"),
        ({"needs": DataNeeds(kind="volumes")}, "data of kind volumes: not met .the dataset is of kind arrays"),
        ({"terms": RoundTerms(rounds=101, quorum=1)}, "has 101 rounds; the policy allows 100"),
        ({"limits": WorkerLimits(memory_mb=99_999)}, "memory_mb=99999; the policy allows 16384"),
        (
            {"strategy": MOMENTUM},
            "strategy fedavg does not take what the job gives it .argument momentum: strategy fed",
        ),
    ],
)
def test_what_the_sites_rules_refuse_no_person_can_approve(
    with_table: StateFolder, changes: dict[str, object], words: str
) -> None:
    if "privacy" in changes:
        with_table.settings = settings(with_table, releases=["sum"])
    else:
        with_table.settings = settings(with_table, maximum_rounds=100)
    _, hashed = take_offer(with_table, **changes)
    with pytest.raises(Refused, match=words):
        approve(with_table, "heart")
    refused(with_table, hashed)


def test_parameters_that_a_strategy_does_not_take_are_shown_beside_every_other_objection(
    with_table: StateFolder,
) -> None:
    with_table.settings = settings(with_table, releases=["individually"], maximum_rounds=100)
    take_offer(with_table, strategy=MOMENTUM, terms=RoundTerms(rounds=101, quorum=1))
    rounds, strategy = approvals.prepare(with_table, "heart").objections
    assert "has 101 rounds" in rounds and strategy.startswith("strategy fedavg does not take what the job gives it")


def test_a_plan_that_could_tell_more_bytes_than_the_policy_allows_is_not_approved_and_runs_no_more(
    with_table: StateFolder,
) -> None:
    _, hashed = take_offer(with_table)
    usual = with_table.settings
    with_table.settings = settings(with_table, maximum_reported_bytes=5)
    with pytest.raises(
        Refused, match=r"could carry 1[0-9] bytes of information beside the weights; the policy allows 5"
    ):
        approve(with_table, "heart")
    with_table.settings = usual
    approve(with_table, "heart")
    allowed = authorisation.authorise(with_table, "heart", hashed)
    held_out = len(allowed.cohort.validation or ())
    assert allowed.samples == (len(allowed.cohort.training), held_out, held_out)
    with_table.settings = settings(with_table, maximum_reported_bytes=5)
    refused(with_table, hashed, ErrorCode.POLICY, "the policy allows 5")


def test_samples_are_counted_once_for_an_approval_however_often_it_is_asked_for(
    with_table: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    counted: list[int] = []

    def counts(job: Job, cohort: Cohort) -> SampleCounts:
        counted.append(len(cohort.samples))
        return SampleCounts(len(cohort.samples), 0)

    monkeypatch.setattr(authorisation, "samples_for", counts)
    authorisation._proven.cache_clear()
    for _ in range(5):
        authorisation.authorise(with_table, "heart", hashed)
    assert len(counted) == 1


def test_a_privacy_step_that_this_site_does_not_have_is_an_objection(with_table: StateFolder) -> None:
    take_offer(with_table, privacy=PrivacyTerms(steps=(StepTerms(name="blur"),)))
    (objection,) = approvals.prepare(with_table, "heart").objections
    assert objection.startswith("the privacy steps cannot be taken here (privacy step blur: is not known here")
    with pytest.raises(Refused, match="privacy step blur"):
        approve(with_table, "heart")


def test_a_job_with_such_parameters_does_not_run_though_it_was_approved(with_table: StateFolder) -> None:
    """The strategy that this site knows now is another than the one that it knew when it approved."""
    momentum = HyperParameter(name="momentum", kind="float", default=0.0, minimum=0, maximum=1)
    forget = STRATEGIES.register("slow", lambda _: FedAvg(), momentum)
    _, hashed = take_offer(with_table, strategy=StrategyTerms(name="slow", parameters={"momentum": 0.5}))
    try:
        approve(with_table, "heart")
        authorisation.authorise(with_table, "heart", hashed)
    finally:
        forget()
    forget = STRATEGIES.register("slow", lambda _: FedAvg())
    try:
        refused(with_table, hashed, ErrorCode.POLICY, "strategy slow does not take what the job gives it")
    finally:
        forget()


def settings(site: StateFolder, **policy: object) -> SiteSettings:
    return SiteSettings.model_validate({"site": site.name, "policy": policy})


def test_a_policy_made_stricter_stops_what_was_approved(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    with_table.settings = settings(with_table, minimum_subjects=50)
    refused(with_table, hashed, ErrorCode.POLICY, "has 6 subjects; the policy asks for 50")


def test_label_values_that_the_plan_does_not_know_are_refused_early(with_table: StateFolder) -> None:
    job = job_for(with_table, needs=DataNeeds(kind="volumes", labels={"1": "anterior"}))
    entry = catalog.dataset(with_table.database, "table").model_copy(
        update={
            "format": "nifti-pairs",
            "summary": DataSchema(
                kind="volumes", subjects=6, samples=6, modalities={"image": 6}, label_values={"0": 6, "1": 6, "3": 1}
            ),
            "mapping": DataMapping(label_names={"1": "tumour"}),
        }
    )
    first, second = suitability.reasons_against(with_table, job, entry)
    assert first == "dataset table: label 1 anterior: not met (value 1 is tumour here; map it)"
    assert second.startswith("dataset table: no other label values: not met (the dataset also has 3; map them")


def test_a_missing_dataset_is_named_and_another_can_be_chosen(with_table: StateFolder) -> None:
    roster = (RosterEntry(site="charite", identity_key=with_table.identity.public, dataset="hearts"),)
    _, hashed = take_offer(with_table, roster=roster)
    with pytest.raises(NotFound, match=r"dataset hearts: .* --dataset NAME"):
        approve(with_table, "heart")
    approve(with_table, "heart", dataset="table")
    assert authorisation.authorise(with_table, "heart", hashed).cohort.dataset == "table"


@pytest.mark.parametrize("field", ["server_key", "identity_key", "site"])
def test_a_job_of_strangers_is_not_taken_on(with_table: StateFolder, field: str) -> None:
    stranger = IdentityKey.generate().public
    key = stranger if field == "identity_key" else with_table.identity.public
    roster = (RosterEntry(site="other" if field == "site" else "charite", identity_key=key, dataset="table"),)
    changes = {"server_key": stranger} if field == "server_key" else {"roster": roster}
    with pytest.raises(Refused) as caught:
        offers.record(with_table, job_for(with_table, **changes))
    assert caught.value.code is ErrorCode.TRUST
    assert offers.all_offers(with_table.database) == []


def test_a_plan_nobody_can_read_is_not_approved(with_table: StateFolder) -> None:
    job = job_for(with_table)
    offers.record(with_table, job)
    with pytest.raises(Refused, match="its plan has not been fetched yet"):
        approve(with_table, "heart")
    with_table.blobs.put(PLAN)
    with_table.blobs.path(job.plan.hash).write_bytes(PLAN + b"import os")
    with pytest.raises(Refused, match="is not what the job names"):
        approve(with_table, "heart")


def test_a_tampered_approval_row_allows_nothing(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    approval = approve(with_table, "heart")
    stranger = sign(IdentityKey.generate(), approval)
    elsewhere = sign(with_table.identity, approval.model_copy(update={"experiment": "lung"}))
    other_cohort = approval.model_copy(update={"cohort_hash": "sha256:" + "1" * 64})
    for forged, words in [
        (stranger, "signature is not the site's"),
        (elsewhere, "is for something else"),
        (other_cohort, "signature is not the site's"),
        (sign(with_table.identity, other_cohort), "is for another cohort"),
    ]:
        store(with_table, approval=forged.model_dump_json())
        refused(with_table, hashed, words=words)
    store(with_table, approval="{}")
    refused(with_table, hashed, words="cannot be read")
    store(with_table, approval=approval.model_dump_json())
    assert authorisation.authorise(with_table, "heart", hashed).approval == approval


def store(site: StateFolder, **values: object) -> None:
    with site.database.write() as connection:
        connection.execute(update(schema.experiments).values(**values))


def test_a_revoked_row_set_back_to_approved_allows_nothing(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    approve(with_table, "heart")
    decisions.revoke(with_table.database, "heart", by=ANNA)
    store(with_table, state="approved")
    refused(with_table, hashed, words="its approval is missing; this site's database was changed by hand")


def test_a_tampered_job_allows_nothing(with_table: StateFolder) -> None:
    job, hashed = take_offer(with_table)
    approve(with_table, "heart")
    store(with_table, job=canonical(job.model_copy(update={"seed": 99})).decode())
    refused(with_table, hashed, words="the stored job is not the one that was approved")


def test_an_approved_job_is_read_and_hashed_once_and_a_changed_row_at_once(
    with_table: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, hashed = take_offer(with_table, seed=41)
    approve(with_table, "heart")
    stored_jobs.stored_job.cache_clear()
    stored_jobs.stored_job_hash.cache_clear()
    authorisation._proven.cache_clear()
    read, counted = Job.model_validate_json, []

    def noted(document: str) -> Job:
        counted.append(document)
        return read(document)

    monkeypatch.setattr(Job, "model_validate_json", noted)
    hash_of = stored_jobs.job_hash
    monkeypatch.setattr(stored_jobs, "job_hash", lambda one: counted.append("hashed") or hash_of(one))
    for _ in range(3):
        authorisation.authorise(with_table, "heart", hashed)
        assert offers.offered(with_table.database, "heart").job == job
    # The cohort is proven again, and the job is the same text.
    withdraw(with_table, [OptOut("p-002")], by=ANNA)
    authorisation.authorise(with_table, "heart", hashed)
    document = canonical(job).decode()
    assert counted == [document, "hashed"]
    store(with_table, job=document.replace('"seed":41', '"seed":42'))
    refused(with_table, hashed, words="the stored job is not the one that was approved")
    store(with_table, job=document)
    authorisation.authorise(with_table, "heart", hashed)


def test_a_tampered_cohort_allows_nothing_until_it_is_approved_again(with_table: StateFolder) -> None:
    _, hashed = take_offer(with_table)
    approval = approve(with_table, "heart")
    cohort = authorisation.authorise(with_table, "heart", hashed).cohort
    with with_table.database.write() as connection:
        stored_cohorts.write(connection, approval.cohort_hash, cohort.without(frozenset({"p-000"})))
    refused(with_table, hashed, words="is for another cohort")
    with pytest.raises(Refused, match="cohort table version 1: is not what was frozen"):
        approve(with_table, "heart")
    # With every setting given, nothing is taken over from it; the same content is the same version.
    cohorts.freeze_version(with_table, "table", by=ANNA, fraction=0.2, pseudonymise=False, recipe=Preprocessing())
    again = approve(with_table, "heart")
    assert again.cohort_hash == approval.cohort_hash
    assert authorisation.authorise(with_table, "heart", hashed).cohort == cohort


def test_a_server_that_invents_an_approval_gains_nothing(with_table: StateFolder) -> None:
    """The stored cohort's foreign key and the site's own signature are what counts, not that a row says approved."""
    _, hashed = take_offer(with_table)
    cohort = Cohort(dataset="table", format="npz", samples=())
    frozen = cohort_versions.Frozen(catalog.dataset(with_table.database, "table"), cohort)
    invented = Approval(
        experiment="heart",
        site="charite",
        job_hash=hashed,
        cohort_hash=cohort_hash(cohort, with_table.cohort_key),
        approved_at=utc_now(),
        signature="00" * 64,
    )
    with with_table.database.write() as connection:
        cohort_versions.keep(with_table, connection, frozen, by=ANNA)
    store(with_table, state="approved", cohort_hash=invented.cohort_hash, approval=invented.model_dump_json())
    refused(with_table, hashed, words="signature is not the site's")


def test_what_the_rules_refuse_and_what_the_data_lacks_are_told_apart(with_table: StateFolder) -> None:
    needs = DataNeeds(kind="volumes")
    job, _ = take_offer(with_table, needs=needs, terms=RoundTerms(rounds=20_000, quorum=1), validation_fraction=0.3)
    entry, cohort, _ = cohorts.freeze(with_table, catalog.dataset(with_table.database, "table"), fraction=0.5)
    rules = suitability.rules_against(with_table, job, entry, cohort)
    assert [one.partition(" ")[0] for one in rules] == ["the", "version"]
    lacking = [str(one) for one in suitability.needs_met(job, entry, cohort) if one.verdict == "not met"]
    against = suitability.reasons_against(with_table, job, entry, cohort)
    assert lacking and against == [*rules, *(f"dataset table: {one}" for one in lacking)]


def test_an_errors_text_leaves_only_after_a_person_released_it(with_table: StateFolder) -> None:
    take_offer(with_table)
    key = TaskKey(experiment="heart", round=2)
    failure = Failure(
        code=ErrorCode.PLAN_ERROR, sentence="the plan raised", exception="KeyError", file="plan.py", line=7
    )
    with with_table.database.write() as connection:
        connection.execute(
            schema.tasks.insert().values(
                **key.model_dump(mode="json"),
                task="{}",
                task_hash="sha256:" + "0" * 64,
                state="failed",
                failure=failure.model_dump_json(),
                detail="Traceback ... KeyError: 'patient Müller'",
                accepted_at=utc_now(),
            )
        )
    assert [task.key for task in failures.failed(with_table.database)] == [key]
    assert failures.to_send(with_table.database) == []
    with pytest.raises(NotFound, match="errors of heart round 3"):
        failures.release(with_table.database, "heart", 3, by=ANNA)
    failures.release(with_table.database, "heart", 2, by=ANNA)
    failures.release(with_table.database, "heart", 2, by=ANNA)
    assert failures.to_send(with_table.database) == [(key, "Traceback ... KeyError: 'patient Müller'")]
    failures.mark_sent(with_table.database, key)
    assert failures.to_send(with_table.database) == []
    kinds = [line.kind for line in journal.lines(with_table.database)]
    assert kinds.count("error-released") == 1
    with with_table.database.read() as connection:
        assert "Müller" not in str(connection.execute(text("SELECT body FROM journal")).all())
