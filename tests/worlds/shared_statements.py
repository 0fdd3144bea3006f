"""SQL that SQLAlchemy puts together once and not for each database: hundreds of databases, the same statements."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlalchemy import Engine
from sqlalchemy.util import LRUCache

from archipel.storage import database

_MODEL = sqlalchemy.create_engine("sqlite://")
# A dialect learns of its database at the first connection.
_MODEL.connect().close()
_COMPILED: Any = LRUCache(4000)


def _engine(url: str, **options: Any) -> Engine:
    made = sqlalchemy.create_engine(url, **options)
    if made.dialect.name == "sqlite":
        # The cache is asked by dialect and statement.
        made.dialect, made._compiled_cache = _MODEL.dialect, _COMPILED
    return made


def share() -> None:
    """From now on, for every ``Database``."""
    database.create_engine = _engine
