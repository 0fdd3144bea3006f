"""The canonical bytes of each kind of line in a site's journal: an auditor's copy of an older journal stays whole.

What stands here was written by the first version. A field that is added later is not among what is written when it is
not given, so that no line here changes.
"""

from __future__ import annotations

import json

import pytest

from archipel.data import DataMapping
from archipel.governance import JournalHead
from archipel.governance.canonical import canonical
from archipel.site.audit import journal, journal_entries
from archipel.site.audit.journal_entries import JournalBody, SiteJournalKind
from archipel.site.state.folder import StateFolder
from archipel.transport.messages import DatasetSummary, DisclosedColumn
from archipel.vocabulary import ErrorCode, Failure, RoundClosed, TaskKey, TaskKind

SHA, BLAKE = "sha256:" + "1" * 64, "blake3:" + "2" * 64
KEY = dict(TaskKey(experiment="brains", round=3, kind=TaskKind.EVALUATE))
WRITTEN_KEY = '"about":"","attempt":1,"experiment":"brains","kind":"evaluate","round":3'
HEAD = JournalHead(owner="server", number=7, hash=SHA, at="2026-01-02", signature="s")
WRITTEN_HEAD = f'{{"at":"2026-01-02","hash":"{SHA}","number":7,"owner":"server","signature":"s"}}'
CLOSED = RoundClosed(experiment="brains", round=3, attempt=1, job_hash=SHA, committed=True, contributors=("nord",))
FAILURE = Failure(code=ErrorCode.BAD_DATA, exception="ValueError", sentence="bad data")
WRITTEN_FAILURE = (
    '{"about":"","attempt":1,"experiment":"brains","failure":{"code":"bad-data","exception":"ValueError",'
    '"file":null,"line":null,'
    '"retry":false,"sentence":"bad data"},"kind":"evaluate","round":3}'
)
E = journal_entries
LINES: dict[SiteJournalKind, tuple[JournalBody, str]] = {
    SiteJournalKind.SITE_MADE: (
        E.SiteMade(site="nord", identity_key="ed25519:00"),
        '{"identity_key":"ed25519:00","site":"nord"}',
    ),
    SiteJournalKind.JOINED: (
        E.Joined(federation="sea", server_key="ed25519:01", again=False),
        '{"again":false,"federation":"sea","server_key":"ed25519:01"}',
    ),
    SiteJournalKind.CERTIFICATE_RENEWED: (E.CertificateRenewed(site="nord"), '{"site":"nord"}'),
    SiteJournalKind.DATASET_ADDED: (
        E.DatasetAdded(name="heads", format="msd", subjects=12),
        '{"format":"msd","name":"heads","subjects":12}',
    ),
    SiteJournalKind.DATASET_MAPPED: (
        E.DatasetMapped(name="heads", mapping=DataMapping(labels={"2": "1"})),
        '{"mapping":{"columns":{},"drop_incomplete":false,"drop_other_labels":false,"label_names":{},"labels":{"2":1},'
        '"modalities":{},"orientation":""},"name":"heads"}',
    ),
    SiteJournalKind.DATASET_REMOVED: (E.DatasetRemoved(name="heads"), '{"name":"heads"}'),
    SiteJournalKind.DATASETS_DISCLOSED: (
        E.DatasetsDisclosed(
            datasets=(
                DatasetSummary(
                    name="heads", kind="volumes", subjects="<5", columns=(DisclosedColumn(name="age", unit="years"),)
                ),
            )
        ),
        '{"datasets":[{"columns":[{"name":"age","unit":"years"}],"kind":"volumes","name":"heads","subjects":"<5"}]}',
    ),
    SiteJournalKind.SUBJECTS_EXCLUDED: (
        E.SubjectsExcluded(name="heads", subjects=("t1", "t2")),
        '{"name":"heads","subjects":["t1","t2"]}',
    ),
    SiteJournalKind.COHORT_FROZEN: (
        E.CohortFrozen(dataset="heads", version=2, cohort_hash=SHA, subjects=12),
        f'{{"cohort_hash":"{SHA}","dataset":"heads","subjects":12,"version":2}}',
    ),
    SiteJournalKind.COHORT_NAMED: (
        E.CohortNamed(dataset="heads", version=2, cohort_hash=SHA, name="spring"),
        f'{{"cohort_hash":"{SHA}","dataset":"heads","name":"spring","version":2}}',
    ),
    SiteJournalKind.COHORT_REDUCED: (
        E.CohortReduced(cohort_hash=SHA, dataset="heads", version=2, subjects=1, left=11, signature="s"),
        f'{{"cohort_hash":"{SHA}","dataset":"heads","left":11,"signature":"s","subjects":1,"version":2}}',
    ),
    SiteJournalKind.PATIENT_WITHDRAWN: (
        E.PatientWithdrawn(subject="t1", dataset="every dataset", source="command"),
        '{"dataset":"every dataset","source":"command","subject":"t1"}',
    ),
    SiteJournalKind.PATIENT_REINSTATED: (
        E.PatientReinstated(subject="t1", dataset="heads"),
        '{"dataset":"heads","subject":"t1"}',
    ),
    SiteJournalKind.JOB_OFFERED: (
        E.JobOffered(experiment="brains", job_hash=SHA, plan_hash=BLAKE, asked_by="ada"),
        f'{{"asked_by":"ada","experiment":"brains","job_hash":"{SHA}","plan_hash":"{BLAKE}"}}',
    ),
    SiteJournalKind.JOB_CHANGED: (
        E.JobChanged(experiment="brains", job_hash=SHA, plan_hash=BLAKE, asked_by="", before=SHA, was="approved"),
        f'{{"asked_by":"","before":"{SHA}","experiment":"brains","job_hash":"{SHA}","plan_hash":"{BLAKE}",'
        '"was":"approved"}',
    ),
    SiteJournalKind.PACKAGES_DISCLOSED: (
        E.PackagesDisclosed(experiment="brains", job_hash=SHA, packages={"monai": None, "torch": "2.5.1+cpu"}),
        f'{{"experiment":"brains","job_hash":"{SHA}","packages":{{"monai":null,"torch":"2.5.1+cpu"}}}}',
    ),
    SiteJournalKind.JOB_ASKER: (
        E.JobAsker(experiment="brains", asked_by="bob", before="ada"),
        '{"asked_by":"bob","before":"ada","experiment":"brains"}',
    ),
    SiteJournalKind.CHECKED: (
        E.Checked(experiment="brains", job_hash=SHA, step="dummy", go=True),
        f'{{"experiment":"brains","go":true,"job_hash":"{SHA}","step":"dummy"}}',
    ),
    SiteJournalKind.PLAN_READ_FOR_A_CHECK: (
        E.PlanRead(experiment="brains", job_hash=SHA, dataset="heads", subjects=12, by="eve"),
        f'{{"by":"eve","dataset":"heads","experiment":"brains","job_hash":"{SHA}","subjects":12}}',
    ),
    SiteJournalKind.APPROVED: (
        E.Approved(
            experiment="brains",
            by="eve",
            note="",
            job_hash=SHA,
            cohort_hash=SHA,
            dataset="heads",
            version=2,
            subjects=12,
            signature="s",
        ),
        f'{{"by":"eve","cohort_hash":"{SHA}","dataset":"heads","experiment":"brains","job_hash":"{SHA}","note":"",'
        '"signature":"s","subjects":12,"version":2}',
    ),
    SiteJournalKind.REJECTED: (
        E.Decided(experiment="brains", by="eve", note="no"),
        '{"by":"eve","experiment":"brains","note":"no"}',
    ),
    SiteJournalKind.REVOKED: (
        E.Decided(experiment="brains", by="eve", note=""),
        '{"by":"eve","experiment":"brains","note":""}',
    ),
    SiteJournalKind.EXPERIMENT_ENDED: (
        E.ExperimentEnded(experiment="brains", how="finished"),
        '{"experiment":"brains","how":"finished"}',
    ),
    SiteJournalKind.WORKER_STARTED: (
        E.WorkerStarted(experiment="brains", sandbox="namespaces", cohort_hash=SHA, subjects=12),
        f'{{"cohort_hash":"{SHA}","experiment":"brains","sandbox":"namespaces","subjects":12}}',
    ),
    SiteJournalKind.TASK_ACCEPTED: (
        E.TaskAcceptedLine(**KEY, task=SHA, models=(BLAKE,)),
        f'{{"about":"","attempt":1,"experiment":"brains","kind":"evaluate","models":["{BLAKE}"],"round":3,'
        f'"task":"{SHA}"}}',
    ),
    SiteJournalKind.TASK_BEGUN_AGAIN: (
        E.TaskAcceptedLine(**KEY, task=SHA, models=()),
        f'{{"about":"","attempt":1,"experiment":"brains","kind":"evaluate","models":[],"round":3,"task":"{SHA}"}}',
    ),
    SiteJournalKind.TASK_REFUSED: (
        E.TaskFailedLine(**KEY, failure=FAILURE),
        WRITTEN_FAILURE,
    ),
    SiteJournalKind.TASK_FAILED: (E.TaskFailedLine(**KEY, failure=FAILURE), WRITTEN_FAILURE),
    SiteJournalKind.UPDATE_MADE: (
        E.UpdateMade(**KEY, model=None, samples=8, bytes=0),
        '{"about":"","attempt":1,"bytes":0,"experiment":"brains","kind":"evaluate","model":null,"round":3,"samples":8}',
    ),
    SiteJournalKind.UPDATE_SENT: (E.TaskLine(**KEY), f"{{{WRITTEN_KEY}}}"),
    SiteJournalKind.ROUND_CLOSED: (
        E.RoundSettled(**dict(CLOSED), server_head=HEAD),
        '{"about":"","attempt":1,"committed":true,"contributors":["nord"],"experiment":"brains",'
        f'"job_hash":"{SHA}","kind":"train","model":null,"round":3,"server_head":{WRITTEN_HEAD}}}',
    ),
    SiteJournalKind.ERROR_RELEASED: (
        E.ErrorReleasedLine(**KEY, text=SHA),
        f'{{"about":"","attempt":1,"experiment":"brains","kind":"evaluate","round":3,"text":"{SHA}"}}',
    ),
    SiteJournalKind.ERROR_SENT: (E.TaskLine(**KEY), f"{{{WRITTEN_KEY}}}"),
    SiteJournalKind.SERVER_JOURNAL_FAULT: (
        E.ServerJournalFault(kept=HEAD, shown=HEAD),
        f'{{"kept":{WRITTEN_HEAD},"shown":{WRITTEN_HEAD}}}',
    ),
}


