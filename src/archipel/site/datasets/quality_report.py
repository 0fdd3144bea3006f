"""The quality report of a dataset as it is now: made from its files, written for this site's user only.

If a patient withdraws while it is made, it is not written.
"""

from __future__ import annotations

from pathlib import Path

from archipel.data.quality import QualityReport, build, draw_pictures, gather, page
from archipel.site.datasets import catalog
from archipel.site.datasets.file_index import SqlFileIndex
from archipel.site.datasets.watched_index import WatchedIndex
from archipel.site.state import StateFolder
from archipel.site.withdrawn import TakeOptOuts
from archipel.storage import disk_errors_named, utc_now, write_private
from archipel.vocabulary import UNWATCHED, Conflict, Thing, Watch

HTML, JSON = "report.html", "report.json"


def make_report(
    site: StateFolder,
    name: str,
    folder: Path,
    take_opt_outs: TakeOptOuts,
    class_column: str = "",
    watch: Watch = UNWATCHED,
) -> QualityReport:
    """Make the report of a dataset and write both files into ``folder``; returns the report.

    Files that have not changed since they were read are not opened again. Raises Conflict when a patient withdrew
    from the dataset meanwhile, NotFound, BadInput when its folder is gone, and Cancelled when ``watch`` stops it: the
    report that is there stays then.
    """
    entry = catalog.dataset(site.database, name)
    root = Path(entry.root)
    take_opt_outs()
    with SqlFileIndex(site.database, name) as index:
        scan = catalog.scanned(site, entry, take_opt_outs, watch, index)
        files = len({place for sample in scan.samples for place in sample.files.values()})
        measured = WatchedIndex(index, watch, files, "files measured")
        evidence = gather(root, entry.format, entry.options, scan, measured)
        report = build(
            name, entry.format, evidence, entry.mapping, made_at=utc_now(), class_column=class_column,
            leave_out_faulty=entry.leave_out_faulty,
        )  # fmt: skip
        pictures = draw_pictures(
            root, entry.format, entry.options, evidence, report, WatchedIndex(index, watch, what="files drawn")
        )
    html = page(report, pictures)
    watch.check()
    take_opt_outs()
    with site.database.write() as connection:
        if index.is_overtaken(connection):
            raise Conflict(
                Thing.worded(f"the report of dataset {name}", dataset=name),
                "a patient withdrew while it was made",
                "make it again",
            )
        # Inside the transaction: a later withdrawal waits for the files and removes them.
        with disk_errors_named(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(folder / JSON, report.model_dump_json(indent=1).encode("utf-8"))
        write_private(folder / HTML, html.encode("utf-8"))
    return report
