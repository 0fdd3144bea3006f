"""An approval holds for one site, one job and one cohort; a policy refuses what no rule allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.governance import Approval, IdentityKey, SitePolicy, approve, check_approval, job_hash, objections, verify
from archipel.vocabulary import ArchipelError, ErrorCode, Job, Refused, Release

KEY, OTHER = IdentityKey.generate(), IdentityKey.generate()
HASH = "sha256:" + "1" * 64


def job(**changes: Any) -> Job:
    values: dict[str, Any] = {
        "experiment": "first",
        "plan": {"files": {"plan.py": "blake3:" + "0" * 64}, "entry": "plan.py", "class_name": "Plan"},
        "initial_model": "blake3:" + "2" * 64,
        "tensors": {"tensors": []},
        "needs": {"kind": "arrays", "minimum_subjects": 4},
        "metrics": [],
        "parameters": [{"name": "rate", "kind": "float", "default": 0.1, "minimum": 0, "maximum": 1}],
        "arguments": {"rate": 0.1},
        "terms": {"rounds": 3, "quorum": 1},
        "roster": [{"site": "berlin", "identity_key": KEY.public, "dataset": "table"}],
        "server_key": OTHER.public,
    }
    return Job.model_validate(values | changes)


SEVERAL: dict[str, Any] = {
    "terms": {"rounds": 3, "quorum": 2},
    "roster": [{"site": site, "identity_key": KEY.public, "dataset": "table"} for site in ("berlin", "paris")],
}
JOB = job()
APPROVAL = approve(
    KEY,
    Approval(
        experiment="first",
        site="berlin",
        job_hash=job_hash(JOB),
        cohort_hash=HASH,
        approved_at="2026-11-21T08:00:00.000000+00:00",
    ),
)


def test_an_approval_holds_for_its_job_and_cohort() -> None:
    check_approval(APPROVAL, identity_key=KEY.public, job_hash=job_hash(JOB), cohort_hash=HASH)
    check_approval(APPROVAL, identity_key=KEY.public, job_hash=job_hash(JOB))


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "other"},
        {"seed": 1},
        {"arguments": {"rate": 0.2}},
        {"terms": {"rounds": 4, "quorum": 1}},
        {"initial_model": "blake3:" + "3" * 64},
        {"plan": {"files": {"plan.py": "blake3:" + "4" * 64}, "entry": "plan.py", "class_name": "Plan"}},
        {"parameters": [{"name": "rate", "kind": "float", "default": 0.1, "minimum": 0, "maximum": 2}]},
        {"roster": [{"site": "berlin", "identity_key": KEY.public, "dataset": "other"}]},
    ],
)
def test_any_change_of_the_job_asks_again(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="another version of the job") as refused:
        check_approval(APPROVAL, identity_key=KEY.public, job_hash=job_hash(job(**changes)), cohort_hash=HASH)
    assert refused.value.code is ErrorCode.NOT_APPROVED


def test_another_cohort_is_refused() -> None:
    with pytest.raises(Refused, match="another cohort"):
        check_approval(APPROVAL, identity_key=KEY.public, job_hash=job_hash(JOB), cohort_hash="sha256:" + "9" * 64)


def test_an_approval_by_another_key_is_refused() -> None:
    forged = approve(OTHER, APPROVAL)
    for found, key in ((forged, KEY), (APPROVAL, OTHER)):
        with pytest.raises(Refused, match="its signature is not the site's"):
            check_approval(found, identity_key=key.public, job_hash=job_hash(JOB))


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": "second"},
        {"site": "paris"},
        {"job_hash": HASH},
        {"cohort_hash": "sha256:" + "5" * 64},
        {"approved_at": "2027-01-01T00:00:00.000000+00:00"},
        {"signature": ""},
        {"signature": "00" * 64},
    ],
)
def test_no_field_of_an_approval_can_be_changed_afterwards(change: dict[str, str]) -> None:
    with pytest.raises(Refused, match="its signature is not the site's"):
        check_approval(APPROVAL.model_copy(update=change), identity_key=KEY.public, job_hash=job_hash(JOB))


@given(st.binary(max_size=64), st.binary(min_size=1, max_size=8))
def test_a_signature_is_for_one_message(message: bytes, more: bytes) -> None:
    signature = KEY.sign(message)
    assert verify(KEY.public, signature, message)
    assert not verify(KEY.public, signature, message + more)
    assert not verify(OTHER.public, signature, message)


@given(st.text(max_size=80), st.text(max_size=140))
def test_nonsense_is_no_signature_and_no_crash(public: str, signature: str) -> None:
    assert not verify(public, signature, b"message")


def test_a_key_comes_back_from_its_file_and_a_bad_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    KEY.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert IdentityKey.load(path).public == KEY.public
    path.write_text("nonsense")
    for bad in (path, tmp_path / "none.key"):
        with pytest.raises(ArchipelError, match="holds no readable identity key") as refused:
            IdentityKey.load(bad)
        assert refused.value.code is ErrorCode.CONFIGURATION


@pytest.mark.parametrize(
    ("policy", "changes", "subjects", "words"),
    [
        ({}, {}, 10, None),
        ({"releases": (Release.SUM,)}, {}, 10, "updates would leave individually; the policy allows sum"),
        ({"minimum_subjects": 20}, {}, 10, "the policy asks for 20"),
        ({}, {}, 3, "the plan needs 4"),
        ({"maximum_rounds": 2}, {}, 10, "the job has 3 rounds; the policy allows 2"),
        ({}, {"limits": {"memory_mb": 99_999}}, 10, "the job asks for memory_mb=99999"),
        ({}, {"strategy": {"name": "median"}}, 10, None),
    ],
)
def test_a_policy_names_each_thing_it_refuses(
    policy: dict[str, Any], changes: dict[str, Any], subjects: int, words: str | None
) -> None:
    found = objections(job(**changes), SitePolicy(**policy), subjects, Release.INDIVIDUALLY)
    assert len(found) == (words is not None)
    assert words is None or words in found[0]


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (Release.SUM, None),
        (Release.INDIVIDUALLY, "only sums may leave, and strategy median needs each site's own update"),
        (None, "only sums may leave, and strategy median is not known here"),
    ],
)
def test_a_strategy_that_sums_are_not_enough_for_is_refused_at_the_site(
    needs: Release | None, words: str | None
) -> None:
    summed = job(strategy={"name": "median"}, privacy={"release": "sum"}, **SEVERAL)
    assert objections(summed, SitePolicy(), 10, needs) == ([words] if words else [])