def test_every_kind_of_line_stands_here() -> None:
    assert set(LINES) == set(SiteJournalKind)


@pytest.mark.parametrize("kind", LINES, ids=str)
def test_a_line_is_written_as_the_first_version_wrote_it(hospital: StateFolder, kind: SiteJournalKind) -> None:
    body, written = LINES[kind]
    with hospital.database.write() as connection:
        journal_entries.add_entry(connection, kind, body)
    line = journal.newest(hospital.database, 1)[0]
    assert (line.kind, canonical(line.body).decode()) == (kind.value, written)
    assert json.loads(written) == line.body and line.fits_its_hash()


def test_a_field_that_is_not_given_is_not_written() -> None:
    class Later(E.CertificateRenewed):
        reason: str = ""

    assert canonical(Later(site="nord").document()) == b'{"site":"nord"}'
    assert canonical(Later(site="nord", reason="").document()) == b'{"reason":"","site":"nord"}'


def test_a_person_is_written_where_one_did_it() -> None:
    """Since the lines of everything that a person does name them."""
    assert canonical(E.DatasetRemoved(name="heads", by="eve").document()) == b'{"by":"eve","name":"heads"}'
    released = E.ErrorReleasedLine(**KEY, text=SHA, by="eve").document()
    assert canonical(released).decode() == (
        f'{{"about":"","attempt":1,"by":"eve","experiment":"brains","kind":"evaluate","round":3,"text":"{SHA}"}}'
    )
