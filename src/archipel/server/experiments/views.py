"""What researchers see of experiments, read from the database: the records that REST answers with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, func, select

from archipel.rounds import StageRecord
from archipel.rounds.named_models import MEMORY
from archipel.rounds.record_views import Recorded, baselines, counting_samples, means, measured_after, recorded
from archipel.server.experiments.states import newest_awaited
from archipel.server.state import schema
from archipel.storage import Database
from archipel.transport.rest import (
    ApprovalView,
    Event,
    ExperimentSummary,
    ExperimentView,
    ModelView,
    RoundView,
)
from archipel.vocabulary import (
    Job,
    Lineage,
    MetricSum,
    NotFound,
    RoundClosed,
    TaskKind,
    Thing,
    Value,
    metric_details,
)  # fmt: skip
from archipel.vocabulary.remedies import ListExperiments
from archipel.vocabulary.states import ExperimentState, RoundState

_arguments: TypeAdapter[dict[str, Value]] = TypeAdapter(dict[str, Value])
_sums: TypeAdapter[dict[str, MetricSum]] = TypeAdapter(dict[str, MetricSum])


def unknown(experiment: str) -> NotFound:
    """The error for an experiment that is not here."""
    return NotFound(
        Thing("experiment", experiment),
        "is not at this server",
        "name one that `archipel experiment list` shows",
        command=ListExperiments(),
    )


@lru_cache(maxsize=256)
def parsed_job(job: str) -> Job:
    """A stored job; a large schema takes milliseconds to check, and every call of a site needs its job."""
    return Job.model_validate_json(job)


def experiments(database: Database) -> list[ExperimentSummary]:
    """Every experiment in a line, newest first: one query, since jobs and records are not read whole."""
    with database.read() as connection:
        rows = connection.execute(_summaries().order_by(schema.experiments.c.created_at.desc())).mappings()
        return [ExperimentSummary.model_validate({**row, "awaited": _awaited(connection, row)}) for row in rows.all()]


def _awaited(connection: Connection, row: RowMapping) -> dict[str, str]:
    """Whom an experiment waits for and until when; only a running one waits."""
    is_running = row["state"] == ExperimentState.RUNNING
    return newest_awaited(connection, row["experiment"]).until if is_running else {}


def _summaries() -> Select[tuple[object, ...]]:
    table, rounds, tokens = schema.experiments, schema.rounds, schema.access_tokens
    done = select(func.max(rounds.c.round)).where(
        rounds.c.experiment == table.c.experiment,
        rounds.c.kind == TaskKind.TRAIN,
        rounds.c.state == RoundState.COMMITTED,
    )
    return select(
        table.c.experiment,
        table.c.state,
        select(tokens.c.name).where(tokens.c.id == table.c.token).scalar_subquery().label("asked_by"),
        func.coalesce(done.scalar_subquery(), 0).label("round"),
        func.json_extract(table.c.job, "$.terms.rounds").label("rounds"),
        table.c.reason,
        table.c.created_at.label("created"),
        table.c.started_at.label("started"),
        table.c.ended_at.label("ended"),
    )


def experiment(database: Database, name: str) -> ExperimentView:
    """One experiment with its approvals and baselines. Raises NotFound."""
    table = schema.experiments
    query = _summaries().add_columns(table.c.job, table.c.job_hash, table.c.arguments)
    with database.read() as connection:
        row = connection.execute(query.where(table.c.experiment == name)).mappings().first()
        if row is None:
            raise unknown(name)
        approvals = schema.approvals
        answers = connection.execute(
            select(approvals.c.site, approvals.c.state, approvals.c.subjects, approvals.c.at, approvals.c.packages)
            .where(approvals.c.experiment == name)
            .order_by(approvals.c.site)
        ).mappings()
        measured = _records(connection, name, schema.rounds.c.kind == TaskKind.EVALUATE)
        summary = {name: row[name] for name in ExperimentSummary.model_fields if name != "awaited"}
        return ExperimentView.model_validate(
            summary
            | {
                "awaited": _awaited(connection, row),
                "job": parsed_job(row["job"]),
                "job_hash": row["job_hash"],
                "arguments": _arguments.validate_json(row["arguments"]),
                "approvals": [_approval(answer) for answer in answers],
                "baselines": baselines(
                    [record for _, record in measured], counting_samples(parsed_job(row["job"])), row["round"]
                ),
            }
        )


def _approval(row: RowMapping) -> ApprovalView:
    said = row["packages"]
    packages = None if said is None else json.loads(said)
    return ApprovalView.model_validate(
        dict(row) | {"packages": packages, "packages_withheld": said is not None and packages is None}
    )


def rounds(database: Database, name: str) -> list[RoundView]:
    """The training rounds, oldest first, each with what its own model was measured at afterwards. Raises NotFound."""
    table = schema.rounds
    with database.read() as connection:
        check_known(connection, name)
        rows = connection.execute(
            select(table).where(table.c.experiment == name).order_by(table.c.closed_at)
        ).mappings()
        attempts = [(row, _stage_record(row)) for row in rows.all()]
        sent = _bytes(connection, name)
    measured = measured_after([record for _, record in attempts if record is not None and record.committed])
    training = [(row, record) for row, record in attempts if row["kind"] == TaskKind.TRAIN]
    training.sort(key=lambda attempt: (attempt[0]["round"], attempt[0]["attempt"]))
    return [_round(row, record, measured.get(row["round"], {}), sent) for row, record in training]


def _round(
    row: RowMapping,
    record: StageRecord | None,
    after: Mapping[str, MetricSum],
    sent: Mapping[tuple[int, int], tuple[int, int]],
) -> RoundView:
    down, up = sent.get((row["round"], row["attempt"]), (0, 0))
    fields: Recorded = {} if record is None else recorded(record)
    return RoundView(
        round=row["round"],
        attempt=row["attempt"],
        state=RoundState(row["state"]),
        seconds=row["seconds"],
        opened=row["opened_at"],
        closed=row["closed_at"],
        bytes_down=down,
        bytes_up=up,
        arguments=_arguments.validate_json(row["arguments"]),
        model=row["model_after"],
        **fields,
        model_validation=means(after),
        model_details=metric_details(after),
    )


def _bytes(connection: Connection, name: str) -> dict[tuple[int, int], tuple[int, int]]:
    """Of each round's attempt, the bytes that went to its sites and came from them."""
    table = schema.updates
    query = (
        select(table.c.round, table.c.attempt, func.sum(table.c.bytes_down), func.sum(table.c.bytes_up))
        .where(table.c.experiment == name, table.c.kind == TaskKind.TRAIN)
        .group_by(table.c.round, table.c.attempt)
    )
    return {(number, attempt): (down, up) for number, attempt, down, up in connection.execute(query)}


