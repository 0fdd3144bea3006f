"""A dataset in words: what it holds in one line or in full, what is told of it outside, and what is wrong with it.

Everything here is made for reading, a thing a line; programs read the JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from archipel.cli.site_terminal import console, print_table
from archipel.vocabulary import BadInput
from archipel.vocabulary.counting import counted, some

LISTED = 6
"""Names of one kind that a line of a list has room for."""
OF_A_KIND = 5
"""Problems with one remedy that are printed when data is refused."""
PROBLEMS = 20
"""Problems that are printed when a dataset was added; its check prints all."""
Summary = Mapping[str, Any]
"""A DataSchema as JSON, without what is at its default."""


def in_short(summary: Summary) -> str:
    """What a dataset holds, in one line."""
    columns = list(summary.get("columns", {}))
    parts = (
        [f"{len(columns)} columns" if len(columns) > LISTED else f"columns {some(columns, LISTED)}"] if columns else []
    )
    return "; ".join([*_beside_columns(summary, LISTED), *parts])


def in_full(summary: Summary) -> list[str]:
    """What a dataset holds, each column on a line of its own."""
    lines = _beside_columns(summary, None)
    lines += [f"column {name}: {_column(column)}" for name, column in summary.get("columns", {}).items()]
    for gap in summary.get("gaps", ()):
        lines.append(f"{gap['samples']} samples lack {some(gap['columns'], None)}")
    return lines


def _beside_columns(summary: Summary, most: int | None) -> list[str]:
    samples = summary.get("samples", 0)
    lines = []
    if images := summary.get("modalities"):
        lines.append("images " + some((_of(name, count, samples) for name, count in images.items()), most))
    if values := summary.get("label_values"):
        names = summary.get("label_names", {})
        told = (_of(f"{value} {names.get(value, '')}".rstrip(), count, samples) for value, count in values.items())
        lines.append("labels " + some(told, most))
    if smallest := summary.get("shape_smallest"):
        largest = summary.get("shape_largest", smallest)
        lines.append(_by(smallest) + (f" to {_by(largest)}" if largest != smallest else "") + " voxels")
    if spacing := summary.get("spacing_mm_median"):
        lines.append(f"{_by(spacing)} mm")
    if arrays := summary.get("arrays"):
        lines.append("arrays " + some((f"{name} {what}" for name, what in arrays.items()), most))
    return lines


def _of(name: str, count: int, samples: int) -> str:
    """A name, and how many samples have it where not all do."""
    return f"{name} (in {count} of {samples})" if count < samples else name


def _by(sizes: Iterable[float]) -> str:
    return " x ".join(f"{size:g}" for size in sizes)


def _column(column: Mapping[str, Any]) -> str:
    words = str(column["type"]) + (f" in {column['unit']}" if column.get("unit") else "")
    if column.get("minimum") is not None:
        words += f", {column['minimum']:g} to {column['maximum']:g}"
    if categories := column.get("categories"):
        words += ": " + some((f"{name} ({count})" for name, count in categories.items()), None)
    if column.get("missing"):
        codes = some((f"{code} ({count})" for code, count in column.get("missing_codes", {}).items()), None)
        words += f"; {column['missing']} missing" + (f" (codes: {codes})" if codes else "")
    return words


def outside(told: Mapping[str, Any]) -> list[str]:
    """All that is told outside of a dataset."""
    lines = [f"told outside: name {told['name']}, kind {told['kind']}, subjects {told['subjects']}"]
    if told["labels"]:
        lines.append("  labels " + some((f"{value} {name}" for value, name in told["labels"].items()), None))
    if told["modalities"]:
        lines.append("  images " + some(told["modalities"], None))
    for column in told["columns"]:
        unit = f" in {column['unit']}" if column["unit"] else ""
        categories = f": {some(column['categories'], None)}" if column["categories"] else ""
        lines.append(f"  column {column['name']}{unit}{categories}")
    return lines


def mapped(mapping: Mapping[str, Any]) -> list[str]:
    """A mapping, given as JSON without what is at its default; one line says that there is none."""
    lines = []
    if labels := mapping.get("labels"):
        lines.append("  labels " + some((f"{stored} becomes {value}" for stored, value in labels.items()), None))
    if mapping.get("drop_other_labels"):
        lines.append("  other labels become 0")
    if names := mapping.get("label_names"):
        lines.append("  labels are called " + some((f"{value} {name}" for value, name in names.items()), None))
    if images := mapping.get("modalities"):
        lines.append("  images " + some((f"{asked} is {stored}" for asked, stored in images.items()), None))
    lines += [f"  column {name}: {_rule(name, rule)}" for name, rule in mapping.get("columns", {}).items()]
    if mapping.get("drop_incomplete"):
        lines.append("  samples that lack a column are left out")
    if mapping.get("orientation"):
        lines.append(f"  volumes are turned to {mapping['orientation']}")
    return ["mapping:", *lines] if lines else ["mapping: none"]


def _rule(name: str, rule: Mapping[str, Any]) -> str:
    words = [f"from {rule.get('source') or name}"]
    if "scale" in rule:
        words.append(f"times {rule['scale']:g}")
    if "offset" in rule:
        words.append(f"plus {rule['offset']:g}")
    if rule.get("values"):
        words.append("with " + some((f"{stored} = {value}" for stored, value in rule["values"].items()), None))
    if rule.get("fill") is not None:
        words.append(f"{rule['fill']} where it is missing")
    return ", ".join(words)


def options(asked: Mapping[str, str]) -> str:
    """A format's options; a data dictionary, which is taken in with its whole text, is only named."""
    return some((f"{name}={'(taken in)' if text.startswith('{') else text}" for name, text in asked.items()), None)


