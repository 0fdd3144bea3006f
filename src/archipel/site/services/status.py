"""The status of a site: its federation, its agent and connection, its datasets, its opt-out list, and its
experiments.
"""

from __future__ import annotations

from typing import Literal

from archipel.site.agent import LinkStatus, link_status
from archipel.site.audit import journal_heads
from archipel.site.gpus import GpuRow, gpu_rows
from archipel.site.membership import certificates
from archipel.site.services import dataset_documents, offer_documents
from archipel.site.services.dataset_documents import DatasetRow
from archipel.site.services.offer_documents import OfferRow
from archipel.site.services.sandboxes import without_sandbox
from archipel.site.state import FederationMembership, SandboxRule, StateFolder
from archipel.site.withdrawn import opt_outs, register, spellings
from archipel.vocabulary import BadInput, Record


class LineAlsoThere(Record):
    """A line of the opt-out list, and ids of a dataset that may be its patient's; the line's own id is not repeated."""

    line: int
    dataset: str
    spellings: tuple[str, ...]
    advice: str


class OptOutList(Record):
    """How many patients the opt-out list names, and the numbers of its lines that match no subject in any dataset here.

    ``also_there`` are the lines whose patients may be in a dataset under another id. ``problem`` says why nothing runs:
    the list cannot be read, and ``patients`` is None then.
    """

    patients: int | None
    unmatched: tuple[int, ...] = ()
    also_there: tuple[LineAlsoThere, ...] = ()
    problem: str | None = None


class SiteStatus(Record):
    """The whole status. ``link`` is set while an agent runs and has reported its connection; times are ISO 8601 in
    UTC. ``sandbox_problem`` says what follows where no sandbox can be made now, and why not.
    """

    site: str
    identity_key: str
    federation: FederationMembership | None
    certificate_until: str | None
    agent: Literal["running", "stopped"]
    link: LinkStatus | None
    sandbox: SandboxRule
    sandbox_problem: str | None
    gpus: tuple[GpuRow, ...]
    server_journal_faults: tuple[str, ...]
    datasets: tuple[DatasetRow, ...]
    opt_outs: OptOutList | None
    experiments: tuple[OfferRow, ...]


def status(site: StateFolder) -> SiteStatus:
    """The site's status now. An agent counts as running if a process listens for it."""
    federation = site.federation()
    running = site.agent_runs()
    return SiteStatus(
        site=site.name,
        identity_key=site.identity.public,
        federation=federation,
        certificate_until=certificates.credentials(site.keys).expires.isoformat() if federation else None,
        agent="running" if running else "stopped",
        link=link_status.read(site.database) if running else None,
        sandbox=site.settings.sandbox,
        sandbox_problem=without_sandbox(site.settings.sandbox),
        gpus=gpu_rows(site.settings),
        server_journal_faults=tuple(str(fault) for fault in journal_heads.faults(site.database)),
        datasets=dataset_documents.rows(site),
        opt_outs=_opt_outs(site),
        experiments=offer_documents.rows(site),
    )


def _opt_outs(site: StateFolder) -> OptOutList | None:
    """None where there is no list."""
    try:
        lines, unmatched = opt_outs.listed(site.folder), register.unmatched(site)
    except BadInput as error:
        return OptOutList(patients=None, problem=str(error))
    if not lines:
        return None
    also = tuple(
        LineAlsoThere(line=number, dataset=one.dataset, spellings=one.spellings, advice=str(one))
        for number, one in spellings.of_lines(site)
    )
    return OptOutList(patients=len({line.opt_out for line in lines}), unmatched=unmatched, also_there=also)
