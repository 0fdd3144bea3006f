"""Remedies: what a person can do about an error, as one of a fixed list with typed arguments.

A console shows a remedy as a button, or as an instruction where the person must act outside Archipel. Remedies never
leave the machine where the error was raised: what another machine says of an error is text, and never becomes a button.
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
    WITHDRAW_PATIENTS = "withdraw-patients"
    FREEZE_AGAIN = "freeze-again"
    RENEW_CERTIFICATE = "renew-certificate"
    SHOW_OFFER = "show-offer"
    START_AGENT = "start-agent"
    LIST_OFFERS = "list-offers"
    LIST_DATASETS = "list-datasets"
    LIST_FORMATS = "list-formats"
    LIST_GPUS = "list-gpus"
    CHECK_DATASET = "check-dataset"
    LIST_COHORTS = "list-cohorts"
    LIST_ERRORS = "list-errors"
    EXPORT_JOURNAL = "export-journal"
    LIST_EXPERIMENTS = "list-experiments"
    SHOW_FAILURES = "show-failures"
    LIST_SITES = "list-sites"
    REMOVE_SITE = "remove-site"
    CREATE_JOIN_TOKEN = "create-join-token"  # noqa: S105 - a word, no secret
    LIST_JOIN_TOKENS = "list-join-tokens"
    LIST_ACCESS_TOKENS = "list-access-tokens"
    LIST_CERTIFICATES = "list-certificates"
    ADD_DATASET = "add-dataset"
    CREATE_SITE = "create-site"
    JOIN_FEDERATION = "join-federation"
    ALLOW_SANDBOX = "allow-sandbox"
    FREE_DISK_SPACE = "free-disk-space"
    GRANT_ACCESS = "grant-access"
    MOUNT_FOLDER = "mount-folder"
    NOTHING = "nothing"


class Remedy(Record):
    """One remedy; its fields are its arguments."""

    name: ClassVar[RemedyName]

    def command_line(self) -> tuple[str, ...] | None:
        """The arguments of ``archipel`` that do it; None if a person acts outside Archipel.

        Arguments come after ``--``, so that one that begins with a dash is not an option.
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
    """Verify the site's journal, or find the line that was changed."""

    name: ClassVar = RemedyName.CHECK_JOURNAL

    def command_line(self) -> tuple[str, ...]:
        """``archipel site journal verify``."""
        return "site", "journal", "verify"


class ExcludeSubjects(Remedy):
    """Leave out subjects of a dataset whose data is not usable."""

    name: ClassVar = RemedyName.EXCLUDE_SUBJECTS
    dataset: str
    subjects: tuple[str, ...]

    def command_line(self) -> tuple[str, ...]:
        """``archipel site dataset exclude``."""
        return "site", "dataset", "exclude", "--", self.dataset, *self.subjects


class WithdrawPatients(Remedy):
    """Withdraw patients from a dataset that has them under other ids."""

    name: ClassVar = RemedyName.WITHDRAW_PATIENTS
    dataset: str
    subjects: tuple[str, ...]

    def command_line(self) -> tuple[str, ...]:
        """``archipel site cohort withdraw``."""
        return "site", "cohort", "withdraw", "--dataset", self.dataset, "--", *self.subjects


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


class ListOffers(Remedy):
    """See every experiment that was offered to this site."""

    name: ClassVar = RemedyName.LIST_OFFERS

    def command_line(self) -> tuple[str, ...]:
        """``archipel site plans``."""
        return "site", "plans"


class ListDatasets(Remedy):
    """See the datasets of this site."""

    name: ClassVar = RemedyName.LIST_DATASETS

    def command_line(self) -> tuple[str, ...]:
        """``archipel site dataset list``."""
        return "site", "dataset", "list"


class ListFormats(Remedy):
    """See the formats that a dataset may have, and the options that each takes."""

    name: ClassVar = RemedyName.LIST_FORMATS

    def command_line(self) -> tuple[str, ...]:
        """``archipel site dataset formats``."""
        return "site", "dataset", "formats"


