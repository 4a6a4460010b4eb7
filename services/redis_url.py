"""Where Redis is: the forms that ``redis_url`` may have.

======================================================  =====================================
``redis://user:password@host:6379/0``                   one server
``unix:///run/redis/redis.sock?db=0``                   one server, socket of the file system
``redis+sentinel://user:password@host:26379,…/name/0``  the primary that Sentinels name
``redis+cluster://user:password@host:6379,…``           a Redis Cluster
======================================================  =====================================

``rediss`` instead of ``redis`` is TLS, to Sentinels too.  User and password are those of the
servers that hold the data; the Sentinels have their own, ``?sentinel_username=`` and
``?sentinel_password=``.

The one idea: one parser for Settings, which want a sentence, and for connections, which want
the parts.  It works without the package ``redis``.

What may go wrong: the URL is mistyped.  No sentence contains any of it, since it may hold a
password; nor does :attr:`RedisUrl.address`, which is fit for logs.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import urllib.parse
from collections.abc import Mapping

from .sentences import _lt

SINGLE, UNIX, SENTINEL, CLUSTER = 'single', 'unix', 'sentinel', 'cluster'

SCHEMES = {
    'redis': (SINGLE, False),
    'rediss': (SINGLE, True),
    'unix': (UNIX, False),
    'redis+sentinel': (SENTINEL, False),
    'rediss+sentinel': (SENTINEL, True),
    'redis+cluster': (CLUSTER, False),
    'rediss+cluster': (CLUSTER, True),
}

PARAMETERS = frozenset(
    (
        'db',
        'username',
        'password',
        'client_name',
        'ssl_cert_reqs',
        'ssl_ca_certs',
        'ssl_ca_path',
        'ssl_certfile',
        'ssl_keyfile',
        'ssl_check_hostname',
    )
)
"""What may follow ``?``.  Timeouts, retries and the protocol are ours to set."""

SENTINEL_PARAMETERS = frozenset(('sentinel_username', 'sentinel_password'))

_WORDS = {
    'ssl_cert_reqs': ('none', 'optional', 'required'),
    'ssl_check_hostname': ('true', 'false'),
}

MAX_LENGTH = 2000
MAX_HOSTS = 32
MAX_DATABASE = 65_535
"""Redis has 16 databases by default and takes any number in ``databases``; a larger index
than this is a mistake, not a choice."""

_DEFAULT_PORTS = {SINGLE: 6379, CLUSTER: 6379, SENTINEL: 26379}
_EXAMPLES = {
    SINGLE: "redis://localhost:6379/0",
    SENTINEL: "redis+sentinel://host1:26379,host2:26379,host3:26379/mymaster/0",
    CLUSTER: "redis+cluster://host1:6379,host2:6379",
}


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class RedisUrl:
    """The parts of a URL.

    :ivar form: 'single', 'unix', 'sentinel' or 'cluster'
    :ivar hosts: pairs of host and port: the server, the Sentinels, or nodes of the cluster
    :ivar path: of the socket, '' for the other forms
    :ivar service: what the Sentinels call the primary, '' for the other forms
    :ivar username: for the servers that hold the data, as is ``password``; None is none
    :ivar ssl: arguments of redis-py's connection, all beginning with ``ssl_``
    """

    form: str
    tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ''
    service: str = ''
    database: int = 0
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    client_name: str | None = None
    ssl: Mapping[str, str | bool] = dataclasses.field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it points, without users and passwords."""
        if self.form == UNIX:
            return f'unix://{self.path}?db={self.database}'
        end = {SINGLE: f'/{self.database}', SENTINEL: f'/{self.service}/{self.database}'}
        scheme = next(s for s, known in SCHEMES.items() if known == (self.form, self.tls))
        hosts = ','.join(host_and_port(*pair) for pair in self.hosts)
        return f'{scheme}://{hosts}{end.get(self.form, "")}'

    def __repr__(self):
        return f'RedisUrl({self.address})'


