"""What researchers see of experiments: plain documents read from the database."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, func, select

from archipel.rounds import ExperimentState, StageRecord
from archipel.rounds.stages import ENSEMBLE
from archipel.server.state import schema
from archipel.storage import Database
from archipel.vocabulary import MetricSum, NotFound, RoundClosed, TaskKind


def unknown(experiment: str) -> NotFound:
    """The error for an experiment that is not here."""
    return NotFound(f"experiment {experiment}", "is not at this server", "list the experiments")


def experiments(database: Database) -> list[dict[str, Any]]:
    """Every experiment, newest first."""
    query = select(schema.experiments.c.experiment).order_by(schema.experiments.c.created_at.desc())
    with database.read() as connection:
        return [_experiment(connection, name) for name in connection.scalars(query).all()]


def standings(database: Database) -> list[dict[str, Any]]:
    """Where every experiment stands in a line, newest first: cheap, since jobs and records are not read whole."""
    table, rounds, tokens = schema.experiments, schema.rounds, schema.access_tokens
    done = select(func.max(rounds.c.round)).where(
        rounds.c.experiment == table.c.experiment,
        rounds.c.kind == TaskKind.TRAIN.value,
        rounds.c.state == "committed",
    )
    query = select(
        table.c.experiment,
        table.c.state,
        select(tokens.c.name).where(tokens.c.id == table.c.owner).scalar_subquery().label("asked_by"),
        func.coalesce(done.scalar_subquery(), 0).label("round"),
        func.json_extract(table.c.job, "$.terms.rounds").label("rounds"),
        table.c.reason,
        table.c.created_at.label("created"),
    )
    with database.read() as connection:
        return [dict(row) for row in connection.execute(query.order_by(table.c.created_at.desc())).mappings()]


def experiment(database: Database, name: str) -> dict[str, Any]:
    """One experiment with its approvals and baselines. Raises NotFound."""
    with database.read() as connection:
        return _experiment(connection, name)


def _experiment(connection: Connection, name: str) -> dict[str, Any]:
    table = schema.experiments
    row = connection.execute(select(table).where(table.c.experiment == name)).mappings().first()
    if row is None:
        raise unknown(name)
    job = json.loads(row["job"])
    answers = connection.execute(
        select(schema.approvals).where(schema.approvals.c.experiment == name).order_by(schema.approvals.c.site)
    ).mappings()
    records = _records(connection, name)
    done = [record.stage.round for _, record in records if record.committed and record.stage.kind is TaskKind.TRAIN]
    return {
        "experiment": name,
        "job": job,
        "owner": connection.scalar(
            select(schema.access_tokens.c.name).where(schema.access_tokens.c.id == row["owner"])
        ),
        "job_hash": row["job_hash"],
        "state": row["state"],
        "reason": row["reason"],
        "round": max(done, default=0),
        "rounds": job["terms"]["rounds"],
        "arguments": json.loads(row["arguments"]),
        "approvals": [{key: one[key] for key in ("site", "state", "subjects", "at")} for one in answers],
        "baselines": baselines([record for _, record in records]),
        "created": row["created_at"],
        "started": row["started_at"],
        "ended": row["ended_at"],
    }


def baselines(records: list[StageRecord]) -> dict[str, Any]:
    """The last model, each site's own and their ensemble, each validated at every site."""
    found: dict[str, Any] = {}
    for record in records:
        if not record.committed or record.stage.kind is not TaskKind.EVALUATE:
            continue
        measured = {
            "validation": means(record.validation),
            "per_site": {site: means(one.validation) for site, one in record.sites.items() if one.validation},
            "subjects": max((int(one.weight) for one in record.validation.values()), default=0),
        }
        if not record.stage.about:
            found["federated"] = measured
        elif record.stage.about == ENSEMBLE:
            found["ensemble"] = measured
        else:
            found.setdefault("local", {})[record.stage.about] = measured
    return found


def rounds(database: Database, name: str) -> list[dict[str, Any]]:
    """The training rounds, oldest first, each with what its own model was measured at afterwards."""
    table = schema.rounds
    with database.read() as connection:
        _experiment(connection, name)
        query = select(table).where(table.c.experiment == name, table.c.kind == TaskKind.TRAIN.value)
        rows = connection.execute(query.order_by(table.c.round, table.c.attempt)).mappings().all()
        sent = _bytes(connection, name)
        records = [record for _, record in _records(connection, name) if record.committed]
    found = []
    for row in rows:
        record = StageRecord.model_validate_json(row["record"]) if row["record"] != "{}" else None
        after = next((one.validation for one in records if _validates(one, row["round"])), {})
        found.append(_round(row, record, after, sent))
    return found


