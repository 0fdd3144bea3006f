"""Whose visit a format calls by a name: the options subject and session, and what is unclear without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from archipel.data.formats.base import Format, Options
from archipel.data.formats.name_patterns import NAME_OPTIONS, lone_session
from archipel.data.sample_columns import Samples
from archipel.data.samples import DataIssue, Scan
from archipel.data.subject_ids import spelling_issue
from archipel.data.visit_names import SharedNames, shared_names


def patterns_in(layout: Format, options: Options) -> Mapping[str, str]:
    """The patterns among the options of a format that leaves patients to ``NAME_OPTIONS``, the subject's first.

    Raises BadInput for a session without a subject.
    """
    given = {name: options[name] for name, text in NAME_OPTIONS.items()
             if name in options and layout.options.get(name) == text}  # fmt: skip
    if "session" in given and "subject" not in given:
        raise lone_session(given["session"])
    return given


def finds_in_names(layout: Format) -> bool:
    """Whether the format's subjects are names of files and folders, in which its option subject finds the patient."""
    return layout.kind != "table" and "subject" in layout.options


def shared_by(found: Scan) -> SharedNames | None:
    """What the ids of several subjects share beside a date, a side or a visit; those with sessions are not compared."""
    samples = Samples.of(found.samples)
    if not len(samples.sessions.buffer):
        return shared_names(samples.subjects)
    return shared_names([subject for subject, session in samples.each_key() if not session])


def unclear(thing: str, layout: Format, found: Scan) -> Iterator[DataIssue]:
    """A warning each if ids differ in their spelling only and, where ids are not names of files, if they share all but
    a visit: of names a person is asked when they add the dataset."""
    spelling = spelling_issue(thing, Samples.of(found.samples).subjects)
    if spelling is not None:
        yield spelling
    shared = None if finds_in_names(layout) else shared_by(found)
    if shared is not None:
        cause = f"{shared.names} subject ids share all but {shared.apart} ({' and '.join(shared.examples)})"
        remedy = "if they are one patient's, give the patient's id as the subject; else nothing is to be done"
        yield DataIssue(thing=thing, cause=cause, remedy=remedy, severity="warning")
