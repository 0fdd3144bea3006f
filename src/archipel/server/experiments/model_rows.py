"""The rows of an experiment's kept models and memory: rewritten inside the transaction that closes a stage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam, delete, insert, select

from archipel.rounds import Kept, StageRecord
from archipel.rounds.named_models import NamedModel, named_after
from archipel.server.experiments.job_blobs import names_blob
from archipel.server.state import schema
from archipel.storage import Statement, utc_now
from archipel.vocabulary import Job, MetricSum

_models, _experiments = schema.models, schema.experiments
# Composed once: each round gives the newest model its name, and asks whether the one before has another.
_OF = Statement(select(_models).where(_models.c.experiment == bindparam("named")))
_ALL = Statement(select(_models.c.hash))
_ADD = Statement(insert(_models))
_FORGET = Statement(
    delete(_models).where(_models.c.experiment == bindparam("named"), _models.c.name == bindparam("as_"))
)
_NAMES = Statement(select(_experiments.c.experiment).where(names_blob(bindparam("blob"))).limit(1))


def keep_models(
    connection: Connection, job: Job, record: StageRecord, local: Mapping[str, str], memory: Mapping[str, Kept]
) -> list[str]:
    """Name the models and the memory that are kept; returns the blobs that this experiment gives no name any more."""
    rows = _OF.rows(connection, {"named": job.experiment})
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
    kept = set(_ALL.each(connection))
    return [blob for blob in blobs if blob not in kept and not _is_in_a_job(connection, blob)]


def _is_in_a_job(connection: Connection, blob: str) -> bool:
    return _NAMES.first(connection, {"blob": blob}) is not None


def _set_model(connection: Connection, experiment: str, name: str, model: NamedModel) -> None:
    sums = model.validation
    validation = None if sums is None else json.dumps({metric: sums[metric].model_dump() for metric in sums})
    row = {"experiment": experiment, "name": name, "round": model.round, "hash": model.model, "validation": validation}
    _forget_model(connection, experiment, name)
    _ADD.run(connection, {**row, "at": utc_now()})


def _forget_model(connection: Connection, experiment: str, name: str) -> None:
    _FORGET.run(connection, {"named": experiment, "as_": name})


def _sums(document: str | None) -> dict[str, MetricSum] | None:
    """Metric sums as a row keeps them."""
    if document is None:
        return None
    return {name: MetricSum.model_validate(sums) for name, sums in json.loads(document).items()}
