"""The REST application, put together from its endpoints."""

from __future__ import annotations

from fastapi import FastAPI

from archipel.server.rest import blobs, experiments, members, metrics
from archipel.server.rest.addresses import Addresses
from archipel.server.rest.bodies import describe_bodies
from archipel.server.rest.context import RestContext
from archipel.server.rest.limits import BodyLimit
from archipel.server.rest.problems import answer_in_words
from archipel.transport.enrolment import EnrolmentRequest
from archipel.transport.rest import Arguments, ErrorBody, JoinTokenOrder, Revocation, Submission
from archipel.version import VERSION

_TAGS = [
    {"name": "federation", "description": "Which federation this is and who belongs to it."},
    {"name": "experiments", "description": "Submit a job, steer it, watch it, fetch its models."},
    {"name": "blobs", "description": "Plans and models by the hash of their bytes."},
    {"name": "enrolment", "description": "How a site joins, with a join token."},
    {"name": "operation", "description": "Admit, renew and remove sites; the journal. Scope operate."},
    {"name": "health", "description": "For monitors; only whether the server runs needs no token."},
]
_REFUSED = {"model": ErrorBody, "description": "What, why, and what to do"}


def create_app(context: RestContext) -> FastAPI:
    """The application for one server. It holds no state of its own but the context."""
    app = FastAPI(
        title=f"Archipel: {context.federation.settings.name}",
        version=VERSION,
        summary="One server of federated learning: sites, experiments, rounds and models.",
        openapi_tags=_TAGS,
        responses={
            status: {"model": ErrorBody, "description": "What, why, and what to do"} for status in ("4XX", "5XX")
        },
        # Nothing is disclosed to third parties: no telemetry, no page that loads scripts from a public network.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    answer_in_words(app)
    reading = (members.reading, experiments.router, blobs.router, metrics.router)
    for router in (*reading, members.enrolment, members.operating):
        app.include_router(router)
    describe_bodies(app, Submission, Arguments, EnrolmentRequest, JoinTokenOrder, Revocation)
    app.add_middleware(BodyLimit)
    app.add_middleware(Addresses, trusted_proxies=context.federation.settings.trusted_proxies)
    return app
