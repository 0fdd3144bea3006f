"""The rows of tasks in a site's database, and the statements on them that every task needs.

They are composed and compiled once: with SQLAlchemy this costs more than to execute them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, bindparam, insert, select, update

from archipel.site.state import SiteTaskState, schema
from archipel.storage import Statement
from archipel.vocabulary import TaskKey

_rows = schema.tasks
_IS = and_(*(_rows.c[name] == bindparam(f"at_{name}") for name in TaskKey.model_fields))
TASK = Statement(select(_rows).where(_IS))
ADD_TASK = Statement(insert(_rows))
UPDATE_TASK = Statement(update(_rows).where(_IS))
WITHDRAW_TASK = Statement(update(_rows).where(_IS, _rows.c.state == SiteTaskState.ACCEPTED))


def place(key: TaskKey) -> dict[str, Any]:
    """The values of ``TASK``, ``UPDATE_TASK`` and ``WITHDRAW_TASK`` that name a task."""
    return {f"at_{name}": value for name, value in key.model_dump(mode="json").items()}
