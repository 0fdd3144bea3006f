"""The index of files in the site's database answers as one in memory does, in whatever order it is asked."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from archipel.data import MemoryIndex, Signature
from archipel.data.files import Purpose
from archipel.site.datasets.file_index import SqlFileIndex
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawals.withdrawals import reinstate, withdraw
from archipel.site.withdrawn.opt_outs import OptOut
from archipel.tensors import blob_hash
from archipel.vocabulary import Record
from worlds.examples import examples
from worlds.people import ANNA

PLACES = [f"{folder}/{name}" for folder in ("images", "labels", "z é") for name in ("a", "b", "ä", "𝒳", "\uffff")]


class Number(Record):
    number: int


ONE, TWO = Purpose("one", Number), Purpose("two", Number)
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["get", "put"]), st.sampled_from(PLACES), st.sampled_from([ONE, TWO]), st.integers(0, 2)),
    max_size=40,
)
FACTS = [ONE.record(hash=blob_hash(bytes([number])), facts=Number(number=number)) for number in range(3)]


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sessions=st.lists(ACTIONS, min_size=1, max_size=3))
@pytest.mark.parametrize("batch", [1, 3, 500])
def test_the_index_answers_as_one_in_memory_does(
    hospital: StateFolder,
    batch: int,
    sessions: list[list[tuple[str, str, Purpose[Number], int]]],
) -> None:
    memory, name = MemoryIndex(), f"d{abs(hash(repr(sessions)))}-{batch}"
    for actions in sessions:
        with SqlFileIndex(hospital.database, name, batch) as index:
            for action, place, purpose, number in actions:
                signature = Signature(number, number, number, number)
                if action == "put":
                    index.put(place, purpose, signature, FACTS[number])
                    memory.put(place, purpose, signature, FACTS[number])
                else:
                    assert index.get(place, purpose, signature) == memory.get(place, purpose, signature)


def test_an_index_that_a_withdrawal_overtook_keeps_nothing(with_table: StateFolder) -> None:
    """What it found may be of whoever withdrew, in whatever order a scan and the withdrawal wrote."""
    signature, places = Signature(1, 1, 1, 1), ("images/a", "images/b")
    with SqlFileIndex(with_table.database, "table") as index:
        index.put(places[0], ONE, signature, FACTS[0])
        index.flush()
        withdraw(with_table, [OptOut("p-002")], by=ANNA)
        index.put(places[1], ONE, signature, FACTS[1])
        index.flush()
    with SqlFileIndex(with_table.database, "table") as index:
        assert [index.get(place, ONE, signature) for place in places] == [None, None]


def test_who_comes_back_and_withdraws_again_overtakes_an_index_too(with_table: StateFolder) -> None:
    withdraw(with_table, [OptOut("p-002")], by=ANNA)
    signature = Signature(1, 1, 1, 1)
    with SqlFileIndex(with_table.database, "table") as index:
        reinstate(with_table, OptOut("p-002"), by=ANNA)
        index.put("images/a", ONE, signature, FACTS[0])
        index.flush()
        assert index.get("images/a", ONE, signature) == FACTS[0]
        withdraw(with_table, [OptOut("p-002")], by=ANNA)
    with SqlFileIndex(with_table.database, "table") as index:
        assert index.get("images/a", ONE, signature) is None
