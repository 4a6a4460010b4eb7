"""The servers behind a Redis URL: one, or the primaries of a cluster, behind one interface.

The one idea: a server is a :class:`Node`, which has connections and two circuit breakers of its
own, so that what one server does wrong costs nothing on the others.  Outages open the breaker for
everything, refused writes only the one for writing, because a full or read-only Redis still
answers reads.  :class:`Single` and :class:`~.redis_cluster.Cluster` say which node is asked.

What may go wrong never raises: it is a :class:`Failed` in place of a reply.
"""

from __future__ import annotations

import logging
import re
import typing
from collections.abc import Callable, Sequence

from redis.exceptions import AskError, MovedError

from ..breaker import CLOSED, CircuitBreaker
from ..redis_url import CLUSTER, SENTINEL, RedisUrl, host_and_port
from .base import slices
from .redis_connection import MAX_REPLY_BYTES, OUTAGES, Deadline, Link, kind_of, open_single
from .redis_sentinel import Sentinels, open_sentinel

_logger = logging.getLogger(__name__)

UNLINK_COUNT = 500


class Redirect(typing.NamedTuple):
    """A node says that a key lies elsewhere.

    :param host: '' is the host of the node that says so
    :param for_good: MOVED; else ASK, the slot is under way
    """

    host: str
    port: int
    slot: int
    for_good: bool


def redirect_of(error: Exception) -> Redirect | None:
    """What a MOVED or ASK says; None for any other error."""
    text = str(error)
    if isinstance(error, AskError):  # MovedError is one; they have cut the word off
        word = 'MOVED' if isinstance(error, MovedError) else 'ASK'
    else:
        word, _, text = text.partition(' ')
    match = re.fullmatch(r'([0-9]{1,5}) (\S*):([0-9]{1,5})', text)
    if word not in ('MOVED', 'ASK') or not match:
        return None
    slot, host, port = match.groups()
    return Redirect(host, int(port), int(slot), word == 'MOVED')


class Failed(typing.NamedTuple):
    """Instead of a reply.

    :param kind: what went wrong
    :param counted: whether it needs no attention any more
    :param node: who failed
    """

    kind: str
    counted: bool = False
    node: Node | None = None
    redirect: Redirect | None = None


SKIPPED = Failed('', counted=True)


class Node:
    """One server, or whoever is the primary; thread-safe.

    :param report: called as ``report(kind, address, loud)`` for each fault
    :param address: for logs and pages
    :cvar redirects: whether it may say that a key lies elsewhere
    """

    redirects = False

    def __init__(
        self,
        link: Link,
        address: str,
        breaker: CircuitBreaker,
        writes: CircuitBreaker,
        report: Callable[[str, str, bool | None], None],
    ):
        self.link = link
        self.address = address
        self.breaker = breaker
        self.writes = writes
        self._report = report

    def call(self, run):
        """``run(client)`` within the deadline, if the breaker allows it.

        :return: what it returned, or a :class:`Failed`
        """
        deadline = self.link.deadline
        if deadline.is_over() or not self.breaker.allow():
            return SKIPPED
        deadline.start()
        try:
            reply = run(self.link.client)
        except Exception as error:
            # Whatever the far end makes redis-py raise; see redis_connection.kind_of.
            if self.link.closed:
                return SKIPPED  # by us, under another thread's hands
            failed = self._failed(error)
            if failed.redirect:
                self._answers()
            if failed.kind not in OUTAGES:
                return failed
            self.link.close_idle()
            self._report(failed.kind, self.address, self.breaker.failure())
            return failed._replace(counted=True)
        self._answers()
        return reply

    def _answers(self) -> None:
        if self.breaker.success():
            _logger.info("Tiered Cache L2: %s answers again", self.address)

    def ask(self, parse, command: tuple):
        """One command.

        :param parse: called with the reply; what it raises is a fault of the server
        :return: what ``parse`` returned, or a :class:`Failed`
        """
        return self.call(lambda client: parse(client.execute_command(*command)))

    def ask_all(self, parse, commands: Sequence[tuple], asking: bool = False) -> list:
        """Several commands in one round trip; for each what :meth:`ask` returns.

        :param asking: for keys that are just being moved to this node
        """
        if len(commands) == 1 and not asking:
            return [self.ask(parse, commands[0])]
        replies = self.call(
            lambda client: [
                self._failed(reply) if isinstance(reply, Exception) else parse(reply)
                for reply in pipelined(client, commands, asking)
            ]
        )
        return [replies] * len(commands) if isinstance(replies, Failed) else replies

    def store(self, parse, commands: Sequence[tuple], asking: bool = False) -> list:
        """As :meth:`ask_all`, but a refusal pauses writing to this server."""
        if not self.writes.allow():
            return [SKIPPED] * len(commands)
        replies = self.ask_all(parse, commands, asking)
        refused = [r for r in replies if isinstance(r, Failed) and not (r.counted or r.redirect)]
        if refused:
            self._report(refused[0].kind, self.address, self.writes.failure())
            return [
                reply._replace(counted=True) if reply in refused else reply for reply in replies
            ]
        if not any(isinstance(reply, Failed) for reply in replies):
            self.writes.success()
        return replies

    def refused(self, failed: Failed) -> None:
        """A read was refused, which is as bad as an outage."""
        if not failed.counted:
            self._report(failed.kind, self.address, self.breaker.failure())

    def _failed(self, error: Exception) -> Failed:
        redirect = redirect_of(error) if self.redirects else None
        kind = kind_of(error)
        if kind == 'readonly':
            # It was the primary once; by a new connection we may find the one that is.
            self.link.close_idle()
        return Failed(kind, node=self, redirect=redirect)

    def where(self) -> str:
        """Whom we talk to, as precisely as it is known."""
        return self.address

    @property
    def is_up(self) -> bool:
        return self.breaker.state == CLOSED


