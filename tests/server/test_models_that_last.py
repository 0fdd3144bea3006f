"""Which models a server keeps by name: the last one, and the best by the job's own metric and its direction."""

from __future__ import annotations

import numpy as np
import pytest

from archipel.governance import job_hash
from archipel.rounds import Opened, ParticipantStatus, Stage, StageRecord
from archipel.rounds.experiment_store import SiteRecord
from archipel.server.experiments import views
from archipel.server.experiments.experiment_store import SqlExperimentStore
from archipel.server.membership.federation import ServerContext
from archipel.tensors import blob_hash, encode
from archipel.vocabulary import BadInput, Job, MetricSum, RoundClosed, Task, TaskKey, TaskKind, TrainingPass
from worlds.server import Applicant, records_of, sql_store_of

FIRST = encode({"w": np.zeros(2, np.float32)})


def store(federation: ServerContext, site: Applicant, better: str, first: bytes = FIRST) -> SqlExperimentStore:
    job = Job.model_validate(
        {
            "experiment": "first",
            "plan": {"files": {"plan.py": federation.blobs.put(b"plan")}, "entry": "plan.py", "class_name": "Plan"},
            "initial_model": federation.blobs.put(first),
            "tensors": {"tensors": [{"name": "w", "dtype": "float32", "shape": [2]}]},
            "needs": {"kind": "arrays"},
            "metrics": [{"name": "loss", "better": "lower"}],
            "validation": [{"name": "dice", "better": "higher"}, {"name": "hd95", "better": "lower"}],
            "selection": {"metric": "dice" if better == "higher" else "hd95", "better": better},
            "arguments": {},
            "terms": {"rounds": 4, "quorum": 1},
            "roster": [{"site": site.site, "identity_key": site.identity.public, "dataset": "table"}],
            "server_key": federation.identity.public,
        }
    )
    digest = job_hash(job)
    records_of(federation).keep_job(job, digest, "ada")
    return sql_store_of(federation, job, digest)


def close(
    kept: SqlExperimentStore, number: int, found: float, kind: TaskKind = TaskKind.TRAIN, made: bytes | None = None
) -> None:
    """A committed stage of round ``number`` that measured ``found`` on the model it started from, and ``made`` one."""
    job, stage = kept.job, Stage(kind=kind, round=number)
    before = kept.progress().model
    key = TaskKey(experiment=job.experiment, round=number, kind=kind)
    passes = (TrainingPass(round=number, arguments={}),) if kind is TaskKind.TRAIN else ()
    task = Task(key=key, job_hash=kept.job_hash, models=(before,), passes=passes)
    kept.open(Opened(stage, 1, task, {"berlin": ParticipantStatus.INVITED}, 60.0))
    result, model = None, None
    if kind is TaskKind.TRAIN:
        result = kept.result_file()
        result.write_bytes(made or b"model %d" % number)
        model = blob_hash(result.read_bytes())
    measured = {name: MetricSum(total=2 * found, weight=2.0) for name in ("dice", "hd95")}
    record = StageRecord(
        stage=stage,
        attempt=1,
        committed=True,
        seconds=1.0,
        contributors=("berlin",),
        sites={"berlin": SiteRecord(state=ParticipantStatus.DELIVERED)},
        validation=measured,
        model=model,
    )
    closed = RoundClosed(
        experiment=job.experiment,
        round=number,
        attempt=1,
        kind=kind,
        job_hash=kept.job_hash,
        committed=True,
        contributors=("berlin",),
        model=model,
    )
    kept.close(record, closed, result, {})


@pytest.mark.parametrize(("better", "best"), [("higher", 2), ("lower", 3)])
def test_the_best_model_is_that_of_the_named_metric_in_its_direction(
    federation: ServerContext, enrolled: Applicant, better: str, best: int
) -> None:
    kept = store(federation, enrolled, better)
    # What a round measures is the model it starts from: that of the round before.
    for number, found in ((1, 0.5), (2, 0.6), (3, 0.9), (4, 0.2)):
        close(kept, number, found)
    close(kept, 4, 0.9, TaskKind.EVALUATE)
    models = {one.name: one for one in views.models(federation.database, "first")}
    assert (models["best"].round, models["best"].hash) == (best, blob_hash(b"model %d" % best))
    assert (models["last"].round, models["last"].hash) == (4, blob_hash(b"model 4"))
    kept_numbers = [number for number in range(1, 5) if federation.blobs.has(blob_hash(b"model %d" % number))]
    assert kept_numbers == [best, 4]
    assert federation.blobs.has(blob_hash(FIRST))


@pytest.mark.parametrize(
    ("first", "cause"),
    [
        (b"", "its initial model has 0 bytes, its tensors make"),
        (FIRST + b"more", "bytes, its tensors make"),
        (FIRST.replace(b'"w"', b'"v"'), "its initial model is of other tensors"),
        (bytes(len(FIRST)), "its initial model is of other tensors"),
    ],
    ids=["empty", "longer", "other-name", "junk"],
)
def test_a_job_whose_initial_model_is_of_other_tensors_is_refused(
    federation: ServerContext, enrolled: Applicant, first: bytes, cause: str
) -> None:
    with pytest.raises(BadInput, match=f"job first: .*{cause}.*; make the job and its initial model from the same"):
        store(federation, enrolled, "higher", first)
    assert views.experiments(federation.database) == []


def test_a_job_made_for_another_federation_is_refused(federation: ServerContext, enrolled: Applicant) -> None:
    job = store(federation, enrolled, "higher").job.model_copy(
        update={"experiment": "second", "server_key": "ed25519:" + "7" * 64}
    )
    with pytest.raises(BadInput, match="job second: names another server's key; make the job with this server's"):
        records_of(federation).keep_job(job, job_hash(job), "ada")
