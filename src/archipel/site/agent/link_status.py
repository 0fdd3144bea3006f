"""How the link to the server stands, kept where the command line finds it while the agent runs in another process.

One small file in the state folder, written when something changes; without a running agent it says nothing.
"""

from __future__ import annotations

import json

import structlog
from pydantic import ValidationError

from archipel.site.state.folder import StateFolder
from archipel.storage import utc_now, write_private
from archipel.vocabulary import ArchipelError, Record

_log = structlog.get_logger("archipel.link")
_NAME = "link.json"


class LinkStatus(Record):
    """Whether the server has welcomed this site, since when (UTC), and if not, what is in the way."""

    connected: bool
    problem: str
    since: str


def note(site: StateFolder, problem: str, *, connected: bool = False) -> None:
    """Keep how the link stands now; an unchanged standing keeps its time. A full disk is logged and stops nothing."""
    before = read(site)
    if before is not None and (before.connected, before.problem) == (connected, problem):
        return
    standing = LinkStatus(connected=connected, problem=problem, since=utc_now())
    try:
        write_private(site.folder / _NAME, standing.model_dump_json().encode())
    except ArchipelError as error:
        _log.error("could not store the state of the connection", error=str(error))


def read(site: StateFolder) -> LinkStatus | None:
    """How the link stood when the agent last said; None when it never did or the file is damaged."""
    try:
        return LinkStatus.model_validate(json.loads((site.folder / _NAME).read_bytes()))
    except (FileNotFoundError, ValueError, ValidationError):
        return None
