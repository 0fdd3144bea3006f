"""Remedies: what a person can do about an error, as one of a fixed list with typed arguments.

A console shows a remedy as a button, or as an instruction where the person must act outside Archipel. Remedies never
leave the machine where the error was raised: what another machine says of an error is text, and no button comes of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import JsonValue

from archipel.vocabulary.records import JsonObject, Record


class RemedyName(StrEnum):
    """Every remedy there is."""

    APPROVE = "approve"
    CHECK_JOURNAL = "check-journal"
    EXCLUDE_SUBJECTS = "exclude-subjects"
    FREEZE_AGAIN = "freeze-again"
    RENEW_CERTIFICATE = "renew-certificate"
    SHOW_OFFER = "show-offer"
    START_AGENT = "start-agent"
    ALLOW_SANDBOX = "allow-sandbox"
    FREE_DISK_SPACE = "free-disk-space"
    GRANT_ACCESS = "grant-access"
    MOUNT_FOLDER = "mount-folder"
    NOTHING = "nothing"


class Remedy(Record):
    """One remedy; its fields are its arguments."""

    name: ClassVar[RemedyName]

    def command_line(self) -> tuple[str, ...] | None:
        """The words after ``archipel`` of the command that does it; None where a person acts outside Archipel.

        Arguments stand behind ``--``: one that begins with a dash is an argument all the same.
        """
        return None

    def document(self) -> JsonObject:
        """As programs read it: its name, its arguments by name, and the command's words."""
        words = self.command_line()
        line: JsonValue = None if words is None else list(words)
        return {"name": self.name.value, "arguments": self.model_dump(mode="json"), "command_line": line}


class Approve(Remedy):
    """Approve what an experiment asks to run here."""

    name: ClassVar = RemedyName.APPROVE
    experiment: str

    def command_line(self) -> tuple[str, ...]:
        """``archipel site approve``, which shows the experiment and asks."""
        return "site", "approve", "--", self.experiment


class CheckJournal(Remedy):
    """Prove the site's journal whole, or find out which line was changed."""

    name: ClassVar = RemedyName.CHECK_JOURNAL

    def command_line(self) -> tuple[str, ...]:
        """``archipel site journal verify``."""
        return "site", "journal", "verify"


class ExcludeSubjects(Remedy):
    """Leave subjects of a dataset out whose data is of no use."""

    name: ClassVar = RemedyName.EXCLUDE_SUBJECTS
    dataset: str
    subjects: tuple[str, ...]

    def command_line(self) -> tuple[str, ...]:
        """``archipel site dataset exclude``."""
        return "site", "dataset", "exclude", "--", self.dataset, *self.subjects


class FreezeAgain(Remedy):
    """Freeze what a dataset holds now as a new version, which is then approved."""

    name: ClassVar = RemedyName.FREEZE_AGAIN
    dataset: str

    def command_line(self) -> tuple[str, ...]:
        """``archipel site cohort freeze``."""
        return "site", "cohort", "freeze", "--", self.dataset


class RenewCertificate(Remedy):
    """Get a new certificate from the server."""

    name: ClassVar = RemedyName.RENEW_CERTIFICATE

    def command_line(self) -> tuple[str, ...]:
        """``archipel site renew``."""
        return "site", "renew"


class ShowOffer(Remedy):
    """Read what an experiment asks to run here, and why it cannot be approved."""

    name: ClassVar = RemedyName.SHOW_OFFER
    experiment: str

    def command_line(self) -> tuple[str, ...]:
        """``archipel site plans``."""
        return "site", "plans", "--", self.experiment


class StartAgent(Remedy):
    """Start the site's agent."""

    name: ClassVar = RemedyName.START_AGENT

    def command_line(self) -> tuple[str, ...]:
        """``archipel site start``."""
        return "site", "start"


class AllowSandbox(Remedy):
    """Let this machine make sandboxes: unprivileged user namespaces, or an agent that runs as root."""

    name: ClassVar = RemedyName.ALLOW_SANDBOX


class FreeDiskSpace(Remedy):
    """Free space on the disk that holds this folder or file."""

    name: ClassVar = RemedyName.FREE_DISK_SPACE
    path: str


class GrantAccess(Remedy):
    """Let the user that Archipel runs as read or write this folder or file."""

    name: ClassVar = RemedyName.GRANT_ACCESS
    path: str


class MountFolder(Remedy):
    """Bring a dataset's folder back to where it was."""

    name: ClassVar = RemedyName.MOUNT_FOLDER
    dataset: str
    folder: str


class Nothing(Remedy):
    """Nothing needs to be done."""

    name: ClassVar = RemedyName.NOTHING
