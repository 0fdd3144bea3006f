"""The schemas of a server's database, oldest first: one Alembic revision per file."""