def events(database: Database, name: str, after: int) -> list[Event]:
    """Events after a number, oldest first, at most 500 at a time."""
    table = schema.events
    query = select(table).where(table.c.experiment == name, table.c.seq > after).order_by(table.c.seq).limit(500)
    with database.read() as connection:
        return [
            Event.model_validate(
                {"seq": row["seq"], "at": row["at"], "kind": row["kind"], "body": json.loads(row["body"])}
            )
            for row in connection.execute(query).mappings()
        ]


def models(database: Database, name: str) -> list[ModelView]:
    """The kept models. Raises NotFound."""
    table = schema.models
    with database.read() as connection:
        check_known(connection, name)
        rows = connection.execute(select(table).where(table.c.experiment == name).order_by(table.c.name)).mappings()
        lineage = _lineage(connection, name)
        return [_model(row, lineage) for row in rows if not row["name"].startswith(MEMORY)]


def _model(row: RowMapping, lineage: Lineage | None) -> ModelView:
    sums = _sums.validate_json(row["validation"]) if row["validation"] else None
    return ModelView(
        name=row["name"],
        round=row["round"],
        hash=row["hash"],
        validation=None if sums is None else means(sums),
        lineage=lineage,
        details=metric_details(sums or {}),
    )


def _lineage(connection: Connection, name: str) -> Lineage | None:
    table = schema.experiments
    job = connection.scalar(select(table.c.job).where(table.c.experiment == name))
    return parsed_job(job).lineage if job is not None else None


