"""The primary that Redis Sentinels name.

The one idea: each new connection asks a Sentinel where the primary is, and connects there, so
nothing has to be kept up to date.  A failover breaks the connections to the old primary: it is
dead, or the Sentinels make it a replica, which hangs up on its clients.  The breaker then pauses,
and its probe connects to whoever is the primary by then.

redis-py's own Sentinel client is not used: it asks one Sentinel after the other with a full
timeout each, and again when it retries.  Here asking and connecting share one timeout: each of
the Sentinels that are asked gets a part of what is left.

What may go wrong: no Sentinel answers in time, or none knows the name ('sentinel', 'service',
'sentinel auth', outages like any other); a Sentinel is behind and names the old primary.  If
that has become a replica, reads still answer (an entry is judged by its versions wherever it
comes from), and the first write it refuses closes the connections.
"""

from __future__ import annotations

import redis

from ..redis_url import RedisUrl
from .redis_connection import (
    Deadline,
    Link,
    Tcp,
    Tls,
    Undiscovered,
    connection_options,
    kind_of,
    open_link,
)

MAX_ASKED = 3
"""Sentinels asked for one connection; a third of the time is the least that any gets."""


class Sentinels:
    """What asks the Sentinels of a URL; thread-safe."""

    def __init__(self, url: RedisUrl, deadline: Deadline):
        self._hosts = list(url.hosts)  # who answered last comes first
        self._service = url.service
        self._class = Tls if url.tls else Tcp
        self._deadline = deadline
        self._options = {
            **connection_options(url, deadline),
            'db': 0,
            'client_name': None,
            'username': url.sentinel_username,
            'password': url.sentinel_password,
        }
        self.primary: tuple[str, int] | None = None

    def find_primary(self) -> tuple[str, int]:
        """Host and port of the primary, within the deadline that has been started.

        :raise Undiscovered: nobody knows, or nobody answers
        """
        kinds = []
        asked = self._hosts[:MAX_ASKED]
        for number, host in enumerate(asked):
            try:
                # One part more, for connecting to the primary.
                with self._deadline.part_of(len(asked) - number + 1):
                    answer = self._ask(*host)
            except Exception as error:  # whatever a stranger makes redis-py raise
                kinds.append(kind_of(error))
            else:
                if answer is not None:
                    self.primary = answer
                    return answer
                kinds.append('service')
            self._put_last(host)
        raise Undiscovered(_worst(kinds))

    def _ask(self, host: str, port: int) -> tuple[str, int] | None:
        connection = self._class(host=host, port=port, **self._options)
        try:
            connection.connect()
            connection.send_command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', self._service)
            answer = connection.read_response()
        finally:
            connection.disconnect()
        if answer is None:
            return None
        name, number = answer
        port = int(number)
        if not name or not 0 < port < 65_536:
            raise redis.InvalidResponse("not an address")
        return name.decode('ascii'), port

    def _put_last(self, host: tuple[str, int]) -> None:
        # A new list: another thread may be reading the old one.
        self._hosts = [other for other in self._hosts if other != host] + [host]


def _worst(kinds: list[str]) -> str:
    """What to tell of several Sentinels that failed: what somebody can mend first."""
    if 'service' in kinds:
        return 'service'
    if 'auth' in kinds or 'denied' in kinds:
        return 'sentinel auth'
    return 'tls' if 'tls' in kinds else 'sentinel'


class _ToPrimary:
    """Mixed into a connection class: where to connect is asked each time."""

    def __init__(self, *, sentinels: Sentinels, **kwargs):
        self._sentinels = sentinels
        super().__init__(**kwargs)

    def _share_time(self):
        self.host, self.port = self._sentinels.find_primary()
        return super()._share_time()


class _TcpToPrimary(_ToPrimary, Tcp):
    pass


class _TlsToPrimary(_ToPrimary, Tls):
    pass


def open_sentinel(url: RedisUrl, deadline: Deadline) -> tuple[Link, Sentinels]:
    """A client for the primary, whoever that is when it connects."""
    sentinels = Sentinels(url, deadline)
    connection_class = _TlsToPrimary if url.tls else _TcpToPrimary
    return open_link(url, deadline, connection_class, sentinels=sentinels), sentinels
