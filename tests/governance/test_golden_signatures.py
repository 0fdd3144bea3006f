"""Golden values: what an earlier version signed is valid in this one. Ed25519 is deterministic (RFC 8032)."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from archipel.governance import (
    Approval,
    IdentityKey,
    JournalEntry,
    JournalHead,
    SignedWithdrawal,
    approve,
    canonical,
    check_approval,
    check_chain,
    job_hash,
    sign_closed,
    sign_head,
    sign_withdrawal,
)
from archipel.governance.journal import GENESIS
from archipel.vocabulary import Job, Record, RoundClosed

KEY = IdentityKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
AT = "2026-11-21T08:00:00.000000+00:00"
COHORT = "sha256:" + "1" * 64
JOB = Job.model_validate(
    {
        "experiment": "first",
        "title": "Hippocampus, café",
        "plan": {"files": {"plan.py": "blake3:" + "0" * 64}, "entry": "plan.py", "class_name": "Plan"},
        "initial_model": "blake3:" + "2" * 64,
        "tensors": {"tensors": [{"name": "weight", "dtype": "float32", "shape": [3, 2]}]},
        "needs": {"kind": "arrays", "minimum_subjects": 4},
        "metrics": [{"name": "loss", "better": "lower"}],
        "parameters": [{"name": "rate", "kind": "float", "default": 0.1, "minimum": 0, "maximum": 1}],
        "arguments": {"rate": 0.1},
        "terms": {"rounds": 3, "quorum": 1},
        "roster": [{"site": "berlin", "identity_key": KEY.public, "dataset": "table"}],
        "server_key": KEY.public,
    }
)

JOB_HASH = "sha256:71f127c35e231ea79916aa5cfc50ea5190428f8ac1411761c1488931334fe6fd"
CLOSED_JOB = "sha256:8e528e46918fa9b5d96133afc84236c16efe2979d183c6136b8ec920a00eab73"
"""The job of the round that was closed: a hash like any other."""
APPROVAL = (
    "786dafadbba0f1bd1c81023afd040b537cb4bc307c265d4ff87079af22f23fb5"
    "df6b50c422421350db8b4eddabd9dfcdd227761f5a32a469a5f9b31d8fba100e"
)
WITHDRAWAL = (
    "53939e77061a6e18e987a96590c9669557a65457ec3ad33ab7858448a648b5c0"
    "79967ebccaf602f71439d964e846daefda6eecfe86bcbc11a9fb37672105420e"
)
CLOSED = (
    "cf410c9acaa2e4ceb27176b32f2ce633e4942f890af417716678d2d565d1c170"
    "bb57d75e47f6b6d0b121cff8dcd363d1114ef3873905a6c43b1833f3aa88a30b"
)
HEAD = (
    "6d4b676eaff1690e47add91013e13db28c25be0e6bc1d09076d90537ea14b452"
    "eeee6728c355a6e7b2cef839b395b42487f27cf2ded87899aa24f69eec7da306"
)
CHAIN = (
    "sha256:ef0d5134a972581d32ce0b9cef5cc437a2f56f4c11c59902b6d8effbc25f5ed7",
    "sha256:5334e311278a0c643b1cb5002005702db96550e67c2827fbf58f7422ac6a8d66",
)


def test_the_job_hash_is_the_golden_one() -> None:
    assert job_hash(JOB) == JOB_HASH


def test_an_approval_that_was_signed_before_is_valid() -> None:
    draft = Approval(experiment="first", site="berlin", job_hash=JOB_HASH, cohort_hash=COHORT, approved_at=AT)
    assert approve(KEY, draft).signature == APPROVAL
    known = draft.model_copy(update={"signature": APPROVAL})
    check_approval(known, identity_key=KEY.public, job_hash=job_hash(JOB), cohort_hash=COHORT)


def test_a_withdrawal_a_closed_round_and_a_head_have_the_golden_signatures() -> None:
    withdrawal = SignedWithdrawal(site="berlin", cohort_hash=COHORT, subjects=("a" * 64,), at=AT)
    closed = RoundClosed(
        experiment="first", round=2, attempt=1, job_hash=CLOSED_JOB, committed=True, contributors=("berlin",)
    )
    head = JournalHead(owner="berlin", number=3, hash=COHORT, at=AT)
    assert sign_withdrawal(KEY, withdrawal).signature == WITHDRAWAL
    assert sign_closed(KEY, closed) == CLOSED
    assert sign_head(KEY, head).signature == HEAD


def test_a_journal_chain_that_was_written_before_is_whole() -> None:
    lines: list[JournalEntry] = []
    for number, body in enumerate(({"site": "berlin"}, {"b": 1.0, "a": "ä", "none": None}), 1):
        draft = JournalEntry(
            number=number, at=AT, kind="note", body=body, previous=lines[-1].hash if lines else GENESIS, hash=GENESIS
        )
        lines.append(draft.model_copy(update={"hash": CHAIN[number - 1]}))
    assert check_chain(lines) == []


class _LaterApproval(Approval):
    """An approval as a later version might have it."""

    purpose: str = ""


class _LaterJob(Job):
    """A job as a later version might have it."""

    retention_days: int = Field(default=0)


def test_a_field_that_a_later_version_adds_leaves_hashes_and_signatures_as_they_are() -> None:
    job = _LaterJob.model_validate(JOB.model_dump())
    assert job_hash(job) == JOB_HASH
    assert job_hash(job.model_copy(update={"retention_days": 30})) != JOB_HASH
    draft = Approval(experiment="first", site="berlin", job_hash=JOB_HASH, cohort_hash=COHORT, approved_at=AT)
    later = _LaterApproval.model_validate(draft.model_dump() | {"signature": APPROVAL})
    check_approval(later, identity_key=KEY.public, job_hash=JOB_HASH, cohort_hash=COHORT)


def test_the_format_of_a_job_is_always_part_of_its_hash() -> None:
    assert b'"format":"archipel-job/1"' in canonical(JOB)


def test_a_value_that_equals_its_default_is_one_document_however_it_was_written() -> None:
    class Terms(Record):
        retries: int = 2
        rounds: int

    assert canonical(Terms(rounds=1, retries=2)) == canonical(Terms(rounds=1)) == b'{"rounds":1}'
