"""A second implementation of the protocol, written from its README and slow: it shares no code with the first one."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

P = 2**31 - 1


def pack(*fields: bytes | str | int) -> bytes:
    out = b""
    for field in fields:
        body = field.encode() if isinstance(field, str) else field
        body = body.to_bytes(8, "big") if isinstance(body, int) else body
        out += len(body).to_bytes(4, "big") + body
    return out


def parts(body: bytes) -> list[bytes]:
    found = []
    while body:
        size = int.from_bytes(body[:4], "big")
        found.append(body[4 : 4 + size])
        body = body[4 + size :]
    return found


def said(purpose: str, *fields: bytes | str | int) -> bytes:
    return pack("archipel-secagg/1", purpose, *fields)


def h(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def derive(key: bytes, purpose: str, *fields: bytes | str | int) -> bytes:
    return hmac.digest(hmac.digest(bytes(32), key, "sha256"), said(purpose, *fields) + b"\x01", "sha256")


class Attempt:
    def __init__(self, keys: dict[str, bytes], job: str, numbers: tuple[int, int], hashes: tuple[str, str], stage: str,
                 members: list[str]) -> None:  # fmt: skip
        self.order = sorted(keys, key=lambda name: name.encode())
        self.keys, self.members, self.round = keys, sorted(members, key=self.order.index), numbers[0]
        self.roster = h(said("roster", *(pack(name, keys[name]) for name in self.order)))
        self.context = h(said("attempt", job, self.roster, *numbers, *hashes, stage, pack(*self.members)))

    def round_key(self, chain: bytes) -> bytes:
        """From the chain value of round 0."""
        for number in range(self.round):
            chain = derive(chain, "next", number)
        return derive(chain, "round", self.round)

    def pair_seed(self, chain: bytes, one: str, other: str) -> bytes:
        return derive(self.round_key(chain), "pair seed", self.context, *sorted((one, other), key=self.order.index))

    def mask(self, seed: bytes, size: int) -> bytes:
        key = derive(seed, "mask", self.context)
        return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))

    def opened(self, upload: bytes, holder: str, chain: bytes) -> list[list[int]]:
        """The shares that a dealer sealed for a holder, nine numbers each; every hash and signature is checked."""
        dealer, context, vector, nbytes, seeds, shares, sealed, full, signature = parts(upload)
        name = dealer.decode()
        _, length, head, on_set = parts(full)
        m, place = len(self.members), self.members.index(holder)
        bundles = parts(sealed)
        public = Ed25519PublicKey.from_public_bytes(self.keys[name])
        public.verify(on_set, said("set", context, pack(*self.members), length, head))
        body = said("upload", context, name, vector, nbytes, h(seeds), h(shares), h(b"".join(bundles)), length, head)
        public.verify(signature, body)
        column = shares[place * m * 16 : (place + 1) * m * 16]
        key = derive(self.round_key(chain), "shares", self.context, name, holder)
        bundle = bundles[[one for one in self.members if one != name].index(holder)]
        plain = AESGCM(key).decrypt(bytes(12), bundle, pack(self.context, h(column)))
        found = []
        for index in range(m):
            share = plain[36 * index : 36 * index + 36]
            told = h(said("share", self.context, name, holder) + index.to_bytes(4, "big") + share)[:16]
            assert told == column[16 * index : 16 * index + 16]
            found.append([int.from_bytes(share[at : at + 4], "little") for at in range(0, 36, 4)])
        return found

    def seed(self, upload: bytes, index: int, shares: dict[str, list[list[int]]]) -> bytes:
        """The seed at a place, of the shares of some holders; its hash is checked."""
        points = {holder: self.order.index(holder) + 1 for holder in shares}
        whole = 0
        for limb in range(9):
            value = 0
            for holder, x in points.items():
                weight = 1
                for other in points.values():
                    if other != x:
                        weight = weight * other * pow(other - x, -1, P) % P
                value += weight * shares[holder][index][limb]
            whole += (value % P) << (30 * limb)
        seed = whole.to_bytes(32, "little")
        dealer, seeds = parts(upload)[0].decode(), parts(upload)[4]
        assert seeds[32 * index :][:32] == h(said("seed", self.context, dealer, index) + seed)
        return seed


def add(words: bytes, mask: bytes, sign: int, short: int) -> bytes:
    """``words + sign * mask``, uint32 for the first ``short`` bytes and uint64 behind them."""
    out = b""
    for at, size in [(at, 4) for at in range(0, short, 4)] + [(at, 8) for at in range(short, len(words), 8)]:
        one, two = (int.from_bytes(part[at : at + size], "little") for part in (words, mask))
        out += ((one + sign * two) % 256**size).to_bytes(size, "little")
    return out
