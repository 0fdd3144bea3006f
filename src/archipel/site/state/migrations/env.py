"""Alembic's way in: it migrates on the connection that ``archipel.site.state.schema.upgrade`` hands over."""

from __future__ import annotations

from alembic import context

from archipel.site.state.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
