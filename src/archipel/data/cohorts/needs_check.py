"""Whether a dataset has what a plan needs, need by need: met, met by the site's mapping, or not met and why.

Pure: it reads the dataset's schema and never a file, so that it answers before anything is approved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from archipel.data.cohorts.answers import Answer, Verdict
from archipel.data.cohorts.mapping import ColumnMapping, DataMapping
from archipel.data.cohorts.value_ranges import check_values, unknown_inputs
from archipel.data.samples import ColumnSummary, DataSchema
from archipel.data.volumes import as_option, same_name
from archipel.vocabulary import ColumnNeed, DataNeeds
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.visible import escape_hidden, quote_name

_SHOWN = 8
"""Names that a sentence lists."""


def check_needs(needs: DataNeeds, schema: DataSchema, mapping: DataMapping) -> tuple[Answer, ...]:
    """One answer for each need, in the order kind, subjects, modalities, values, labels, columns, target."""
    kind = f"data of kind {needs.kind}"
    if schema.kind != needs.kind:
        return (Answer(need=kind, verdict=Verdict.NOT_MET, why=f"the dataset is of kind {schema.kind}"),)
    incomplete = _incomplete(needs, schema, mapping)
    without = needs.kind == "arrays" and needs.target is None and bool(schema.arrays) and "y" not in schema.arrays
    note = "the plan names no classes, so it gets x without y" if without else ""
    answers = [Answer(need=kind, verdict=Verdict.MET, why=note), _subjects(needs, schema, incomplete)]
    answers += [_modality(asked, schema, mapping) for asked in needs.images]
    answers += check_values(needs, schema, mapping)
    if needs.labels:
        answers += _labels(needs, schema, mapping)
    answers += [_column(column, schema, mapping, needs.target) for column in needs.all_columns]
    return tuple(answers)


def unmatched_names(mapping: DataMapping, schema: DataSchema) -> tuple[str, ...]:
    """Names in a mapping that the dataset does not have: a typing error, or a name that other datasets have. A dataset
    that was not counted has no answers.
    """
    if not schema.samples:
        return ()
    unmatched = []
    for stored in sorted(mapping.labels, key=int):
        if schema.kind == "volumes" and stored != "0" and stored not in schema.label_values:
            unmatched.append(f"labels.{stored}: no sample has value {stored} (there: {_those(schema.label_values)})")
    held = {str(mapping.label_value(int(stored))) for stored in schema.label_values} | {"0"}
    for value, name in sorted(mapping.label_names.items(), key=lambda item: int(item[0])):
        if schema.kind == "volumes" and value not in held:
            there = _those(sorted(held - {"0"}, key=int))
            unmatched.append(f"label_names.{value} {name}: no sample has value {value} (there: {there})")
    for asked, modality in sorted(mapping.modalities.items()):
        if modality not in schema.modalities:
            unmatched.append(
                f"modalities.{asked}: the dataset has no image {modality} (there: {_those(schema.modalities)})"
            )
    unmatched += unknown_inputs(mapping, schema)
    for asked in sorted(mapping.columns):
        source = mapping.stored_column(asked)
        if source not in schema.columns:
            unmatched.append(f"columns.{asked}: the dataset has no column {source} (there: {_those(schema.columns)})")
    return tuple(unmatched)


def _those(names: Iterable[str]) -> str:
    held = list(names)
    return ", ".join(held[:_SHOWN]) + (f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else "") or "none"


def _incomplete(needs: DataNeeds, schema: DataSchema, mapping: DataMapping) -> int:
    """How many samples are left out because they lack a column; 0 unless the mapping drops them."""
    if not mapping.drop_incomplete:
        return 0
    asked = mapping.required_columns(needs)
    if schema.gaps:
        return sum(gap.samples for gap in schema.gaps if asked & set(gap.columns))
    # Beside volumes there is only the target.
    return sum(found.missing for name, found in schema.columns.items() if name in asked)


def _subjects(needs: DataNeeds, schema: DataSchema, incomplete: int) -> Answer:
    need = f"at least {pluralise(needs.minimum_subjects, 'subject')}"
    # Each sample that is left out may be a subject's only one.
    left = schema.subjects - incomplete
    verdict = Verdict.MET if left >= needs.minimum_subjects else Verdict.NOT_MET
    if incomplete:
        why = f"{incomplete} of {schema.samples} samples lack a column and are left out"
        return Answer(need=need, verdict=verdict if verdict is Verdict.NOT_MET else Verdict.MAPPED, why=why)
    return Answer(need=need, verdict=verdict, why="" if verdict is Verdict.MET else f"it has {schema.subjects}")


def _modality(asked: str, schema: DataSchema, mapping: DataMapping) -> Answer:
    need, stored = "an image" if asked == "image" else f"image {asked}", mapping.stored_modality(asked)
    samples = schema.modalities.get(stored, 0)
    if not samples:
        known = ", ".join(schema.modalities) or "none"
        why = f"the dataset has {known}; map one of them with modalities.{asked}"
        return Answer(need=need, verdict=Verdict.NOT_MET, why=why)
    if samples < schema.samples:
        without = schema.samples - samples
        why = f"{without} of {schema.samples} samples have no {stored}; leave them out or add the files"
        return Answer(need=need, verdict=Verdict.NOT_MET, why=why)
    if stored != asked:
        return Answer(need=need, verdict=Verdict.MAPPED, why=f"from {stored}")
    return Answer(need=need, verdict=Verdict.MET)


def _labels(needs: DataNeeds, schema: DataSchema, mapping: DataMapping) -> list[Answer]:
    stored = [int(value) for value in schema.label_values]
    if not stored:
        return [Answer(need="labels", verdict=Verdict.NOT_MET, why="the dataset has no label volumes")]
    described = {int(value): name for value, name in schema.label_names.items()}
    answers = []
    for value, name in sorted(needs.labels.items(), key=lambda item: int(item[0])):
        verdict, why = _label(value, name, stored, described, mapping)
        answers.append(Answer(need=f"label {value} {quote_name(name)}", verdict=verdict, why=why))
    known = {0, *map(int, needs.labels)}
    strange = [one for one in stored if mapping.label_value(one) not in known]
    if strange:
        which = _named(strange, described)
        why = f"the dataset also has {which}; map them to a value the plan knows, or drop them"
        answers.append(Answer(need="no other label values", verdict=Verdict.NOT_MET, why=why))
    return answers


def _label(
    value: str, name: str, stored: Sequence[int], described: Mapping[int, str], mapping: DataMapping
) -> tuple[Verdict, str]:
    """A name in the mapping counts; without one, the dataset's own description is used."""
    sources = [one for one in stored if mapping.label_value(one) == int(value)]
    own = mapping.label_names.get(value)
    names = {one: mapping.label_names.get(str(mapping.label_value(one)), described.get(one, "")) for one in stored}
    elsewhere = [one for one in stored if one not in sources and same_name(names[one], name)]
    advice = f"; map it with labels.{elsewhere[0]} = {value}" if elsewhere else ""
    if own is not None and not same_name(own, name):
        there = f", and {elsewhere[0]} {quote_name(name)}" if elsewhere else ""
        return Verdict.NOT_MET, f"value {value} is {own} here{there}{advice or '; map it'}"
    if not sources:
        has = f"calls {_named(elsewhere[:1], names)}" if elsewhere else f"has {_named(stored, described)}"
        return Verdict.NOT_MET, f"no sample has value {value}; the dataset {has}{advice}"
    settled = own is not None or any(str(one) in mapping.labels or same_name(names[one], name) for one in sources)
    if elsewhere and not settled:
        which = " and ".join(_named([one], names) for one in (*sources, elsewhere[0]) if names[one])
        return Verdict.NOT_MET, f"the dataset calls {which}{advice}"
    if sources != [int(value)]:
        return Verdict.MAPPED, f"from value {_named(sources, described)}"
    called = "" if settled else names[int(value)]
    return Verdict.MET, f"the dataset calls it {called}" if called else ""


