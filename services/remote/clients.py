"""The clients of one process and database, by the name of the remote.

The one idea: a client lives as long as what its record says; who changes the record gets a new
one, and the old one's waiters are rejected.  Settings are read by SQL, since the background has no
environment, and the key shall pass through no ORM cache and no recording.

What may go wrong: after a fork the connections are the parent's; the child forgets them unclosed.
"""

from __future__ import annotations

import os
import threading

from .client import Client, Settings

COLUMNS = (
    'id',
    'name',
    'url',
    'database',
    'login',
    'secret',
    'allowed_hosts',
    'protocol',
    'timeout_s',
    'connect_timeout_s',
    'acquire_timeout_s',
    'min_connections',
    'max_connections',
    'idle_timeout_s',
    'max_age_s',
    'batch_delay_ms',
    'retries',
    'ttl_s',
    'fail_safe_s',
    'follow',
    'interval_s',
)
_ALL = f"SELECT {', '.join(COLUMNS)} FROM cache_remote WHERE active ORDER BY id"
_ONE = f"SELECT {', '.join(COLUMNS)} FROM cache_remote WHERE active AND name = %s"


def read_settings(cr, name: str | None = None) -> list[Settings]:
    """Of the active remotes, or of one of them."""
    if name is None:
        cr.execute(_ALL)
    else:
        cr.execute(_ONE, [name])
    return [settings_of(row) for row in cr.dictfetchall()]


def settings_of(row: dict) -> Settings:
    """:param row: the columns above"""
    row = {name: '' if value is None else value for name, value in row.items()}
    row['key'] = row.pop('secret')
    row['batch_delay_s'] = row.pop('batch_delay_ms') / 1000
    return Settings(**row)


class Clients:
    """Thread-safe."""

    def __init__(self):
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._clients: dict[str, Client] = {}

    def get(self, settings: Settings) -> Client:
        """The client for these settings.

        :raise ValueError: they cannot be
        """
        client = self._clients.get(settings.name)
        if client is not None and client.settings == settings and self._pid == os.getpid():
            return client
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._clients = os.getpid(), {}
            old = self._clients.get(settings.name)
            if old is not None and old.settings == settings:
                return old
            client = self._clients[settings.name] = Client(settings)
        if old is not None:
            old.close()
        return client

    def keep_only(self, names) -> None:
        """Close those of remotes that are no more."""
        with self._lock:
            gone = [self._clients.pop(name) for name in self._clients.keys() - set(names)]
        for client in gone:
            client.close()

    def all(self) -> list[Client]:
        return list(self._clients.values())

    def stats(self) -> dict[str, dict]:
        """By name; see :meth:`.client.Client.stats`."""
        return {name: client.stats() for name, client in sorted(self._clients.items())}

    def close(self) -> None:
        self.keep_only(())
