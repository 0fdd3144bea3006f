"""Run by Alembic: the revisions run on the connection, and in the transaction, that ``upgrade`` holds."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
