"""One look at a Redis, for an administrator who wants to know whether a URL works.

The one idea: it does what the L2 tier does (:mod:`.tiers.redis`), over the same connections and
with the same commands, on every server that would hold entries, but waits up to two seconds
and says in a sentence what is wrong and what to do.

What may go wrong: whatever can be wrong with a server; every case becomes a
:class:`ProbeError`.  No message contains the URL or anything the server said, since both may
hold a password.
"""

from __future__ import annotations

import secrets
import statistics
import time

from odoo.tools.translate import LazyTranslate

from . import options, redis_url
from .breaker import CircuitBreaker

TIMEOUT_S = 2.0
"""A person waits for it, and wants to know how slow the line is."""

ROUND_TRIPS = 5

_lt = LazyTranslate(__name__, default_lang='en_US')
"""Into the language of the request; programs without one get English."""

MAX_NAMES = 500_000
"""Keys tried to find one that lies on a given node: 0.5 s, enough for a single slot."""

_ADVICE = {
    'not configured': _lt(
        "There is no Redis URL to test. Enter one, for example redis://localhost:6379/0."
    ),
    'not installed': _lt(
        "The Python package redis is not installed on this server. Install it "
        "(pip install redis) and restart Odoo."
    ),
    'refused': _lt(
        "Nothing listens at %(address)s. Check that Redis runs, its settings bind and port, "
        "and host and port in the URL."
    ),
    'no socket': _lt(
        "The socket does not exist or may not be opened. Check the path and that the "
        "user of the Odoo server belongs to the group of the Redis socket."
    ),
    'timeout': _lt(
        "No answer within %(timeout_s)g seconds from %(address)s. Check host and port, a "
        "firewall in between, and whether the server is overloaded; a server that expects TLS "
        "needs a URL with rediss, one that does not needs redis."
    ),
    'dns': _lt(
        "The host name is not known to the Odoo server. Check the spelling in %(address)s, or "
        "enter the IP address."
    ),
    'tls': _lt(
        "No secure connection to %(address)s. Check that this port speaks TLS and that the "
        "certificate is valid for this host; a private certificate authority is given as "
        "?ssl_ca_certs=/path/to/ca.pem. Without TLS the URL begins with redis, not rediss."
    ),
    'connection': _lt(
        "%(address)s closed the connection. If it expects TLS, begin the URL with "
        "rediss; if it has too many clients, raise its maxclients."
    ),
    'auth': _lt(
        "%(address)s refuses the user name or password, or requires one. Correct them in the "
        "URL, redis://user:password@host, and write special characters as %%XX."
    ),
    'loading': _lt("%(address)s is still loading its data. Try again in a moment."),
    'protocol': _lt("What answers at %(address)s is not Redis. Check host and port."),
    'database': _lt(
        "%(address)s refuses the database number in the URL. Check that it exists (by "
        "default 0 to 15)."
    ),
    'sentinel': _lt(
        "No Sentinel of %(address)s answers. Check hosts and ports (26379 unless told "
        "otherwise), and that these are Sentinels, not the Redis servers they watch."
    ),
    'sentinel auth': _lt(
        "The Sentinels of %(address)s refuse the user or password, or require one. "
        "Theirs are given as ?sentinel_username= and ?sentinel_password=; the ones before the '@' "
        "are for Redis itself. The user needs the command SENTINEL|GET-MASTER-ADDR-BY-NAME."
    ),
    'service': _lt(
        "The Sentinels of %(address)s watch nothing of this name. Correct it; it stands in "
        "their configuration, in the line 'sentinel monitor'."
    ),
    'readonly': _lt(
        "%(address)s is a read-only replica. Enter the address of its primary, or of the "
        "Sentinels that know it: redis+sentinel://host:26379/name."
    ),
    'cluster': _lt(
        "%(address)s belongs to a Redis Cluster, or the cluster is down. For a cluster, begin "
        "the URL with redis+cluster://, and check that all its slots are served (CLUSTER INFO)."
    ),
    'no cluster': _lt(
        "%(address)s does not belong to a Redis Cluster. For a single server, begin the "
        "URL with redis://."
    ),
    'oom': _lt(
        "%(address)s has no memory left and refuses writes. Set its maxmemory-policy to "
        "allkeys-lru, or give it more memory."
    ),
    'denied': _lt(
        "%(address)s does not permit this user what is needed. Allow it the keys %(prefix)s* "
        "and the commands GETRANGE, SET, UNLINK, SCAN, PING, DBSIZE, INFO, SELECT, CLIENT|SETNAME, "
        "and in a cluster CLUSTER|SLOTS and ASKING."
    ),
    'error': _lt(
        "%(address)s refuses a command that is needed. It must be Redis 4 or newer, or "
        "Valkey, with GETRANGE, SET, UNLINK and SCAN under their own names."
    ),
}


