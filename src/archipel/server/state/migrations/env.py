"""Run by Alembic: migrations on the connection, and in the transaction, that ``upgrade`` holds."""

from alembic import context

from archipel.server.state.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
