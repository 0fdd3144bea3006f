"""A site's membership in a federation: creating the site, enrolment, certificates and their renewal.

It knows the state folder and the audit log; it knows nothing of datasets or experiments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.membership import certificates, enrolment, renewal
    from archipel.site.membership.certificates import credentials, tls_request
    from archipel.site.membership.creation import create_site
    from archipel.site.membership.renewal import renew_when_due
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {"certificates": ["credentials", "tls_request"], "creation": ["create_site"], "renewal": ["renew_when_due"]},
        modules=["certificates", "enrolment", "renewal"],
    )

__all__ = [
    "certificates",
    "create_site",
    "credentials",
    "enrolment",
    "renew_when_due",
    "renewal",
    "tls_request",
]
