"""A dataset in words: its content in one line or in full, what the site discloses about it, and what is wrong with it.

Everything here is made for reading, one thing per line; programs read the JSON.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from archipel.cli.rows import Lines
from archipel.cli.site_terminal import Screen, console, print_table
from archipel.vocabulary import BadInput
from archipel.vocabulary.counting import abbreviate, pluralise
from archipel.vocabulary.visible import escape_hidden, escape_hidden_lines

if TYPE_CHECKING:
    from archipel.data import Answer, ColumnMapping, ColumnSummary, DataIssue, DataMapping, DataSchema
    from archipel.site.datasets import DetectedFormat
    from archipel.site.services import DatasetRow, FolderExtent
    from archipel.transport import DatasetSummary

LISTED = 6
"""Names of one kind that fit into a line of a list."""
OF_A_KIND = 5
"""Problems with one remedy that are printed when data is refused."""
PROBLEMS = 20
"""Problems that are printed when a dataset was added; its check prints all."""


def short_summary(summary: DataSchema) -> str:
    """What a dataset holds, in one line."""
    columns = list(summary.columns)
    parts = (
        [f"{len(columns)} columns" if len(columns) > LISTED else f"columns {abbreviate(columns, LISTED)}"]
        if columns
        else []
    )
    return "; ".join([*_beside_columns(summary, LISTED), *parts])


def summary_lines(summary: DataSchema) -> list[str]:
    """What a dataset holds, each column on a line of its own."""
    lines = _beside_columns(summary, None)
    lines += [f"values of {name}: {one.minimum:.6g} to {one.maximum:.6g}" for name, one in summary.values.items()]
    lines += [f"column {name}: {_column(column)}" for name, column in summary.columns.items()]
    lines += [f"{gap.samples} samples lack {abbreviate(gap.columns, None)}" for gap in summary.gaps]
    return lines


def _beside_columns(summary: DataSchema, most: int | None) -> list[str]:
    samples = summary.samples
    lines = []
    if images := summary.modalities:
        lines.append("images " + abbreviate((_of(name, count, samples) for name, count in images.items()), most))
    if values := summary.label_values:
        names = summary.label_names
        shown = (_of(f"{value} {names.get(value, '')}".rstrip(), count, samples) for value, count in values.items())
        lines.append("labels " + abbreviate(shown, most))
    if smallest := summary.shape_smallest:
        largest = summary.shape_largest or smallest
        lines.append(_by(smallest) + (f" to {_by(largest)}" if largest != smallest else "") + " voxels")
    if spacing := summary.spacing_mm_median:
        lines.append(f"{_by(spacing)} mm")
    if arrays := summary.arrays:
        lines.append("arrays " + abbreviate((f"{name} {what}" for name, what in arrays.items()), most))
    return lines


def _of(name: str, count: int, samples: int) -> str:
    """A name, and how many samples have it where not all do."""
    return f"{name} (in {count} of {samples})" if count < samples else name


def _by(sizes: Iterable[float]) -> str:
    return " x ".join(f"{size:g}" for size in sizes)


def _column(column: ColumnSummary) -> str:
    words = column.type + (f" in {column.unit}" if column.unit else "")
    if column.minimum is not None:
        words += f", {column.minimum:g} to {column.maximum:g}"
    if column.categories:
        words += ": " + abbreviate((f"{name} ({count})" for name, count in column.categories.items()), None)
    if column.missing:
        codes = abbreviate((f"{code} ({count})" for code, count in column.missing_codes.items()), None)
        words += f"; {column.missing} missing" + (f" (codes: {codes})" if codes else "")
    return words


def disclosed_lines(summary: DatasetSummary) -> list[str]:
    """All that the site discloses about a dataset."""
    lines = [f"disclosed: name {summary.name}, kind {summary.kind}, subjects {summary.subjects}"]
    if summary.labels:
        lines.append("  labels " + abbreviate((f"{value} {name}" for value, name in summary.labels.items()), None))
    if summary.modalities:
        lines.append("  images " + abbreviate(summary.modalities, None))
    if summary.values:
        shown = (f"{name}: {values}" for name, values in summary.values.items())
        lines.append("  values of " + abbreviate(shown, None))
    for column in summary.columns:
        unit = f" in {column.unit}" if column.unit else ""
        categories = f": {abbreviate(column.categories, None)}" if column.categories else ""
        lines.append(f"  column {column.name}{unit}{categories}")
    return lines


def mapping_lines(mapping: DataMapping) -> list[str]:
    """A mapping without what is at its default; one line says that there is none."""
    lines = []
    if labels := mapping.labels:
        lines.append("  labels " + abbreviate((f"{stored} becomes {value}" for stored, value in labels.items()), None))
    if mapping.drop_other_labels:
        lines.append("  other labels become 0")
    if names := mapping.label_names:
        lines.append("  labels are called " + abbreviate((f"{value} {name}" for value, name in names.items()), None))
    if images := mapping.modalities:
        lines.append("  images " + abbreviate((f"{asked} is {stored}" for asked, stored in images.items()), None))
    lines += [f"  values of {name} are {scale}" for name, scale in mapping.values.items()]
    lines += [f"  column {name}: {_rule(name, rule)}" for name, rule in mapping.columns.items()]
    if mapping.drop_incomplete:
        lines.append("  samples that lack a column are left out")
    if mapping.orientation:
        lines.append(f"  volumes are reoriented to {mapping.orientation}")
    return ["mapping:", *lines] if lines else ["mapping: none"]


def _rule(name: str, rule: ColumnMapping) -> str:
    words = [f"from {rule.source or name}"]
    if rule.scale != 1:
        words.append(f"times {rule.scale:g}")
    if rule.offset != 0:
        words.append(f"plus {rule.offset:g}")
    if rule.values:
        words.append("with " + abbreviate((f"{stored} = {value}" for stored, value in rule.values.items()), None))
    if rule.fill is not None:
        words.append(f"{rule.fill} where it is missing")
    return ", ".join(words)


def options(asked: Mapping[str, str]) -> str:
    """A format's options; a data dictionary, which is taken in with its whole text, is only named."""
    return abbreviate(
        (f"{name}={'(stored with the dataset)' if text.startswith('{') else text}" for name, text in asked.items()),
        None,
    )


