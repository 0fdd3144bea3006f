"""Names that share all but a date, a side or a visit: whether several names are one patient's, and the patterns that
say whose they are.

Each name would count as a patient of its own otherwise, and one patient's visits could both train and validate.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

_DATE = (
    r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:t?\d{4}|t?\d{6})?"
    r"|(?:19|20)\d\d[-.](?:0[1-9]|1[0-2])[-.](?:0[1-9]|[12]\d|3[01])"
)
_SIDE = r"l|r|left|right|lh|rh|lt|rt|od|os|li|re|links|rechts"
_VISIT = (
    r"(?:v|visit|ses|session|scan|exam|tp|timepoint|time|run|mr|ct|day|d|week|wk|w|month|mo|m|year|yr|y|"
    r"frame|phase|slice)-?\d{1,4}|(?:baseline|bl|fu|followup|pre|post|preop|postop|screening)-?\d{0,3}"
)
_KINDS = (("a date", _DATE), ("a side", _SIDE), ("a visit", _VISIT))
_BETWEEN = rf"(?:^|[_\-. ]+)(?:{_DATE}|{_SIDE}|{_VISIT})(?=$|[_\-. ])"
_PART = re.compile(_BETWEEN, re.IGNORECASE)
_IN_A_LINE = re.compile(_BETWEEN, re.IGNORECASE | re.MULTILINE)
_TOGETHER = 4_096
"""Names that are searched as one text."""
_DATED = re.compile(rf"(?:^|[_\-. ])(?:{_DATE})(?=$|[_\-. ])")
_NOBODY = frozenset(("", "sub", "subject", "patient", "case", "p", "image", "img", "scan", "volume"))
_SEPARATORS = "_- ."


class SharedNames(NamedTuple):
    """Names that may be one patient's, and what tells them apart.

    ``examples`` are names of one of the ``patients``, ``names`` how many names there are, ``apart`` by what they
    differ. ``subject`` and ``session`` are patterns that find the patient and the visit in every name; "" where no
    simple pattern does.
    """

    examples: tuple[str, ...]
    names: int
    patients: int
    apart: str
    subject: str
    session: str


def without_visits(name: str) -> str:
    """A name without its dates, sides and visits; "" when nothing else is left.

    >>> without_visits("P00_20200101"), without_visits("R_P00.ses-2"), without_visits("IXI012-HH-1211")
    ('P00', 'P00', 'IXI012-HH-1211')
    """
    return _PART.sub("", name).strip(_SEPARATORS)


def shared_names(names: Sequence[str]) -> SharedNames | None:
    """What several of the names share beside dates, sides and visits; None when each name is a patient's own.

    A name may be there several times.

    >>> shared_names(["P00_L", "P00_R", "P01_L"])
    SharedNames(examples=('P00_L', 'P00_R'), names=3, patients=2, apart='a side', subject='^[^_]+', session='[^_]+$')
    """
    # Most datasets have no such name: a million ids are then neither copied nor sorted.
    if not any(_IN_A_LINE.search("\n".join(names[at : at + _TOGETHER])) for at in range(0, len(names), _TOGETHER)):
        return None
    bases = {name: without_visits(name) for name in sorted(set(names))}
    people: dict[str, list[str]] = defaultdict(list)
    for name, base in bases.items():
        people[base].append(name)
    several = {base: held for base, held in people.items() if len(held) > 1 and base.lower() not in _NOBODY}
    # A study's name before m1 and m2 is not a patient's: of a single patient only dates are a sign.
    if not several or (len(people) == 1 and not any(map(_DATED.search, bases))):
        return None
    examples = sorted(next(iter(sorted(several.items())))[1])
    apart = _apart(held for held in several.values())
    subject = next((one for one in _subject_patterns(bases) if _tells_apart(one, bases)), "")
    session = next((one for one in _session_patterns(bases) if _is_unique(one, bases)), "") if subject else ""
    return SharedNames(tuple(examples[:3]), len(bases), len(people), apart, subject, session)


def _apart(groups: Iterator[list[str]]) -> str:
    words = [part.strip(_SEPARATORS) for names in groups for name in names for part in _PART.findall(name)]
    kinds = [kind for kind, form in _KINDS if any(re.fullmatch(form, word, re.IGNORECASE) for word in words)]
    return " and ".join(kinds)


def _subject_patterns(bases: dict[str, str]) -> Iterator[str]:
    for part, between in _parts_of(bases):
        yield from (f"^{part}{f'{between}{part}' * more}" for more in range(4))
        yield f"^(.+){between}{part}$"
        yield f"{part}$"
        yield f"{part}{between}{part}$"
    ends = sorted({name.removeprefix(base) for name, base in bases.items() if name.startswith(base) and name != base})
    if len(ends) <= 10:
        yield f"^(.+?)(?:{'|'.join(map(re.escape, ends))})?$"


def _session_patterns(bases: dict[str, str]) -> Iterator[str]:
    for part, between in _parts_of(bases):
        yield f"{part}$"
        yield f"^{part}"
        yield from (f"^{f'{part}{between}' * before}({part})" for before in (1, 2, 3))
    yield ".+"


def _parts_of(bases: dict[str, str]) -> Iterator[tuple[str, str]]:
    """For each separator in the names the pattern of a part between two of them, and of the separator."""
    for letter in _SEPARATORS:
        if any(letter in name for name in bases):
            yield f"[^{letter}]+", re.escape(letter) if letter == "." else letter


def _finder(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def found(name: str) -> str:
        match = compiled.search(name)
        return (match[1 if compiled.groups else 0] or "") if match else ""

    return found


def _tells_apart(pattern: str, bases: dict[str, str]) -> bool:
    """Whether the pattern finds one text for the names of one patient, and another for each patient."""
    find = _finder(pattern)
    pairs = {(find(name), base) for name, base in bases.items()}
    texts = {text for text, _ in pairs}
    return "" not in texts and len(texts) == len(pairs) == len({base for _, base in pairs})


def _is_unique(pattern: str, bases: dict[str, str]) -> bool:
    """Whether the pattern finds another text for each name of a patient."""
    find = _finder(pattern)
    return "" not in map(find, bases) and len({(find(name), base) for name, base in bases.items()}) == len(bases)