def host_and_port(host: str, port: int) -> str:
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'


def check(text: str) -> str:
    """The URL as it is kept; '' if it is empty.

    :raise ValueError: with a sentence for the person who typed it
    """
    if not text:
        return ''
    if len(text) > MAX_LENGTH or re.search(r'[\x00-\x20\x7f]', text):
        raise ValueError(
            _lt(
                "The Redis URL must have at most %(most)s characters, none of them a blank "
                "or a control character. Write a blank in a password as %%20.",
                most=MAX_LENGTH,
            )
        )
    scheme, rest = _split_scheme(text)
    form, tls = SCHEMES[scheme]
    if '#' in rest:
        raise ValueError(
            _lt("The Redis URL must not contain '#'. Write a '#' in a password as %23.")
        )
    _check_parameters(form, tls, _parameters(rest))
    parse(text)
    return f'{scheme}://{rest}'


def parse(text: str) -> RedisUrl:
    """The parts of a URL; parameters that are not ours are ignored.

    :raise ValueError: with a sentence for the person who typed it
    """
    scheme, rest = _split_scheme(text)
    form, tls = SCHEMES[scheme]
    parameters = _parameters(rest)
    authority, slash, path = rest.partition('?')[0].partition('/')
    login, _, hosts = authority.rpartition('@')
    username, _, password = login.partition(':')
    path = urllib.parse.unquote(path)
    parts = {
        'username': urllib.parse.unquote(username) or parameters.get('username') or None,
        'password': urllib.parse.unquote(password) or parameters.get('password') or None,
        'client_name': parameters.get('client_name') or None,
    }
    if form == UNIX:
        if hosts or not path:
            raise ValueError(
                _lt(
                    "The Redis URL must give the absolute path of the socket, for example "
                    "unix:///run/redis/redis.sock?db=0."
                )
            )
        parts['path'] = slash + path
        path = ''
    else:
        parts['hosts'] = _hosts(form, hosts)
    if form == SENTINEL:
        service, _, path = path.partition('/')
        parts['service'] = _service(service)
        parts.update({name: parameters.get(name) or None for name in SENTINEL_PARAMETERS})
    parts['database'] = _database(form, parameters.get('db') or path.strip('/'))
    if tls:
        parts['ssl'] = {
            name: value.lower() == 'true' if name == 'ssl_check_hostname' else value
            for name, value in parameters.items()
            if name.startswith('ssl_') and name in PARAMETERS
        }
    return RedisUrl(form, tls, **parts)


def mask(url: str) -> str:
    """The URL without its passwords, fit for pages and logs."""
    url = re.sub(r'([?&](?:sentinel_)?password=)[^&]*', r'\1***', url)
    return re.sub(r'(://[^:@/]*):.*@', r'\1:***@', url)


def _split_scheme(text: str) -> tuple[str, str]:
    scheme, separator, rest = text.partition('://')
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise ValueError(
            _lt(
                "The Redis URL must begin with redis://, unix://, redis+sentinel:// or "
                "redis+cluster://, or with rediss instead of redis for TLS, for example "
                "%(example)s.",
                example=_EXAMPLES[SINGLE],
            )
        )
    return scheme, rest


def _parameters(rest: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(rest.partition('?')[2], keep_blank_values=True))


