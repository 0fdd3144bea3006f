"""The server's signed result of a closed round: a site waits for it before it keeps its own state of that round."""

from __future__ import annotations

from archipel.governance.canonical import canonical
from archipel.governance.keys import IdentityKey, verify
from archipel.vocabulary import RoundClosed

_DOMAIN = b"archipel-round-closed/1\n"


def sign_closed(key: IdentityKey, closed: RoundClosed) -> str:
    """The server's signature over the result, as hex."""
    return key.sign(_DOMAIN + canonical(closed))


def closed_is_signed_by(server_key: str, closed: RoundClosed, signature: str) -> bool:
    """Whether the server with this identity key signed the result."""
    return verify(server_key, signature, _DOMAIN + canonical(closed))
