"""From a plan and sites to a job that every site can approve."""

from __future__ import annotations

from pathlib import Path

import pytest
from rest_world import TINY_PLAN, World

import archipel
from archipel.governance import job_hash
from archipel.plans import load
from archipel.tensors import blob_hash, encode
from archipel.transport.messages import ColumnWords, DatasetSummary
from archipel.vocabulary import BadInput, Conflict


def test_datasets_are_counts_and_schema(federation: archipel.Federation) -> None:
    found = federation.datasets()
    assert list(found.columns) == [
        "site",
        "dataset",
        "kind",
        "subjects",
        "labels",
        "modalities",
        "columns",
        "connected",
    ]
    assert found["subjects"].tolist() == [20, 21, 22]
    assert federation.sites()["connected"].tolist() == [True, True, False]
    assert "site-b" in federation._repr_html_()


def test_a_job_holds_what_the_plan_declares_and_the_roster(world: World, federation: archipel.Federation) -> None:
    made = federation.create(TINY_PLAN, sites=["site-c", "site-a"], rounds=7, arguments={"steps": 3}, seed=5)
    job = made.job
    assert job.sites == ("site-a", "site-c")
    assert job.entry("site-a").dataset == "table"
    keys = {site.site: site.identity_key for site in world.federation.registry.sites()}
    assert {entry.site: entry.identity_key for entry in job.roster} == {name: keys[name] for name in job.sites}
    assert (job.terms.rounds, job.terms.quorum, job.server_key) == (7, 2, world.federation.identity.public)
    assert job.arguments == {"learning_rate": 0.5, "steps": 3}
    assert job.initial_model == blob_hash(encode(load(TINY_PLAN).initial_model(5)))
    assert job.plan.hash == blob_hash(TINY_PLAN.read_bytes())
    assert made.status == "draft"
    assert "not submitted" in made._repr_html_()


def test_submitting_stores_the_blobs_and_twice_is_once(world: World, federation: archipel.Federation) -> None:
    made = federation.create(TINY_PLAN).submit()
    blobs = world.federation.blobs
    assert blobs.open(made.job.plan.hash).read() == TINY_PLAN.read_bytes()
    assert blobs.size(made.job.initial_model) > 0
    assert made.submit().status == "waiting"
    assert made.job_hash == job_hash(made.job)
    assert federation.experiment(made.name).job == made.job
    assert made.name in federation.experiments()["experiment"].tolist()


def test_a_name_that_another_job_has_is_refused(federation: archipel.Federation) -> None:
    federation.create(TINY_PLAN, name="taken", rounds=1).submit()
    with pytest.raises(Conflict, match="experiment taken: exists with another job; choose another name"):
        federation.create(TINY_PLAN, name="taken", rounds=2).submit()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sites": ["site-x"]}, "site site-x: is not in this federation; choose from site-a, site-b, site-c"),
        ({"sites": {"site-a": "scans"}}, "dataset scans: is not at site-a; its datasets are: table"),
        ({"arguments": {"steps": 0}}, r"argument steps=0: is outside its bounds"),
        ({"arguments": {"depth": 3}}, "argument depth: the plan declares no such hyper-parameter"),
        ({"rounds": 0}, "rounds=0: is not a whole number that makes sense"),
        ({"rounds": 2.5}, r"rounds=2.5: is not a whole number"),
        ({"quorum": 4}, "quorum 4 is more than the 3 sites"),
        ({"deadline": 0}, "are not lengths of time"),
        ({"plan_class": "Other"}, "has no plan class Other"),
        ({"name": "Has Blanks"}, "experiment"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_sent(
    federation: archipel.Federation, given: dict[str, object], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        federation.create(TINY_PLAN, **given)


def test_a_site_with_other_data_is_refused_or_left_out(
    world: World, federation: archipel.Federation, tmp_path: Path
) -> None:
    table = DatasetSummary(name="table", kind="arrays", subjects=22)
    try:
        world.federation.registry.set_datasets("site-c", [DatasetSummary(name="mri", kind="volumes", subjects=9)])
        assert federation.create(TINY_PLAN).job.sites == ("site-a", "site-b")
        with pytest.raises(BadInput, match="dataset mri of site-c: is of kind volumes, the plan needs arrays"):
            federation.create(TINY_PLAN, sites=["site-a", "site-c"])
        world.federation.registry.set_datasets(
            "site-c", [table, DatasetSummary(name="more", kind="arrays", subjects=9)]
        )
        with pytest.raises(BadInput, match=r"2 datasets that fit \(table, more\); choose with sites="):
            federation.create(TINY_PLAN, sites=["site-c"])
        assert federation.create(TINY_PLAN, sites={"site-c": "more"}).job.entry("site-c").dataset == "more"
        world.federation.registry.set_datasets("site-c", [DatasetSummary(name="table", kind="arrays", subjects=1)])
        with pytest.raises(BadInput, match="has 1 subjects, the plan needs 2"):
            federation.create(TINY_PLAN, sites=["site-c"])
    finally:
        world.federation.registry.set_datasets("site-c", [table])


def test_a_table_that_tells_of_other_columns_is_not_chosen_by_itself(
    world: World, federation: archipel.Federation, tmp_path: Path
) -> None:
    text = TINY_PLAN.read_text().replace(
        'DataNeeds(kind="arrays", minimum_subjects=2)',
        """DataNeeds(
        kind="table", columns=(ColumnNeed(name="age"),), target=ColumnNeed(name="ill", categories=("no", "yes")))""",
    )
    plan = tmp_path / "on_a_table.py"
    plan.write_text(text.replace("import DataNeeds,", "import ColumnNeed, DataNeeds,"))
    told = {
        "site-a": [("heart", ("age", "ill", "weight"))],
        "site-b": [("brain", ("age", "thickness"))],
        "site-c": [("unknown", ()), ("heart", ("ill", "age")), ("brain", ("age",))],
    }
    before = {one.site: one.datasets for one in world.federation.registry.sites()}
    try:
        for site, tables in told.items():
            summaries = []
            for name, names in tables:
                columns = tuple(ColumnWords(name=one) for one in names)
                summaries.append(DatasetSummary(name=name, kind="table", subjects=30, columns=columns))
            world.federation.registry.set_datasets(site, summaries)
        assert federation.create(plan).job.sites == ("site-a",)
        chosen = federation.create(plan, sites=["site-a", "site-b"]).job
        assert [one.dataset for one in chosen.roster] == ["heart", "brain"], "a site's own dictionary may not name all"
        with pytest.raises(BadInput, match=r"2 datasets that fit \(unknown, heart\)"):
            federation.create(plan, sites=["site-c"])
    finally:
        for site, datasets in before.items():
            world.federation.registry.set_datasets(site, datasets)


def test_a_plan_may_be_a_class_of_an_imported_file(
    federation: archipel.Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_plan.py").write_bytes(TINY_PLAN.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    from my_plan import TinyPlan

    assert federation.create(TinyPlan).job.plan.file_name == "my_plan.py"

    class Loose(TinyPlan):
        __module__ = "__main__"

    with pytest.raises(BadInput, match="%%writefile"):
        federation.create(Loose)