def print_problems(
    screen: Console, problems: Iterable[Any], most: int | None = None, of_a_kind: int | None = None
) -> None:
    """Print problems case by case, those of the dataset as a whole first; of more than ``most`` only the first.

    Of those with one remedy ``of_a_kind`` are printed, and how many more there are.
    """
    from archipel.site.approval.explanation import shown

    ordered = sorted(problems, key=lambda problem: problem.subject)
    kinds: Counter[tuple[str, str]] = Counter()
    for problem in ordered[:most]:
        kind = " (warning)" if problem.severity == "warning" else "", problem.remedy
        kinds[kind] += 1
        if of_a_kind is None or kinds[kind] <= of_a_kind:
            screen.print(f"- {shown(str(problem))}{kind[0]}")
    for (warning, remedy), count in kinds.items():
        if of_a_kind is not None and count > of_a_kind:
            screen.print(f"- and {count - of_a_kind} more of this kind: {shown(remedy)}{warning}")


def print_found(screen: Console, name: str, problems: Iterable[Any]) -> None:
    """Print what a scan found beside usable data, and where all of it is to be had."""
    found = list(problems)
    if not found:
        return
    errors = [problem for problem in found if problem.severity == "error"]
    # What keeps data out comes first, where not everything is printed.
    print_problems(screen, (errors + [one for one in found if one not in errors])[:PROBLEMS])
    counts = (len(errors), "error", ", left out"), (len(found) - len(errors), "warning", "")
    words = " and ".join(f"{counted(count, what)}{then}" for count, what, then in counts if count)
    shown = f" ({PROBLEMS} are shown)" if len(found) > PROBLEMS else ""
    screen.print(f"{words}{shown}: archipel site dataset check {name}")


@contextmanager
def listing_problems(screen: Console) -> Iterator[None]:
    """Print what is wrong with a dataset before its error is passed on, which then says no problem twice."""
    from archipel.site.datasets.catalog import DatasetProblems

    try:
        yield
    except DatasetProblems as error:
        print_problems(screen, error.problems, of_a_kind=OF_A_KIND)
        count = counted(len(error.problems), "problem")
        raise BadInput(error.thing, f"has {count}", error.remedy, code=error.code) from error


def print_needs(screen: Console, experiment: str, rows: Iterable[Mapping[str, str]]) -> None:
    """Print whether a dataset has what an experiment's plan needs."""
    from archipel.site.approval.explanation import shown

    screen.print(f"needs of {experiment}:")
    for row in rows:
        screen.print(shown(f"- {row['need']}: {row['verdict']}" + (f" ({row['why']})" if row["why"] else "")))


def needs_rows(answers: Any) -> list[dict[str, str]]:
    """The answer for each need, as a program reads it."""
    return [answer.model_dump(mode="json") for answer in answers]


def print_datasets(rows: Any) -> None:
    """Print the catalog."""
    if not rows:
        console().print("no dataset yet; add one with archipel site dataset add NAME PATH")
        return
    read = [
        row
        | {
            "labels": some((f"{value} {label}" for value, label in row["labels"].items()), LISTED),
            "summary": in_short(row["summary"]),
        }
        for row in rows
    ]
    print_table(["name", "format", "kind", "subjects", "labels", "summary"], read)


def dataset_row(entry: Any) -> dict[str, Any]:
    """A dataset as a program reads it."""
    return {
        "name": entry.name,
        "format": entry.format,
        "kind": entry.kind,
        "subjects": entry.subjects,
        "labels": entry.mapping.label_names,
        "summary": entry.summary.model_dump(mode="json", exclude_defaults=True),
    }
