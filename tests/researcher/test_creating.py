"""From a plan and sites to a job that every site can approve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import archipel
from archipel.governance import job_hash
from archipel.plans import load
from archipel.tensors import blob_hash, encode
from archipel.transport.messages import DatasetSummary, DisclosedColumn
from archipel.vocabulary import BadInput, Conflict, InputValues, PrivacyTerms, Release, StepTerms
from worlds.research import TINY_PLAN, World

SUM = PrivacyTerms(release=Release.SUM)
Tell = Callable[[str, list[DatasetSummary]], None]


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
        "values",
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
    assert made.left_out == {}, "whoever names the sites knows which are not among them"
    for shown in (repr(made), made._repr_html_()):
        assert all(word in shown for word in ("site-a", "site-c", "table"))


def test_a_job_may_let_nothing_leave_but_sums(federation: archipel.Federation) -> None:
    assert federation.create(TINY_PLAN).job.privacy == PrivacyTerms()
    assert federation.create(TINY_PLAN, privacy=SUM).job.privacy.release is Release.SUM


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
        ({"rounds": 0}, "rounds=0: is not a valid whole number"),
        ({"rounds": 2.5}, r"rounds=2.5: is not a valid whole number"),
        ({"quorum": 4, "name": "q"}, "^job q: quorum 4 is more than the 3 sites"),
        ({"deadline": 0}, "are not valid numbers of seconds"),
        ({"plan_class": "Other"}, "has no plan class Other"),
        ({"name": "Has Blanks"}, r"name 'Has Blanks': is not a name an experiment may have; .*, such as has-blanks"),
        ({"validation_fraction": 20}, "validation_fraction 20: is not a share of the subjects; .* such as 0.2"),
        ({"sites": ["site-a", "site-a"]}, "site site-a: is named twice; name each site once"),
        ({"sites": []}, "sites: none is named"),
        ({"sites": {"site-a": None, "site-x": None}}, "site site-x: is not in this federation"),
        ({"privacy": SUM, "baselines": True}, "a site's own model is not a sum"),
        ({"privacy": SUM, "quorum": 1}, "the sum over one site is its own update"),
        ({"privacy": PrivacyTerms(steps=(StepTerms(name="blur"),))}, "privacy step blur: is not known here"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_sent(
    federation: archipel.Federation, given: dict[str, object], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        federation.create(TINY_PLAN, **given)


@pytest.fixture
def tell(world: World) -> Iterator[Tell]:
    """Let a site tell of other datasets; they are as before at the end of the test."""
    registry = world.federation.registry
    before = {one.site: one.datasets for one in registry.sites()}
    yield registry.set_datasets
    for site, datasets in before.items():
        registry.set_datasets(site, datasets)


def test_a_site_with_other_data_is_refused_or_left_out_aloud(federation: archipel.Federation, tell: Tell) -> None:
    table = DatasetSummary(name="table", kind="arrays", subjects=22)
    tell("site-c", [DatasetSummary(name="mri", kind="volumes", subjects=9)])
    with pytest.warns(UserWarning, match=r"left out: site-c \(mri is of kind volumes, the plan needs arrays\)"):
        made = federation.create(TINY_PLAN)
    assert made.job.sites == ("site-a", "site-b")
    assert made.left_out == {"site-c": "mri is of kind volumes, the plan needs arrays"}
    assert "left out: site-c" in repr(made) and "left out: mri is of kind volumes" in made._repr_html_()
    with pytest.raises(BadInput, match="dataset mri of site-c: is of kind volumes, the plan needs arrays"):
        federation.create(TINY_PLAN, sites=["site-a", "site-c"])
    tell("site-c", [table, DatasetSummary(name="more", kind="arrays", subjects=9)])
    with pytest.warns(UserWarning, match=r"site-c \(2 datasets fit: table, more; choose with --site site-c=table\)"):
        assert federation.create(TINY_PLAN).job.sites == ("site-a", "site-b")
    with pytest.raises(BadInput, match=r"2 datasets that fit \(table, more\); choose one: --site site-c=table"):
        federation.create(TINY_PLAN, sites=["site-c"])
    chosen = federation.create(TINY_PLAN, sites={"site-c": "more", "site-a": None}).job.roster
    assert [(one.site, one.dataset) for one in chosen] == [("site-a", "table"), ("site-c", "more")]
    tell("site-c", [DatasetSummary(name="table", kind="arrays", subjects=1)])
    with pytest.raises(BadInput, match="has 1 subjects, the plan needs 2"):
        federation.create(TINY_PLAN, sites=["site-c"])


def test_where_no_site_fits_each_ones_reason_is_said(
    federation: archipel.Federation, tell: Tell, tmp_path: Path
) -> None:
    needs = 'DataNeeds(kind="volumes", labels={"1": "tumour"}, minimum_subjects=2)'
    plan = tmp_path / "on_volumes.py"
    plan.write_text(TINY_PLAN.read_text().replace('DataNeeds(kind="arrays", minimum_subjects=2)', needs))
    tell("site-a", [DatasetSummary(name="brains", kind="volumes", subjects=9, labels={"1": "front", "2": "back"})])
    tell("site-b", [DatasetSummary(name="few", kind="volumes", subjects=1)])
    tell("site-c", [])
    with pytest.raises(BadInput) as caught:
        federation.create(plan)
    for reason in (
        "site-a: brains has labels 1 front, 2 back, the plan needs 1 tumour",
        "site-b: few has 1 subjects, the plan needs 2",
        "site-c: discloses no datasets",
    ):
        assert reason in str(caught.value)


def test_a_dataset_that_tells_all_columns_is_preferred_to_one_that_tells_nothing(
    federation: archipel.Federation, tell: Tell, tmp_path: Path
) -> None:
    text = TINY_PLAN.read_text().replace(
        'DataNeeds(kind="arrays", minimum_subjects=2)',
        """DataNeeds(
        kind="table", columns=(ColumnNeed(name="age"),), target=ColumnNeed(name="ill", categories=("no", "yes")))""",
    )
    plan = tmp_path / "on_a_table.py"
    plan.write_text(text.replace("import DataNeeds,", "import ColumnNeed, DataNeeds,"))
    for site, tables in {
        "site-a": [("heart", ("age", "ill", "weight"))],
        "site-b": [("brain", ("age", "thickness"))],
        "site-c": [("unknown", ()), ("heart", ("ill", "age")), ("brain", ("age",))],
    }.items():
        summaries = []
        for name, names in tables:
            columns = tuple(DisclosedColumn(name=one) for one in names)
            summaries.append(DatasetSummary(name=name, kind="table", subjects=30, columns=columns))
        tell(site, summaries)
    with pytest.warns(UserWarning, match=r"left out: site-b \(brain does not disclose column ill\)"):
        made = federation.create(plan)
    assert [(one.site, one.dataset) for one in made.job.roster] == [("site-a", "heart"), ("site-c", "heart")]
    chosen = federation.create(plan, sites=["site-a", "site-b"]).job
    assert [one.dataset for one in chosen.roster] == ["heart", "brain"], "a site's own dictionary may not name all"


TORCH_PLAN = """
import torch
from archipel.plans import TorchPlan
from archipel.vocabulary import DataNeeds, MetricSpec

