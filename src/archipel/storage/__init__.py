"""Where bytes and rows are kept: a content-addressed blob store and the relational database of a server or a site.

It knows hashes, files and SQL; it does not know what a job, a round or a site is. Both halves follow one rule: a
blob is written, synced and renamed first, then one transaction names it; blobs that no row names are removed at start.
"""

from archipel.storage.blobs import BlobStore, BlobWriter, FolderBlobStore
from archipel.storage.database import Database, announce, utc_now
from archipel.storage.files import disk_errors_named, sync_folder, write_private
from archipel.storage.settings import load_settings
from archipel.storage.statements import Row, Statement

__all__ = [
    "BlobStore",
    "BlobWriter",
    "Database",
    "FolderBlobStore",
    "Row",
    "Statement",
    "announce",
    "disk_errors_named",
    "load_settings",
    "sync_folder",
    "utc_now",
    "write_private",
]