def joined(problems: Sequence[DataIssue], shown: int) -> list[DataIssue]:
    """Problems of one cause and one remedy as one, which names the first ``shown`` things."""
    groups: dict[tuple[str, str, str], list[DataIssue]] = {}
    for problem in problems:
        groups.setdefault((problem.severity, problem.cause, problem.remedy), []).append(problem)
    return [
        group[0].model_copy(update={"thing": abbreviate((one.thing for one in group), shown)})
        for group in groups.values()
    ]


def print_problems(
    screen: Screen, problems: Iterable[DataIssue], most: int | None = None, of_a_kind: int | None = None
) -> None:
    """Print problems case by case, those of the dataset as a whole first; of more than ``most`` only the first.

    Of those with one remedy ``of_a_kind`` are printed, and how many more there are; those with one cause as well are
    one line.
    """

    ordered = sorted(problems, key=lambda problem: problem.subject)
    if of_a_kind is not None:
        ordered = joined(ordered, of_a_kind)
    kinds: Counter[tuple[str, str]] = Counter()
    for problem in ordered[:most]:
        kind = " (warning)" if problem.severity == "warning" else "", problem.remedy
        kinds[kind] += 1
        if of_a_kind is None or kinds[kind] <= of_a_kind:
            screen.print(f"- {escape_hidden_lines(str(problem))}{kind[0]}")
    for (warning, remedy), count in kinds.items():
        if of_a_kind is not None and count > of_a_kind:
            screen.print(f"- and {count - of_a_kind} more of this kind: {escape_hidden_lines(remedy)}{warning}")


def print_scan_problems(screen: Screen, name: str, problems: Iterable[DataIssue]) -> None:
    """Print what a scan found beside usable data, and the command that prints all of it."""
    issues = list(problems)
    if not issues:
        return
    errors = [problem for problem in issues if problem.severity == "error"]
    # Errors that leave data out come first if not everything is printed.
    lines = joined(errors + [issue for issue in issues if issue not in errors], OF_A_KIND)
    print_problems(screen, lines[:PROBLEMS])
    counts = (len(errors), "error", ", left out"), (len(issues) - len(errors), "warning", "")
    words = " and ".join(f"{pluralise(count, what)}{then}" for count, what, then in counts if count)
    shown = f" ({PROBLEMS} are shown)" if len(lines) > PROBLEMS else ""
    screen.print(f"{words}{shown}: archipel site dataset check {name}")
    if any("--option" in issue.remedy for issue in issues):
        screen.print(f"to choose an option: archipel site dataset remove {name}, then add it again with the option")


def print_how_to_leave_out(screen: Screen, name: str, problems: Iterable[DataIssue]) -> None:
    """Print the command that leaves out the subjects of some problems of a dataset that was added."""
    faulty = sorted({problem.subject for problem in problems if problem.subject})
    if faulty:
        shown = " ".join(map(shlex.quote, faulty[:LISTED])) + (" ..." if len(faulty) > LISTED else "")
        words = f"to leave subjects out: archipel site dataset exclude {name} {shown}"
        screen.print(escape_hidden_lines(words))


def describe_extent(extent: FolderExtent) -> str:
    """The size of a folder in words."""
    return f"{pluralise(extent.files, 'file')} ({extent.size_bytes / 2**20:.0f} MiB)"


def print_detected(screen: Screen, detected: DetectedFormat | None) -> None:
    """Print the detected format, if none was named."""
    if detected is not None:
        also = f"; it could also be {', '.join(detected.others)}" if detected.others else ""
        screen.print(f"format {detected.format}: {detected.reason}{also}")


@contextmanager
def listing_problems(screen: Screen) -> Iterator[None]:
    """Print what is wrong with a dataset before its error is passed on, so that no problem is printed twice."""
    from archipel.site.datasets import DatasetProblems

    try:
        yield
    except DatasetProblems as error:
        print_detected(screen, error.detected)
        print_problems(screen, error.problems, of_a_kind=OF_A_KIND)
        count = pluralise(len(error.problems), "problem")
        raise BadInput(
            error.thing, f"has {count}", error.remedy, code=error.code, values=error.values, command=error.command
        ) from error


def print_needs(screen: Screen, experiment: str, answers: Iterable[Answer]) -> None:
    """Print whether a dataset has what an experiment's plan needs."""

    screen.print(f"needs of {experiment}:")
    for answer in answers:
        screen.print(Lines(escape_hidden(f"- {answer}")))


def print_datasets(rows: Sequence[DatasetRow]) -> None:
    """Print the catalog."""
    if not rows:
        console().print("no dataset yet; add one with archipel site dataset add NAME PATH")
        return
    read = [
        {
            "name": row.name,
            "format": row.format,
            "kind": row.kind,
            "subjects": row.subjects,
            "labels": abbreviate((f"{value} {label}" for value, label in row.labels.items()), LISTED),
            "summary": short_summary(row.summary),
        }
        for row in rows
    ]
    print_table(["name", "format", "kind", "subjects", "labels", "summary"], read)