class Primary(Node):
    """Whoever is the primary, as Sentinels say."""

    sentinels: Sentinels

    def where(self) -> str:
        named = self.sentinels.primary
        return f'{self.address}: {host_and_port(*named)}' if named else self.address


class Single:
    """One server."""

    def __init__(self, node: Node):
        self._node = node
        self.deadline = node.link.deadline

    def nodes(self) -> list[Node]:
        """Every server that holds entries; begins an operation."""
        self.deadline.begin()
        return [self._node]

    def known(self) -> list[Node]:
        """The servers as they are known, without asking anybody."""
        return [self._node]

    def owner(self, _name: bytes) -> Node | None:
        """Which server holds a key, as far as is known."""
        return self._node

    def ask(self, parse, command: tuple):
        """See :meth:`Node.ask`; an operation of its own."""
        self.deadline.begin()
        return self._node.ask(parse, command)

    def ask_all(self, parse, commands: Sequence[tuple]) -> list:
        """See :meth:`Node.ask_all`; an operation of its own."""
        self.deadline.begin()
        return self._node.ask_all(parse, commands)

    def store(self, parse, commands: Sequence[tuple]) -> list:
        """See :meth:`Node.store`; an operation of its own."""
        self.deadline.begin()
        return self._node.store(parse, commands)

    def remove(self, names: Sequence[bytes]) -> list:
        """Remove keys; numbers of keys that there were, or :class:`Failed`."""
        return [self.ask(int, ('UNLINK', *part)) for part in slices(names, UNLINK_COUNT)]

    def close(self) -> None:
        self._node.link.close()


def open_servers(
    url: RedisUrl,
    timeout_s: float,
    report: Callable[[str, str, bool | None], None],
    breaker: CircuitBreaker,
    writes: CircuitBreaker,
    max_reply_bytes: int = MAX_REPLY_BYTES,
):
    """What a URL names; connects on first use.

    :param timeout_s: for one call, and once more if something has to be found out before
    :param max_reply_bytes: what may come after what is sent together
    :param breaker: of the server, and a pattern for those of many servers, as is ``writes``
    """
    deadline = Deadline(timeout_s, max_reply_bytes)
    if url.form == CLUSTER:
        from .redis_cluster import Cluster, Member  # noqa: PLC0415 - it is built on this module

        def new_member(link: Link, address: str) -> Member:
            return Member(link, address, breaker.another(), writes.another(), report)

        return Cluster(url, deadline, new_member)
    if url.form == SENTINEL:
        link, sentinels = open_sentinel(url, deadline)
        primary = Primary(link, url.address, breaker, writes, report)
        primary.sentinels = sentinels
        return Single(primary)
    return Single(Node(open_single(url, deadline), url.address, breaker, writes, report))


def pipelined(client, commands: Sequence[tuple], asking: bool = False) -> list:
    """Replies to commands sent together; exceptions for those that were refused."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        if asking:
            pipeline.execute_command('ASKING')
        pipeline.execute_command(*command)
    replies = pipeline.execute(raise_on_error=False)
    return replies[1::2] if asking else replies