def _check_parameters(form: str, tls: bool, parameters: Mapping[str, str]) -> None:
    supported = PARAMETERS | SENTINEL_PARAMETERS if form == SENTINEL else PARAMETERS
    for name, value in parameters.items():
        if name.startswith('ssl_') and not tls:
            raise ValueError(
                _lt(
                    "The Redis URL has a parameter for TLS, but only rediss:// uses TLS, or "
                    "rediss+sentinel:// or rediss+cluster://."
                )
            )
        if name in SENTINEL_PARAMETERS and form != SENTINEL:
            raise ValueError(
                _lt(
                    "The Redis URL has a user or password for Sentinels, but only "
                    "redis+sentinel:// asks Sentinels."
                )
            )
        if name not in supported:
            raise ValueError(
                _lt(
                    "The Redis URL has a parameter after '?' that is not supported. Supported are "
                    "%(supported)s; the timeout is the option redis_timeout_ms. Write a '?' in a "
                    "password as %%3F.",
                    supported=', '.join(sorted(supported)),
                )
            )
        words = _WORDS.get(name, ())
        if words and value.lower() not in words:
            raise ValueError(
                _lt(
                    "The Redis URL must give %(name)s one of the values %(values)s.",
                    name=name,
                    values=', '.join(words),
                )
            )


def _hosts(form: str, text: str) -> tuple[tuple[str, int], ...]:
    hosts = text.split(',')
    if form == SINGLE and len(hosts) > 1:
        raise ValueError(
            _lt(
                "The Redis URL names several hosts. That needs redis+sentinel:// or "
                "redis+cluster://, for example %(sentinel)s or %(cluster)s.",
                sentinel=_EXAMPLES[SENTINEL],
                cluster=_EXAMPLES[CLUSTER],
            )
        )
    if len(hosts) > MAX_HOSTS:
        raise ValueError(
            _lt("The Redis URL must name at most %(most)s hosts; a few are enough.", most=MAX_HOSTS)
        )
    return tuple(_host(form, host) for host in hosts)


def _host(form: str, text: str) -> tuple[str, int]:
    if text.startswith('['):
        host, bracket, rest = text[1:].partition(']')
        if not (bracket and _is_ipv6(host) and (not rest or rest.startswith(':'))):
            raise ValueError(
                _lt(
                    "The Redis URL has a host that cannot be read; write an IPv6 address "
                    "in brackets, as in redis://[::1]:6379/0."
                )
            )
    else:
        host, colon, port = text.partition(':')
        rest = colon + port
        if not re.fullmatch(r'[A-Za-z0-9._-]{1,253}', host):
            raise ValueError(
                _lt(
                    "The Redis URL must name a host, for example %(example)s. Write the characters "
                    "'/', '?', '#' and '@' in a password as %%2F, %%3F, %%23 and %%40.",
                    example=_EXAMPLES[form],
                )
            )
    return host, _port(form, rest)


def _is_ipv6(address: str) -> bool:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def _port(form: str, text: str) -> int:
    default = _DEFAULT_PORTS[form]
    if not text:
        return default
    if not (re.fullmatch(r':[0-9]{1,5}', text) and 1 <= int(text[1:]) <= 65_535):
        listener = "Sentinel" if form == SENTINEL else "Redis"
        raise ValueError(
            _lt(
                "The Redis URL must have a port between 1 and 65535; %(listener)s listens on "
                "%(default)s unless told otherwise.",
                listener=listener,
                default=default,
            )
        )
    return int(text[1:])


def _service(text: str) -> str:
    # The characters that Sentinel itself allows.
    if not re.fullmatch(r'[A-Za-z0-9._-]{1,200}', text):
        raise ValueError(
            _lt(
                "The Redis URL must say after the hosts what the Sentinels call the primary, "
                "for example %(example)s.",
                example=_EXAMPLES[SENTINEL],
            )
        )
    return text


def _database(form: str, text: str) -> int:
    if not text:
        return 0
    if not (re.fullmatch(r'[0-9]{1,5}', text) and int(text) <= MAX_DATABASE):
        example = _EXAMPLES.get(form, _EXAMPLES[SINGLE])
        raise ValueError(
            _lt(
                "The Redis URL must end with the number of a database, for example "
                "%(example)s, at most %(most)s.",
                example=example,
                most=MAX_DATABASE,
            )
        )
    if form == CLUSTER and int(text):
        raise ValueError(_lt("The Redis URL must not name a database: a Redis Cluster has only 0."))
    return int(text)