def _named(values: Sequence[int], names: Mapping[int, str]) -> str:
    """Label values, each with its name where there is one."""
    return ", ".join(f"{one} {names.get(one, '')}".rstrip() for one in values)


def _column(column: ColumnNeed, schema: DataSchema, mapping: DataMapping, target: ColumnNeed | None) -> Answer:
    unit = f" in {quote_name(column.unit)}" if column.unit else ""
    need = f"column {column.name}{unit}"
    rule = mapping.columns.get(column.name)
    source = mapping.stored_column(column.name)
    summary = schema.columns.get(source)
    if summary is None:
        known = ", ".join(schema.columns) or "none"
        why = f"the dataset has {known}; map one of them with columns.{column.name}"
        if column.is_category and "y" in schema.arrays:
            example = escape_hidden(as_option(column.categories[:_SHOWN]))
            why = (
                "the y of the dataset has numbers without names; remove the dataset and add it again with the names of "
                f"its own 0, 1, ... in this order, for example --option classes={example}"
            )
        return Answer(need=need, verdict=Verdict.NOT_MET, why=why)
    why = _column_fault(column, summary, mapping, source)
    if why:
        return Answer(need=need, verdict=Verdict.NOT_MET, why=why)
    notes = [f"from {source}"] if source != column.name else []
    if summary.missing:
        filled = mapping.fills(column.name)
        notes.append(f"{summary.missing} {f'filled with {rule.fill}' if rule and filled else 'left out'}")
    if summary.limits:
        notes.append(f"{pluralise(summary.limits, 'value')} of {source} are limits, given as the limit itself")
    verdict = Verdict.MAPPED if rule or notes else Verdict.MET
    if column.unit and not summary.unit and not _is_converted(rule):
        notes.append("the dataset does not say its unit")
    if column is target and column.is_category:
        # Fine for a site: its samples get the numbers of the classes that they have.
        lacking = [name for name in column.categories if name not in _categories(column, summary, mapping, source)]
        notes += [f"no sample is {' or '.join(map(quote_name, lacking))}"] if lacking else []
    return Answer(need=need, verdict=verdict, why=", ".join(notes))


