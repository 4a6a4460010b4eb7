"""One look at a Redis, for an administrator who wants to know whether a URL works.

The one idea: unlike the L2 tier, which must never make a request wait nor fail, this waits
up to two seconds and says in a sentence what is wrong and what to do.

What may go wrong: whatever can be wrong with a server; every case becomes a
:class:`ProbeError`.  No message contains the URL or anything the server said about
credentials, since both may hold a password.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import statistics
import time

from . import options

TIMEOUT_S = 2.0
ROUND_TRIPS = 5


class ProbeError(Exception):
    """The text says what is wrong and what to do."""


def probe(url: str) -> dict:
    """Connect, ask for the version, measure the round trip.

    :param url: one that :func:`options.check` accepts, not empty
    :return: ``server`` ('Redis' or 'Valkey'), ``version``, ``round_trip_ms`` (median of
        :data:`ROUND_TRIPS`), ``used_memory_bytes``, ``max_memory_bytes`` (0 is no limit),
        ``max_memory_policy``; what the server keeps to itself is None
    :raise ProbeError: the URL is bad, the library is missing, or the server does not answer
    """
    url = _checked(url)
    redis = _library()
    client = _client(redis, url)
    try:
        client.ping()
        return {'round_trip_ms': _round_trip_ms(client), **_describe(redis, client)}
    except (redis.RedisError, OSError, ValueError) as error:
        raise ProbeError(_advice(redis, error)) from error
    finally:
        with contextlib.suppress(redis.RedisError, OSError):
            client.close()


def _checked(url: str) -> str:
    try:
        url = options.check('redis_url', url)
    except ValueError as error:
        raise ProbeError(str(error)) from None
    if not url:
        raise ProbeError(
            "There is no Redis URL to test. Enter one, for example redis://localhost:6379/0."
        )
    return url


def _library():
    try:
        import redis  # noqa: PLC0415  the addon works without it
    except ImportError:
        raise ProbeError(
            "The Python package 'redis' is not installed on this server. Install it "
            "with: pip install redis"
        ) from None
    return redis


def _client(redis, url: str):
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    try:
        return redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
    except (redis.RedisError, OSError, TypeError, ValueError):
        raise ProbeError(
            "The Redis URL has a parameter with a value that cannot be used. Check "
            "what follows '?'."
        ) from None


def _round_trip_ms(client) -> float:
    times = []
    for _ in range(ROUND_TRIPS):
        started = time.perf_counter()
        client.ping()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _describe(redis, client) -> dict:
    try:
        info = client.info()
    except redis.RedisError:  # hosted servers often forbid INFO
        info = {}
    valkey = info.get('valkey_version')
    return {
        'server': 'Valkey' if valkey else 'Redis',
        'version': valkey or info.get('redis_version'),
        'used_memory_bytes': info.get('used_memory'),
        'max_memory_bytes': info.get('maxmemory'),
        'max_memory_policy': info.get('maxmemory_policy'),
    }


def _advice(redis, error: Exception) -> str:
    causes = list(_causes(error))
    for kinds, advice in (
        (
            redis.AuthenticationError,
            "Redis refuses the user name or password. Give both in the URL, as in "
            "redis://user:password@host:6379/0, special characters as %XX.",
        ),
        (
            redis.exceptions.NoPermissionError,
            "The Redis user may not run the commands PING and INFO. Check its access list (ACL).",
        ),
        (
            redis.exceptions.ResponseError,
            "Redis refuses the connection as asked for. Check that the database number in the URL "
            "exists (by default 0 to 15).",
        ),
        (redis.exceptions.InvalidResponse, "What answers is not Redis. Check the port."),
        (
            ssl.SSLError,
            "The TLS connection fails. Check that the server speaks TLS on this port and that its "
            "certificate is trusted; without TLS the URL begins with redis://.",
        ),
        (socket.gaierror, "The host name is not known. Check its spelling."),
        (
            ConnectionRefusedError,
            "Nothing listens on that host and port. Check that Redis runs, and its settings bind "
            "and port.",
        ),
        (
            (FileNotFoundError, PermissionError),
            "The socket does not exist or may not be opened. Check the path and that the user of "
            "the Odoo server belongs to the group of the Redis socket.",
        ),
        (
            (TimeoutError, redis.TimeoutError),
            f"No answer within {TIMEOUT_S:g} seconds. Check host, port and firewall; a server that "
            "expects TLS needs a URL with rediss://, one that does not needs redis://.",
        ),
    ):
        if any(isinstance(cause, kinds) for cause in causes):
            return advice
    return (
        f"Redis does not answer as expected ({type(error).__name__}). Check that the host "
        "and port belong to a Redis or Valkey server."
    )


def _causes(error: BaseException | None):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
