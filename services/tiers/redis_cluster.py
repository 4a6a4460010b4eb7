"""The primaries of a Redis Cluster.

The one idea: the key says the slot (CRC16 modulo 16,384) and a map says which node has the
slot.  The map is read with CLUSTER SLOTS from any node, and is allowed to be wrong: a node that
does not have the slot (any more) says who has, is believed, and the command is sent there once.
After that it is a miss.  Each node has its own breakers, so a dead one costs its own slots.

redis-py's own Cluster client is not used: it connects to every node before it answers, repeats a
command up to three times and reads the map again in between, with full timeouts each.  Here
an operation has two timeouts, one of them for reading the map and connecting, whatever happens.

No command has keys of two slots: what belongs to one node is sent to it in one round trip, as
commands of one key each.

What may go wrong: a slot without a node, a node that is down, a slot that is moved twice within
an operation: misses for these keys.  A node may name any address as the owner of a slot, so
that whoever controls one node may have the others' password sent to him; he had it already.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from redis.crc import key_slot

from ..redis_url import RedisUrl, host_and_port
from .base import slices
from .redis_connection import OUTAGES, Deadline, Link, open_link
from .redis_servers import SKIPPED, UNLINK_COUNT, Failed, Node, Redirect

SLOTS = 16_384

REFRESH_S = 1.0
"""The map is not read more often than this: following redirects costs less."""

MAX_ASKED = 3
"""Nodes asked for the map in one operation, the healthy ones first."""

MAX_NODES = 1000
"""What Redis itself recommends as the limit."""


class Member(Node):
    """A node of a cluster."""

    redirects = True
    place = ('', 0)


def _name_in(command: tuple) -> bytes:
    """The key of a command: its second word, but for a script's."""
    return command[3] if command[0] == 'EVAL' else command[1]


