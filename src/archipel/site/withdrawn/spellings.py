"""Other spellings of a withdrawn id: a patient whose other dataset writes the id differently stays there otherwise."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, select

from archipel.data import DataIssue, OtherSpellings, same_form, subject_token
from archipel.site.state import StateFolder, schema
from archipel.site.withdrawn import register
from archipel.site.withdrawn.opt_outs import OptOut, listed
from archipel.vocabulary import Record
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.remedies import WithdrawPatients

_MOST = 5
_members = schema.members


class AlsoThere(Record):
    """Ids of a dataset that may be a withdrawn patient's. ``more`` counts those beyond the ones that are named."""

    subject: str
    dataset: str
    spellings: tuple[str, ...]
    more: int = 0

    @property
    def remedy(self) -> WithdrawPatients:
        """The command that withdraws them too."""
        return WithdrawPatients(dataset=self.dataset, subjects=self.spellings)

    def __str__(self) -> str:
        them, same = ("it", "it is") if len(self.spellings) == 1 else ("those", "those are")
        more = f" and {self.more} more" if self.more else ""
        typed = shlex.join(("archipel", *self.remedy.command_line()))
        return (
            f"may also be there as {', '.join(self.spellings)}{more} in dataset {self.dataset}; if {same} the same "
            f"patient, withdraw {them} too with: {typed}"
        )


def also_there(
    site: StateFolder, people: Iterable[OptOut], beside: Mapping[str, Iterable[str]] | None = None
) -> tuple[AlsoThere, ...]:
    """Who of the datasets' members may be one of these patients under another id, and is not withdrawn.

    ``beside``: ids of datasets that are not noted as their members.
    """
    asked = dict.fromkeys(one.subject for one in people)
    spellings = OtherSpellings(asked)
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    with site.database.read() as connection:
        for name in connection.scalars(select(schema.datasets.c.name).order_by(schema.datasets.c.name)).all():
            for ids in (_noted(connection, name), (beside or {}).get(name, ())):
                for subject, other in spellings.among(ids):
                    found[subject, name].add(other)
            out = register.tokens_out_of(connection, name)
            for subject in asked:
                left = {one for one in found.get((subject, name), ()) if subject_token(one, site.cohort_key) not in out}
                found[subject, name] = left - {subject}
    return tuple(_also(*pair, sorted(others)) for pair, others in sorted(found.items()) if others)


def _also(subject: str, dataset: str, others: list[str]) -> AlsoThere:
    more = max(0, len(others) - _MOST)
    return AlsoThere(subject=subject, dataset=dataset, spellings=tuple(others[:_MOST]), more=more)


def of_the_withdrawn(site: StateFolder, dataset: str, subjects: Iterable[str]) -> DataIssue | None:
    """A warning for ids of a dataset that are a withdrawn patient's but for their spelling; None if there are none.

    The register has no id, but a token of what all spellings of an id have in common.
    """
    with site.database.read() as connection:
        forms = register.forms_out_of(connection, dataset)
    found = [one for one in subjects if forms and subject_token(same_form(one), site.cohort_key) in forms]
    if not found:
        return None
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    shown = found[:_MOST]
    cause = (
        f"has {pluralise(len(found), 'subject id')} that a withdrawn patient has in another spelling "
        f"({', '.join(shown)}{more})"
    )
    typed = shlex.join(("archipel", *WithdrawPatients(dataset=dataset, subjects=tuple(shown)).command_line()))
    remedy = f"for each that is the same patient: {typed}"
    return DataIssue(thing=f"dataset {dataset}", cause=cause, remedy=remedy, severity="warning")


def without_ids(site: StateFolder) -> tuple[str, ...]:
    """The datasets whose members are noted without their ids, until they are scanned again."""
    query = select(_members.c.dataset).where(_members.c.subject == "").distinct()
    with site.database.read() as connection:
        return tuple(connection.scalars(query.order_by(_members.c.dataset)))


def of_lines(site: StateFolder) -> tuple[tuple[int, AlsoThere], ...]:
    """The lines of ``opt-out.txt``, by their numbers, whose patients may be there under another id.

    Raises BadInput (code configuration) as ``opt_outs.read`` does.
    """
    lines = listed(site.folder)
    if not lines:
        return ()
    found: dict[str, list[AlsoThere]] = defaultdict(list)
    for one in also_there(site, [line.opt_out for line in lines]):
        found[one.subject].append(one)
    return tuple((line.number, one) for line in lines for one in found.get(line.opt_out.subject, ()))


def _noted(connection: Connection, name: str) -> Iterable[str]:
    return connection.scalars(select(_members.c.subject).where(_members.c.dataset == name, _members.c.subject != ""))
