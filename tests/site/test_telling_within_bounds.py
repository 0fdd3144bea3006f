"""What a site tells of its datasets fits into one message, whatever its people wrote into mappings and dictionaries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from archipel.site.approval.disclosure import within_bounds
from archipel.transport import DatasetsMessage, DatasetSummary
from archipel.transport.messages import MOST_DATASETS


def summary(number: int, columns: int) -> DatasetSummary:
    words = [{"name": f"column {one:05}", "unit": "mmol/l"} for one in range(columns)]
    return DatasetSummary.model_validate({"name": f"d{number}", "kind": "table", "subjects": 9, "columns": words})


MADE = {columns: summary(0, columns) for columns in (0, 3, 400, 5000)}


@given(st.lists(st.sampled_from(sorted(MADE)), max_size=12))
def test_whatever_is_told_is_a_message(sizes: list[int]) -> None:
    found = [MADE[columns].model_copy(update={"name": f"d{number}"}) for number, columns in enumerate(sizes)]
    told = within_bounds(found)
    assert DatasetsMessage(datasets=told).datasets == told
    assert [one.name for one in told] == [one.name for one in found]


def test_no_more_datasets_are_told_of_than_a_message_takes() -> None:
    found = [summary(number, 3) for number in range(MOST_DATASETS + 5)]
    assert within_bounds(found) == tuple(found[:MOST_DATASETS])


def test_words_that_fit_are_all_told_and_of_others_the_name_and_the_count() -> None:
    small, large = summary(1, 3), summary(2, 20_000)
    assert within_bounds([small]) == (small,)
    told = within_bounds([large, small])
    assert told == (DatasetSummary(name="d2", kind="table", subjects=9), small)
