"""Creating a site: its state folder with settings, database, and the two secrets that it keeps for life."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from archipel.governance import IdentityKey
from archipel.site.audit import SiteMade, add_entry
from archipel.site.state import FOLDERS, SiteJournalKind, SiteSettings, StateFolder, open_database, settings
from archipel.storage import disk_errors_named, load_settings, write_private
from archipel.vocabulary import BadInput, Conflict, SiteName, Thing


def create_site(folder: Path, site: str) -> StateFolder:
    """Make a new site in a new or empty folder.

    Raises Conflict when the folder holds something already and BadInput for a name that a site may not have.
    """
    try:
        TypeAdapter(SiteName).validate_python(site)
    except ValidationError as error:
        raise BadInput(
            Thing.worded(f"site name {site}", site=site),
            "is not a valid name",
            "use lower-case letters, digits and hyphens, at most 63",
        ) from error
    if (folder / "site.toml").exists():
        raise Conflict(Thing.folder(folder), "is a site already", "use it, or name another folder")
    existed = folder.exists()
    if existed and any(folder.iterdir()):
        raise Conflict(Thing.folder(folder), "is not empty", "name a new folder")
    with disk_errors_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    try:
        return _fill(folder, site)
    except BaseException:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not existed:
            folder.rmdir()
        raise


def _fill(folder: Path, site: str) -> StateFolder:
    with disk_errors_named(folder):
        for name in FOLDERS:
            (folder / name).mkdir(mode=0o700)
    write_private(folder / "site.db", b"")
    database = open_database(folder)
    identity = IdentityKey.generate()
    identity.save(folder / "keys" / "identity.key")
    write_private(folder / "keys" / "cohort.key", secrets.token_bytes(32))
    with database.write() as connection:
        add_entry(connection, SiteJournalKind.SITE_MADE, SiteMade(site=site, identity_key=identity.public))
    settings.write_first(folder / "site.toml", site)
    return StateFolder(folder, load_settings(folder / "site.toml", SiteSettings), database)
