"""One process's way to one other Odoo: calls with a deadline, behind a breaker.

The one idea: what is cheap to say is said at once.  While the other server is known to be down
nobody waits for it, but for one call now and then that tries (:mod:`..breaker`); reads are tried
again with growing, random pauses while the caller's time lasts; what may change something is sent
once.

What may go wrong is a :class:`~.errors.RemoteError`.
"""

# "read" is what this one does, no override of a model's method
# pylint: disable=method-required-super

from __future__ import annotations

import logging
import random
import threading
import time
import typing
from collections import Counter

from .. import key_families
from ..breaker import CircuitBreaker
from . import addon, merging, protocols
from .address import parse_allowed
from .batcher import ALONE, Batcher, Work
from .dedup import Dedup
from .domains import ATTRIBUTES
from .errors import (
    RemoteAccessError,
    RemoteAuthenticationError,
    RemoteError,
    RemoteUnreachable,
    RemoteValidationError,
)
from .protocols import Account, Call, Request
from .transport import Deadline, Transport

_logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
"""Before the first repetition; doubled for each further one, and shortened by chance."""

BREAKER_FAILURES = 3
BREAKER_COOLDOWN_S = 1.0
BREAKER_MAX_COOLDOWN_S = 30.0

BATCH_REFUSED = (400, 403, 413, 415, 422)
"""Statuses that say something about a batch (too large, not let through) and nothing about how the
server does: its calls are made one by one."""

DESCRIBED_FOR_S = 3600.0
"""So long the fields of a model are remembered."""


class Settings(typing.NamedTuple):
    """What a ``cache.remote`` says.

    :param allowed_hosts: see :mod:`.address`
    :param timeout_s: for a call, its repetitions included
    :param retries: how often a read is tried again
    :param protocol: '' has not been found out
    :param fail_safe_s: how long an answer may stand in for one that cannot be had
    """

    id: int
    name: str
    url: str
    database: str
    login: str
    key: str
    allowed_hosts: str = ''
    protocol: str = ''
    timeout_s: float = 30.0
    connect_timeout_s: float = 5.0
    acquire_timeout_s: float = 5.0
    min_connections: int = 0
    max_connections: int = 10
    idle_timeout_s: float = 60.0
    max_age_s: float = 600.0
    batch_delay_s: float = 0.05
    retries: int = 2
    ttl_s: float = 300.0
    fail_safe_s: float = 3600.0
    follow: str = 'changes'
    interval_s: float = 10.0

    def __repr__(self):
        return f'<settings of {self.name}>'

    @property
    def account(self) -> Account:
        return Account(self.database, self.login, self.key)

    @property
    def identity(self) -> tuple:
        """What answers depend on; not the key, only whose it is."""
        return self.url, self.database, self.login


