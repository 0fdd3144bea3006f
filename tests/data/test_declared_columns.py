"""A worker is shown the columns that the plan declares, and no others."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from archipel.data import (
    Cohort,
    ColumnMapping,
    DataMapping,
    PreparedCache,
    PreparedSource,
    RawSource,
    Sample,
    cohort_hash,
    scan,
    split,
    with_declared_columns,
)
from archipel.vocabulary import ColumnNeed, DataNeeds

NEEDS = DataNeeds(kind="table", columns=(ColumnNeed(name="years"),), target=ColumnNeed(name="ill"))
MAPPING = DataMapping(columns={"years": ColumnMapping(source="age"), "other": ColumnMapping(source="secret")})


def cohort(root: Path) -> Cohort:
    rows = "".join(f"p{number},{40 + number},{number % 2},secret-{number},{number * 7919}\n" for number in range(8))
    (root / "table.csv").write_text("id,age,ill,secret,weight\n" + rows + "q,,1,,\n")
    return Cohort(dataset="t", format="table", samples=scan("table", root).samples, mapping=MAPPING)


def test_prepared_rows_hold_the_declared_columns_only(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    shown = with_declared_columns(cohort(tmp_path / "data"), NEEDS)
    with PreparedCache(tmp_path / "cache", 1 << 30).prepare(tmp_path / "data", shown) as prepared:
        ((path, name),) = prepared.files
        content = path.read_bytes()
        (tmp_path / name).symlink_to(path)
        readings = list(PreparedSource(tmp_path, shown).read(shown.samples))
    assert [dict(one.values) for one in readings[:2]] == [{"age": 40.0, "ill": 0.0}, {"age": 41.0, "ill": 1.0}]
    # Neither a name nor a value of another column is in the file.
    assert b"secret" not in content and b"weight" not in content and b"7919" not in content


def test_two_plans_do_not_share_prepared_rows_of_other_columns(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    whole = cohort(tmp_path / "data")
    other = DataNeeds(kind="table", columns=(ColumnNeed(name="weight"),), target=ColumnNeed(name="ill"))
    cache = PreparedCache(tmp_path / "cache", 1 << 30)
    with cache.prepare(tmp_path / "data", with_declared_columns(whole, NEEDS)) as first:
        with cache.prepare(tmp_path / "data", with_declared_columns(whole, other)) as second:
            assert first.files[0][0] != second.files[0][0] and second.made == 9
        with cache.prepare(tmp_path / "data", with_declared_columns(whole, NEEDS)) as again:
            assert again.files == first.files and again.made == 0


def test_a_plan_gets_what_it_got_of_the_whole_cohort(tmp_path: Path) -> None:
    whole = cohort(tmp_path)
    whole = whole.model_copy(update={"mapping": whole.mapping.model_copy(update={"drop_incomplete": True})})
    shown = with_declared_columns(whole, NEEDS)
    for one, other in zip(
        *(split(RawSource(tmp_path, each), each, 0.3, NEEDS) for each in (whole, shown)), strict=True
    ):
        assert one.ids == other.ids
        assert np.array_equal(one.table().x, other.table().x) and np.array_equal(one.table().y, other.table().y)


def test_samples_and_mapping_name_nothing_else(tmp_path: Path) -> None:
    shown = with_declared_columns(cohort(tmp_path), NEEDS)
    assert {name for one in shown.samples for name in one.missing} <= {"age", "ill"}
    assert set(shown.mapping.columns) == {"years"}
    assert with_declared_columns(shown, NEEDS) == shown
    beside = Sample(subject="a", files={}, hash="blake3:" + hashlib.sha256(b"a").hexdigest(), values={"age": 4, "x": 5})
    volumes = Cohort(dataset="v", format="nifti-pairs", samples=(beside,))
    none = with_declared_columns(volumes, DataNeeds(kind="volumes"))
    assert none.samples[0].values == {}
    target = DataNeeds(kind="volumes", target=ColumnNeed(name="age"))
    assert with_declared_columns(volumes, target).samples[0].values == {"age": 4}


def test_a_frozen_cohort_keeps_its_hash(tmp_path: Path) -> None:
    whole = cohort(tmp_path)
    assert "columns" not in whole.model_dump(mode="json", exclude_defaults=True)
    assert cohort_hash(whole, bytes(16)) == cohort_hash(Cohort(**{**whole.model_dump(), "columns": None}), bytes(16))


def test_a_mapping_shows_the_images_and_labels_that_the_plan_declares(tmp_path: Path) -> None:
    mapping = DataMapping(
        modalities={"T1": "t1w", "PET": "fdg"},
        label_names={"1": "tumour", "2": "rare disease"},
        labels={"2": 1},
    )
    whole = Cohort(dataset="t", format="nifti-pairs", samples=(), mapping=mapping)
    shown = with_declared_columns(whole, DataNeeds(kind="volumes", modalities=("T1",), labels={"1": "tumour"})).mapping
    assert shown.modalities == {"T1": "t1w"} and shown.label_names == {"1": "tumour"}
    # What changes a value stays.
    assert shown.labels == mapping.labels
    assert "rare disease" not in shown.model_dump_json() and "fdg" not in shown.model_dump_json()
