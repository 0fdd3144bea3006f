"""Which stored jobs name a blob, asked in SQL: to parse a job of 60,000 tensors takes a second."""

from __future__ import annotations

from sqlalchemy import BindParameter, ColumnElement, and_, exists, func, or_

from archipel.server.state import schema


def names_blob(blob: str | BindParameter[str]) -> ColumnElement[bool]:
    """Of a row of experiments: whether ``Job.blobs`` of its job has this blob."""
    job = schema.experiments.c.job
    files = func.json_each(job, "$.plan.files").table_valued("value")
    named = or_(
        func.json_extract(job, "$.initial_model") == blob,
        func.json_extract(job, "$.frozen.blob") == blob,
        func.json_extract(job, "$.local.blob") == blob,
        exists().where(files.c.value == blob),
    )
    # The text is searched first: SQLite reads JSON only in the few rows that have this hash anywhere.
    return and_(func.instr(job, blob) > 0, named)
