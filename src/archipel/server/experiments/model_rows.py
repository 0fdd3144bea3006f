"""The rows of an experiment's kept models and memory: rewritten inside the transaction that closes a stage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, insert, select

from archipel.rounds import Kept, StageRecord
from archipel.rounds.named_models import NamedModel, named_after
from archipel.server.experiments.attempt_rows import of_experiment
from archipel.server.experiments.job_blobs import names_blob
from archipel.server.state import schema
from archipel.storage import utc_now
from archipel.vocabulary import Job, MetricSum


def keep_models(
    connection: Connection, job: Job, record: StageRecord, local: Mapping[str, str], memory: Mapping[str, Kept]
) -> list[str]:
    """Name the models and the memory that are kept; returns the blobs that this experiment gives no name any more."""
    rows = connection.execute(of_experiment(schema.models, job.experiment)).mappings().all()
    before = {row["name"]: NamedModel(row["hash"], row["round"], _sums(row["validation"])) for row in rows}
    after = named_after(job, before, record, local, {name: kept.hash for name, kept in memory.items()})
    for name in before.keys() - after.keys():
        _forget_model(connection, job.experiment, name)
    for name, model in after.items():
        if model != before.get(name):
            _set_model(connection, job.experiment, name, model)
    return sorted({model.model for model in before.values()} - {model.model for model in after.values()})


def unnamed(connection: Connection, blobs: Iterable[str]) -> list[str]:
    """Those of these blobs that are not a kept model of any experiment, and that no job names, in whatever part."""
    kept = set(connection.scalars(select(schema.models.c.hash)))
    return [blob for blob in blobs if blob not in kept and not _is_in_a_job(connection, blob)]


def _is_in_a_job(connection: Connection, blob: str) -> bool:
    query = select(schema.experiments.c.experiment).where(names_blob(blob))
    return connection.execute(query.limit(1)).first() is not None


def _set_model(connection: Connection, experiment: str, name: str, model: NamedModel) -> None:
    sums = model.validation
    validation = None if sums is None else json.dumps({metric: sums[metric].model_dump() for metric in sums})
    row = {"experiment": experiment, "name": name, "round": model.round, "hash": model.model, "validation": validation}
    _forget_model(connection, experiment, name)
    connection.execute(insert(schema.models).values(**row, at=utc_now()))


def _forget_model(connection: Connection, experiment: str, name: str) -> None:
    table = schema.models
    connection.execute(delete(table).where(table.c.experiment == experiment, table.c.name == name))


def _sums(document: str | None) -> dict[str, MetricSum] | None:
    """Metric sums as a row keeps them."""
    if document is None:
        return None
    return {name: MetricSum.model_validate(sums) for name, sums in json.loads(document).items()}
