"""The register of withdrawn patients: each is a keyed token of the patient's id, not the id.

Only the act of withdrawing (``archipel.site.withdrawals``) adds patients here and removes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, true, update

from archipel.data import subject_token
from archipel.site.state import StateFolder, schema
from archipel.site.withdrawn.opt_outs import EVERYWHERE, OptOut, listed
from archipel.storage import Database, Statement, utc_now

_AT_ONCE = 500
"""Tokens in one query."""
_rows = schema.withdrawals
_OUT_OF = Statement(
    select(_rows.c.token, _rows.c.withdrawn_at).where(
        or_(_rows.c.dataset == EVERYWHERE, _rows.c.dataset == bindparam("named"))
    )
)
"""Composed once: every task asks it several times."""


class Withdrawal(NamedTuple):
    """Who is out of which dataset; "" is every one. ``token`` is the patient's id under the site's key."""

    dataset: str
    token: str


def withdrawal(cohort_key: bytes, one: OptOut) -> Withdrawal:
    """How the register names this patient and dataset."""
    return Withdrawal(one.dataset, subject_token(one.subject, cohort_key))


def withdrawals_of(cohort_key: bytes, one: OptOut) -> set[Withdrawal]:
    """The withdrawals by which this patient is out: of the dataset named, or of every one."""
    mine = withdrawal(cohort_key, one)
    return {mine, mine._replace(dataset=EVERYWHERE)}


def known(connection: Connection) -> set[Withdrawal]:
    """All withdrawals in the register."""
    return {Withdrawal(row.dataset, row.token) for row in connection.execute(select(_rows.c.dataset, _rows.c.token))}


def enter(connection: Connection, new: Mapping[Withdrawal, str], *, source: str, reason: str) -> None:
    """Enter those who are not in the register yet, with the token of each id's form, before they leave any dataset, in
    the caller's transaction."""
    row = {"source": source, "reason": reason, "withdrawn_at": utc_now()}
    ever = _ever_here(connection, {one.token for one in new})
    rows = [
        {"dataset": one.dataset, "token": one.token, "known": _matches(one, ever), "form": form} | row
        for one, form in new.items()
    ]
    connection.execute(insert(_rows), rows)


def strike(connection: Connection, one: Withdrawal) -> bool:
    """Remove a withdrawal from the register, in the caller's transaction; whether it was there."""
    mine = (_rows.c.token == one.token, _rows.c.dataset == one.dataset)
    return connection.execute(delete(_rows).where(*mine)).rowcount > 0


def out_of(connection: Connection, dataset: str) -> frozenset[tuple[str, str]]:
    """Each who is withdrawn from a dataset, as a token, and since when: who is new in a later answer withdrew since."""
    return frozenset((row["token"], row["withdrawn_at"]) for row in _OUT_OF.rows(connection, {"named": dataset}))


def forms_out_of(connection: Connection, dataset: str) -> frozenset[str]:
    """The tokens of the forms of the ids of all who are withdrawn from a dataset, as far as they are known."""
    mine = (_rows.c.dataset.in_((EVERYWHERE, dataset)), _rows.c.form != "")
    return frozenset(connection.scalars(select(_rows.c.form).where(*mine)))


def tokens_out_of(connection: Connection, dataset: str) -> frozenset[str]:
    """The tokens of all who are withdrawn from a dataset."""
    return frozenset(token for token, _ in out_of(connection, dataset))


def unmatched(site: StateFolder) -> tuple[int, ...]:
    """The numbers of the lines of ``opt-out.txt`` that name no patient whom a dataset here ever had, as far as known.

    Raises BadInput (code configuration) as ``opt_outs.read`` does.
    """
    lines = listed(site.folder)
    nobody = unknown_subjects(site.database, site.cohort_key, [line.opt_out for line in lines])
    return tuple(line.number for line in lines if line.opt_out in nobody)


def unknown_subjects(database: Database, cohort_key: bytes, people: Iterable[OptOut]) -> set[OptOut]:
    """The patients whom no dataset here ever had, as far as known."""
    pairs = {one: withdrawal(cohort_key, one) for one in people}
    with database.read() as connection:
        ever = _ever_here(connection, {pair.token for pair in pairs.values()})
    return {one for one, pair in pairs.items() if not _matches(pair, ever)}


def mark_seen(database: Database, dataset: str, tokens: Collection[str]) -> None:
    """Note that a scan of the dataset met these patients, who are withdrawn from it."""
    if not tokens:
        return
    unknown = (_rows.c.dataset.in_((EVERYWHERE, dataset)), _rows.c.known.is_(False))
    with database.read() as connection:
        new = set(connection.scalars(select(_rows.c.token).where(*unknown))).intersection(tokens)
    if new:
        with database.write() as connection:
            for token in new:
                connection.execute(update(_rows).where(*unknown, _rows.c.token == token).values(known=True))


def _ever_here(connection: Connection, tokens: Collection[str]) -> dict[str, set[str]]:
    """The datasets that have or had each of these patients, as far as that is noted."""
    found: dict[str, set[str]] = {}
    asked = sorted(tokens)
    for table, written in ((schema.members, true()), (schema.split_assignments, true()), (_rows, _rows.c.known)):
        for start in range(0, len(asked), _AT_ONCE):
            some = table.c.token.in_(asked[start : start + _AT_ONCE])
            for row in connection.execute(select(table.c.dataset, table.c.token).where(some, written)):
                found.setdefault(row.token, set()).add(row.dataset)
    return found


def _matches(asked: Withdrawal, ever: Mapping[str, set[str]]) -> bool:
    """Whether the patient was ever in the named dataset, or, if none is named, in any."""
    dataset, token = asked
    there = ever.get(token, set())
    return bool(there) if dataset == EVERYWHERE else not there.isdisjoint({dataset, EVERYWHERE})
