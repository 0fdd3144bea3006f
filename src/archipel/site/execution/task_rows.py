"""The rows of tasks in a site's database, and the statements on them that every task needs.

They are composed once: with SQLAlchemy this costs more than to execute them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, bindparam, insert, select, update

from archipel.site.state import schema
from archipel.vocabulary import TaskKey

_rows = schema.tasks
_IS = and_(*(_rows.c[name] == bindparam(f"at_{name}") for name in TaskKey.model_fields))
TASK = select(_rows).where(_IS)
ADD_TASK = insert(_rows)
UPDATE_TASK = update(_rows).where(_IS)


def place(key: TaskKey) -> dict[str, Any]:
    """The parameters of ``TASK`` and ``UPDATE_TASK`` that name a task."""
    return {f"at_{name}": value for name, value in key.model_dump(mode="json").items()}