def _validates(record: StageRecord, number: int) -> bool:
    """Whether this record's validation is of the model that round ``number`` produced."""
    if record.stage.kind is TaskKind.TRAIN:
        return record.stage.round == number + 1
    return record.stage.kind is TaskKind.EVALUATE and not record.stage.about and record.stage.round == number


def _round(
    row: Any, record: StageRecord | None, after: dict[str, MetricSum], sent: dict[tuple[int, int], tuple[int, int]]
) -> dict[str, Any]:
    down, up = sent.get((row["round"], row["attempt"]), (0, 0))
    return {
        "round": row["round"],
        "attempt": row["attempt"],
        "state": row["state"],
        "seconds": row["seconds"],
        "opened": row["opened_at"],
        "closed": row["closed_at"],
        "bytes_down": down,
        "bytes_up": up,
        "arguments": json.loads(row["arguments"]),
        "model": row["model_after"],
        "contributors": list(record.contributors) if record else [],
        "sites": {
            site: {
                "state": one.state.value,
                "samples": one.samples,
                "seconds": one.seconds,
                "metrics": means(one.metrics),
                "validation": means(one.validation),
                "failure": one.failure.model_dump(mode="json") if one.failure else None,
            }
            for site, one in (record.sites.items() if record else ())
        },
        "metrics": means(record.metrics) if record else {},
        "validation": means(record.validation) if record else {},
        "model_validation": means(after),
    }


def _bytes(connection: Connection, name: str) -> dict[tuple[int, int], tuple[int, int]]:
    table = schema.updates
    total: dict[tuple[int, int], tuple[int, int]] = {}
    query = select(table).where(table.c.experiment == name, table.c.kind == TaskKind.TRAIN.value)
    for row in connection.execute(query).mappings():
        down, up = total.get((row["round"], row["attempt"]), (0, 0))
        total[row["round"], row["attempt"]] = (down + row["bytes_down"], up + row["bytes_up"])
    return total


def events(database: Database, name: str, after: int) -> list[dict[str, Any]]:
    """Events after a number, oldest first, at most 500 at a time."""
    table = schema.events
    query = select(table).where(table.c.experiment == name, table.c.seq > after).order_by(table.c.seq).limit(500)
    with database.read() as connection:
        return [{**row, "body": json.loads(row["body"])} for row in map(_event, connection.execute(query).mappings())]


def _event(row: Any) -> dict[str, Any]:
    return {key: row[key] for key in ("seq", "at", "kind", "body")}


def models(database: Database, name: str) -> list[dict[str, Any]]:
    """The kept models."""
    table = schema.models
    with database.read() as connection:
        _experiment(connection, name)
        rows = connection.execute(select(table).where(table.c.experiment == name).order_by(table.c.name)).mappings()
        return [
            {"name": row["name"], "round": row["round"], "hash": row["hash"], "validation": _validation(row)}
            for row in rows
        ]


def _validation(row: Any) -> dict[str, float] | None:
    if not row["validation"]:
        return None
    return means({name: MetricSum.model_validate(one) for name, one in json.loads(row["validation"]).items()})


def means(sums: dict[str, MetricSum]) -> dict[str, float]:
    """The mean of each metric that was counted at all, and that JSON has a number for."""
    return {name: total.mean() for name, total in sums.items() if total.weight and total.adds_up}


def last_closed(database: Database, site: str) -> list[RoundClosed]:
    """The words that a site may have missed, oldest first, of each experiment that is not over.

    The last two closed stages, and the last round of training that the site is in: on this one it commits its state.
    """
    found = []
    over = (ExperimentState.FINISHED.value, ExperimentState.CANCELLED.value)
    with database.read() as connection:
        query = select(schema.experiments).where(schema.experiments.c.state.not_in(over))
        for row in connection.execute(query).mappings().all():
            records = [one for one in _records(connection, row["experiment"]) if site in one[1].sites]
            counted = [one for one in records if one[1].stage.kind is TaskKind.TRAIN and site in one[1].contributors]
            for key, record in [*[one for one in counted[-1:] if one not in records[-2:]], *records[-2:]]:
                found.append(
                    RoundClosed(
                        experiment=row["experiment"],
                        round=record.stage.round,
                        attempt=key["attempt"],
                        kind=record.stage.kind,
                        about=record.stage.about,
                        job_hash=row["job_hash"],
                        committed=record.committed,
                        contributors=record.contributors,
                        model=record.model,
                    )
                )
    return found


def _records(connection: Connection, name: str) -> list[tuple[Any, StageRecord]]:
    table = schema.rounds
    query = select(table).where(table.c.experiment == name, table.c.record != "{}").order_by(table.c.closed_at)
    return [(row, StageRecord.model_validate_json(row["record"])) for row in connection.execute(query).mappings()]
