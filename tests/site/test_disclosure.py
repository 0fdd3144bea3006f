"""What the server hears of a dataset, held against the very messages on the wire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archipel.data import ColumnMapping, DataMapping
from archipel.site.agent.agent import Agent
from archipel.site.approval import disclosure
from archipel.site.audit import journal
from archipel.site.datasets import catalog
from archipel.site.services import datasets
from archipel.site.state.folder import StateFolder
from archipel.site.state.settings import SiteSettings
from archipel.transport import AnswerMessage, DatasetsMessage, DatasetSummary, Hello
from archipel.transport.messages import from_site
from archipel.vocabulary import InputValues, ValueRange
from worlds.data_files import write_pairs, write_rows
from worlds.people import ANNA, approve
from worlds.site import take_offer

HEART = """id,years,weight_kg,town,diagnosis
frieda,61,70,Bremen,yes
gustav,55,81,Bremen,no
hanna,48,66,Kiel,no
ivo,70,90,Kiel,yes
jule,39,58,Emden,no
karl,66,77,Emden,yes
"""
DICTIONARY = """
[column.years]
type = "number"
unit = "years"
[column.diagnosis]
type = "category"
categories = {yes = "sick", no = "healthy"}
[column.town]
type = "text"
[column.weight_kg]
type = "number"
unit = "kg"
"""


class Wire:
    """A link that keeps what is sent, as the bytes it would be."""

    up = True

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, message: Any) -> bool:
        self.sent.append(from_site.dump_json(message).decode())
        return True


@pytest.fixture
def with_heart(hospital: StateFolder, tmp_path: Path) -> StateFolder:
    root = tmp_path / "heart"
    root.mkdir()
    (root / "heart.csv").write_text(HEART)
    (tmp_path / "dictionary.toml").write_text(DICTIONARY)
    mapping = DataMapping(columns={"pounds": ColumnMapping(source="weight_kg", scale=2.2046)})
    options = {"subject": "id", "dictionary": str(tmp_path / "dictionary.toml")}
    datasets.add(hospital, "heart", root, "table", options=options, mapping=mapping, by=ANNA)
    return hospital


def stricter(site: StateFolder, minimum_cell: int) -> None:
    site.settings = SiteSettings.model_validate({"site": site.name, "policy": {"minimum_cell": minimum_cell}})


def test_of_a_table_the_words_of_the_dictionary_and_the_mapping_are_told_and_no_value(with_heart: StateFolder) -> None:
    (found,) = disclosure.summaries(with_heart)
    columns = {column.name: (column.unit, column.categories) for column in found.columns}
    assert columns == {
        "years": ("years", ()),
        "diagnosis": ("", ("sick", "healthy")),
        "weight_kg": ("kg", ()),
        "pounds": ("", ()),
    }
    text = found.model_dump_json()
    for secret in (
        "frieda",
        "Bremen",
        "town",
        "39",
        "70",
        str(Path(catalog.dataset(with_heart.database, "heart").root).parent),
    ):
        assert secret not in text, secret


def test_columns_that_nobody_described_are_not_told(hospital: StateFolder, tmp_path: Path) -> None:
    root = tmp_path / "heart"
    root.mkdir()
    (root / "heart.csv").write_text(HEART)
    datasets.add(hospital, "heart", root, "table", options={"subject": "id"}, by=ANNA)
    assert disclosure.summaries(hospital)[0].columns == ()
    values = {"yes": "sick", "no": "healthy"}
    catalog.remap(
        hospital.database,
        hospital.cohort_key,
        "heart",
        DataMapping(columns={"disease": ColumnMapping(source="diagnosis", values=values)}),
        by=ANNA,
    )
    (column,) = disclosure.summaries(hospital)[0].columns
    assert (column.name, column.categories) == ("disease", ("sick", "healthy"))


def test_of_volumes_label_names_and_mapped_modalities_are_told(hospital: StateFolder, tmp_path: Path) -> None:
    entry = datasets.add(hospital, "brain", write_pairs(tmp_path / "brain", 6), "nifti-pairs", by=ANNA).dataset
    assert disclosure.summary(entry, 5).modalities == ("image",)
    mapped = entry.model_copy(
        update={
            "summary": entry.summary.model_copy(update={"modalities": {"ward7_T1": 6, "secret": 6}}),
            "mapping": DataMapping(label_names={"1": "anterior"}, modalities={"T1": "ward7_T1", "T2": "nowhere"}),
        }
    )
    found = disclosure.summary(mapped, 5)
    assert (found.labels, found.modalities) == ({"1": "anterior"}, ("T1",))
    assert "ward7" not in found.model_dump_json() and "secret" not in found.model_dump_json()


@pytest.mark.parametrize(("rows", "said"), [(4, "<5"), (5, 5), (6, 6)])
async def test_a_count_below_the_smallest_cell_is_never_on_the_wire(
    hospital: StateFolder, tmp_path: Path, rows: int, said: int | str
) -> None:
    datasets.add(hospital, "table", write_rows(tmp_path / "data", rows=rows), "npz", by=ANNA)
    take_offer(hospital)
    approve(hospital, "heart")
    wire = Wire()
    agent = Agent(hospital, wire)  # type: ignore[arg-type]
    await agent.decided()
    messages = [from_site.validate_json(text) for text in wire.sent]
    (told,) = [one for one in messages if isinstance(one, DatasetsMessage)]
    (answer,) = [one for one in messages if isinstance(one, AnswerMessage)]
    assert [one.subjects for one in told.datasets] == [said]
    assert answer.subjects == (said if isinstance(said, int) else None)
    hello = Hello(site="charite", version="1", time="now", datasets=agent.reporting.datasets(), head={})
    assert [one.subjects for one in hello.datasets] == [said]
    for text in wire.sent:
        assert "p-00" not in text and str(tmp_path) not in text
        if isinstance(said, str):
            assert f'"subjects":{rows}' not in text


async def test_the_smallest_cell_is_the_sites_own_rule(with_table: StateFolder) -> None:
    stricter(with_table, 50)
    (found,) = disclosure.summaries(with_table)
    assert found.subjects == "<50"
    assert DatasetSummary.model_validate_json(found.model_dump_json()) == found


async def test_what_was_told_is_in_the_journal_once_for_each_change(with_table: StateFolder, tmp_path: Path) -> None:
    datasets.remove(with_table, "table", by=ANNA)
    datasets.add(with_table, "table", write_pairs(tmp_path / "brain", 6), "nifti-pairs", by=ANNA)
    agent = Agent(with_table, Wire())  # type: ignore[arg-type]
    for _ in range(3):
        agent.reporting.datasets()
    catalog.remap(with_table.database, with_table.cohort_key, "table", DataMapping(label_names={"1": "sick"}), by=ANNA)
    agent.reporting.datasets()
    lines = [line.body["datasets"] for line in journal.lines(with_table.database) if line.kind == "datasets-disclosed"]
    assert lines == [
        [{"name": "table", "kind": "volumes", "subjects": 6, "modalities": ["image"]}],
        [{"name": "table", "kind": "volumes", "subjects": 6, "labels": {"1": "sick"}, "modalities": ["image"]}],
    ]
    again = Agent(with_table, Wire())  # type: ignore[arg-type]
    again.reporting.datasets()
    assert [line.kind for line in journal.lines(with_table.database)].count("datasets-disclosed") == 2


@pytest.mark.parametrize("subjects", ["<0", "< 5", "<5x", -1, "many"])
def test_a_count_that_is_none_is_refused(subjects: object) -> None:
    with pytest.raises(ValueError, match="subjects"):
        DatasetSummary.model_validate({"name": "table", "kind": "arrays", "subjects": subjects})


def test_nothing_is_told_but_these_fields() -> None:
    """A field more in the message is a decision that this test makes somebody take."""
    assert set(DatasetSummary.model_fields) == {"name", "kind", "subjects", "labels", "modalities", "columns", "values"}
    assert set(json.loads(DatasetSummary(name="a", kind="arrays", subjects="<5").model_dump_json())) == set(
        DatasetSummary.model_fields
    )


def test_modalities_by_the_fields_own_words_are_told_and_no_other_name(hospital: StateFolder, tmp_path: Path) -> None:
    entry = datasets.add(hospital, "brain", write_pairs(tmp_path / "brain", 6), "nifti-pairs", by=ANNA).dataset
    held = {"T1w": 6, "t1-ce": 6, "FLAIR": 4, "CT": 1, "smith_T1": 6, "20200101": 6, "2T1": 1, "label": 6}
    several = entry.model_copy(update={"summary": entry.summary.model_copy(update={"modalities": held})})
    assert disclosure.summary(several, 5).modalities == ("CT", "FLAIR", "T1w", "t1-ce")


def test_a_label_that_no_sample_has_is_not_offered(hospital: StateFolder, tmp_path: Path) -> None:
    mapping = DataMapping(labels={"2": 5}, label_names={"1": "anterior", "2": "posterior", "5": "tail", "9": "ghost"})
    root = write_pairs(tmp_path / "brain", 6)
    added = datasets.add(hospital, "brain", root, "nifti-pairs", mapping=mapping, by=ANNA)
    assert disclosure.summary(added.dataset, 5).labels == {"1": "anterior", "5": "tail"}
    assert added.unmatched == (
        "label_names.2 posterior: no sample has value 2 (there: 1, 5)",
        "label_names.9 ghost: no sample has value 9 (there: 1, 5)",
    )


def test_of_numbers_the_type_and_what_a_person_declared_are_told(hospital: StateFolder, tmp_path: Path) -> None:
    rows = datasets.add(hospital, "rows", write_rows(tmp_path / "rows"), "npz", by=ANNA).dataset
    assert list(rows.summary.values) == ["x"], "the range is known here"
    assert disclosure.summary(rows, 5).values == {"x": InputValues(type="float64")}
    scale = {"image": ValueRange(minimum=-1024, maximum=3071, unit="HU"), "other": ValueRange(unit="SUV")}
    root = write_pairs(tmp_path / "brain", 6)
    brain = datasets.add(hospital, "brain", root, "nifti-pairs", by=ANNA).dataset
    assert disclosure.summary(brain, 5).values == {}
    mapped = brain.model_copy(update={"mapping": DataMapping(values=scale, modalities={"CT": "image"})})
    told = InputValues(minimum=-1024, maximum=3071, unit="HU")
    assert disclosure.summary(mapped, 5).values == {"CT": told, "image": told}
