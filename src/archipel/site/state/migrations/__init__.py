"""Steps from one version of a site's database to the next (Alembic)."""
