"""What is sent in an attempt, and the bytes of it. Signatures are checked by the one who receives it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from archipel.privacy.secure_aggregation.journal import Head
from archipel.privacy.secure_aggregation.packing import Field, packed, statement, unpacked
from archipel.vocabulary import BadInput

SEED_HASH_BYTES, SHARE_HASH_BYTES = 32, 16


@dataclass(frozen=True)
class SetSignature:
    """A site agrees to a set of sites; it shows the head of its journal with it."""

    site: str
    head: Head
    signature: bytes

    def encoded(self) -> bytes:
        """Its bytes."""
        return packed(self.site, self.head.length, self.head.digest, self.signature)

    @classmethod
    def decoded(cls, body: bytes) -> SetSignature:
        """Raises BadInput for bytes that are not one."""
        site, length, digest, signature = _fields(body, 4, "a signature of a set")
        if len(digest) != 32:
            raise _wrong_length("a signature of a set")
        return cls(_text(site), Head(_number(length, "a signature of a set"), digest), signature)


def set_statement(context: bytes, members: Sequence[str], head: Head) -> bytes:
    """What a site signs for a set."""
    return statement("set", context, packed(*members), head.length, head.digest)


@dataclass(frozen=True)
class Upload:
    """What goes beside a masked vector: hashes of seeds and shares, and the shares sealed for each other member."""

    site: str
    context: bytes
    vector: str
    nbytes: int
    seed_hashes: bytes
    share_hashes: bytes
    sealed: tuple[bytes, ...]
    full_set: SetSignature
    signature: bytes = b""

    def statement(self) -> bytes:
        """What its signature covers."""
        parts = (self.seed_hashes, self.share_hashes, b"".join(self.sealed))
        hashes = [hashlib.sha256(part).digest() for part in parts]
        head = self.full_set.head
        begin: list[Field] = [self.context, self.site, self.vector, self.nbytes]
        return statement("upload", *begin, *hashes, head.length, head.digest)

    def column(self, holder: int, members: int) -> bytes:
        """The hash of the share hashes of one holder."""
        size = members * SHARE_HASH_BYTES
        return hashlib.sha256(self.share_hashes[holder * size : (holder + 1) * size]).digest()

    def encoded(self) -> bytes:
        """Its bytes."""
        parts = (self.seed_hashes, self.share_hashes, packed(*self.sealed), self.full_set.encoded(), self.signature)
        return packed(self.site, self.context, self.vector, self.nbytes, *parts)

    @classmethod
    def decoded(cls, body: bytes) -> Upload:
        """Raises BadInput for bytes that are not one."""
        what = "an upload"
        site, context, vector, nbytes, seeds, shares, sealed, full_set, signature = _fields(body, 9, what)
        signed = SetSignature.decoded(full_set)
        bundles = tuple(_fields(sealed, None, what))
        size = _number(nbytes, what)
        return cls(_text(site), context, _text(vector), size, seeds, shares, bundles, signed, signature)


@dataclass(frozen=True)
class Dealt:
    """A dealer's sealed bundle for the site that is asked, and the hash of the share hashes that belong to it."""

    dealer: str
    sealed: bytes
    column: bytes


@dataclass(frozen=True)
class ShareRequest:
    """The server asks a site of the final set for the shares that open the sum over it."""

    context: bytes
    members: tuple[str, ...]
    signatures: tuple[SetSignature, ...]
    dealt: tuple[Dealt, ...]

    def encoded(self) -> bytes:
        """Its bytes."""
        signatures = packed(*(one.encoded() for one in self.signatures))
        dealt = packed(*(packed(one.dealer, one.sealed, one.column) for one in self.dealt))
        return packed(self.context, packed(*self.members), signatures, dealt)

    @classmethod
    def decoded(cls, body: bytes) -> ShareRequest:
        """Raises BadInput for bytes that are not one."""
        what = "a share request"
        context, members, signatures, dealt = _fields(body, 4, what)
        bundles = []
        for one in _fields(dealt, None, what):
            dealer, sealed, column = _fields(one, 3, what)
            bundles.append(Dealt(_text(dealer), sealed, column))
        signed = tuple(SetSignature.decoded(one) for one in _fields(signatures, None, what))
        return cls(context, tuple(map(_text, _fields(members, None, what))), signed, tuple(bundles))


@dataclass(frozen=True)
class ShareAnswer:
    """For each dealer of the final set, in order: the shares that open the sum, or nothing for a wrong bundle."""

    site: str
    context: bytes
    members: tuple[str, ...]
    shares: tuple[bytes, ...]
    signature: bytes = b""

    def statement(self) -> bytes:
        """What its signature covers."""
        digest = hashlib.sha256(packed(*self.shares)).digest()
        return statement("answer", self.context, self.site, packed(*self.members), digest)

    def encoded(self) -> bytes:
        """Its bytes."""
        return packed(self.site, self.context, packed(*self.members), packed(*self.shares), self.signature)

    @classmethod
    def decoded(cls, body: bytes) -> ShareAnswer:
        """Raises BadInput for bytes that are not one."""
        what = "a share answer"
        site, context, members, shares, signature = _fields(body, 5, what)
        names = tuple(map(_text, _fields(members, None, what)))
        return cls(_text(site), context, names, tuple(_fields(shares, None, what)), signature)


def _fields(body: bytes, count: int | None, what: str) -> list[bytes]:
    try:
        fields = unpacked(body)
    except ValueError as error:
        raise BadInput(what, str(error), "send it again") from error
    if count is not None and len(fields) != count:
        raise BadInput(
            what, f"has {len(fields)} fields, not {count}", "send it again, with the same version of Archipel"
        )
    return fields


def _number(field: bytes, what: str) -> int:
    if len(field) != 8:
        raise _wrong_length(what)
    return int.from_bytes(field, "big")


def _wrong_length(what: str) -> BadInput:
    return BadInput(
        what, "has a number or a hash of a wrong length", "send it again, with the same version of Archipel"
    )


def _text(field: bytes) -> str:
    try:
        return field.decode()
    except UnicodeDecodeError as error:
        raise BadInput("a message", "has a name that is not text", "send it again") from error
