"""Samples in columns are the samples: every field, every order, every part of them; and they are small."""

from __future__ import annotations

import json
import pickle
import tracemalloc

import numpy as np
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from archipel.data import Cohort, Sample, Samples, SamplesBuilder, cohort_hash, digests_of, hex_of
from archipel.data.cohorts import cohort_of, pieces
from archipel.data.text_columns import TextColumn
from worlds.drawn_cohorts import HASHES, cohorts, samples

TEXTS = st.lists(st.text(st.characters(blacklist_categories=("Cs",)), max_size=8))


@given(samples())
def test_samples_in_columns_are_the_samples(found: tuple[Sample, ...]) -> None:
    columns = Samples.of(found)
    assert columns == found and found == columns
    assert [columns[place] for place in range(-len(found), len(found))] == [*found, *found]
    assert [one.model_dump() for one in columns] == [one.model_dump() for one in found]
    assert list(columns.hashes()) == [one.hash for one in found]
    assert list(columns.each_key()) == [one.key for one in found]
    assert columns.names == [one.name for one in found]
    assert columns.places == {place for one in found for place in one.files.values()}
    assert columns.subjects == sorted({one.subject for one in found})
    assert pickle.loads(pickle.dumps(columns)) == found


@given(samples())
def test_the_lines_of_the_hash_are_the_canonical_json_of_each_record(found: tuple[Sample, ...]) -> None:
    lines = [rfc8785.dumps(one.model_dump(mode="json", exclude_defaults=True)) + b"\n" for one in found]
    assert list(Samples.of(found).canonical_lines()) == lines


@given(samples(), st.data())
def test_any_part_in_any_order_is_what_a_list_would_give(found: tuple[Sample, ...], data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, max(0, len(found) - 1)), max_size=8)) if found else []
    columns = Samples.of(found)
    part = columns.take(np.array(places, np.int64))
    assert part == [found[place] for place in places]
    assert set(part.others) == {columns.others[int(columns.kinds[place])] for place in places}
    chosen = data.draw(st.slices(len(found)))
    assert columns[chosen] == found[chosen]
    assert columns.sorted() == sorted(found, key=lambda one: one.key)
    some = frozenset(one.subject for one in found[::2])
    assert columns.of_subjects(some) == [one for one in found if one.subject in some]
    assert columns.of_subjects(some, inside=False) == [one for one in found if one.subject not in some]
    assert dict(columns.values("age")) == {one.subject: one.values["age"] for one in found if "age" in one.values}


@given(samples())
def test_the_samples_of_each_file_keep_their_order(found: tuple[Sample, ...]) -> None:
    with_files = [one for one in found if one.files]
    grouped: dict[str, list[Sample]] = {}
    for one in with_files:
        grouped.setdefault(next(iter(one.files.values())), []).append(one)
    assert {place: list(inside) for place, inside in Samples.of(with_files).by_file().items()} == grouped


@given(st.lists(HASHES))
def test_digests_keep_every_digit(hashes: list[str]) -> None:
    hashes = [*hashes, "blake3:" + "00" * 32, "blake3:" + "ab" + "00" * 31]
    assert list(hex_of(digests_of(hashes))) == [one.partition(":")[2] for one in hashes]


@given(TEXTS)
def test_a_column_of_texts_is_the_texts(texts: list[str]) -> None:
    column = TextColumn.of(texts)
    column.check()
    assert column == texts and list(column) == texts and column == tuple(texts)
    assert TextColumn.of_lines("\n".join(texts)) == "\n".join(texts).split("\n")
    assert column != [*texts, "more"] and (not texts or column != texts[:-1])
    assert column[::-1] == texts[::-1] and column.take(np.arange(len(texts)) % 2 == 0) == texts[::2]


