"""What differs between two jobs, one line each, for a person who approved the one and is asked to approve the other.

Every field of a job is compared, also one that this module has no words for; so "nothing else differs" is true.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from archipel.vocabulary import Job, JsonObject, TensorSchema
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.visible import quote, quote_name

MOST_LINES = 40
_LONGEST = 60
_SAID_ELSEWHERE = ("experiment", "initial_model", "lineage")
_COMPARED_APART = ("plan", "tensors", "title", "description")
_FIRST = ("terms", "roster")
_LABELS = {
    "terms.rounds": "rounds",
    "terms.quorum": "quorum",
    "terms.deadline_s": "deadline of a round in seconds",
    "terms.grace_s": "grace period in seconds",
    "terms.retries": "retries",
    "terms.resumes": "resumes",
    "terms.patience": "patience",
    "terms.measurements": "measurements between rounds",
    "roster": "sites",
    "needs": "what the plan needs of the data",
    "metrics": "metrics of training",
    "validation": "metrics of validation",
    "parameters": "values that the researcher may change",
    "arguments": "values at the start",
    "optimiser_state": "the optimiser's state between rounds",
    "validation_fraction": "fraction of held-out subjects",
    "strategy": "strategy",
    "privacy.release": "how updates leave",
    "privacy.steps": "privacy steps",
    "frozen": "the frozen part of the model",
    "local": "the part of the model that stays at each site",
    "selection": "what chooses the best model",
    "baselines": "baselines",
    "limits": "limits",
    "gpu": "what it needs of a GPU",
    "server_key": "the server's key",
}

Texts = Mapping[str, str]
"""The texts of a plan's files by path."""


def differences(before: Job, after: Job, was: Texts | None = None, now: Texts | None = None) -> list[str]:
    """A line for each difference, then one that says what else differs: nothing, or names and the model started from.

    ``was`` and ``now`` are the texts of the plans' files, None where they are not kept here.
    """
    lines = list(_lines(before, after, was, now))
    more = len(lines) - MOST_LINES
    if more > 0:
        return [*lines[:MOST_LINES], f"and {pluralise(more, 'more difference')}"]
    elsewhere = {name: getattr(after, name) for name in _SAID_ELSEWHERE}
    if not lines and before.model_copy(update=elsewhere) != after:
        return ["something differs that this version has no words for"]
    named = ["the experiment's name"] if before.experiment != after.experiment else []
    if (before.initial_model, before.lineage) != (after.initial_model, after.lineage):
        named.append("the model that it starts from")
    but = f" but {' and '.join(named)}" if named else ""
    return [*lines, f"nothing {'else ' if lines else ''}differs{but}"]


def _lines(before: Job, after: Job, was: Texts | None, now: Texts | None) -> Iterator[str]:
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    rest = sorted(old.keys() - {*_SAID_ELSEWHERE, *_COMPARED_APART, *_FIRST})
    for name in _FIRST:
        yield from _compared(name, "", old[name], new[name])
    yield from _of_plan(before, after, was, now)
    yield from _of_tensors(before.tensors, after.tensors)
    for name in rest:
        yield from _compared(name, "", old[name], new[name])
    for name in ("title", "description"):
        if old[name] != new[name]:
            yield f"the {name} changed"


def _compared(path: str, within: str, old: JsonValue, new: JsonValue) -> Iterator[str]:
    """``path`` is the field's, as in ``terms.rounds``, ``within`` what is in it, in words. A line or more where the two
    are not the same.
    """
    if _are_same(old, new):
        return
    are_lists = isinstance(old, list) and isinstance(new, list)
    old, new = _keyed(old), _keyed(new)
    if isinstance(old, dict) and isinstance(new, dict):
        if are_lists and [key for key in old if key in new] != [key for key in new if key in old]:
            yield f"{_label(path)}{within}: in another order"
        for key in sorted({**old, **new}):
            inner, named = (f"{path}.{key}", "") if _is_field(path, key) else (path, f"{within} {quote_name(key)}")
            if key not in old or key not in new:
                yield f"{_label(inner)}:{named or ' ' + quote_name(key)} {'added' if key in new else 'removed'}"
            else:
                yield from _compared(inner, named, old[key], new[key])
        return
    yield f"{_label(path)}{',' if within else ''}{within}: {_shown(old)} -> {_shown(new)}"


def _are_same(old: JsonValue, new: JsonValue) -> bool:
    """Whether both are one JSON value: lists in the same order, and ``true`` is not 1, as it is to Python."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_are_same(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_are_same, old, new))
    return old == new and isinstance(old, bool) == isinstance(new, bool)


def _is_field(path: str, key: str) -> bool:
    return any(label == f"{path}.{key}" or label.startswith(f"{path}.{key}.") for label in _LABELS)


def _label(path: str) -> str:
    return _LABELS.get(path, path)


def _keyed(value: JsonValue) -> JsonValue:
    """A list of records that have names as an object by name, so that a record is compared with that of its name."""
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        return {} if value == [] else value
    key = next((key for key in ("site", "name") if all(key in one for one in value if isinstance(one, dict))), None)
    named: JsonObject = {str(one[key]): one for one in value if isinstance(one, dict) and key is not None}
    return named if len(named) == len(value) else value


def _shown(value: JsonValue) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return f"{value:,}"
        case str():
            return quote_name(value if len(value) <= _LONGEST else f"{value[:_LONGEST]}...")
    if not value:
        return "none"
    text = json.dumps(value, ensure_ascii=False)
    return quote(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def _of_plan(before: Job, after: Job, was: Texts | None, now: Texts | None) -> Iterator[str]:
    old, new = before.plan.files, after.plan.files
    for path in sorted({**old, **new}):
        name = quote_name(path)
        if path not in old or path not in new:
            yield f"plan file {name} {'added' if path in new else 'removed'}"
        elif old[path] != new[path]:
            yield f"plan file {name} changed: {_changed_lines(path, was, now)}"
    for what, one, other in (
        ("plan class", before.plan.class_name, after.plan.class_name),
        ("file with the plan class", before.plan.entry, after.plan.entry),
    ):
        if one != other:
            yield f"{what}: {quote_name(one)} -> {quote_name(other)}"
    imported, imports = set(before.plan.packages), set(after.plan.packages)
    for package in sorted(imported ^ imports):
        yield f"packages of the plan: {quote_name(package)} {'added' if package in imports else 'removed'}"


def _changed_lines(path: str, was: Texts | None, now: Texts | None) -> str:
    """How many lines are in the one text only. They are counted, not matched: that takes no more time for any text."""
    if was is None or now is None:
        return "one of the two texts is not here"
    old, new = Counter(was[path].split("\n")), Counter(now[path].split("\n"))
    gone, come = (old - new).total(), (new - old).total()
    if not gone and not come:
        return "the same lines in another order"
    return f"{pluralise(come, 'line')} added, {pluralise(gone, 'line')} removed"


def _of_tensors(before: TensorSchema, after: TensorSchema) -> Iterator[str]:
    if before == after:
        return
    old, new = ({spec.name: spec for spec in schema.tensors} for schema in (before, after))
    counts = {
        "added": len(new.keys() - old.keys()),
        "removed": len(old.keys() - new.keys()),
        "with another type or shape": sum(old[name] != new[name] for name in old.keys() & new.keys()),
    }
    changed = ", ".join(f"{pluralise(count, 'tensor')} {what}" for what, count in counts.items() if count)
    yield f"the model's tensors: {changed or 'in another order'} ({before.nbytes:,} -> {after.nbytes:,} bytes)"
