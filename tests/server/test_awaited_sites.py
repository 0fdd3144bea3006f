"""What people see of sites that are not connected, and since when the server counts a site as lost."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from archipel.governance import IdentityKey, job_hash
from archipel.rounds import ExperimentVerb
from archipel.server.experiments import Stream, views
from archipel.server.experiments.hub import DeployedFleet, Hub
from archipel.server.membership.federation import ServerContext
from archipel.transport import Peer
from archipel.transport.rest import SitesAwaited
from worlds.people import ANNA
from worlds.server import Applicant, records_of, running_job, sql_store_of


async def hear(_message: object) -> None: ...


def test_a_site_is_lost_since_its_stream_ended_or_since_the_server_began() -> None:
    before = time.monotonic()
    hub = Hub(IdentityKey.generate(), lambda: None)  # type: ignore[arg-type, return-value]
    fleet = DeployedFleet(hub)
    began = fleet.absent_since("berlin")
    assert began is not None and before <= began <= time.monotonic()
    assert fleet.absent_since("berlin") == began, "it does not grow while nothing happens"
    first, second = Stream(Peer("berlin", "1"), hear), Stream(Peer("berlin", "1"), hear)
    hub.attach(first)
    assert fleet.absent_since("berlin") is None
    hub.attach(second)
    hub.detach(first)
    assert fleet.absent_since("berlin") is None, "the older stream's end is not the site's"
    hub.detach(second)
    lost = fleet.absent_since("berlin")
    assert lost is not None and began < lost <= time.monotonic()
    assert fleet.absent_since("rome") == began


def test_whom_a_running_experiment_waits_for_is_in_its_document_and_told_once(
    federation: ServerContext, enrolled: Applicant
) -> None:
    job = running_job(federation, enrolled)
    store = sql_store_of(federation, job, job_hash(job))

    def told() -> list[SitesAwaited]:
        found = views.events(federation.database, "first", 0)
        return [event.body for event in found if isinstance(event.body, SitesAwaited)]

    store.awaiting({}, ())
    assert told() == [], "nothing is said where nothing was awaited"
    store.awaiting({"berlin": 300.0}, ("rome",))
    document = views.experiment(federation.database, "first")
    left = (datetime.fromisoformat(document.awaited["berlin"]) - datetime.now(UTC)).total_seconds()
    assert 290 < left <= 300
    until = document.awaited["berlin"][:19].replace("T", " ")
    assert document.waits_for == f"waits until {until} UTC for berlin to connect"
    (summary,) = views.experiments(federation.database)
    assert summary.awaited == document.awaited
    records_of(federation).steer(job, ExperimentVerb.PAUSE, by=ANNA)
    assert views.experiment(federation.database, "first").awaited == {}, "a paused experiment waits for no site"
    store.awaiting({}, ())
    store.awaiting({}, ())
    assert [(list(body.until), body.away) for body in told()] == [(["berlin"], ("rome",)), ([], ())]
