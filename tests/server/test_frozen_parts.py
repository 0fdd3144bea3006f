"""A job with a frozen part at a server: checked when submitted, given to its sites and to nobody else, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_jobs_and_answers import approved
from test_models_that_last import FIRST, close, store
from test_who_may_steer import as_person

from archipel.governance import job_hash
from archipel.server import backup
from archipel.server.experiments import Experiments
from archipel.server.experiments.model_rows import unnamed
from archipel.server.membership.federation import ServerContext
from archipel.server.state import schema
from archipel.server.state.folder import ServerState
from archipel.tensors import blob_hash, encode
from archipel.vocabulary import BadInput, Job, NotFound
from worlds.server import Applicant, Served, records_of, serving, sql_store_of

FROZEN = encode({"backbone": np.ones(50, np.float32)})
PART = {"tensors": {"tensors": [{"name": "backbone", "dtype": "float32", "shape": [50]}]}, "blob": blob_hash(FROZEN)}


def document(federation: ServerContext, site: Applicant, **changes: Any) -> dict[str, Any]:
    values = {
        "experiment": "frozen",
        "plan": {"files": {"plan.py": federation.blobs.put(b"plan")}, "entry": "plan.py", "class_name": "Plan"},
        "initial_model": federation.blobs.put(FIRST),
        "tensors": {"tensors": [{"name": "w", "dtype": "float32", "shape": [2]}]},
        "frozen": PART,
        "needs": {"kind": "arrays"},
        "metrics": [{"name": "loss", "better": "lower"}],
        "validation": [{"name": "dice", "better": "higher"}, {"name": "hd95", "better": "lower"}],
        "terms": {"rounds": 4, "quorum": 1},
        "roster": [{"site": site.site, "identity_key": site.identity.public, "dataset": "table"}],
        "server_key": federation.identity.public,
    }
    return values | changes


@pytest.fixture
def job(federation: ServerContext, enrolled: Applicant) -> Job:
    federation.blobs.put(FROZEN)
    return Job.model_validate(document(federation, enrolled))


@pytest.mark.parametrize(
    ("other", "cause"),
    [
        (encode({"backbone": np.ones(51, np.float32)}), "its frozen part has 276 bytes, its tensors make 272"),
        (encode({"headbone": np.ones(50, np.float32)}), "its frozen part is of other tensors (tensor backbone is mis"),
        (None, "is not in the store"),
    ],
    ids=["size", "names", "absent"],
)
def test_a_frozen_part_that_is_not_here_or_does_not_fit_is_refused(
    federation: ServerContext, job: Job, other: bytes | None, cause: str
) -> None:
    assert job.frozen is not None
    blob = blob_hash(b"absent") if other is None else federation.blobs.put(other)
    wrong = job.model_copy(update={"frozen": job.frozen.model_copy(update={"blob": blob})})
    with pytest.raises(BadInput if other else NotFound) as error:
        records_of(federation).keep_job(wrong, job_hash(wrong), "ada")
    assert cause in str(error.value)


def test_a_site_fetches_it_once_it_has_approved_and_a_copy_of_the_server_has_it(
    federation: ServerContext, enrolled: Applicant, job: Job, tmp_path: Path
) -> None:
    records, digest = records_of(federation), job_hash(job)
    records.keep_job(job, digest, "ada")
    kept = sql_store_of(federation, job, digest)
    blob = blob_hash(FROZEN)
    assert records.may_fetch("berlin", blob) is None
    approved(federation, kept, enrolled)
    assert records.may_fetch("berlin", blob) == "frozen" and records.may_fetch("paris", blob) is None
    close(kept, 1, 0.5)
    assert records.may_fetch("berlin", blob) == "frozen", "in every round"
    backup.copy(federation, tmp_path / "copy")
    with ServerContext.open(ServerState(tmp_path / "copy")) as other:
        assert other.blobs.has(blob)


def test_what_a_job_names_outlives_the_experiment_that_made_it(federation: ServerContext, enrolled: Applicant) -> None:
    """As when the backbone is trained first, and then a head on top of it."""
    backbone, head = (encode({name: np.ones(2, np.float32)}) for name in ("w", "head"))
    first = store(federation, enrolled, "higher")
    close(first, 1, 0.5, made=backbone)
    part = {"tensors": {"tensors": [{"name": "w", "dtype": "float32", "shape": [2]}]}, "blob": blob_hash(backbone)}
    changes: dict[str, Any] = {
        "initial_model": federation.blobs.put(head),
        "tensors": {"tensors": [{"name": "head", "dtype": "float32", "shape": [2]}]},
    }
    second = Job.model_validate(document(federation, enrolled, frozen=part, **changes))
    records_of(federation).keep_job(second, job_hash(second), "ada")
    for number, found in ((2, 0.6), (3, 0.7), (4, 0.8)):
        close(first, number, found)
    assert federation.blobs.has(blob_hash(backbone)) and not federation.blobs.has(blob_hash(b"model 2"))


def test_each_blob_that_a_job_names_is_spared_and_no_other(
    federation: ServerContext, enrolled: Applicant, job: Job
) -> None:
    module, unused = federation.blobs.put(b"x = 1"), blob_hash(b"named in a description only")
    files = {**job.plan.files, "parts/layers.py": module}
    job = job.model_copy(update={"plan": job.plan.model_copy(update={"files": files}), "description": unused})
    records_of(federation).keep_job(job, job_hash(job), "ada")
    with federation.database.write() as connection:
        # Only its kept model names the initial model otherwise.
        connection.execute(schema.models.delete())
        assert len(job.blobs) == 4 and unnamed(connection, [*job.blobs, unused]) == [unused]


async def test_who_may_download_a_model_downloads_what_its_job_names_and_no_other_blob(
    served: Served, enrolled: Applicant
) -> None:
    federation = served.federation
    frozen, secret = federation.blobs.put(FROZEN), federation.blobs.put(b"another experiment's")
    anna, bert = as_person(served, "anna", "research"), as_person(served, "bert", "research")
    models = as_person(served, "carl", "models")
    async with served.client() as client:
        submission = {"job": document(federation, enrolled)}
        for blob in Job.model_validate(submission["job"]).blobs:
            with federation.blobs.open(blob) as file:
                await client.put(f"/v1/blobs/{blob}", content=file.read(), headers=anna)
        answer = await client.post("/v1/experiments", json=submission, headers=anna)
        assert answer.status_code == 201, answer.text
        path = "/v1/experiments/frozen/blobs/"
        for person, status in ((anna, 200), (bert, 403), (models, 200)):
            answer = await client.get(path + frozen, headers=person)
            assert answer.status_code == status and (status != 200 or answer.content == FROZEN)
        assert (await client.get(path + blob_hash(b"plan"), headers=anna)).content == b"plan"
        refused = await client.get(path + secret, headers=anna)
        assert refused.status_code == 404 and "is not in the job" in refused.text


async def test_what_ones_own_job_names_can_be_named_again_without_sending_it_and_by_nobody_else(
    federation: ServerContext, enrolled: Applicant, job: Job
) -> None:
    second = {"job": document(federation, enrolled, experiment="second")}
    async with serving(federation, Experiments(federation)) as served, served.client() as client:
        anna, bert = as_person(served, "anna", "research"), as_person(served, "bert", "research")
        records_of(federation).keep_job(job, job_hash(job), anna["Authorization"].split("_")[1])
        for person, status in ((bert, 404), (anna, 200)):
            answers = [await client.head(f"/v1/blobs/{blob}", headers=person) for blob in sorted(job.blobs)]
            assert [answer.status_code for answer in answers] == [status] * 3
        for content in (b"plan", FIRST):
            await client.put(f"/v1/blobs/{blob_hash(content)}", content=content, headers=bert)
        refused = await client.post("/v1/experiments", json=second, headers=bert)
        assert refused.status_code == 403 and blob_hash(FROZEN) in refused.json()["cause"]
        answer = await client.post("/v1/experiments", json=second, headers=anna)
        assert answer.status_code == 201, answer.text
