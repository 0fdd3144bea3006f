"""A site's side of secure aggregation, without I/O: what it may do next follows from its journal alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archipel.privacy.secure_aggregation.attempts import Attempt, Stage, in_order
from archipel.privacy.secure_aggregation.dealing import dealt, opened, sealed, share_hashes
from archipel.privacy.secure_aggregation.journal import Event, Head, Journal, Records
from archipel.privacy.secure_aggregation.masking import Masking
from archipel.privacy.secure_aggregation.messages import (
    SetSignature,
    ShareAnswer,
    ShareRequest,
    Upload,
    set_statement,
)
from archipel.privacy.secure_aggregation.packing import KEY_BYTES, derive, destroy
from archipel.privacy.secure_aggregation.ratchet import Chains
from archipel.privacy.secure_aggregation.roster import Roster
from archipel.privacy.secure_aggregation.sets import check_set, check_signatures, places
from archipel.privacy.secure_aggregation.sharing import SHARE_BYTES
from archipel.privacy.secure_aggregation.terms import Terms
from archipel.vocabulary import Conflict, ErrorCode, Refused
from archipel.vocabulary.records import JsonObject
from archipel.vocabulary.things import Thing

_CHAINS, _KEY = "chains", "key"


class Site:
    """One site in one job. Made again from the same records it continues where it was, whenever it was stopped.

    ``confirmed`` are the identity keys that a person here compared, by name.
    """

    def __init__(
        self, name: str, identity: Ed25519PrivateKey, job: str, roster: Roster, terms: Terms, records: Records,
        confirmed: Mapping[str, bytes],
    ) -> None:  # fmt: skip
        self.name, self._identity, self._job, self._roster, self._terms = name, identity, job, roster, terms
        self._records, self._confirmed = records, confirmed
        roster.position(name)
        if roster.keys[name] != identity.public_key().public_bytes_raw():
            raise Refused(
                Thing("site", name), "has another identity key than the roster", "make a job with its new key"
            )
        if terms.sites != len(roster.names):
            raise Refused("terms of secure aggregation", "are not for this roster", "make them for its number of sites")
        self.journal = Journal(records)
        kept = records.kept(_CHAINS)
        self._chains = None if kept is None else Chains.decoded(kept)
        if (closed := self.journal.last(Event.CLOSED)) is not None and self._chains is not None:
            self._forget(_int(closed, "round"))

    def install(self, chains: Chains) -> None:
        """The secrets that were agreed with all peers; new ones after ``behind`` end that state."""
        self._records.keep(_CHAINS, chains.encoded())
        self.journal.append(Event.PAIRED, round=chains.round)
        self._chains = chains

    def begin(self, attempt: Attempt) -> Masking:
        """Start an attempt. Raises Refused or Conflict where this site may not join it; nothing was released then."""
        chains = self._open_chains()
        self._check_members(attempt)
        number = {"round": attempt.round, "attempt": attempt.attempt, "stage": attempt.stage.value}
        if (earlier := self.journal.last(Event.BEGUN, **number)) is not None:
            if earlier["context"] != attempt.context.hex():
                raise Conflict(
                    attempt.thing, "was begun here with other content", "use a new number for another attempt"
                )
            raise Refused(
                attempt.thing, "was begun here already", "send the upload that was kept, or start a new attempt",
                code=ErrorCode.REPLAYED,
            )  # fmt: skip
        bound = self._released(attempt)
        if bound is not None and list(attempt.members) != bound["members"]:
            other = set(map(str, _list(bound, "members"))) ^ set(attempt.members)
            raise Refused(
                attempt.thing,
                f"is over another set than the sum given from the same model (differ: {', '.join(sorted(other))})",
                "start it over exactly the same set: two sums that differ by one site are that site",
            )
        chains.check(attempt.round)
        if attempt.round > chains.round:
            self.close(attempt.round - 1)
        keys = {peer: chains.round_key(peer) for peer in attempt.members if peer != self.name}
        self.journal.append(
            Event.BEGUN, **number, context=attempt.context.hex(), model=attempt.model, arguments=attempt.arguments,
            members=list(attempt.members),
        )  # fmt: skip
        seeds = []
        for peer in attempt.members:
            if peer == self.name:
                seeds.append(bytearray(os.urandom(KEY_BYTES)))
                continue
            pair = in_order(self._roster, (self.name, peer))
            seeds.append(derive(keys[peer], "pair seed", attempt.context, *pair))
        destroy(*keys.values())
        return Masking(attempt, attempt.members.index(self.name), seeds, self._key())

    def complete(self, masking: Masking) -> Upload:
        """The upload beside a masked vector, which is synced on the disk already. The seeds are destroyed.

        Raises Refused where this model's sum was given before with another vector.
        """
        attempt, number = masking.attempt, {"context": masking.attempt.context.hex()}
        last = self.journal.last(Event.BEGUN)
        plain, vector = masking.plain(), masking.vector()
        bound = self._released(attempt)
        if self.journal.last(Event.COMPLETE, **number) or last is None or last["context"] != number["context"]:
            masking.destroy()
            raise Refused(attempt.thing, "was completed, or is not the last one begun", "start a new attempt")
        if bound is not None and bound["plain"] != plain:
            masking.destroy()
            raise _other_vector(attempt)
        upload, own = self._upload(masking, vector)
        masking.destroy()
        body = upload.encoded()
        self._records.keep(_named("upload", attempt.context), body)
        self._records.keep(_named("own", attempt.context), own)
        self.journal.append(
            Event.COMPLETE, **number, model=attempt.model, stage=attempt.stage.value, vector=vector, plain=plain,
            upload=hashlib.sha256(body).hexdigest(),
        )  # fmt: skip
        return upload

    def resume(self, attempt: Attempt) -> Upload:
        """The upload that was kept, to be sent again. Raises Refused where the attempt was interrupted before it."""
        complete = self.journal.last(Event.COMPLETE, context=attempt.context.hex())
        body = self._records.kept(_named("upload", attempt.context))
        if complete is None or body is None or hashlib.sha256(body).hexdigest() != complete["upload"]:
            raise Refused(
                attempt.thing, "was interrupted before its upload was kept, or its keys are destroyed",
                "leave this attempt: the site joins the next one", code=ErrorCode.REPLAYED,
            )  # fmt: skip
        return Upload.decoded(bytes(body))

    def sign(self, context: bytes, members: tuple[str, ...]) -> SetSignature:
        """Agree to the smaller set of an attempt, once. Raises Refused for any other."""
        attempt, bound = self._completed(context)
        check_set(attempt, members, self._roster, self._terms)
        self._check_own(attempt, members)
        if members == attempt.members:
            raise Refused(attempt.thing, "has its signature on the full set in the upload", "read it from the upload")
        earlier = self.journal.last(Event.SIGNED, context=context.hex())
        if earlier is None and self.journal.last(Event.ANSWERED, context=context.hex()) is not None:
            raise Refused(attempt.thing, "was answered for another set", "use the set that was answered")
        if earlier is not None and earlier["members"] != list(members):
            raise Refused(attempt.thing, "has a signature on another smaller set", "use the set that was signed first")
        if bound is not None and bound["members"] != list(members):
            raise Refused(attempt.thing, "must be over the set of the sum given before", "wait for all of that set")
        if earlier is None:
            self._check_not_ended(attempt)
            head = self.journal.head
            self.journal.append(
                Event.SIGNED, context=context.hex(), members=list(members), length=head.length, head=head.digest.hex()
            )
        else:
            head = Head(_int(earlier, "length"), bytes.fromhex(str(earlier["head"])))
        return self._signed_set(context, members, head)

    def answer(self, request: ShareRequest) -> ShareAnswer:
        """The shares that open the sum over a set, for one set in an attempt. Raises Refused for any other."""
        context, members = request.context, request.members
        attempt, bound = self._completed(context)
        check_set(attempt, members, self._roster, self._terms)
        self._check_own(attempt, members)
        for one in request.signatures:
            body = set_statement(context, members, one.head)
            if one.site == self.name and self._roster.signed(self.name, one.signature, body):
                self.compare(one, attempt, members)
        earlier = self.journal.last(Event.ANSWERED, context=context.hex())
        kept = self._records.kept(_named("answer", context))
        if earlier is not None:
            if earlier["members"] != list(members):
                raise Refused(attempt.thing, "was answered for another set", "use the set that was answered")
            if kept is None or hashlib.sha256(kept).hexdigest() != earlier["answer"]:
                raise Refused(attempt.thing, "was answered, and the answer is not kept any more", "ask other sites")
            return ShareAnswer.decoded(bytes(kept))
        self._check_not_ended(attempt)
        check_signatures(attempt, members, request.signatures, self._roster, self._terms)
        signed = self.journal.last(Event.SIGNED, context=context.hex())
        if signed is not None and members != attempt.members and signed["members"] != list(members):
            raise Refused(attempt.thing, "is asked for another set than this site signed", "use the set that it signed")
        if bound is not None and bound["members"] != list(members):
            raise Refused(attempt.thing, "must be over the set of the sum given before", "wait for all of that set")
        complete = self.journal.last(Event.COMPLETE, context=context.hex())
        plain = str(complete["plain"] if complete else "")
        answer = ShareAnswer(self.name, context, members, self._shares(attempt, request))
        answer = replace(answer, signature=self._identity.sign(answer.statement()))
        body = answer.encoded()
        self._records.keep(_named("answer", context), body)
        self.journal.append(
            Event.ANSWERED, context=context.hex(), model=attempt.model, stage=attempt.stage.value,
            members=list(members), plain=plain,
            answer=hashlib.sha256(body).hexdigest(),
        )  # fmt: skip
        return answer

    def close(self, round: int) -> None:  # noqa: A002
        """A round ended: its keys, shares, answers and uploads are destroyed, and those of all rounds before it."""
        chains = self._open_chains()
        if round >= chains.round:
            chains.check(round + 1)
            self.journal.append(Event.CLOSED, round=round)
            self._forget(round)

    def compare(self, shown: SetSignature, attempt: Attempt, members: tuple[str, ...]) -> None:
        """A signature of this site that another party holds, with the head of its journal at that time.

        Raises Refused, now and at every later step, where this journal never had that head: an old disk came back.
        """
        # Each job has a journal of its own: a head of another one says nothing about this one.
        self._check_job(attempt)
        body = set_statement(attempt.context, members, shown.head)
        self._roster.check_signed("signature", self.name, shown.signature, body)
        if not self.journal.has(shown.head):
            self.journal.append(Event.BEHIND, length=shown.head.length, head=shown.head.digest.hex())
        self._check_not_behind()

    def _check_job(self, attempt: Attempt) -> None:
        if attempt.job != self._job or attempt.roster != self._roster.digest():
            raise Refused(attempt.thing, "is of another job or roster", "send the attempt of the approved job")

    def _check_not_ended(self, attempt: Attempt) -> None:
        """Raises Refused where a later attempt from this model was completed: this site can then be in its sum."""
        latest = self.journal.last(Event.COMPLETE, model=attempt.model, stage=attempt.stage.value)
        if latest is not None and latest["context"] != attempt.context.hex():
            raise Refused(
                attempt.thing, "ended at this site when it completed a later attempt from the same model",
                "close the later attempt",
            )  # fmt: skip

    def _check_members(self, attempt: Attempt) -> None:
        self._check_job(attempt)
        if attempt.members != in_order(self._roster, attempt.members) or self.name not in attempt.members:
            raise Refused(attempt.thing, "does not have this site in its set, in order", "send it to its members")
        self._terms.quorum(len(attempt.members))
        for peer in attempt.members:
            if peer != self.name and self._confirmed.get(peer) != self._roster.keys[peer]:
                raise Refused(
                    Thing("site", peer), "has an identity key that no person here confirmed",
                    "compare the code of the roster with the other sites, then confirm it", code=ErrorCode.TRUST,
                )  # fmt: skip

    def _check_own(self, attempt: Attempt, members: tuple[str, ...]) -> None:
        if self.name not in members:
            raise Refused(attempt.thing, f"has a set without site {self.name}", "ask the sites of the set")

    def _check_not_behind(self) -> None:
        state = self.journal.latest_of(Event.PAIRED, Event.BEHIND)
        if state is not None and state["event"] == Event.BEHIND.value:
            raise Refused(
                f"the journal of site {self.name}",
                f"does not have entry {state['length']}, which it signed: an old disk or backup was put back",
                "make a new experiment key and agree with all sites again; open attempts are left",
                code=ErrorCode.TRUST,
            )

    def _open_chains(self) -> Chains:
        self._check_not_behind()
        if self._chains is None:
            raise Refused(Thing("site", self.name), "has agreed no secrets with its peers", "exchange experiment keys")
        return self._chains

    def _completed(self, context: bytes) -> tuple[Attempt, JsonObject | None]:
        """The attempt of this context, and the sum given before from the same model in another attempt."""
        chains = self._open_chains()
        begun = self.journal.last(Event.BEGUN, context=context.hex())
        if begun is None or self.journal.last(Event.COMPLETE, context=context.hex()) is None:
            raise Refused("an attempt", "was not completed at this site, so it releases nothing", "ask its members")
        attempt = Attempt(
            self._job, self._roster.digest(), _int(begun, "round"), _int(begun, "attempt"), str(begun["model"]),
            str(begun["arguments"]), Stage(str(begun["stage"])), tuple(map(str, _list(begun, "members"))),
        )  # fmt: skip
        if attempt.round != chains.round:
            raise Refused(attempt.thing, "is closed here, and its keys are destroyed", "open a new round",
                          code=ErrorCode.ROUND_CLOSED)  # fmt: skip
        return attempt, self._released(attempt)

    def _released(self, attempt: Attempt) -> JsonObject | None:
        found = self.journal.found(Event.ANSWERED, model=attempt.model, stage=attempt.stage.value)
        return next((one for one in found if one["context"] != attempt.context.hex()), None)

    def _upload(self, masking: Masking, vector: str) -> tuple[Upload, bytearray]:
        attempt, chains = masking.attempt, self._open_chains()
        deal = dealt(attempt, self.name, masking.seeds, self._roster, self._terms.threshold(len(attempt.members)))
        full_set = self._signed_set(attempt.context, attempt.members, self.journal.head)
        upload = Upload(
            self.name, attempt.context, vector, masking.nbytes, deal.seed_hashes, deal.share_hashes, (), full_set
        )
        bundles, own = [], bytearray()
        for index, (peer, bundle) in enumerate(zip(attempt.members, deal.bundles, strict=True)):
            if peer == self.name:
                own = bundle
                continue
            key, column = chains.round_key(peer), upload.column(index, len(attempt.members))
            to_peer = derive(key, "shares", attempt.context, self.name, peer, column)
            bundles.append(sealed(to_peer, attempt.context, column, bundle))
            destroy(key, to_peer, bundle)
        upload = replace(upload, sealed=tuple(bundles))
        return replace(upload, signature=self._identity.sign(upload.statement())), own

    def _shares(self, attempt: Attempt, request: ShareRequest) -> tuple[bytes, ...]:
        chains, given = self._open_chains(), {one.dealer: one for one in request.dealt}
        found = []
        for dealer in request.members:
            bundle: bytearray | None
            if dealer == self.name:
                bundle = self._records.kept(_named("own", attempt.context))
            elif dealer in given:
                key = chains.round_key(dealer)
                from_dealer = derive(key, "shares", attempt.context, dealer, self.name, given[dealer].column)
                bundle = opened(from_dealer, attempt.context, given[dealer].column, given[dealer].sealed)
                destroy(key, from_dealer)
                everything = range(len(attempt.members))
                if bundle is not None:
                    hashes = share_hashes(attempt.context, dealer, self.name, everything, bundle)
                    if hashlib.sha256(hashes).digest() != given[dealer].column:
                        bundle = None
            else:
                bundle = None
            wanted = places(attempt, dealer, request.members) if bundle else []
            parts = [bytes(bundle or b"")[index * SHARE_BYTES : (index + 1) * SHARE_BYTES] for index in wanted]
            found.append(b"".join(parts))
        return tuple(found)

    def _signed_set(self, context: bytes, members: tuple[str, ...], head: Head) -> SetSignature:
        return SetSignature(self.name, head, self._identity.sign(set_statement(context, members, head)))

    def _key(self) -> bytearray:
        if (key := self._records.kept(_KEY)) is None:
            key = bytearray(os.urandom(KEY_BYTES))
            self._records.keep(_KEY, key)
        return key

    def _forget(self, round: int) -> None:  # noqa: A002
        chains = self._chains
        if chains is not None and chains.round <= round:
            chains.advance(round + 1)
            self._records.keep(_CHAINS, chains.encoded())
        for begun in self.journal.found(Event.BEGUN):
            if _int(begun, "round") <= round:
                for kind in ("own", "answer", "upload"):
                    self._records.destroy(_named(kind, bytes.fromhex(str(begun["context"]))))


def _other_vector(attempt: Attempt) -> Refused:
    return Refused(
        attempt.thing,
        "has another vector than the one whose sum was given from the same model",
        "send the vector that was kept, under new masks",
    )


def _named(kind: str, context: bytes) -> str:
    return f"{kind}-{context.hex()}"


def _int(document: JsonObject, name: str) -> int:
    value = document[name]
    assert isinstance(value, int)
    return value


def _list(document: JsonObject, name: str) -> list[object]:
    value = document[name]
    assert isinstance(value, list)
    return list(value)
