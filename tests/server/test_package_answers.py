"""What a site says about packages is kept with its answer, and of no other job and no other package."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import select, text

from archipel.governance import job_hash
from archipel.server.experiments import views
from archipel.server.experiments.package_answers import keep_packages, last_said
from archipel.server.membership.federation import ServerContext
from archipel.server.state import schema
from archipel.server.state.schema import HISTORY
from archipel.storage import Database
from archipel.storage.migrations import upgrade
from archipel.transport import PackagesMessage
from archipel.transport.rest import ApprovalView
from archipel.vocabulary import BadInput, Job, NotPermitted
from worlds.memory_experiments import MemoryExperiments
from worlds.server import Applicant, job_of, records_of, serving

PLAN = b"import monai, numpy\n"


def submitted(federation: ServerContext, site: Applicant, packages: tuple[str, ...] = ("monai", "numpy")) -> Job:
    plan = {"files": {"plan.py": federation.blobs.put(PLAN)}, "entry": "plan.py", "class_name": "Plan"}
    job = job_of(federation, site, plan=plan | {"packages": packages})
    records_of(federation).keep_job(job, job_hash(job), "ada")
    return job


def says(job: Job, packages: dict[str, str | None] | None) -> PackagesMessage:
    return PackagesMessage(experiment=job.experiment, job_hash=job_hash(job), packages=packages)


def shown(federation: ServerContext) -> ApprovalView:
    (answer,) = views.experiment(federation.database, "first").approvals
    return answer


def test_what_a_site_says_is_shown_and_the_newest_counts(federation: ServerContext, enrolled: Applicant) -> None:
    job = submitted(federation, enrolled)
    assert (shown(federation).packages, shown(federation).packages_withheld) == (None, False)
    for packages in ({"monai": None, "numpy": "2.4.6"}, {"monai": "1.6.1", "numpy": "2.4.6"}):
        keep_packages(federation.database, "berlin", says(job, packages))
        assert (shown(federation).packages, shown(federation).packages_withheld) == (packages, False)
    keep_packages(federation.database, "berlin", says(job, None))
    assert (shown(federation).packages, shown(federation).packages_withheld) == (None, True)
    assert shown(federation).state == "waiting"


def test_answers_of_the_first_schema_stay_and_say_nothing_of_packages(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'server.db'}")
    upgrade(database, HISTORY, "first")
    with database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO experiments (experiment, job, job_hash, state, arguments, owner, created_at) "
                "VALUES ('first', '{}', 'h', 'waiting', '{}', 'ada', 't')"
            )
        )
        connection.execute(
            text("INSERT INTO approvals (experiment, site, state, at) VALUES ('first', 'berlin', 'waiting', 't')")
        )
    upgrade(database, HISTORY)
    with database.read() as connection:
        assert connection.execute(select(schema.approvals.c.site, schema.approvals.c.packages)).all() == [
            ("berlin", None)
        ]
    database.close()


def test_a_site_says_nothing_about_others_jobs_or_packages(federation: ServerContext, enrolled: Applicant) -> None:
    job = submitted(federation, enrolled)
    whole = {"monai": None, "numpy": "2.4.6"}
    with pytest.raises(NotPermitted, match="packages of ulm: are about a job of first that it is not asked about"):
        keep_packages(federation.database, "ulm", says(job, whole))
    other = says(job, whole).model_copy(update={"job_hash": "sha256:" + "0" * 64})
    with pytest.raises(NotPermitted, match="is not asked about"):
        keep_packages(federation.database, "berlin", other)
    for packages in ({"monai": None}, whole | {"acme_pacs": "1"}):
        with pytest.raises(BadInput, match="are not those that the job of first names"):
            keep_packages(federation.database, "berlin", says(job, packages))
    assert shown(federation).packages is None


@pytest.mark.parametrize(
    "packages",
    [
        {f"p{number}": None for number in range(101)},
        {"p" * 101: None},
        {"a.b": None},
        {"a": "1" * 101},
        {"a": "1\n2"},
    ],
)
def test_a_message_is_bounded_in_number_length_and_letters(packages: dict[str, str | None]) -> None:
    with pytest.raises(ValidationError):
        PackagesMessage(experiment="first", job_hash="sha256:" + "0" * 64, packages=packages)


def test_a_server_takes_no_job_that_names_packages_its_plan_does_not_import(
    federation: ServerContext, enrolled: Applicant
) -> None:
    with pytest.raises(BadInput, match="names package acme_pacs, which no file of the plan imports"):
        submitted(federation, enrolled, ("acme_pacs", "numpy"))


def another(federation: ServerContext, job: Job, name: str, created: str) -> Job:
    """The same job under another name, submitted at another time."""
    made = job.model_copy(update={"experiment": name})
    records_of(federation).keep_job(made, job_hash(made), "ada")
    with federation.database.write() as connection:
        rows = schema.experiments
        connection.execute(rows.update().where(rows.c.experiment == name).values(created_at=created))
    return made


def test_what_a_site_last_said_is_known_of_the_packages_asked_about(
    federation: ServerContext, enrolled: Applicant
) -> None:
    first = submitted(federation, enrolled)
    keep_packages(federation.database, "berlin", says(first, {"monai": None, "numpy": "2.4.6"}))
    assert last_said(federation.database, ["monai", "sksurv"]) == {"berlin": {"monai": None}}
    assert last_said(federation.database, []) == {}
    later = another(federation, first, "later", "9999-01-01T00:00:00+00:00")
    assert last_said(federation.database, ["monai"]) == {"berlin": {"monai": None}}, "it has not answered yet"
    keep_packages(federation.database, "berlin", says(later, {"monai": "1.6.1", "numpy": "2.4.6"}))
    assert last_said(federation.database, ["monai"]) == {"berlin": {"monai": "1.6.1"}}
    before = another(federation, first, "before", "0001-01-01T00:00:00+00:00")
    keep_packages(federation.database, "berlin", says(before, {"monai": None, "numpy": "1"}))
    assert last_said(federation.database, ["monai"]) == {"berlin": {"monai": "1.6.1"}}


def test_nothing_is_known_of_a_site_that_does_not_disclose_its_packages_any_more(
    federation: ServerContext, enrolled: Applicant
) -> None:
    first = submitted(federation, enrolled)
    keep_packages(federation.database, "berlin", says(first, {"monai": None, "numpy": "2.4.6"}))
    later = another(federation, first, "later", "9999-01-01T00:00:00+00:00")
    keep_packages(federation.database, "berlin", says(later, None))
    assert last_said(federation.database, ["monai"]) == {"berlin": {}}


async def test_a_reader_is_told_of_the_packages_that_it_names(federation: ServerContext, enrolled: Applicant) -> None:
    keep_packages(
        federation.database, "berlin", says(submitted(federation, enrolled), {"monai": None, "numpy": "2.4.6"})
    )
    async with serving(federation, MemoryExperiments()) as served, served.client("read") as client:
        assert [site["packages"] for site in (await client.get("/v1/sites")).json()] == [{}]
        (site,) = (await client.get("/v1/sites?package=monai&package=absent")).json()
        assert site["packages"] == {"monai": None}
        many = "&".join(f"package=p{number}" for number in range(101))
        for asked in (many, "package=a.b"):
            assert (await client.get(f"/v1/sites?{asked}")).status_code == 400
