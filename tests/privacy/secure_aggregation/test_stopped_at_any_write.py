"""A site that loses its power at any write of any step never gives two vectors under one mask, nor answers twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from blake3 import blake3
from secagg_world import NEVER, Disk, PowerFailed, World, unmasked

from archipel.privacy.secure_aggregation.aggregator import Aggregator
from archipel.privacy.secure_aggregation.attempts import Attempt
from archipel.privacy.secure_aggregation.messages import SetSignature, ShareAnswer, Upload
from archipel.vocabulary import Refused

VICTIM = "site-01"


class Torn(Disk):
    """The write is on the disk, and the power fails before anybody knows."""

    def _write(self) -> None:
        pass

    def _written(self) -> None:
        Disk._write(self)

    def append(self, entry: bytes) -> None:
        super().append(entry)
        self._written()

    def keep(self, name: str, body: bytes | bytearray) -> None:
        super().keep(name, body)
        self._written()

    def destroy(self, name: str) -> None:
        super().destroy(name)
        self._written()


class Released:
    """All that left the victim, whenever it was stopped."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.vectors: dict[bytes, set[bytes]] = {}
        self.sets: dict[bytes, set[SetSignature]] = {}
        self.answers: dict[bytes, set[ShareAnswer]] = {}
        self.files: dict[bytes, bytes] = {}
        self.stops = 0

    def again(self, step: Callable[[], object]) -> None:
        """A step; after a power failure the site is made again from its disk and asked again. A refusal is an end."""
        while True:
            try:
                step()
                return
            except PowerFailed:
                self.stops += 1
                self.world.disks[VICTIM].writes_left = None
                self.world.restart(VICTIM)
            except Refused:
                return

    def upload(self, attempt: Attempt, server: Aggregator) -> None:
        site = self.world.sites[VICTIM]
        try:
            upload = site.resume(attempt)
        except Refused:
            masking = site.begin(attempt)
            short, long = self.world.vector(VICTIM)
            masking.apply(short)
            masking.apply(long)
            self.files[attempt.context] = short.tobytes() + long.tobytes()
            upload = site.complete(masking)
        body = self.files[attempt.context]
        assert upload.vector == f"blake3:{blake3(body).hexdigest()}"
        self.vectors.setdefault(attempt.context, set()).add(body)
        server.receive(Upload.decoded(upload.encoded()))

    def sign(self, attempt: Attempt, server: Aggregator) -> None:
        signature = self.world.sites[VICTIM].sign(attempt.context, server.members or ())
        self.sets.setdefault(attempt.context, set()).add(signature)
        server.receive_signature(signature)

    def answer(self, attempt: Attempt, server: Aggregator) -> None:
        answer = self.world.sites[VICTIM].answer(server.requests()[VICTIM])
        self.answers.setdefault(attempt.context, set()).add(answer)
        server.receive_answer(answer)


def run(kind: type[Disk], writes: int, gone: str | None) -> Released:
    """Two rounds of five sites, the second after a close; the victim's power fails after so many writes."""
    world = World(5)
    disk = kind()
    disk.journal, disk.files = world.disks[VICTIM].journal, world.disks[VICTIM].files
    world.disks[VICTIM] = disk
    world.restart(VICTIM)
    released = Released(world)
    disk.writes_left = writes
    for number in (1, 2):
        attempt = world.attempt(round=number, model=f"blake3:{number}")
        server, vectors = world.aggregator(attempt), {}
        for name in world.names:
            if name == VICTIM:
                released.again(lambda attempt=attempt, server=server: released.upload(attempt, server))
            elif name != gone:
                vectors[name], upload = world.masked(name, attempt)
                server.receive(upload)
        vectors |= {VICTIM: released.files[attempt.context]} if VICTIM in server.uploads else {}
        try:
            full = server.close()
        except Refused:
            # One site is away and the victim left the attempt: too few, and it is said.
            assert gone is not None and released.stops
            continue
        for name in server.members or () if not full else ():
            if name == VICTIM:
                released.again(lambda attempt=attempt, server=server: released.sign(attempt, server))
            else:
                server.receive_signature(world.sites[name].sign(attempt.context, server.members or ()))
        for name, request in server.requests().items():
            if name == VICTIM:
                released.again(lambda attempt=attempt, server=server: released.answer(attempt, server))
            else:
                server.receive_answer(world.sites[name].answer(request))
        assert server.members is not None and unmasked(server, vectors) == world.plain_sum(server.members)
        for name in world.names:
            if name == VICTIM:
                released.again(lambda number=number: world.sites[VICTIM].close(number))
            else:
                world.sites[name].close(number)
    return released


@pytest.mark.parametrize("kind", [Disk, Torn])
@pytest.mark.parametrize("gone", [None, "site-03"])
def test_a_stop_at_any_write(kind: type[Disk], gone: str | None) -> None:
    stopped = writes = 0
    while True:
        released = run(kind, writes, gone)
        for found in (released.vectors, released.sets, released.answers):
            assert all(len(different) == 1 for different in found.values())
        if not released.stops:
            break
        stopped += 1
        writes += 1
    # begun, key, upload, own, complete, (signed,) answer, answered, closed, chains, three times destroyed; twice.
    assert stopped > 20


def test_what_was_interrupted_is_left_and_a_new_attempt_has_other_masks() -> None:
    world = World(4)
    attempt = world.attempt()
    first = world.sites[VICTIM].begin(attempt)
    seeds = [bytes(seed) for seed in first.seeds]
    site = world.restart(VICTIM)
    with pytest.raises(Refused, match="was begun here already"):
        site.begin(attempt)
    with pytest.raises(Refused, match="was interrupted"):
        site.resume(attempt)
    again = site.begin(world.attempt(1))
    assert not set(seeds) & {bytes(seed) for seed in again.seeds}
    with pytest.raises(Refused, match="not the last one begun"):
        site.complete(first)
    assert not any(any(seed) for seed in first.seeds)


def test_a_disk_has_nothing_of_a_closed_round_but_its_journal() -> None:
    world = World(4)
    world.play(world.attempt())
    for name in world.names:
        before = {bytes(one) for one in world.disks[name].files.values()}
        world.sites[name].close(1)
        kept = world.disks[name].files
        assert set(kept) == {"chains", "key"} and bytes(kept["chains"]) not in before
    with pytest.raises(Refused, match="is closed here"):
        world.masked(VICTIM, world.attempt(1))
    assert world.play(world.attempt(round=2, model="blake3:n"), dict.fromkeys(world.names, NEVER))[0] == world.names
