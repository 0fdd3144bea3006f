"""Names of files that may be visits of one patient: a person says whose they are before the dataset is added."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from archipel.data import Scan
from archipel.data.formats import finds_in_names, format_named, shared_by
from archipel.vocabulary import BadInput, ErrorCode

EACH_NAME = {"subject": ".+"}
"""The option by which each name is a patient."""


class UnclearPatients(BadInput):
    """Names share all but a date, a side or a visit. ``as_visits`` are the options by which they are one patient's,
    empty where no simple pattern fits; ``as_patients`` those by which each name is a patient."""

    code = ErrorCode.BAD_DATA

    def __init__(self, dataset: str, cause: str, as_visits: Mapping[str, str]) -> None:
        self.as_visits, self.as_patients = dict(as_visits), EACH_NAME
        visits = _typed(as_visits) if as_visits else "--option subject=PATTERN, which finds the patient in each name"
        remedy = f"if they are one patient's, add {visits}; if each name is a patient, add {_typed(EACH_NAME)}"
        super().__init__(f"dataset {dataset}", cause, remedy, values={"dataset": dataset, **as_visits})


def _typed(options: Mapping[str, str]) -> str:
    return " ".join(f"--option {shlex.quote(f'{name}={value}')}" for name, value in options.items())


def check(dataset: str, layout: str, options: Mapping[str, str], found: Scan) -> None:
    """Raise UnclearPatients where names may be visits of one patient and no option says whose they are."""
    form = format_named(layout)
    if "subject" in options or not finds_in_names(form):
        return
    shared = shared_by(found)
    if shared is None:
        return
    cause = f"has {shared.names} names that share all but {shared.apart} ({' and '.join(shared.examples)})"
    patterns = {"subject": shared.subject, "session": shared.session} if shared.subject else {}
    raise UnclearPatients(dataset, cause, {name: text for name, text in patterns.items() if name in form.options})
