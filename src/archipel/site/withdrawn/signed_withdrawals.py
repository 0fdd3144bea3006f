"""What is left of a frozen cohort: the cohort without the patients in the site's signed withdrawals."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, func, insert, select

from archipel.data import Cohort, subject_token
from archipel.governance import SignedWithdrawal, sign_withdrawal
from archipel.site.audit import CohortReduced, add_entry
from archipel.site.state import SiteJournalKind, StateFolder, schema
from archipel.storage import Statement, utc_now

_rows, _lines = schema.signed_withdrawals, schema.journal
# Composed once: every task asks them several times.
_FROM_COHORT = Statement(
    select(_rows.c.body).where(_rows.c.cohort_hash == bindparam("hashed")).order_by(_rows.c.number)
)
_JOURNALED = Statement(
    select(func.count())
    .select_from(_lines)
    .where(_lines.c.kind == SiteJournalKind.COHORT_REDUCED, func.instr(_lines.c.body, bindparam("hashed")) > 0)
)


def withdraw_from(
    connection: Connection, site: StateFolder, cohort: Cohort, hashed: str, tokens: Iterable[str]
) -> Cohort:
    """Sign these patients out of a kept cohort, unless they are already; what is left of it.

    Called in the transaction that withdraws, or that keeps a cohort frozen before.
    """
    signed_before = map(SignedWithdrawal.model_validate_json, of(connection, hashed))
    left = without_withdrawn(cohort, site.cohort_key, signed_before)
    asked = frozenset(tokens)
    known = (subject_token(subject, site.cohort_key) for subject in left.subjects) if asked else ()
    gone = tuple(sorted({token for token in known if token in asked}))
    if not gone:
        return left
    signed = sign_withdrawal(
        site.identity, SignedWithdrawal(site=site.name, cohort_hash=hashed, subjects=gone, at=utc_now())
    )
    left = without_withdrawn(left, site.cohort_key, [signed])
    body = CohortReduced(
        cohort_hash=hashed,
        dataset=cohort.dataset,
        version=cohort.version,
        subjects=len(gone),
        left=len(left.subjects),
        signature=signed.signature,
    )
    add_entry(connection, SiteJournalKind.COHORT_REDUCED, body)
    connection.execute(insert(_rows).values(cohort_hash=hashed, body=signed.model_dump_json()))
    return left


def of(connection: Connection, hashed: str) -> tuple[str, ...]:
    """The signed withdrawals from a cohort, as their exact texts, oldest first."""
    return tuple(_FROM_COHORT.each(connection, {"hashed": hashed}))


def journaled(connection: Connection, hashed: str) -> int:
    """How many signed withdrawals from a cohort the journal records: none of them may be gone."""
    return _JOURNALED.scalar(connection, {"hashed": hashed}) or 0


def without_withdrawn(cohort: Cohort, key: bytes, found: Iterable[SignedWithdrawal]) -> Cohort:
    """The cohort without the patients in the signed withdrawals."""
    gone = {token for one in found for token in one.subjects}
    if not gone:
        return cohort
    return cohort.without(subject for subject in cohort.subjects if subject_token(subject, key) in gone)
