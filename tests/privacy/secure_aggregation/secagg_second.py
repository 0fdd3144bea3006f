"""Secure aggregation a second time, slowly: written from the README of the package alone, and without its code."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

P = "archipel-secagg/1"
PRIME = 2**31 - 1
Field = bytes | str | int
Share = list[int]
Head = tuple[int, bytes]
NO_HEAD: Head = (0, bytes(32))


def h(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def pack(*fields: Field) -> bytes:
    out = b""
    for field in fields:
        body = field.encode() if isinstance(field, str) else field
        body = body.to_bytes(8, "big") if isinstance(body, int) else body
        out += len(body).to_bytes(4, "big") + body
    return out


def unpack(data: bytes) -> list[bytes]:
    fields = []
    while data:
        size = int.from_bytes(data[:4], "big")
        assert len(data) >= 4 + size, "a field is cut off"
        fields.append(data[4 : 4 + size])
        data = data[4 + size :]
    return fields


def pieces(data: bytes, size: int) -> list[bytes]:
    assert len(data) % size == 0
    return [data[at : at + size] for at in range(0, len(data), size)]


def said(purpose: str, *fields: Field) -> bytes:
    """The bytes that a signature or a derivation covers."""
    return pack(P, purpose, *fields)


def hkdf(extracted: bytes, info: bytes, size: int) -> bytes:
    out = block = b""
    for count in range(1, 10):
        block = hmac.digest(extracted, block + info + bytes([count]), "sha256")
        out += block
    return out[:size]


def derive(key: bytes, purpose: str, *fields: Field) -> bytes:
    return hkdf(hmac.digest(bytes(32), key, "sha256"), said(purpose, *fields), 32)


def roster_hash(keys: Mapping[str, bytes]) -> bytes:
    order = sorted(keys, key=str.encode)
    return h(said("roster", *[pack(name, keys[name]) for name in order]))


def roster_code(roster: bytes) -> str:
    """52 digits of Crockford's base 32; the bits that are missing at the end are zeros."""
    number = int.from_bytes(roster, "big") << 4
    digits = "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[number >> (5 * at) & 31] for at in reversed(range(52)))
    return "-".join(digits[at : at + 4] for at in range(0, 52, 4))


def hpke_open(sealed: bytes, private: bytes, info: bytes) -> bytes:
    """RFC 9180 by hand in base mode, over the KEM X-Wing; ``private`` is the seed of ML-KEM and then the X25519 key."""
    mlkem, curve = MLKEM768PrivateKey.from_seed_bytes(private[:64]), X25519PrivateKey.from_private_bytes(private[64:])
    ours, theirs, own = sealed[:1088], sealed[1088:1120], curve.public_key().public_bytes_raw()
    exchanged = curve.exchange(X25519PublicKey.from_public_bytes(theirs))
    shared = hashlib.sha3_256(mlkem.decapsulate(ours) + exchanged + theirs + own + rb"\.//^" + b"\\").digest()
    suite = b"HPKE" + bytes.fromhex("647a00010002")

    def extract(salt: bytes, label: bytes, body: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + body, "sha256")

    schedule = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    key, nonce = (
        hkdf(secret, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + schedule, size)
        for label, size in ((b"key", 32), (b"base_nonce", 12))
    )
    return AESGCM(key).decrypt(nonce, sealed[1120:], b"")


def threshold(m: int, c: int, malicious: bool = True) -> int:
    return (m + c) // 2 + 1 if malicious else c + 1