class ProbeError(Exception):
    """The text says what is wrong and what to do.

    :ivar kind: one word, as in the faults of the tier, or 'bad address', 'not configured',
        'not installed', 'no socket', 'database'
    """

    def __init__(self, kind: str, text: str):
        self.kind = kind
        super().__init__(text)


def probe(url: str, prefix: str = 'tc:', timeout_ms: float = 50) -> dict:
    """Connect to every server that would hold entries, write, read, search and remove a key.

    :param url: one that :func:`options.check` accepts, not empty
    :param prefix: of the key, which is gone afterwards
    :param timeout_ms: what the tier will be given, for advice
    :return: ``server`` ('Redis' or 'Valkey'), ``version``, ``address`` (without credentials),
        ``servers`` (how many hold entries), ``connect_ms``, ``round_trip_ms`` (median of
        :data:`ROUND_TRIPS`, of the slowest server), ``used_memory_bytes``,
        ``max_memory_bytes`` (0 is no limit), ``max_memory_policy``, ``advice`` (sentences);
        what the servers keep to themselves is None
    :raise ProbeError: the URL is bad, the library is missing, or a server does not do its part
    """
    parsed = _parsed(url)
    heard: list[tuple[str, str]] = []

    def report(kind, address, _loud):
        heard.append((kind, address))

    servers = _library().open_servers(parsed, TIMEOUT_S, report, CircuitBreaker(), CircuitBreaker())
    try:
        nodes = servers.nodes()
        if not nodes:
            raise _Stop(*(heard or [('cluster', parsed.address)])[-1])
        found = [_Attempt(servers, node, prefix).run(parsed) for node in nodes]
    except _Stop as stop:
        kind, address = stop.args
        if not kind:  # its breaker was open already: what opened it is the reason
            kind, address = heard[-1] if heard else ('timeout', address)
        raise _error(_precise(kind, parsed), address, prefix) from None
    finally:
        servers.close()
    return _summary(parsed, found, timeout_ms)


class _Stop(Exception):
    """Kind of a fault, and address of the server."""


class _Attempt:
    """What is tried on one server."""

    def __init__(self, servers, node, prefix: str):
        self._servers = servers
        self._node = node
        self._name = self._name_on_node(prefix)

    def run(self, parsed) -> dict:
        try:
            connect_ms = self._ms('PING')
        except _Stop as stop:
            if stop.args[0] == 'error' and parsed.database:
                raise _Stop('database', self._node.address) from None
            raise
        self._ms('SET', self._name, b'x', 'PX', 10_000)
        round_trip_ms = statistics.median(
            self._ms('GETRANGE', self._name, 0, 1) for _ in range(ROUND_TRIPS)
        )
        self._ms('SCAN', 0, 'MATCH', self._name, 'COUNT', 1)
        self._ms('UNLINK', self._name)
        info = self._info()
        if info.get('cluster_enabled') and parsed.form != redis_url.CLUSTER:
            # It happens to have the slot of our key, but will refuse most.
            raise _Stop('cluster', self._node.address)
        return {
            'connect_ms': connect_ms,
            'round_trip_ms': round_trip_ms,
            'info': info,
        }

    def _name_on_node(self, prefix: str) -> bytes:
        start = f'{prefix}ping:{secrets.token_hex(8)}:'
        for number in range(MAX_NAMES):
            name = f'{start}{number}'.encode()
            if self._servers.owner(name) is self._node:
                return name
        raise _Stop('cluster', self._node.address)

    def _ms(self, *command) -> float:
        started = time.perf_counter()
        self._ask(*command)
        return (time.perf_counter() - started) * 1000

    def _ask(self, *command):
        self._servers.deadline.begin()
        reply = self._node.ask(_Reply, command)
        if not isinstance(reply, _Reply):
            raise _Stop(reply.kind, self._node.address)
        return reply.value

    def _info(self) -> dict:
        """What INFO tells; nothing where it is forbidden, as hosted servers often do."""
        try:
            return self._ask('INFO')
        except _Stop as stop:
            if stop.args[0] in ('denied', 'error'):
                return {}
            raise