class Cluster:
    """See :class:`~.redis_servers.Single`; thread-safe.

    :param url: its hosts are asked for the map until others are known
    :param new_member: ``new_member(link, address)`` makes a :class:`Member`
    """

    def __init__(
        self, url: RedisUrl, deadline: Deadline, new_member: Callable[[Link, str], Member]
    ):
        self.deadline = deadline
        self._url = url
        self._new_member = new_member
        self._members: dict[tuple[str, int], Member] = {}
        self._members_lock = threading.Lock()
        self._seeds = [self._member(*place) for place in url.hosts]
        self._owners: list[Member | None] = [None] * SLOTS
        self._primaries: list[Member] = []  # owners, each once
        self._stale = True
        self._refresh_lock = threading.Lock()
        self._refresh_at = 0.0

    # ---- operations

    def nodes(self) -> list[Member]:
        self._begin()
        return self._primaries

    def known(self) -> list[Member]:
        return self._primaries or self._seeds

    def owner(self, name: bytes) -> Member | None:
        return self._owners[key_slot(name)]

    def ask(self, parse, command: tuple):
        return self.ask_all(parse, [command])[0]

    def ask_all(self, parse, commands: Sequence[tuple]) -> list:
        return self._route(commands, lambda node, part, asking: node.ask_all(parse, part, asking))

    def store(self, parse, commands: Sequence[tuple]) -> list:
        return self._route(commands, lambda node, part, asking: node.store(parse, part, asking))

    def remove(self, names: Sequence[bytes]) -> list:
        return [
            count
            for part in slices(names, UNLINK_COUNT)
            for count in self.ask_all(int, [('UNLINK', name) for name in part])
        ]

    def close(self) -> None:
        for member in list(self._members.values()):
            member.link.close()

    # ---- routing

    def _route(self, commands: Sequence[tuple], send) -> list:
        """Send each command to the owner of its key.

        :param send: ``send(node, commands, asking)`` returns as many replies
        """
        self._begin()
        replies = [SKIPPED] * len(commands)
        parts: dict = {}
        for number, command in enumerate(commands):
            owner = self.owner(_name_in(command))
            if owner is None:
                self._stale = True
            else:
                parts.setdefault((owner, False), []).append(number)
        self._send(commands, parts, send, replies)
        self._send(commands, self._redirected(replies), send, replies)
        for number, reply in enumerate(replies):
            if isinstance(reply, Failed) and reply.redirect:
                replies[number] = SKIPPED  # moved once more; the next operation finds it
        return replies

    def _send(self, commands: Sequence[tuple], parts: dict, send, replies: list) -> None:
        for (node, asking), numbers in parts.items():
            answers = send(node, [commands[number] for number in numbers], asking)
            for number, answer in zip(numbers, answers, strict=True):
                replies[number] = answer
                if isinstance(answer, Failed) and answer.kind in _SUSPICIOUS:
                    self._stale = True

    def _redirected(self, replies: list) -> dict:
        parts: dict = {}
        for number, reply in enumerate(replies):
            if isinstance(reply, Failed) and reply.redirect:
                target = self._follow(reply.redirect, reply.node)
                if target is not None:
                    parts.setdefault((target, not reply.redirect.for_good), []).append(number)
        return parts

    def _follow(self, redirect: Redirect, by: Member) -> Member | None:
        target = self._member(redirect.host or by.place[0], redirect.port)
        if redirect.for_good and target is not None and 0 <= redirect.slot < SLOTS:
            self._owners[redirect.slot] = target
            if target not in self._primaries:
                self._primaries = [*self._primaries, target]
        return target

    # ---- the map

    def _begin(self) -> None:
        """An operation begins; reads the map again if it is wrong, unless somebody does."""
        self.deadline.begin()
        if not self._stale or time.monotonic() < self._refresh_at:
            return
        if self._refresh_lock.acquire(blocking=False):
            try:
                self._refresh_at = time.monotonic() + REFRESH_S
                self._refresh()
            finally:
                self._refresh_lock.release()

    def _refresh(self) -> None:
        asked = self._whom_to_ask()
        for number, member in enumerate(asked):
            with self.deadline.part_of(len(asked) - number):
                layout = member.ask(_layout, ('CLUSTER', 'SLOTS'))
            if not isinstance(layout, Failed):
                self._stale = False
                self._install(layout, member)
                return
            # A server that is not part of a cluster does not know what is meant.
            kind = 'no cluster' if layout.kind == 'error' else layout.kind
            member.refused(layout._replace(kind=kind))

    def _whom_to_ask(self) -> list[Member]:
        members = list(dict.fromkeys([*self._primaries, *self._seeds]))
        random.shuffle(members)  # not all workers the same one
        members.sort(key=lambda member: not member.is_up)
        return members[:MAX_ASKED]

    def _install(self, layout: list[tuple[int, int, str, int]], by: Member) -> None:
        owners: list[Member | None] = [None] * SLOTS
        for first, last, host, port in layout:
            owner = self._member(host or by.place[0], port)
            owners[first : last + 1] = [owner] * (last + 1 - first)
        self._owners = owners
        self._primaries = sorted(set(owners) - {None}, key=lambda member: member.place)
        keep = {*owners, *self._seeds}
        with self._members_lock:
            gone = [member for member in self._members.values() if member not in keep]
            for member in gone:
                del self._members[member.place]
        for member in gone:
            member.link.close_idle()

    def _member(self, host: str, port: int) -> Member | None:
        """The node at an address; None if there are too many."""
        with self._members_lock:
            member = self._members.get((host, port))
            if member is None and len(self._members) < MAX_NODES:
                link = open_link(self._url, self.deadline, host=host, port=port)
                scheme = 'rediss' if self._url.tls else 'redis'
                member = self._new_member(link, f'{scheme}://{host_and_port(host, port)}')
                member.place = (host, port)
                self._members[host, port] = member
            return member


_SUSPICIOUS = OUTAGES | {'cluster'}
"""After these, somebody else may have taken over; redirects are of kind 'cluster'."""


def _layout(reply) -> list[tuple[int, int, str, int]]:
    """The reply to CLUSTER SLOTS: first and last slot, host and port of the primary."""
    layout = []
    for first, last, primary, *_replicas in reply:
        host, port = primary[0] or b'', int(primary[1])
        if not (0 <= first <= last < SLOTS and 0 < port < 65_536 and len(layout) < SLOTS):
            raise ValueError("not a layout of slots")
        if host != b'?':  # not known to the node either
            layout.append((first, last, host.decode('ascii'), port))
    return layout