def check_known(connection: Connection, name: str) -> None:
    """Raise NotFound unless there is such an experiment."""
    table = schema.experiments
    if connection.scalar(select(table.c.experiment).where(table.c.experiment == name)) is None:
        raise unknown(name)


def last_closed(database: Database, site: str) -> list[RoundClosed]:
    """The results of rounds that a site may have missed, oldest first, of each of its experiments that is not over.

    The last two closed stages that the site was in, and the last round of training that it counted in: on this one it
    commits its state. Also the last round of training that counts, with or without the site: what follows a round is
    done only at sites that hold its result.
    """
    closed_rounds = []
    over = [state for state in ExperimentState if state.is_over]
    with database.read() as connection:
        query = select(schema.experiments).where(schema.experiments.c.state.not_in(over))
        for row in connection.execute(query).mappings().all():
            if site not in parsed_job(row["job"]).sites:
                continue
            for attempt, record in reversed(_missed(_newest_records(connection, row["experiment"]), site)):
                closed_rounds.append(
                    RoundClosed(
                        experiment=row["experiment"],
                        round=record.stage.round,
                        attempt=attempt,
                        kind=record.stage.kind,
                        about=record.stage.about,
                        job_hash=row["job_hash"],
                        committed=record.committed,
                        contributors=record.contributors,
                        model=record.model,
                    )
                )
    return closed_rounds


def _missed(newest: Iterable[tuple[int, StageRecord]], site: str) -> list[tuple[int, StageRecord]]:
    """The site's last two stages, the last training that it counted in and the last one that counts at all, newest
    first; no older record is read.
    """
    missed: list[tuple[int, StageRecord]] = []
    own, counted, found = 0, False, False
    for attempt, record in newest:
        is_training, is_own = record.stage.kind is TaskKind.TRAIN, site in record.sites
        trained, counts = is_training and site in record.contributors, is_training and record.committed
        if (is_own and own < 2) or (trained and not counted) or (counts and not found):
            missed.append((attempt, record))
        own, counted, found = own + is_own, counted or trained, found or counts
        if counted and found and own >= 2:
            break
    return missed


def _newest_records(connection: Connection, name: str) -> Iterator[tuple[int, StageRecord]]:
    """As ``_records``, but the newest first, and each read when it is asked for."""
    table = schema.rounds
    query = select(table).where(table.c.experiment == name).order_by(table.c.closed_at.desc())
    for row in connection.execute(query).mappings():
        record = _stage_record(row)
        if record is not None:
            yield row["attempt"], record


def _records(connection: Connection, name: str, *only: ColumnElement[bool]) -> Sequence[tuple[int, StageRecord]]:
    """The closed attempts of an experiment in the order they closed in: the attempt's number and its record."""
    table = schema.rounds
    query = select(table).where(table.c.experiment == name, *only).order_by(table.c.closed_at)
    attempts = [(row["attempt"], _stage_record(row)) for row in connection.execute(query).mappings()]
    return [(attempt, record) for attempt, record in attempts if record is not None]


def closed_records(connection: Connection, name: str) -> list[StageRecord]:
    """The records of an experiment's closed attempts, in the order they closed in."""
    return [record for _, record in _records(connection, name)]


def _stage_record(row: RowMapping) -> StageRecord | None:
    """None for an attempt that is open or was cancelled."""
    return StageRecord.model_validate_json(row["record"]) if row["record"] != "{}" else None
