"""``archipel site dataset report``: the quality report of a dataset, for this site's user only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from archipel.cli.site_terminal import AsJson, State, console, opened, print_json

HTML, JSON = "report.html", "report.json"
NAMED = 5
"""Samples of one finding that the terminal names."""


def dataset_report(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name, as dataset list says it.")],
    state: State,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder for the report; else reports/<dataset> in the state folder.")
    ] = None,
    by: Annotated[str, typer.Option("--class", help="The column whose classes the others are compared by.")] = "",
    as_json: AsJson = False,
) -> None:
    """Look at a dataset's quality: a verdict with remedies, pictures and tables, as HTML and JSON. It stays here."""
    screen = console()
    with opened(state) as site:
        folder = out or site.reports / name
        with screen.status(f"looking at dataset {name}"):
            report = write_report(site, name, folder, by)
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    _print(report, folder)


def write_report(site: Any, name: str, folder: Path, by: str = "") -> Any:
    """Make the report of a dataset and write both files into ``folder``; returns the report.

    Files that have not changed since they were looked at are not opened again.
    """
    from archipel.data.quality import build, draw_pictures, gather, page
    from archipel.site import catalog
    from archipel.site.file_index import SqlFileIndex
    from archipel.storage import disk_errors_named, utc_now, write_private

    entry = catalog.dataset(site, name)
    root, found = Path(entry.root), catalog.scanned(site, entry)
    with SqlFileIndex(site, name) as index:
        evidence = gather(root, entry.format, entry.options, found, index)
        report = build(
            name, entry.format, evidence, entry.mapping, made_at=utc_now(), class_column=by,
            leave_out_faulty=entry.leave_out_faulty,
        )  # fmt: skip
        pictures = draw_pictures(root, entry.format, entry.options, evidence, report, index)
    with disk_errors_named(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(folder / JSON, report.model_dump_json(indent=1).encode("utf-8"))
    write_private(folder / HTML, page(report, pictures).encode("utf-8"))
    return report


def _print(report: Any, folder: Path) -> None:
    from archipel.site.wording import shown

    screen = console()
    for finding in report.findings:
        more = len(finding.samples) - NAMED
        where = ", ".join(finding.samples[:NAMED]) + (f" and {more} more" if more > 0 else "")
        line = f"- {finding.severity.value}: {finding.what}" + (f" [{where}]" if where else "")
        screen.print(shown(f"{line}; {finding.remedy}"))
    screen.print(f"dataset {report.dataset} is {report.verdict.value}; see {folder / HTML}")