def _is_converted(rule: ColumnMapping | None) -> bool:
    return rule is not None and (rule.scale != 1.0 or rule.offset != 0.0)


def _categories(column: ColumnNeed, summary: ColumnSummary, mapping: DataMapping, source: str) -> set[str]:
    """The categories that occur, as plans get them."""
    values = {str(mapping.value(column.name, {source: value})) for value in summary.categories}
    rule = mapping.columns.get(column.name)
    if summary.missing and rule and rule.fill is not None:
        values.add(str(rule.fill))
    return values


def _column_fault(column: ColumnNeed, summary: ColumnSummary, mapping: DataMapping, source: str) -> str:
    rule = mapping.columns.get(column.name)
    if summary.missing and not (mapping.fills(column.name) or mapping.drop_incomplete):
        return (
            f"{summary.missing} samples have no {source}; fill them with columns.{column.name}.fill, leave them out "
            "with drop_incomplete, or add the values"
        )
    if column.is_category:
        strange = sorted(_categories(column, summary, mapping, source) - set(column.categories))
        if strange:
            option, known = summary.chosen_by, ", ".join(map(quote_name, column.categories))
            apart = f", or add the dataset with the option {option} and the folders to read" if option else ""
            return (
                f"it has {', '.join(strange)}; the plan knows {known}: map the values with "
                f"columns.{column.name}.values{apart}"
            )
        return ""
    if rule and isinstance(rule.fill, str):
        return f"columns.{column.name}.fill is {rule.fill}; the plan needs numbers"
    if summary.type not in ("number", "censored") and not (rule and rule.values):
        return f"{source} is of type {summary.type}; the plan needs numbers"
    if column.unit and summary.unit and column.unit != summary.unit and not _is_converted(rule):
        return f"{source} is in {summary.unit}; give scale and offset in the mapping"
    return ""
