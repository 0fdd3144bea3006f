"""The server's side of an attempt, without I/O: it collects, checks, asks, and removes the masks of a sum."""

from __future__ import annotations

import numpy as np

from archipel.privacy.secure_aggregation.attempts import Attempt
from archipel.privacy.secure_aggregation.dealing import points, seed_hash, share_hashes
from archipel.privacy.secure_aggregation.masks import Mask, Masks
from archipel.privacy.secure_aggregation.messages import (
    SEED_HASH_BYTES,
    SHARE_HASH_BYTES,
    Dealt,
    SetSignature,
    ShareAnswer,
    ShareRequest,
    Upload,
    set_statement,
)
from archipel.privacy.secure_aggregation.roster import Roster
from archipel.privacy.secure_aggregation.sets import places
from archipel.privacy.secure_aggregation.sharing import SHARE_BYTES, Shares, combine
from archipel.privacy.secure_aggregation.terms import Terms
from archipel.vocabulary import ArchipelError, Conflict, ErrorCode, Refused
from archipel.vocabulary.things import Thing

_TAG_BYTES = 16


class Aggregator:
    """One attempt at the server. Given the same messages and the same ``close`` again, it is where it was."""

    def __init__(self, attempt: Attempt, roster: Roster, terms: Terms, nbytes: int) -> None:
        """``nbytes`` are those of a vector of this job."""
        self.attempt, self._roster, self._terms, self._nbytes = attempt, roster, terms, nbytes
        self._threshold = terms.threshold(len(attempt.members))
        self.uploads: dict[str, Upload] = {}
        self.members: tuple[str, ...] | None = None
        """The set that the sum is over, once it was closed."""
        self._signatures: dict[str, SetSignature] = {}
        self._answers: dict[str, tuple[ShareAnswer, dict[str, Shares]]] = {}

    def receive(self, upload: Upload) -> None:
        """An upload, whose masked vector was received whole with the hash that it names.

        Raises Refused or ArchipelError (``bad-update``), naming the site, for one that is wrong; Conflict for a second
        one with other content; Refused (``round-closed``) for one that is late.
        """
        self._check_site(upload.site, upload.context, self.attempt.members)
        site, earlier = Thing("site", upload.site), self.uploads.get(upload.site)
        if earlier is not None:
            if earlier != upload:
                raise Conflict(site, "sent two different uploads in one attempt", "count the first one")
            return
        if self.members is not None:
            raise Refused(site, "sent its upload after the set was closed", "it joins the next attempt",
                          code=ErrorCode.ROUND_CLOSED)  # fmt: skip
        m = len(self.attempt.members)
        sizes = (len(upload.seed_hashes), len(upload.share_hashes), len(upload.sealed), upload.nbytes)
        if sizes != (m * SEED_HASH_BYTES, m * m * SHARE_HASH_BYTES, m - 1, self._nbytes) or any(
            len(one) != m * SHARE_BYTES + _TAG_BYTES for one in upload.sealed
        ):
            raise _bad(site, "sent a vector, hashes or sealed shares of a wrong length", "let it send them again")
        self._roster.check_signed("upload", upload.site, upload.signature, upload.statement())
        if upload.full_set.site != upload.site:
            raise _bad(site, "sent another site's signature on the set", "let it sign the set itself")
        self._check_set_signature(upload.full_set, self.attempt.members)
        self.uploads[upload.site] = upload

    def close(self) -> bool:
        """End the wait for uploads: the sum is over the sites that uploaded. True where all did; then none has to sign.

        Otherwise ``members`` is what each of them is asked to sign. The caller makes it durable before it asks.
        Raises Refused, naming the missing sites, where they are too few.
        """
        if self.members is None:
            members = tuple(name for name in self.attempt.members if name in self.uploads)
            missing = [name for name in self.attempt.members if name not in self.uploads]
            least = self._terms.quorum(len(self.attempt.members))
            if len(members) < least:
                raise Refused(
                    self.attempt.thing,
                    f"has uploads of {len(members)} sites, and a sum is over {least} or more "
                    f"(missing: {', '.join(missing)})",
                    "wait for these sites, or start another attempt",
                )
            self.members = members
            if not missing:
                self._signatures = {name: one.full_set for name, one in self.uploads.items()}
        return self.members == self.attempt.members

    def receive_signature(self, signature: SetSignature) -> None:
        """A signature on the closed set. Raises Refused, naming the site, for one that is wrong."""
        members = self._closed()
        self._check_site(signature.site, self.attempt.context, members)
        self._check_set_signature(signature, members)
        self._signatures.setdefault(signature.site, signature)

    def requests(self) -> dict[str, ShareRequest]:
        """What each site of the set is asked for. Raises Refused while fewer than the threshold signed."""
        members = self._closed()
        if len(self._signatures) < self._threshold:
            missing = [name for name in members if name not in self._signatures]
            raise Refused(
                self.attempt.thing,
                f"has {len(self._signatures)} signatures on its set, and {self._threshold} are needed "
                f"(missing: {', '.join(missing)})",
                "wait for these sites, or start another attempt",
            )
        signatures = tuple(self._signatures[name] for name in members if name in self._signatures)[: self._threshold]
        return {
            holder: ShareRequest(self.attempt.context, members, signatures, self._dealt(holder, members))
            for holder in members
        }

    def receive_answer(self, answer: ShareAnswer) -> None:
        """Shares of a site. Raises ArchipelError (``bad-update``), naming the site, for a share that is not what was
        dealt to it; Conflict for a second answer with other content.
        """
        members = self._closed()
        self._check_site(answer.site, answer.context, members)
        site = Thing("site", answer.site)
        if (earlier := self._answers.get(answer.site)) is not None:
            if earlier[0] != answer:
                raise Conflict(site, "sent two different share answers in one attempt", "count the first one")
            return
        self._roster.check_signed("share answer", answer.site, answer.signature, answer.statement())
        if answer.members != members or len(answer.shares) != len(members):
            raise _bad(site, "answered for another set", "ask it for the closed set")
        m, holder = len(self.attempt.members), self.attempt.members.index(answer.site)
        found: dict[str, Shares] = {}
        for dealer, shares in zip(members, answer.shares, strict=True):
            wanted = places(self.attempt, dealer, members)
            if not shares:
                continue
            hashes = self.uploads[dealer].share_hashes
            column = [hashes[(holder * m + index) * SHARE_HASH_BYTES :][:SHARE_HASH_BYTES] for index in wanted]
            given = share_hashes(self.attempt.context, dealer, answer.site, wanted, shares)
            if len(shares) != len(wanted) * SHARE_BYTES or given != b"".join(column):
                raise _bad(
                    site, f"sent a share that is not the one that site {dealer} dealt", "do not count its shares"
                )
            found[dealer] = np.frombuffer(shares, "<u4").reshape(len(wanted), -1)
        self._answers[answer.site] = answer, found

    @property
    def enough(self) -> bool:
        """Whether the sum can be unmasked with the answers so far."""
        return self.members is not None and all(
            sum(dealer in shares for _, shares in self._answers.values()) >= self._threshold for dealer in self.members
        )

    def unmasking(self) -> Masks:
        """What removes all masks from the plain sum of the masked vectors of ``members``.

        Raises Refused while answers are missing, and ArchipelError (``bad-update``), naming the dealer, where shares
        that are as they were dealt do not open the seed that was promised.
        """
        members, masks = self._closed(), []
        for dealer in members:
            holders = [name for name in members if name in self._answers and dealer in self._answers[name][1]]
            if len(holders) < self._threshold:
                raise Refused(
                    self.attempt.thing,
                    f"has shares of {len(holders)} sites for site {dealer}, and {self._threshold} are needed",
                    f"ask the others again; if several could not open what site {dealer} dealt, leave that site out",
                )
            holders = holders[: self._threshold]
            wanted = places(self.attempt, dealer, members)
            shares = np.stack([self._answers[name][1][dealer] for name in holders])
            for index, seed in zip(wanted, self._opened(dealer, wanted, shares, holders), strict=True):
                place = wanted[0]
                masks.append(Mask(seed, -1 if index >= place else 1))
        return Masks(masks, self.attempt.context)

    def _opened(self, dealer: str, wanted: list[int], shares: Shares, holders: list[str]) -> list[bytearray]:
        hashes = self.uploads[dealer].seed_hashes
        try:
            seeds = [bytearray(one.tobytes()) for one in combine(shares, points(self._roster, holders))]
        except ValueError:
            seeds = []
        promised = [hashes[index * SEED_HASH_BYTES :][:SEED_HASH_BYTES] for index in wanted]
        found = [
            seed_hash(self.attempt.context, dealer, index, bytes(seed))
            for index, seed in zip(wanted, seeds, strict=False)
        ]
        if found != promised:
            raise _bad(
                Thing("site", dealer), "dealt shares that do not open the seed that it promised", "leave this site out"
            )
        return seeds

    def _dealt(self, holder: str, members: tuple[str, ...]) -> tuple[Dealt, ...]:
        found, place = [], self.attempt.members.index(holder)
        for dealer in members:
            if dealer != holder:
                others = [name for name in self.attempt.members if name != dealer]
                upload = self.uploads[dealer]
                column = upload.column(place, len(self.attempt.members))
                found.append(Dealt(dealer, upload.sealed[others.index(holder)], column))
        return tuple(found)

    def _closed(self) -> tuple[str, ...]:
        if self.members is None:
            raise Refused(self.attempt.thing, "still waits for uploads", "close its set first")
        return self.members

    def _check_site(self, site: str, context: bytes, members: tuple[str, ...]) -> None:
        if site not in members or context != self.attempt.context:
            raise Refused(
                Thing("site", site),
                "sent a message of another attempt, or is not in its set",
                "do not count the message",
            )

    def _check_set_signature(self, one: SetSignature, members: tuple[str, ...]) -> None:
        body = set_statement(self.attempt.context, members, one.head)
        self._roster.check_signed("signature on the set", one.site, one.signature, body)


def _bad(site: Thing, cause: str, remedy: str) -> ArchipelError:
    return ArchipelError(site, cause, remedy, code=ErrorCode.BAD_UPDATE)
