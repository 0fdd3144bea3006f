"""What sites say about the packages that a job names, kept beside their answers to it.

It is no decision and changes nothing at the server: it is shown to people. So the newest counts, and no journal line is
written of it; the site's own journal has one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import select, update

from archipel.server.experiments.views import parsed_job
from archipel.server.state import schema
from archipel.storage import Database
from archipel.transport import PackagesMessage
from archipel.vocabulary import BadInput, NotPermitted, Thing


def keep_packages(database: Database, site: str, message: PackagesMessage) -> None:
    """Keep what a site says. Raises NotPermitted for a job that it is not asked about, BadInput for packages that the
    job does not name.
    """
    jobs, rows = schema.experiments, schema.approvals
    thing = Thing.worded(f"packages of {site}", site=site)
    where = (rows.c.experiment == message.experiment, rows.c.site == site)
    query = (
        select(jobs.c.job, jobs.c.job_hash, rows.c.packages)
        .join(rows, rows.c.experiment == jobs.c.experiment)
        .where(*where)
    )
    with database.read() as connection:
        row = connection.execute(query).first()
    if row is None or row.job_hash != message.job_hash:
        cause = f"are about a job of {message.experiment} that it is not asked about"
        raise NotPermitted(thing, cause, "ignore", values={"experiment": message.experiment})
    if message.packages is not None and set(message.packages) != set(parsed_job(row.job).plan.packages):
        raise BadInput(
            thing, f"are not those that the job of {message.experiment} names", "update Archipel at the site",
            values={"experiment": message.experiment},
        )  # fmt: skip
    text = json.dumps(message.packages, sort_keys=True)
    if text == row.packages:
        return
    with database.write() as connection:
        connection.execute(update(rows).where(*where).values(packages=text))


def last_said(database: Database, packages: Collection[str]) -> dict[str, dict[str, str | None]]:
    """What each site last said of these packages, in answer to any job that names them: the version, None for one that
    it lacked. Nothing of a site that did not disclose it when it last answered.
    """
    if not packages:
        return {}
    jobs, rows = schema.experiments, schema.approvals
    query = (
        select(rows.c.site, rows.c.packages)
        .join(jobs, rows.c.experiment == jobs.c.experiment)
        .where(rows.c.packages.is_not(None))
        .order_by(jobs.c.created_at, jobs.c.experiment)
    )
    found: dict[str, dict[str, str | None]] = defaultdict(dict)
    with database.read() as connection:
        for site, said in connection.execute(query):
            here = json.loads(said)
            if here is None:
                found[site].clear()
            else:
                found[site].update((name, here[name]) for name in packages if name in here)
    return dict(found)