def terms(n: int) -> tuple[int, int]:
    """``(c, minimum)`` that a job has by default over a roster of n sites, and of two by name."""
    c = 0 if n == 2 else max(1, n // 3)
    return c, 2 if n == 2 else max(n // 2 + 1, 3, c + 2)


def add(one: bytes, other: bytes, sign: int, short: int) -> bytes:
    """Word by word, ``short`` bytes of uint32 and then uint64."""
    out, at = b"", 0
    while at < len(one):
        size = 4 if at < short else 8
        left, right = (int.from_bytes(each[at : at + size], "little") for each in (one, other))
        out += ((left + sign * right) % 256**size).to_bytes(size, "little")
        at += size
    return out


def deal(seed: bytes, t: int, positions: Sequence[int]) -> list[Share]:
    """The share of each position: nine values of nine polynomials."""
    number, polynomials = int.from_bytes(seed, "little"), []
    for limb in range(9):
        constant = number >> (30 * limb) & (2**30 - 1)
        polynomials.append([constant, *(int.from_bytes(os.urandom(16), "big") % PRIME for _ in range(t - 1))])
    xs = [position + 1 for position in positions]
    return [[sum(one * x**power for power, one in enumerate(each)) % PRIME for each in polynomials] for x in xs]


def recover(shares: Mapping[int, Share]) -> bytes:
    """The seed of exactly t shares by position: Lagrange at 0."""
    number = 0
    for limb in range(9):
        value = 0
        for position, share in shares.items():
            weight = 1
            for other in shares:
                if other != position:
                    weight = weight * (other + 1) * pow(other - position, -1, PRIME) % PRIME
            value += weight * share[limb]
        number += value % PRIME << (30 * limb)
    return number.to_bytes(40, "little")[:32]


def written(share: Share) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in share)


def read(bundle: bytes) -> list[Share]:
    return [[int.from_bytes(one, "little") for one in pieces(share, 4)] for share in pieces(bundle, 36)]


class WrongColumn(Exception):
    """A bundle has other shares than its upload says."""


class Attempt:
    """One attempt, for whoever holds keys of it. ``chain`` is always that of a pair for round 0."""

    def __init__(
        self,
        keys: Mapping[str, bytes],
        job: str,
        numbers: tuple[int, int],
        hashes: tuple[str, str],
        stage: str,
        members: Sequence[str],
    ) -> None:
        self.keys, self.round = dict(keys), numbers[0]
        self.order = sorted(keys, key=str.encode)
        self.members = sorted(members, key=self.order.index)
        self.roster = roster_hash(keys)
        self.context = h(said("attempt", job, self.roster, *numbers, *hashes, stage, pack(*self.members)))

    def round_key(self, chain: bytes) -> bytes:
        for number in range(self.round):
            chain = derive(chain, "next", number)
        return derive(chain, "round", self.round)

    def pair_seed(self, chain: bytes, one: str, other: str) -> bytes:
        first, second = sorted((one, other), key=self.order.index)
        return derive(self.round_key(chain), "pair seed", self.context, first, second)

    def mask(self, seed: bytes, size: int) -> bytes:
        key = algorithms.AES(derive(seed, "mask", self.context))
        return Cipher(key, modes.CTR(bytes(16))).encryptor().update(bytes(size))

    def sign(self, of: int, one: str, other: str) -> int:
        """With which sign the vector of ``one`` has the mask of the pair, times ``of``."""
        return of if self.order.index(one) < self.order.index(other) else -of

    def seed_hash(self, dealer: str, index: int, seed: bytes) -> bytes:
        return h(said("seed", self.context, dealer, index) + seed)

    def share_hash(self, dealer: str, holder: str, index: int, share: bytes) -> bytes:
        return h(said("share", self.context, dealer, holder) + index.to_bytes(4, "big") + share)[:16]

    def column(self, dealer: str, holder: str, bundle: bytes) -> bytes:
        """The share hashes of one holder, one after the other."""
        return b"".join(self.share_hash(dealer, holder, at, one) for at, one in enumerate(pieces(bundle, 36)))

    def bundle_key(self, chain: bytes, dealer: str, holder: str, column_hash: bytes) -> AESGCM:
        return AESGCM(derive(self.round_key(chain), "shares", self.context, dealer, holder, column_hash))

    def unsealed(self, sealed: bytes, column_hash: bytes, dealer: str, holder: str, chain: bytes) -> bytes:
        key = self.bundle_key(chain, dealer, holder, column_hash)
        bundle = key.decrypt(bytes(12), sealed, pack(self.context, column_hash))
        if h(self.column(dealer, holder, bundle)) != column_hash:
            raise WrongColumn
        return bundle

    # A site

    def upload(
        self,
        site: str,
        identity: Ed25519PrivateKey,
        chains: Mapping[str, bytes],
        vector: bytes,
        short: int,
        t: int,
        head: Head = NO_HEAD,
    ) -> tuple[bytes, bytes, bytes]:
        """``(masked vector, upload, own bundle)`` of ``site``."""
        seeds = [os.urandom(32) if peer == site else self.pair_seed(chains[peer], site, peer) for peer in self.members]
        masked = vector
        for peer, seed in zip(self.members, seeds, strict=True):
            sign = 1 if peer == site else self.sign(1, site, peer)
            masked = add(masked, self.mask(seed, len(vector)), sign, short)
        vector_hash = "blake3:" + blake3(masked).hexdigest()
        dealt = [deal(seed, t, [self.order.index(peer) for peer in self.members]) for seed in seeds]
        bundles = [b"".join(written(of[holder]) for of in dealt) for holder in range(len(self.members))]
        columns = [self.column(site, holder, one) for holder, one in zip(self.members, bundles, strict=True)]
        sealed = [
            self.bundle_key(chains[peer], site, peer, h(column)).encrypt(
                bytes(12), bundle, pack(self.context, h(column))
            )
            for peer, bundle, column in zip(self.members, bundles, columns, strict=True)
            if peer != site
        ]
        seed_hashes = b"".join(self.seed_hash(site, index, seed) for index, seed in enumerate(seeds))
        hashes = h(seed_hashes), h(b"".join(columns)), h(b"".join(sealed))
        full = self.set_signature(site, identity, self.members, head)
        signature = identity.sign(said("upload", self.context, site, vector_hash, len(vector), *hashes, *head))
        vector_fields = vector_hash, len(vector), seed_hashes, b"".join(columns)
        return (
            masked,
            pack(site, self.context, *vector_fields, pack(*sealed), full, signature),
            bundles[self.members.index(site)],
        )

    def set_signature(self, site: str, identity: Ed25519PrivateKey, of: Sequence[str], head: Head = NO_HEAD) -> bytes:
        return pack(site, *head, identity.sign(said("set", self.context, pack(*of), *head)))

    def answer(
        self, request: bytes, site: str, identity: Ed25519PrivateKey, chains: Mapping[str, bytes], own: bytes, t: int
    ) -> bytes:
        context, names, signatures, sealed = unpack(request)
        assert context == self.context
        agreed = [name.decode() for name in unpack(names)]
        signers = set()
        for one in unpack(signatures):
            signer, length, head, signature = unpack(one)
            statement = said("set", self.context, names, length, head)
            Ed25519PublicKey.from_public_bytes(self.keys[signer.decode()]).verify(signature, statement)
            signers.add(signer.decode())
        assert site in agreed and signers <= set(agreed) and len(signers) >= t
        bundles = {site: own}
        for one in unpack(sealed):
            dealer, body, column_hash = unpack(one)
            name = dealer.decode()
            try:
                bundles[name] = self.unsealed(body, column_hash, name, site, chains[name])
            except (InvalidTag, WrongColumn):
                bundles[name] = b""
        gone = [index for index, member in enumerate(self.members) if member not in agreed]
        shares = []
        for dealer in agreed:
            own_shares = pieces(bundles[dealer], 36)
            places = [self.members.index(dealer), *gone] if own_shares else []
            shares.append(b"".join(own_shares[index] for index in places))
        signature = identity.sign(said("answer", self.context, site, names, h(pack(*shares))))
        return pack(site, self.context, names, pack(*shares), signature)

    # The server

    def checked(self, upload: bytes) -> tuple[str, list[bytes], list[bytes], list[bytes]]:
        """``(dealer, seed hashes, share hashes, sealed bundles)`` of an upload that is signed."""
        site, context, vector_hash, size, seed_hashes, share_hashes, sealed, full, signature = unpack(upload)
        dealer, m, bundles = site.decode(), len(self.members), unpack(sealed)
        signer, length, head, set_signature = unpack(full)
        key = Ed25519PublicKey.from_public_bytes(self.keys[dealer])
        key.verify(set_signature, said("set", self.context, pack(*self.members), length, head))
        hashes = h(seed_hashes), h(share_hashes), h(b"".join(bundles))
        key.verify(signature, said("upload", self.context, site, vector_hash, size, *hashes, length, head))
        assert context == self.context and signer == site
        assert len(seed_hashes) == 32 * m and len(share_hashes) == 16 * m * m
        assert [len(one) for one in bundles] == [36 * m + 16] * (m - 1)
        return dealer, pieces(seed_hashes, 32), pieces(share_hashes, 16), bundles

    def opened(self, upload: bytes, holder: str, chain: bytes) -> list[Share]:
        """The shares that the dealer of an upload sealed for ``holder``, one per member."""
        dealer, _, share_hashes, bundles = self.checked(upload)
        m, place = len(self.members), self.members.index(holder)
        others = [name for name in self.members if name != dealer]
        column = b"".join(share_hashes[place * m : (place + 1) * m])
        return read(self.unsealed(bundles[others.index(holder)], h(column), dealer, holder, chain))

    def seed(self, upload: bytes, index: int, shares: Mapping[str, Sequence[Share]]) -> bytes:
        """The seed at place ``index`` of a dealer, from the bundles of exactly t holders."""
        dealer, seed_hashes, _, _ = self.checked(upload)
        seed = recover({self.order.index(holder): bundle[index] for holder, bundle in shares.items()})
        assert self.seed_hash(dealer, index, seed) == seed_hashes[index]
        return seed

    def requests(
        self, uploads: Mapping[str, bytes], agreed: Sequence[str], signed: Sequence[bytes]
    ) -> dict[str, bytes]:
        """What the server sends to each site of the final set."""
        requests = {}
        for holder in agreed:
            place, m, sealed = self.members.index(holder), len(self.members), []
            for dealer in (name for name in agreed if name != holder):
                _, _, hashes, bundles = self.checked(uploads[dealer])
                others = [name for name in self.members if name != dealer]
                column = b"".join(hashes[place * m : (place + 1) * m])
                sealed.append(pack(dealer, bundles[others.index(holder)], h(column)))
            requests[holder] = pack(self.context, pack(*agreed), pack(*signed), pack(*sealed))
        return requests

    def unmask(
        self,
        total: bytes,
        short: int,
        t: int,
        agreed: Sequence[str],
        uploads: Mapping[str, bytes],
        answers: Sequence[bytes],
    ) -> bytes:
        """The sum of the vectors of the set ``agreed``, of the sum ``total`` of their masked vectors."""
        gone, m = [name for name in self.members if name not in agreed], len(self.members)
        given: dict[tuple[str, str], dict[int, Share]] = {}
        for answer in answers:
            site, context, names, packed, signature = unpack(answer)
            holder = site.decode()
            key = Ed25519PublicKey.from_public_bytes(self.keys[holder])
            key.verify(signature, said("answer", self.context, site, names, h(packed)))
            assert context == self.context and names == pack(*agreed)
            for dealer, shares in zip(agreed, unpack(packed), strict=True):
                hashes = self.checked(uploads[dealer])[2]
                for other, share in zip([dealer, *gone] if shares else [], pieces(shares, 36), strict=True):
                    index = self.members.index(other)
                    told = hashes[self.members.index(holder) * m + index]
                    assert self.share_hash(dealer, holder, index, share) == told
                    given.setdefault((dealer, other), {})[self.order.index(holder)] = read(share)[0]
        for (dealer, other), by_position in given.items():
            seed = recover(dict(list(by_position.items())[:t]))
            index = self.members.index(other)
            assert self.seed_hash(dealer, index, seed) == self.checked(uploads[dealer])[1][index]
            sign = -1 if other == dealer else self.sign(-1, dealer, other)
            total = add(total, self.mask(seed, len(total)), sign, short)
        constant = pieces(h(said("constant"))[:16], 8)
        words = [len(agreed) * int.from_bytes(one, "little") % 2**64 for one in constant]
        assert total[-16:] == b"".join(one.to_bytes(8, "little") for one in words)
        return total