class Forgetful(TorchPlan):
    needs = DataNeeds(kind="arrays")
    metrics = (MetricSpec(name="loss", better="lower"),)

    def build_model(self):
        return torch.nn.Linear(8, 1)

    def build_optimiser(self, network, context):
        return torch.optim.SGD(network.parameters(), lr=0.1)
"""


def test_a_torch_plan_without_a_loss_is_refused_before_a_hospital_sees_it(
    federation: archipel.Federation, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.py"
    plan.write_text(TORCH_PLAN)
    with pytest.raises(BadInput, match=r"plan Forgetful: does not define loss; define loss\(self, outputs, targets\)"):
        federation.create(plan)
    plan.write_text(TORCH_PLAN + "\n    def loss(self, outputs, targets):\n        return outputs.sum()\n")
    assert federation.create(plan).status == "draft"
    plan.write_text(TORCH_PLAN + "\n    def train(self, model, context):\n        return None\n")
    assert federation.create(plan).status == "draft", "a plan with a training step of its own may need no loss"


def test_an_error_of_the_plan_is_one_sentence_with_its_line(federation: archipel.Federation, tmp_path: Path) -> None:
    plan = tmp_path / "plan.py"
    plan.write_text("import nibabbel\n" + TORCH_PLAN)
    with pytest.raises(BadInput, match=r"plan.py:1: .*: No module named 'nibabbel'; correct the name, or"):
        federation.create(plan)


@pytest.mark.parametrize(
    "verb", ["start", "step", "pause", "resume", "finish", "cancel", "watch", "document", "rounds"]
)
def test_a_draft_says_that_it_must_be_submitted_first(federation: archipel.Federation, verb: str) -> None:
    with pytest.raises(Conflict, match=r"is a draft and was not submitted; submit\(\) it first"):
        getattr(federation.create(TINY_PLAN), verb)()


def test_a_plan_may_be_a_class_of_an_imported_file(
    federation: archipel.Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_plan.py").write_bytes(TINY_PLAN.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    from my_plan import TinyPlan

    assert federation.create(TinyPlan).job.plan.entry == "my_plan.py"

    class Loose(TinyPlan):
        __module__ = "__main__"

    with pytest.raises(BadInput, match="%%writefile"):
        federation.create(Loose)


def test_a_dataset_that_lacks_a_modality_of_the_plan_is_left_out_aloud(
    federation: archipel.Federation, tell: Tell, tmp_path: Path
) -> None:
    needs = 'DataNeeds(kind="volumes", modalities=("T1", "T2"), minimum_subjects=2)'
    plan = tmp_path / "on_two_modalities.py"
    plan.write_text(TINY_PLAN.read_text().replace('DataNeeds(kind="arrays", minimum_subjects=2)', needs))

    def volumes(name: str, *modalities: str) -> DatasetSummary:
        return DatasetSummary(name=name, kind="volumes", subjects=9, modalities=modalities)

    tell("site-a", [volumes("silent"), volumes("both", "FLAIR", "T1", "T2")])
    tell("site-b", [volumes("one", "T1")])
    tell("site-c", [volumes("silent")])
    with pytest.warns(UserWarning, match=r"left out: site-b \(one does not disclose image T2\)"):
        made = federation.create(plan)
    assert [(one.site, one.dataset) for one in made.job.roster] == [("site-a", "both"), ("site-c", "silent")]
    chosen = federation.create(plan, sites=["site-b"]).job
    assert [one.dataset for one in chosen.roster] == ["one"], "a mapping at the site may have the other"


def test_sites_whose_numbers_differ_are_named(federation: archipel.Federation, tell: Tell, tmp_path: Path) -> None:
    def table(**values: object) -> list[DatasetSummary]:
        told = {"x": InputValues.model_validate(values)}
        return [DatasetSummary(name="table", kind="arrays", subjects=22, values=told)]

    for site, kind in {"site-a": "uint8", "site-b": "uint16", "site-c": "uint8"}.items():
        tell(site, table(type=kind))
    with pytest.warns(UserWarning, match="values of x are not the same everywhere: uint8 at site-a, site-c; uint16 at"):
        made = federation.create(TINY_PLAN)
    assert len(made.differing) == 1 and made.job.sites == ("site-a", "site-b", "site-c")
    plan = tmp_path / "eight_bits.py"
    needs = (
        'DataNeeds(kind="arrays", minimum_subjects=2, values={"x": InputValues(type="uint8", maximum=255, minimum=0)})'
    )
    text = TINY_PLAN.read_text().replace('DataNeeds(kind="arrays", minimum_subjects=2)', needs)
    plan.write_text(text.replace("import DataNeeds,", "import DataNeeds, InputValues,"))
    tell("site-c", table(type="uint8", minimum=0, maximum=1))
    with pytest.warns(UserWarning, match="site-b .table has values of x uint16, the plan needs uint8, 0 to 255"):
        made = federation.create(plan)
    assert made.job.sites == ("site-a",) and "uint8, 0 to 1" in made.left_out["site-c"]
    assert federation.datasets()["values"].tolist()[1] == "x: uint16"
