"""An experiment store in the server's database: every call is one transaction with its journal line and its event."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import (
    Select,
    Table,
    and_,
    bindparam,
    insert,
    select,
    update,
)

from archipel.governance import JournalHead
from archipel.privacy import only_sums
from archipel.rounds import Delivery, ExperimentProgress, ExperimentVerb, Kept, Opened, StageRecord
from archipel.rounds.experiment_store import NO_MEMORY
from archipel.rounds.record_views import means
from archipel.rounds.tables import next_state
from archipel.server.experiments import journal_heads
from archipel.server.experiments.attempt_rows import (
    PLACE,
    UPDATE_ROUND,
    UPDATE_SITE,
    of_experiment,
    round_place,
    site_place,
)
from archipel.server.experiments.model_rows import keep_models, unnamed
from archipel.server.experiments.progress_rows import invited_to, read_progress
from archipel.server.experiments.spare_files import is_spare, keep_spare
from archipel.server.experiments.states import add_event, end_early, newest_awaited, set_state
from archipel.server.state import AttemptCancelled, AttemptClosed, AttemptOpened, ServerJournalKind, add_entry, schema
from archipel.storage import BlobStore, Database, Statement, utc_now
from archipel.transport.rest import (
    RoundCommitted,
    RoundFailed,
    RoundOpened,
    SiteFailed,
    SitesAwaited,
    TaskAccepted,
    UpdateReceived,
)
from archipel.transport.rest.events import place_of
from archipel.vocabulary import Failure, Job, MetricSum, RoundClosed, TaskKey, TaskKind, Value
from archipel.vocabulary.states import ExperimentState, ParticipantStatus, RoundState, TaskState

_rounds, _updates = schema.rounds, schema.updates
_IS_OPEN = and_(_rounds.c.experiment == bindparam("named"), _rounds.c.state == RoundState.OPEN)
_NEEDED = Statement(
    select(_updates.c.spool)
    .join(_rounds, and_(*(_rounds.c[name] == _updates.c[name] for name in PLACE)))
    .where(_IS_OPEN)
)
_OPEN = Statement(select(_rounds.c.round, _rounds.c.attempt).where(_IS_OPEN))
_ARRIVES = (".part", ".arrived")
"""How the names of files end of which some bytes have arrived."""
_ADD_ROUND, _ADD_SITE = Statement(insert(_rounds)), Statement(insert(_updates))


class SqlExperimentStore:
    """The experiment store of one experiment. ``shown`` and ``fetched`` are what the connection learned since the last
    update of a site: its newest journal head, and how many bytes of a model it took. ``changed`` is called after every
    change.
    """

    is_durable = True

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        spool: Path,
        job: Job,
        job_hash: str,
        shown: dict[str, JournalHead],
        fetched: dict[tuple[str, str], int],
        changed: Callable[[], None],
    ) -> None:
        self.job, self.job_hash = job, job_hash
        self._database, self._blobs, self._spool = database, blobs, spool
        self._heads, self._fetched, self._changed = shown, fetched, changed
        self._name = job.experiment

    def progress(self) -> ExperimentProgress:
        """Everything the loop needs to continue from here."""
        with self._database.read() as connection:
            return read_progress(connection, self.job, self._spool)

    def passes(self) -> dict[int, dict[str, Value]]:
        """The arguments of each committed round of training, by its number."""
        table = schema.rounds
        query = self._of(table).where(table.c.kind == TaskKind.TRAIN, table.c.state == RoundState.COMMITTED)
        with self._database.read() as connection:
            return {row["round"]: json.loads(row["arguments"]) for row in connection.execute(query).mappings()}

    def measured(self, metric: str, after: int) -> dict[int, MetricSum | None]:
        """What the committed rounds of training after one measured, by their number."""
        table = schema.rounds
        counts = (table.c.kind == TaskKind.TRAIN, table.c.state == RoundState.COMMITTED, table.c.round > after)
        with self._database.read() as connection:
            rows = connection.execute(self._of(table).where(*counts)).mappings().all()
        return {row["round"]: StageRecord.model_validate_json(row["record"]).validation.get(metric) for row in rows}

    def open(self, opened: Opened) -> None:
        """A stage's attempt begins."""
        task = opened.task
        arguments = task.passes[0].arguments if task.passes else {}
        place, model, sites = place_of(task.key), task.models[0], sorted(opened.sites)
        now = datetime.now(UTC)
        with self._database.write() as connection:
            entry = AttemptOpened(**place, arguments=arguments, model=model, sites=tuple(sites))
            add_entry(connection, ServerJournalKind.ROUND_OPENED, entry)
            row = {
                **place,
                "state": RoundState.OPEN,
                "model_before": model,
                "arguments": json.dumps(arguments),
                "opened_at": now.isoformat(timespec="microseconds"),
                "deadline_at": (now + timedelta(seconds=opened.remaining_s)).isoformat(timespec="microseconds"),
                "record": "{}",
            }
            _ADD_ROUND.run(connection, row)
            common = {**place, "task": task.model_dump_json(), "state": TaskState.OFFERED, "at": utc_now()}
            for site in sites:
                _ADD_SITE.run(connection, {**common, "site": site, "bytes_down": 0, "bytes_up": 0})
            add_event(connection, self._name, RoundOpened(**place, arguments=arguments, model=model))
        self._changed()

    def awaiting(self, sites: Mapping[str, float], away: Sequence[str]) -> None:
        """The loop waits for these sites; researchers see it. It is not journaled, because nothing follows from it."""
        now = datetime.now(UTC)
        until = {site: (now + timedelta(seconds=left)).isoformat(timespec="seconds") for site, left in sites.items()}
        body = SitesAwaited(until=until, away=tuple(away))
        with self._database.read() as connection:
            if body == newest_awaited(connection, self._name):
                return
        with self._database.write() as connection:
            add_event(connection, self._name, body)
        self._changed()

    def heard(self, key: TaskKey, working: Sequence[str], delivered: Sequence[Delivery]) -> None:
        """The updates of some sites count from now on. That others work on their task is shown to researchers, and not
        journaled, because nothing follows from it.
        """
        place = place_of(key)
        with self._database.write() as connection:
            for site in working:
                add_event(connection, self._name, TaskAccepted(**place, site=site))
            for site, update_, tensor_file in delivered:
                samples = None if only_sums(self.job) else update_.samples
                body = UpdateReceived(**place, site=site, model=update_.model, samples=samples)
                add_entry(connection, ServerJournalKind.UPDATE_RECEIVED, body)
                values = {
                    "state": TaskState.RECEIVED,
                    "update": update_.model_dump_json(),
                    "spool": tensor_file.name if tensor_file else None,
                    "bytes_up": update_.model_bytes,
                    "bytes_down": self._fetched.pop((site, key.experiment), 0),
                    "at": utc_now(),
                }
                UPDATE_SITE.run(connection, {**site_place(key, site), **values})
                if (head := self._heads.pop(site, None)) is not None:
                    journal_heads.take(connection, site, head, in_order=False)
                add_event(connection, self._name, body)
        self._changed()

    def failed(self, key: TaskKey, site: str, failure: Failure) -> None:
        """A site's part failed."""
        body = SiteFailed(**place_of(key), site=site, failure=failure)
        with self._database.write() as connection:
            add_entry(connection, ServerJournalKind.SITE_FAILED, body)
            values = {"state": TaskState.FAILED, "failure": failure.model_dump_json(), "at": utc_now()}
            UPDATE_SITE.run(connection, {**site_place(key, site), **values})
            add_event(connection, self._name, body)
        self._changed()

    def result_file(self) -> Path:
        """A place for the next model's tensor file, in the file system that ``close`` will keep it in."""
        return self._blobs.work_file()

    def local(self, blob: str) -> AbstractContextManager[Path]:
        """A file with a model or memory."""
        return self._blobs.local(blob)

    def close(
        self,
        record: StageRecord,
        closed: RoundClosed,
        result: Path | None,
        local: dict[str, Path],
        memory: Mapping[str, Kept] = NO_MEMORY,
    ) -> tuple[str, ...]:
        """The attempt ends: the record, the models and the memory that last, and then the spools go, but for spare
        files.
        """
        blobs = self._blobs
        if result is not None and closed.model is not None:
            blobs.put_file(result, closed.model)
        for kept in memory.values():
            blobs.put_file(kept.file, kept.hash)
        local_hashes = {}
        for site, tensor_file in local.items():
            with tensor_file.open("rb") as file, blobs.writer() as writer:
                while chunk := file.read(1 << 20):
                    writer.write(chunk)
                local_hashes[site] = writer.commit()
        key = closed.key
        state = RoundState.COMMITTED if record.committed else RoundState.FAILED
        others = {
            name: part.state for name, part in record.sites.items() if part.state is not ParticipantStatus.DELIVERED
        }
        entry = AttemptClosed(
            **place_of(key), state=state, contributors=record.contributors, model=record.model, others=others
        )
        unneeded: list[str] = []
        with self._database.write() as connection:
            add_entry(connection, ServerJournalKind.ROUND_CLOSED, entry)
            values = {
                "state": state,
                "model_after": record.model,
                "closed_at": utc_now(),
                "seconds": record.seconds,
                "record": record.model_dump_json(),
            }
            UPDATE_ROUND.run(connection, {**round_place(key), **values})
            for site, participant in record.sites.items():
                if participant.state in (ParticipantStatus.LATE, ParticipantStatus.MISSING):
                    values = {"state": TaskState(participant.state), "at": utc_now()}
                    UPDATE_SITE.run(connection, {**site_place(key, site), **values})
            if record.committed:
                unneeded = keep_models(connection, self.job, record, local_hashes, memory)
            kind = RoundCommitted if record.committed else RoundFailed
            ended = kind(
                **place_of(key),
                state=state,
                contributors=record.contributors,
                model=record.model,
                others=others,
                seconds=record.seconds,
                metrics=means(record.metrics),
            )
            add_event(connection, self._name, ended)
            invited = invited_to(connection, self._name)
        self._changed()
        if unneeded:
            # In a transaction that writes, so that no job that names one of them is kept meanwhile.
            with self._database.write() as connection:
                for blob in unnamed(connection, unneeded):
                    blobs.delete(blob)
        self._sweep(keeps_spares=True)
        return invited

    def stall(self, reason: str) -> None:
        """The experiment cannot continue by itself and pauses."""
        self._turn(ExperimentVerb.STALL, reason)

    def stepped(self) -> None:
        """The step is done."""
        self._turn(ExperimentVerb.PAUSE, "one step was asked for")

    def end_early(self, reason: str) -> None:
        """No further round begins."""
        with self._database.write() as connection:
            end_early(connection, self._name, reason, by=None)
        self._changed()

    def finish(self, reason: str | None = None) -> None:
        """All stages are done."""
        self.sweep()
        self._turn(ExperimentVerb.COMPLETE, reason)

    def _turn(self, verb: ExperimentVerb, reason: str | None) -> None:
        table = schema.experiments
        with self._database.write() as connection:
            row = connection.execute(self._of(table)).mappings().one()
            state = next_state(self._name, ExperimentState(row["state"]), verb)
            set_state(connection, self._name, state, reason, by=None)
            connection.execute(update(table).where(table.c.experiment == self._name).values(pause_after=None))
        self._changed()

    def refused(self, key: TaskKey, sites: Sequence[str]) -> None:
        """An attempt was cancelled while it was open."""
        with self._database.write() as connection:
            add_entry(
                connection, ServerJournalKind.ROUND_CANCELLED, AttemptCancelled(**place_of(key), sites=tuple(sites))
            )
            values = {"state": RoundState.CANCELLED, "closed_at": utc_now()}
            UPDATE_ROUND.run(connection, {**round_place(key), **values})
        self.sweep()

    def sweep(self) -> None:
        """Delete the spools of this experiment, whole or half received, that no open round needs, and spare files."""
        self._sweep(keeps_spares=False)

    def _sweep(self, *, keeps_spares: bool) -> None:
        """With ``keeps_spares``, which only a round that is closed allows, the next round writes over its files."""
        named = {"named": self._name}
        with self._database.read() as connection:
            needed = set(_NEEDED.each(connection, named))
            rounds = _OPEN.rows(connection, named)
        under_way = tuple(f"{self._name}.{row['round']}.{row['attempt']}." for row in rounds)
        found = list(self._spool.glob(f"{self._name}.*"))
        room = len(self.job.sites) - sum(is_spare(path) for path in found)
        for path in found:
            arrives = path.suffix in _ARRIVES
            if path.name in needed or (arrives and path.name.startswith(under_way)):
                continue
            if keeps_spares and is_spare(path):
                continue
            # A half received file may still be written to.
            if keeps_spares and room > 0 and not arrives and keep_spare(path, self._name):
                room -= 1
            else:
                path.unlink(missing_ok=True)

    def _of(self, table: Table) -> Select[tuple[object, ...]]:
        return of_experiment(table, self._name)