class Client:
    """Thread-safe; for one process.

    :raise ValueError: for settings that cannot be
    """

    def __init__(self, settings: Settings, ssl_context=None, pause=time.sleep):
        self.settings = settings
        self._pause = pause
        self._transport = Transport(
            settings.url,
            parse_allowed(settings.allowed_hosts),
            connect_timeout_s=settings.connect_timeout_s,
            ssl_context=ssl_context,
            min_size=settings.min_connections,
            max_size=settings.max_connections,
            acquire_timeout_s=settings.acquire_timeout_s,
            idle_timeout_s=settings.idle_timeout_s,
            max_age_s=settings.max_age_s,
        )
        self._breaker = CircuitBreaker(
            BREAKER_FAILURES, BREAKER_COOLDOWN_S, max_cooldown_s=BREAKER_MAX_COOLDOWN_S
        )
        self._protocol = None
        self._detecting = threading.Lock()
        self._described: dict[str, tuple[float, dict]] = {}
        self._has_batch_api: bool | None = None
        self.version = ''
        self.dedup = Dedup()
        self.batcher = Batcher(settings.batch_delay_s)
        self.requests = 0
        self.retried = 0
        self.errors: Counter = Counter()
        if settings.protocol in protocols.PROTOCOLS:
            self._protocol = protocols.PROTOCOLS[settings.protocol](settings.account)

    # -- calls -------------------------------------------------------------------------

    def read(self, call: Call):  # pylint: disable=method-required-super  # no model's
        """A call that changes nothing: shared, batched, repeated.

        :raise RemoteError:
        """
        deadline = Deadline(self.settings.timeout_s)
        key = key_families.digest(tuple(call))
        return self.dedup.run(key, lambda: self._read(call, deadline), deadline.left_s)

    def change(self, call: Call):
        """A call that may change something: made once.

        :raise RemoteError:
        """
        deadline = Deadline(self.settings.timeout_s)
        try:
            return self._once(lambda: self._call(call, deadline))
        finally:
            self.dedup.changed()

    def changes(self, since: str, models) -> addon.Changes | None:
        """What has changed over there; None: it has no addon."""
        account = self.settings.account
        request = addon.changes_request(account, since, models)
        deadline = Deadline(self.settings.timeout_s)

        def ask():
            response = self._send(request, deadline, 'GET')
            if response.status == 403:
                raise RemoteAccessError('The key may not read one of the models that are followed.')
            if response.status == 400:
                raise RemoteValidationError('The other server does not tell changes of one model.')
            return addon.read_changes(response, account)

        return self._once(ask)

    def detect(self) -> tuple[str, str]:
        """Protocol and version of the other server; see :func:`.protocols.detect`."""
        deadline = Deadline(self.settings.timeout_s)
        name, version = protocols.detect(
            lambda request: self._send(request, deadline), self.settings.account
        )
        self._protocol, self.version = protocols.PROTOCOLS[name](self.settings.account), version
        return name, version

    def test(self) -> tuple[str, str]:
        """As :meth:`detect`, and whether the account may read; nothing is repeated."""
        self._protocol = None
        found = self.detect()
        self._call(Call('res.users', 'context_get', (), {}), Deadline(self.settings.timeout_s))
        self._breaker.reset()
        return found

    def describe(self, model: str) -> dict:
        """Fields of a model over there, see :mod:`.domains`."""
        known = self._described.get(model)
        if known is None or time.monotonic() - known[0] > DESCRIBED_FOR_S:
            arguments = {'attributes': list(ATTRIBUTES)}
            fields = self.read(Call(model, 'fields_get', (), arguments))
            known = self._described[model] = time.monotonic(), fields
        return known[1]

    def tend(self) -> None:
        """Look after the connections; see :meth:`.pool.Pool.tend`."""
        if self._breaker.state == 'closed':
            self._transport.pool.tend()

    def close(self) -> None:
        self._transport.close()

    def stats(self) -> dict:
        """Figures of this process; no text of the other server, no secret."""
        return {
            'pool': self._transport.pool.stats(),
            'breaker': self._breaker.state,
            'requests': self.requests,
            'retried': self.retried,
            'shared': self.dedup.shared,
            'batches': self.batcher.batches,
            'batched': self.batcher.batched,
            'errors': dict(self.errors),
        }

    # -- reading -----------------------------------------------------------------------

    def _read(self, call: Call, deadline: Deadline):
        group = merging.group_of(call, bool(self._has_batch_api))
        if group is None or not self.settings.batch_delay_s:
            return self._repeat(call, deadline)
        work = Work(
            lambda item: self._repeat(item, deadline),
            lambda items: self._merged(group[0], items, deadline),
        )
        return self.batcher.run(group, call, work, deadline.left_s)

    def _merged(self, kind: str, calls: list[Call], deadline: Deadline) -> list:
        def single(call):
            return self._repeat(call, deadline)

        if kind == 'read':
            return merging.merge_reads(calls, single)
        if kind == 'search_read':
            results = merging.merge_searches(calls, single, self.describe)
            left = [index for index, result in enumerate(results) if result is ALONE]
            if len(left) > 1 and self._has_batch_api:
                answers = self._batch([calls[index] for index in left], deadline)
                for index, answer in zip(left, answers, strict=True):
                    results[index] = answer
            return results
        return self._batch(calls, deadline)

    def _batch(self, calls: list[Call], deadline: Deadline) -> list:
        account = self.settings.account
        request = addon.batch_request(account, calls)

        def send():
            response = self._send(request, deadline)
            if response.body.startswith(b'{"results":'):
                # where all calls have failed, the status is theirs and none of the batch's
                response = response._replace(status=200)
            elif response.status in BATCH_REFUSED:
                return [ALONE] * len(calls)
            return addon.read_batch(response, account, len(calls))

        found = self._repeating(send, deadline)
        if found is None:
            self._has_batch_api = False
            return [ALONE] * len(calls)
        return found

    def has_addon(self, there: bool) -> None:
        """Whether the other server has this addon, as far as its changes are followed."""
        self._has_batch_api = there

    def _repeat(self, call: Call, deadline: Deadline):
        return self._repeating(lambda: self._call(call, deadline), deadline)

    def _repeating(self, work, deadline: Deadline):
        """``work()``, again after an outage while there is time."""
        pause_s = FIRST_PAUSE_S
        for left in range(self.settings.retries, -1, -1):
            try:
                return self._once(work)
            except RemoteError as error:
                wait_s = pause_s * random.uniform(0.5, 1.0)
                spared = error.local or self._breaker.state != 'closed'
                if not (error.outage and left) or spared or deadline.left_s() <= wait_s:
                    raise
            self.retried += 1
            self._pause(wait_s)
            pause_s *= 2

    def _once(self, work):
        """``work()`` behind the breaker."""
        if not self._breaker.allow():
            self.errors['spared'] += 1
            raise RemoteUnreachable(
                'The server did not answer before; it is left alone for a moment.'
            )
        try:
            result = work()
        except RemoteError as error:
            self.errors[error.kind] += 1
            if error.local:
                raise
            if error.outage:
                if self._breaker.failure():
                    _logger.warning(
                        "Tiered Cache: the remote %s does not answer (%s: %s); it is left alone"
                        " for a while.",
                        self.settings.name,
                        error.kind,
                        error,
                    )
            elif self._breaker.success():
                self._answers()
            raise
        if self._breaker.success():
            self._answers()
        return result

    def _answers(self) -> None:
        _logger.info("Tiered Cache: the remote %s answers again.", self.settings.name)

    # -- the wire ----------------------------------------------------------------------

    def _call(self, call: Call, deadline: Deadline):
        protocol = self._known_protocol()
        protocol.log_in(lambda request: self._send(request, deadline))
        try:
            return protocol.result(self._send(protocol.request(call), deadline))
        except RemoteAuthenticationError:
            protocol.log_out()
            raise

    def _known_protocol(self):
        if self._protocol is None:
            with self._detecting:
                if self._protocol is None:
                    self.detect()
        return self._protocol

    def _send(self, request: Request, deadline: Deadline, method: str = 'POST'):
        self.requests += 1
        return self._transport.request(
            method, request.path, request.body, request.headers, deadline
        )
