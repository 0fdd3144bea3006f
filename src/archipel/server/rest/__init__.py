"""The REST interface for people, their programs and sites that enrol: OpenAPI, bearer tokens, errors in words.

It translates HTTP to calls and back; what an experiment is and does it asks of an ``ExperimentService``.
"""

from archipel.server.rest.application import create_app
from archipel.server.rest.blobs import end_unused
from archipel.server.rest.context import RestContext
from archipel.server.rest.serving import RestServer

__all__ = ["RestContext", "RestServer", "create_app", "end_unused"]