class ListGpus(Remedy):
    """See the GPUs that this site's owner named, and those that can be named."""

    name: ClassVar = RemedyName.LIST_GPUS

    def command_line(self) -> tuple[str, ...]:
        """``archipel site gpu list``."""
        return "site", "gpu", "list"


class CheckDataset(Remedy):
    """Scan a dataset's folder again, and see its subjects and problems."""

    name: ClassVar = RemedyName.CHECK_DATASET
    dataset: str

    def command_line(self) -> tuple[str, ...]:
        """``archipel site dataset check``."""
        return "site", "dataset", "check", "--", self.dataset


class ListCohorts(Remedy):
    """See the versions of every dataset that were frozen."""

    name: ClassVar = RemedyName.LIST_COHORTS

    def command_line(self) -> tuple[str, ...]:
        """``archipel site cohort list``."""
        return "site", "cohort", "list"


class ListErrors(Remedy):
    """See which tasks failed at this site."""

    name: ClassVar = RemedyName.LIST_ERRORS

    def command_line(self) -> tuple[str, ...]:
        """``archipel site errors list``."""
        return "site", "errors", "list"


class ExportJournal(Remedy):
    """Write the site's journal to a file."""

    name: ClassVar = RemedyName.EXPORT_JOURNAL

    def command_line(self) -> tuple[str, ...]:
        """``archipel site journal export``."""
        return "site", "journal", "export"


class ListExperiments(Remedy):
    """See every experiment of the federation."""

    name: ClassVar = RemedyName.LIST_EXPERIMENTS

    def command_line(self) -> tuple[str, ...]:
        """``archipel experiment list``."""
        return "experiment", "list"


class ShowFailures(Remedy):
    """See the failures in an experiment, with site and reason."""

    name: ClassVar = RemedyName.SHOW_FAILURES
    experiment: str

    def command_line(self) -> tuple[str, ...]:
        """``archipel experiment failures``."""
        return "experiment", "failures", "--", self.experiment


class ListSites(Remedy):
    """See the sites of the federation, at its server."""

    name: ClassVar = RemedyName.LIST_SITES

    def command_line(self) -> tuple[str, ...]:
        """``archipel server site list``."""
        return "server", "site", "list"


class RemoveSite(Remedy):
    """End a site's membership, at the server; the command asks first."""

    name: ClassVar = RemedyName.REMOVE_SITE
    site: str

    def command_line(self) -> tuple[str, ...]:
        """``archipel server site remove``."""
        return "server", "site", "remove", "--", self.site


class CreateJoinToken(Remedy):
    """Make a token with which one site may join once, at the server."""

    name: ClassVar = RemedyName.CREATE_JOIN_TOKEN
    site: str

    def command_line(self) -> tuple[str, ...]:
        """``archipel server join-token create``."""
        return "server", "join-token", "create", "--", self.site


class ListJoinTokens(Remedy):
    """See the join tokens, at the server."""

    name: ClassVar = RemedyName.LIST_JOIN_TOKENS

    def command_line(self) -> tuple[str, ...]:
        """``archipel server join-token list``."""
        return "server", "join-token", "list"


class ListAccessTokens(Remedy):
    """See the access tokens, at the server."""

    name: ClassVar = RemedyName.LIST_ACCESS_TOKENS

    def command_line(self) -> tuple[str, ...]:
        """``archipel server token list``."""
        return "server", "token", "list"


class ListCertificates(Remedy):
    """See the certificates of the sites, at the server."""

    name: ClassVar = RemedyName.LIST_CERTIFICATES

    def command_line(self) -> tuple[str, ...]:
        """``archipel server certificate list``."""
        return "server", "certificate", "list"


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


class AddDataset(Remedy):
    """Enter a dataset of this name in the catalog; only the person knows its folder."""

    name: ClassVar = RemedyName.ADD_DATASET
    dataset: str


class CreateSite(Remedy):
    """Make another site, in a folder that the person chooses."""

    name: ClassVar = RemedyName.CREATE_SITE


class JoinFederation(Remedy):
    """Join with a token of the server's operator; a token is a secret, and no argument of a remedy."""

    name: ClassVar = RemedyName.JOIN_FEDERATION


class Nothing(Remedy):
    """No action is needed."""

    name: ClassVar = RemedyName.NOTHING