def test_a_column_of_many_texts_is_taken_apart_in_steps() -> None:
    texts = [f"{number}é" * (number % 3) for number in range(150_000)]
    column = TextColumn.of(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    assert column.take(order) == [texts[place] for place in order]


@given(cohorts())
def test_a_cohort_comes_back_from_its_pieces_however_they_are_cut(cohort: Cohort) -> None:
    whole = b"".join(pieces(cohort))
    assert cohort_of([whole]) == cohort
    assert cohort_of(whole[at : at + 7] for at in range(0, len(whole), 7)) == cohort


@given(cohorts(), st.data())
def test_a_cohort_that_was_cut_or_changed_is_refused_or_another(cohort: Cohort, data: st.DataObject) -> None:
    whole = b"".join(pieces(cohort))
    with pytest.raises(ValueError, match=r"."):
        cohort_of([whole[: data.draw(st.integers(0, len(whole) - 1))]])
    with pytest.raises(ValueError, match="something follows"):
        cohort_of([whole, b"x"])
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    try:
        other = cohort_of([changed])
        assert b"".join(pieces(other)) != whole
    except ValueError:
        pass


def test_a_row_takes_less_than_a_hundred_bytes() -> None:
    tracemalloc.start()
    built = SamplesBuilder()
    kind = built.kind("blake3", {"files": {"table": "table.npz"}})
    for row in range(50_000):
        built.add_row(f"p{row:06}", "", row.to_bytes(32, "big"), row, kind)
    columns = built.samples()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(columns) == 50_000 and taken < 100 * len(columns)


@pytest.mark.parametrize(
    "added", [{"row": 7}, {"session": "other"}, {"note": "a name"}, {"hash": 'blake3:","row":3,"subject":"'}]
)
def test_what_the_cohort_hash_does_not_cover_is_not_read(added: dict[str, object]) -> None:
    sample = Sample(subject="p1", files={"table": "t.csv"}, hash="blake3:" + "a" * 64)
    cohort = Cohort(dataset="d", format="table", samples=[sample])
    own = cohort.samples
    text = json.dumps(json.loads(own.others[0]) | added)
    changed = Samples(own.subjects_of_rows, own.sessions, own.digests, own.rows, own.kinds, TextColumn.of([text]))
    assert cohort_of(pieces(cohort)) == cohort
    with pytest.raises(ValueError, match=r"."):
        cohort_of(pieces(cohort.model_copy(update={"samples": changed})))


def test_a_kind_that_no_row_names_is_neither_written_nor_read() -> None:
    """It is not hashed, so a worker would see what no approval covers."""
    sample = Sample(subject="p1", files={"table": "t.csv"}, hash="blake3:" + "a" * 64)
    own = Samples.of([sample])
    hidden = own.others[0].replace("t.csv", "a secret")
    others = TextColumn.of([*own.others, hidden])
    more = Samples(own.subjects_of_rows, own.sessions, own.digests, own.rows, own.kinds, others)
    cohort = Cohort(dataset="d", format="table", samples=own)
    with_more = cohort.model_copy(update={"samples": more})
    assert cohort_hash(with_more, b"k" * 16) == cohort_hash(cohort, b"k" * 16), "the hash alone does not tell"
    assert b"a secret" not in b"".join(pieces(with_more))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Samples, "compact", lambda samples: samples)
        written = b"".join(pieces(with_more))
    assert b"a secret" in written and list(cohort_of([written]).samples.others) == list(own.others)


@pytest.mark.parametrize(
    "text",
    [
        '{"hash":"blake3:","files":{"table":"t.csv"},"files":{"table":"t.csv"}}',
        '{"hash":"blake3:","files":{"table":"t.csv"} }',
        '{"hash":"blake3:","files":["t.csv"]}',
        '{"hash":"blake3:","files":{},"missing":7}',
        '{"hash":"blake3:","files":{},"channels":{"T1":"x"}}',
        '{"hash":"blake3:"}',
        "[]",
        '{"hash":"blake3:","files":{},"values":' + '{"a":' * 5_000 + "1" + "}" * 5_000 + "}",
    ],
)
def test_a_kind_in_another_form_is_refused_as_a_value_error(text: str) -> None:
    sample = Sample(subject="p1", files={"table": "t.csv"}, hash="blake3:" + "a" * 64)
    own = Samples.of([sample])
    changed = Samples(own.subjects_of_rows, own.sessions, own.digests, own.rows, own.kinds, TextColumn.of([text]))
    cohort = Cohort(dataset="d", format="table", samples=own).model_copy(update={"samples": changed})
    with pytest.raises(ValueError, match=r"."):
        cohort_of(pieces(cohort))
