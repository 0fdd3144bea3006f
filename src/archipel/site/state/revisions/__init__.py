"""The schemas of a site's database, oldest first: one Alembic revision per file."""