class _Reply:
    def __init__(self, value):
        self.value = value


def _parsed(url: str):
    try:
        url = options.check('redis_url', url)
    except ValueError as error:
        raise ProbeError('bad address', error.args[0]) from None
    if not url:
        raise _error('not configured')
    return redis_url.parse(url)


def _library():
    try:
        from .tiers import redis_servers  # noqa: PLC0415  the addon works without redis
    except ImportError:
        raise _error('not installed') from None
    return redis_servers


def _error(kind: str, address: str = '', prefix: str = '') -> ProbeError:
    text = str(_ADVICE.get(kind, _ADVICE['error']))
    return ProbeError(kind, text % {'address': address, 'prefix': prefix, 'timeout_s': TIMEOUT_S})


def _precise(kind: str, parsed) -> str:
    return 'no socket' if (kind, parsed.form) == ('refused', redis_url.UNIX) else kind


def _summary(parsed, found: list[dict], timeout_ms: float) -> dict:
    infos = [one['info'] for one in found]
    info = infos[0]
    valkey = info.get('valkey_version')
    connect_ms, round_trip_ms = (
        max(one[name] for one in found) for name in ('connect_ms', 'round_trip_ms')
    )
    limits = [one.get('maxmemory') for one in infos]
    return {
        'server': 'Valkey' if valkey else 'Redis',
        'version': valkey or info.get('redis_version'),
        'address': parsed.address,
        'servers': len(found),
        'connect_ms': connect_ms,
        'round_trip_ms': round_trip_ms,
        'used_memory_bytes': _total([one.get('used_memory') for one in infos]),
        'max_memory_bytes': 0 if 0 in limits else _total(limits),
        'max_memory_policy': info.get('maxmemory_policy'),
        'advice': [
            str(sentence)
            for sentence in (
                *_advice(max(connect_ms, round_trip_ms), timeout_ms, infos),
                *_advice_on_safety(parsed, infos),
            )
        ],
    }


def _total(numbers: list) -> int | None:
    return None if None in numbers else sum(numbers)


def _advice(slowest_ms: float, timeout_ms: float, infos: list[dict]) -> list:
    advice = []
    if slowest_ms > timeout_ms:
        advice.append(
            _lt(
                "An answer took %(took)s ms, but Redis is given up after %(limit)s ms. Raise the "
                "timeout to %(better)s ms, or use a Redis that is nearer.",
                took=f'{slowest_ms:.0f}',
                limit=f'{timeout_ms:.0f}',
                better=f'{2 * slowest_ms:.0f}',
            )
        )
    if any(info.get('maxmemory') == 0 for info in infos):
        advice.append(
            _lt(
                "This Redis has no memory limit. Set maxmemory, and maxmemory-policy "
                "allkeys-lru, so that it cannot take all memory of its machine."
            )
        )
    elif any(info.get('maxmemory_policy') == 'noeviction' for info in infos):
        advice.append(
            _lt(
                "This Redis refuses writes when it is full. Set maxmemory-policy "
                "allkeys-lru, so that old entries make room for new ones."
            )
        )
    return advice


def _advice_on_safety(parsed, infos: list[dict]) -> list:
    advice = []
    if any(_is_persistent(info) for info in infos):
        advice.append(
            _lt(
                "This Redis writes its data to disk, which a cache does not need and which costs "
                "time. Unless it also holds something else, set save \"\" and appendonly no."
            )
        )
    elsewhere = any(host not in _THIS_MACHINE for host, _port in parsed.hosts)
    if elsewhere and not parsed.tls and parsed.form != redis_url.UNIX:
        advice.append(
            _lt(
                "Values travel to another machine without encryption. Where others can listen on "
                "that network, begin the URL with rediss instead of redis."
            )
        )
    return advice


_THIS_MACHINE = ('localhost', '127.0.0.1', '::1')


def _is_persistent(info: dict) -> bool:
    """Whether it has written, or writes, its data; INFO does not tell what it is told to do."""
    return bool(info.get('aof_enabled')) or info.get('rdb_last_bgsave_time_sec', -1) >= 0
