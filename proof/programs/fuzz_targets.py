"""What the fuzzer feeds: the parsers of everything that comes from outside of a process.

The one idea: a target takes bytes and returns nothing.  What a parser says about bad input is its
documented exception, which is caught here; whatever else is raised is a finding, and so is a
property that does not hold: what was read can be written and read again, a URL that is shown has
no password in it, a pattern matches no key that its prefix excludes.

Used by ``proof/fuzz``, which searches long and guided by coverage, and by ``tests/test_fuzz.py``,
which takes seconds.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import importlib
import math
import os
import re
import tempfile
import typing
import zlib
from collections.abc import Callable

import msgpack
from markupsafe import Markup

MODULES = ('codec', 'entry', 'keys', 'options', 'pretty', 'redis_url', 'tiers.redis_connection')

SECRET = b'a secret of 32 bytes for fuzzing'
STORAGE_KEY = 'tc:4f5a:v1:orm:res.partner:search_read:00'


class Target(typing.NamedTuple):
    """:param run: takes bytes; raises what is a finding
    :param seeds: inputs to begin with
    """

    run: Callable[[bytes], None]
    seeds: list[bytes]


class Finding(AssertionError):
    """A property that does not hold."""


def make_targets(package: str = 'services') -> dict[str, Target]:
    """The targets, by name.

    :param package: where the modules under test are
    """
    modules = {name: importlib.import_module(f'{package}.{name}') for name in MODULES}
    makers = (_codec, _packed, _entry, _seal, _key, _argument, _option, _file, _url, _reply)
    return {maker.__name__.strip('_'): maker(**_wanted(maker, modules)) for maker in makers}


def _wanted(maker, modules) -> dict:
    return {
        name: modules[name.replace('redis_connection', 'tiers.redis_connection')]
        for name in maker.__code__.co_varnames[: maker.__code__.co_argcount]
    }


def _check(condition, what: str) -> None:
    if not condition:
        raise Finding(what)


def _text(data: bytes) -> str:
    return data.decode('utf-8', 'surrogateescape')


# -- values ------------------------------------------------------------------------------------

VALUES = [
    None,
    [True, 1, 1.5, -0.0, float('nan'), 2**70, 'text', b'bytes', '\ud800'],
    {'a': {1: (2, 3)}, True: decimal.Decimal('1e999999999')},
    [{'id': n, 'p': n % 2 and (n, 'x'), 'd': datetime.date(2026, 1, 1)} for n in range(12)],
    [(n, Markup('<b>'), datetime.datetime(2026, 1, 1, n)) for n in range(3)],
    [[(1, 2)], [(3, 4), (5, 6)], []],
    [False, None, datetime.datetime.max, datetime.datetime.min],
    {'records': [{'id': 1, 'lines': [{'id': 2, 'q': decimal.Decimal('NaN')}]}] * 11},
]


def _read_value(codec, pretty, data: bytes) -> None:
    try:
        value = codec.unpack(data)
    except codec.CorruptPayload:
        return
    with contextlib.suppress(RecursionError):  # 1,000 deep; shown on a page of its own
        pretty.render(value, 1000)
    try:
        again = codec.pack(value)
    except codec.Unserializable:
        return  # foreign bytes may hold what is never written, such as a date with a time zone
    _check(codec.pack(codec.unpack(again)) == again, 'a value changes when it is packed again')


def _codec(codec, pretty) -> Target:
    """Payloads."""
    return Target(
        lambda data: _read_value(codec, pretty, data), [codec.pack(value) for value in VALUES]
    )


def _packed(codec, pretty) -> Target:
    """What is inside of a compressed payload."""

    def run(data):
        _read_value(codec, pretty, codec._HEADER_COMPRESSED + zlib.compress(data, 1))

    return Target(run, [codec._to_msgpack(*codec._shape(value, 0)) for value in VALUES])


# -- entries -----------------------------------------------------------------------------------


def _new_entry(entry, codec, value):
    return entry.Entry(
        key='v1:orm:res.partner:search_read:00',
        model='res.partner',
        method='search_read',
        uid=2,
        dependencies=(('res_partner', 2**62 - 1, None), ('res_users', 7, ['id', [1, 2]])),
        removal_version=11,
        created=1.8e9,
        expires=1.9e9,
        cost_ms=5.5,
        queries=3,
        flags=1,
        payload=codec.pack(value),
    )


def _entry(entry, codec) -> Target:
    """Entries with a right checksum."""

    def run(data):
        try:
            read = entry.from_bytes(zlib.crc32(data).to_bytes(4, 'big') + data)
        except entry.CorruptEntry:
            return
        _check(math.isfinite(read.expires), 'an entry that never expires')
        try:
            again = entry.to_bytes(read)
        except (ValueError, OverflowError):
            return  # a condition that is never written
        _check(repr(entry.from_bytes(again)) == repr(read), 'an entry changes when written again')

    return Target(run, [entry.to_bytes(_new_entry(entry, codec, v))[4:] for v in VALUES])


def _seal(entry, codec) -> Target:
    """Stored values: none but the one that was sealed here is believed."""
    seal = entry.Seal(SECRET)
    sealed = seal.seal(STORAGE_KEY, entry.to_bytes(_new_entry(entry, codec, 'secret')))

    def run(data):
        with contextlib.suppress(entry.ForgedEntry):
            seal.open(STORAGE_KEY, data)
            _check(data == sealed, 'a forged value is believed')
        with contextlib.suppress(entry.CorruptEntry):
            entry.from_bytes(data)

    return Target(run, [sealed, sealed[16:], b''])


# -- keys --------------------------------------------------------------------------------------


def _key(keys) -> Target:
    """A pattern of keys, a line feed, and a key."""

    def run(data):
        pattern, _newline, key = _text(data).partition('\n')
        with contextlib.suppress(keys.InvalidKey):
            keys.validate_key(key)
        try:
            matches = keys.compile_pattern(pattern).fullmatch(key)
        except keys.InvalidKey:
            return
        prefix = keys.pattern_prefix(pattern)
        keys.redis_glob(pattern, 'tc:4f5a:')
        keys.sql_like(pattern)
        _check(not matches or key.startswith(prefix), 'a key that its prefix excludes')

    return Target(
        run,
        [
            b'v1:supplier:*\nv1:supplier:42',
            b'v1:*:detail:4[0-9a]?\nv1:supplier:detail:42',
            b'*a*b*c*d*e*f*g*h*i*\n' + b'abcdefgh' * 40,
            b'[a-c][]\nb',
        ],
    )


def _argument(keys) -> Target:
    """Arguments of a call."""

    def run(data):
        try:
            value = msgpack.unpackb(data, strict_map_key=False, unicode_errors='surrogatepass')
        except Exception:  # noqa: BLE001  msgpack is not what is tested here
            return
        call = keys.Call(1, '', 'm', 'read', (1,), (value,), {}, 2, False, (), {}, None, ())
        with contextlib.suppress(keys.Unkeyable):
            key = keys.call_key(call)
            _check(key == keys.call_key(call), 'a call has two keys')
            keys.validate_key(key)

    return Target(run, [msgpack.packb(['a', 1, None, {'lang': 'en_US', 'ids': [1, 2.5]}])])


# -- settings ----------------------------------------------------------------------------------


def _option(options) -> Target:
    """The first byte chooses an option, the rest is its text."""
    names = list(options.OPTIONS)

    def run(data):
        name = names[(data[0] if data else 0) % len(names)]
        try:
            value = options.check(name, _text(data[1:]))
        except ValueError as error:
            _check(len(str(error)) < 600, 'a sentence without end')
            return
        _check(options.check(name, options.to_text(value)) == value, f'{name} changes')

    seeds = [
        bytes([index]) + option.default_text.encode()
        for index, option in enumerate(options.OPTIONS.values())
    ]
    return Target(run, [*seeds, b'\x02nan', b'\x021e309', b'\x04' + b'9' * 30, b'\x00 TRUE'])


def _file(options) -> Target:
    """odoo.conf."""
    path = os.path.join(tempfile.mkdtemp(prefix='tc-fuzz-'), 'odoo.conf')

    def run(data):
        with open(path, 'wb') as file:
            file.write(data)
        options.load({}, environ={}, config_path=path)

    return Target(run, [b'[options]\nx=1\n[tiered_cache]\nl1_ttl_s = 60\nl1_polcy=%(x)s\n'])


def _url(redis_url, redis_connection) -> Target:
    """Redis URLs."""

    def run(data):
        url = _text(data).replace('PASSWORD', 'x7Qz9')
        try:
            url = redis_url.check(url)
        except ValueError as error:
            _check('x7Qz9' not in str(error), 'a password in a sentence')
            return
        if not url:
            return
        parts = redis_url.parse(url)
        _check(redis_url.parse(redis_url.check(url)) == parts, 'a URL changes when it is checked')
        if parts.form in (redis_url.SINGLE, redis_url.UNIX):
            link = redis_connection.open_single(parts, redis_connection.Deadline(0.05))
            _check(link.client, 'no client')
            link.close()
        if url.count('x7Qz9') == 1 and re.match(r'\w+://[^/?@]*:x7Qz9@', url):
            _check('x7Qz9' not in parts.address, 'a password in an address')
            _check('x7Qz9' not in repr(parts), 'a password in a representation')
            _check('x7Qz9' not in redis_url.mask(url), 'a password that is not masked')

    return Target(
        run,
        [
            b'redis://user:PASSWORD@host:6379/0',
            b'rediss://:PASSWORD@[::1]:6380/1?ssl_ca_certs=/x&ssl_check_hostname=false',
            b'redis+sentinel://user:PASSWORD@one:26379,[::1]/mymaster/2?sentinel_password=x',
            b'rediss+cluster://:PASSWORD@one:6379,two?ssl_cert_reqs=none',
            b'unix://:PASSWORD@/run/redis.sock?db=3&password=PASSWORD',
        ],
    )


# -- replies -----------------------------------------------------------------------------------


class _Socket:
    """Gives what a server sent, a piece at a time, and then nothing more."""

    def __init__(self, data: bytes):
        self._data = data

    def settimeout(self, timeout_s) -> None:
        """There is nothing to wait for."""

    def recv(self, size: int) -> bytes:
        part, self._data = self._data[:size], self._data[size:]
        return part


class _Encoder:
    encoding, encoding_errors, decode_responses = 'utf-8', 'strict', False

    def decode(self, value, force=False):
        return value


class _Connection:
    def __init__(self, sock):
        self._sock, self.encoder, self.socket_timeout = sock, _Encoder(), None


def _reply(redis_connection) -> Target:
    """Bytes that a server sends: every reply in them."""
    deadline = redis_connection.Deadline(60, 1 << 20)

    def run(data):
        deadline.begin()
        sock = redis_connection.BoundedSocket(_Socket(data), deadline)
        parser = redis_connection._RESP2Parser(65536)
        parser.on_connect(_Connection(sock))
        try:
            for _reply_number in range(10):
                redis_connection.read_info(parser.read_response())
        except Exception as error:  # noqa: BLE001  as in the tier
            _check(isinstance(redis_connection.kind_of(error), str), 'an error without a kind')

    return Target(
        run,
        [
            b'$5\r\nvalue\r\n$-1\r\n:42\r\n+OK\r\n-ERR no\r\n',
            b'*2\r\n$1\r\n0\r\n*1\r\n$3\r\nkey\r\n',
            b'$48\r\nredis_version:7.0.15\r\nused_memory:12\r\nmaxmemory:0\r\n\r\n',
            b'-MOVED 1 127.0.0.1:1\r\n',
        ],
    )
