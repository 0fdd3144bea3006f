"""``archipel site dataset report``: the quality report of a dataset, for this site's user only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.json_option import AsJson
from archipel.cli.site_terminal import State, console, opened, print_json
from archipel.vocabulary.visible import escape_hidden_lines

if TYPE_CHECKING:
    from archipel.data.quality import QualityReport

NAMED = 5
"""Samples of one finding that the terminal names."""


def dataset_report(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name, as `dataset list` shows it.")],
    state: State,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder for the report (by default reports/<dataset> in the state folder)."),
    ] = None,
    by: Annotated[
        str, typer.Option("--class", help="The column with the classes by which the other columns are compared.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Report a dataset's quality: a verdict with remedies, pictures and tables, as HTML and JSON. It stays here."""
    from archipel.site.services import datasets
    from archipel.vocabulary import Watch

    screen = console()
    with opened(state) as site:
        folder = out or site.reports / name
        with screen.progress(f"reading dataset {name}") as show:
            report = datasets.make_report(site, name, folder, by, watch=Watch(show))
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    _print(report, folder)


def _print(report: QualityReport, folder: Path) -> None:
    from archipel.site.datasets import HTML

    screen = console()
    for finding in report.findings:
        more = len(finding.samples) - NAMED
        where = ", ".join(finding.samples[:NAMED]) + (f" and {more} more" if more > 0 else "")
        line = f"- {finding.severity.value}: {finding.what}" + (f" [{where}]" if where else "")
        screen.print(escape_hidden_lines(f"{line}; {finding.remedy}"))
    screen.print(f"dataset {report.dataset} is {report.verdict.value}; see {folder / HTML}")
