"""TLS 1.3 with a certificate at both ends, from keys that are held in memory."""

from __future__ import annotations

import os
import ssl

BULK = "archipel-bulk/1"
"""The protocol (ALPN) of connections that carry models and updates."""


def server_tls(key: bytes, certificate: bytes, authority: bytes) -> ssl.SSLContext:
    """For the server's end of bulk connections: every caller shows a certificate of this CA, in every connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    # A session that is resumed would show no certificate.
    context.num_tickets = 0
    return _completed(context, key, certificate, authority)


def site_tls(key: bytes, certificate: bytes, authority: bytes) -> ssl.SSLContext:
    """For a site's end: the server shows a certificate of this CA for its address."""
    return _completed(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), key, certificate, authority)


def _completed(context: ssl.SSLContext, key: bytes, certificate: bytes, authority: bytes) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([BULK])
    context.load_verify_locations(cadata=authority.decode())
    # OpenSSL reads keys from files only: this one is never on a disk.
    descriptor = os.memfd_create("archipel-keys", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
