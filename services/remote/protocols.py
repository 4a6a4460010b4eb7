"""How to speak to an Odoo: JSON-2 to 19, JSON-RPC to 14-18, XML-RPC where there is nothing else.

The one idea: a protocol is two pure functions, from a call to a request and from a response to a
value or an exception of :mod:`.errors`.  What it must know of the server (the number of the user,
for the two older ones) is asked once for a pool.

What may go wrong: the far end says something else than an Odoo would: ``RemoteProtocolError``; for
a mistake in the call it says which, without its traceback.
"""

from __future__ import annotations

import contextlib
import json
import threading
import typing
import xml.parsers.expat
import xmlrpc.client

from .errors import (
    RemoteAuthenticationError,
    RemoteError,
    RemoteMissingError,
    RemoteProtocolError,
    RemoteUnreachable,
    RemoteValidationError,
    clean,
    error_of,
)

BUSY = (429, 502, 503, 504)
"""Statuses that say: not now."""

_JSON = {'Content-Type': 'application/json', 'Accept': 'application/json'}


class Account(typing.NamedTuple):
    """:param key: the API key; in no text that anybody reads"""

    database: str
    login: str
    key: str

    def __repr__(self):
        return f'<account {self.login} of {self.database}>'


class Call(typing.NamedTuple):
    """One call of a method.

    :param args: as of ``execute_kw``: the ids first, where the method is one of records
    :param context: None is that of the other user
    """

    model: str
    method: str
    args: tuple
    kwargs: dict
    context: dict | None = None


class Request(typing.NamedTuple):
    path: str
    body: bytes
    headers: dict


def dump(value) -> bytes:
    """:raise ValueError: it cannot be sent as JSON"""
    try:
        return json.dumps(value, default=_plain, allow_nan=False).encode()
    except TypeError as error:
        raise ValueError(f'This cannot be sent to another server: {error}') from None


def _plain(value):
    if hasattr(value, 'isoformat'):  # a date or a datetime, as Odoo writes it
        return str(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(type(value).__name__)


def load(body: bytes):
    """:raise RemoteProtocolError: not JSON"""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise RemoteProtocolError('The answer is no JSON.') from None


class Json2:
    """``/json/2`` of Odoo 19 and later; authenticates each request."""

    name = 'json2'

    _FIRST_IDS = ('ids',)
    _NAMES: typing.ClassVar[dict[str, tuple[str, ...]]] = {
        'create': ('vals_list',),
        'write': ('ids', 'vals'),
        'unlink': ('ids',),
        'copy': ('ids', 'default'),
        'read': ('ids', 'fields', 'load'),
        'search': ('domain', 'offset', 'limit', 'order'),
        'search_count': ('domain', 'limit'),
        'search_read': ('domain', 'fields', 'offset', 'limit', 'order'),
        'name_search': ('name', 'domain', 'operator', 'limit'),
        'name_create': ('name',),
        'fields_get': ('allfields', 'attributes'),
        'default_get': ('fields',),
        'formatted_read_group': ('domain', 'groupby', 'aggregates', 'having', 'offset', 'limit',
                                 'order'),
    }  # fmt: skip
    """Names of arguments by position, since this protocol has no positions."""

    def __init__(self, account: Account):
        self._account = account

    def log_in(self, _send) -> None:
        """Nothing: the key comes with each request."""

    def log_out(self) -> None:
        pass

    def request(self, call: Call) -> Request:
        body = {**self.named(call), **call.kwargs}
        if call.context is not None:
            body['context'] = call.context
        path = f'/json/2/{call.model}/{call.method}'
        return Request(path, dump(body), self.headers())

    def headers(self) -> dict:
        headers = {**_JSON, 'Authorization': f'Bearer {self._account.key}'}
        if self._account.database:
            headers['X-Odoo-Database'] = self._account.database
        return headers

    def named(self, call: Call) -> dict:
        """Arguments by name."""
        names = self._NAMES.get(call.method)
        if names is None and call.args and _are_ids(call.args[0]):
            names = self._FIRST_IDS
        if len(call.args) > len(names or ()):
            raise ValueError(
                f'Odoo 19 wants the arguments of {call.method} by name: call(model, method,'
                ' name=value), and ids=[…] for those of records.'
            )
        return dict(zip(names or (), call.args, strict=False))

    def result(self, response):
        if response.status == 200:
            return load(response.body)
        raise self._error(response)

    def _error(self, response) -> RemoteError:
        secrets = (self._account.key,)
        if response.status in BUSY:
            return RemoteUnreachable(f'The server says {response.status}: not now.')
        if response.status == 401:
            return RemoteAuthenticationError('The server does not accept the API key.')
        try:
            answer = load(response.body)
        except RemoteProtocolError as error:
            if response.status == 404:
                return RemoteProtocolError('The server does not know JSON-2.')
            return error
        if not isinstance(answer, dict) or not isinstance(answer.get('name'), str):
            return RemoteProtocolError(f'The server says {response.status} and not why.')
        return error_of(answer['name'], answer.get('message') or '', secrets)


class _WithUser:
    """A protocol that needs the number of the user, found out once."""

    def __init__(self, account: Account):
        self._account = account
        self._lock = threading.Lock()
        self._uid: int | None = None

    def log_in(self, send) -> None:
        """:param send: ``send(request)`` returns a response"""
        if self._uid is not None:
            return
        with self._lock:
            if self._uid is not None:
                return
            account = self._account
            args = [account.database, account.login, account.key, {}]
            uid = self.result(send(self._service('common', 'authenticate', args)))
            if type(uid) is not int:
                raise RemoteAuthenticationError('The server does not know the login or the key.')
            self._uid = uid

    def log_out(self) -> None:
        """Ask again with the next call."""
        self._uid = None

    def request(self, call: Call) -> Request:
        kwargs = dict(call.kwargs)
        args = list(call.args)
        if 'ids' in kwargs:  # as of JSON-2
            args.insert(0, kwargs.pop('ids'))
        if call.context is not None:
            kwargs['context'] = call.context
        account = self._account
        what = [account.database, self._uid, account.key, call.model, call.method, args, kwargs]
        return self._service('object', 'execute_kw', what)

    def _service(self, service: str, method: str, args: list) -> Request:
        raise NotImplementedError

    def result(self, response):
        raise NotImplementedError


class JsonRpc(_WithUser):
    """``/jsonrpc``; Odoo 19 still has it, and warns in its log."""

    name = 'jsonrpc'

    def _service(self, service, method, args):
        body = {
            'jsonrpc': '2.0',
            'method': 'call',
            'id': 1,
            'params': {'service': service, 'method': method, 'args': args},
        }
        return Request('/jsonrpc', dump(body), dict(_JSON))

    def result(self, response):
        answer = _json_answer(response)
        error = answer.get('error')
        if error is None:
            return answer.get('result')
        data = error.get('data') if isinstance(error, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get('name'), str):
            raise RemoteProtocolError('The server says that something failed, and not what.')
        raise error_of(data['name'], data.get('message') or '', (self._account.key,))


def _json_answer(response) -> dict:
    if response.status in BUSY:
        raise RemoteUnreachable(f'The server says {response.status}: not now.')
    if response.status != 200:
        raise RemoteProtocolError(f'The server says {response.status} where an Odoo says 200.')
    answer = load(response.body)
    if not isinstance(answer, dict):
        raise RemoteProtocolError('The answer is no JSON-RPC.')
    return answer


class XmlRpc(_WithUser):
    """``/xmlrpc/2``; knows no None, and says less about what went wrong."""

    name = 'xmlrpc'

    _FAULTS: typing.ClassVar[dict[int, str]] = {
        2: 'UserError',
        3: 'AccessDenied',
        4: 'AccessError',
    }

    def _service(self, service, method, args):
        plain = json.loads(dump(args))
        body = xmlrpc.client.dumps(tuple(plain), method, allow_none=True).encode()
        return Request(f'/xmlrpc/2/{service}', body, {'Content-Type': 'text/xml'})

    def result(self, response):
        if response.status in BUSY:
            raise RemoteUnreachable(f'The server says {response.status}: not now.')
        if response.status != 200:
            raise RemoteProtocolError(f'The server says {response.status} where an Odoo says 200.')
        try:
            return xmlrpc.client.loads(response.body, use_builtin_types=True)[0][0]
        except xmlrpc.client.Fault as fault:
            raise self._error(fault) from None
        except (
            xmlrpc.client.Error,
            xml.parsers.expat.ExpatError,
            ValueError,
            IndexError,
            TypeError,
        ):
            raise RemoteProtocolError('The answer is no XML-RPC.') from None

    def _error(self, fault) -> RemoteError:
        secrets = (self._account.key,)
        text = clean(fault.faultString, secrets)
        name = self._FAULTS.get(fault.faultCode) if isinstance(fault.faultCode, int) else None
        if name == 'UserError' and 'does not exist or has been deleted' in text:
            return RemoteMissingError(text)
        if name is None:  # the last line of a traceback: odoo.exceptions.AccessError: …
            name, _colon, text = text.partition(': ')
            if not name.replace('.', '').replace('_', '').isalnum():
                return RemoteValidationError(text or name)
        return error_of(name, text, secrets)


PROTOCOLS = {cls.name: cls for cls in (Json2, JsonRpc, XmlRpc)}


def _are_ids(value) -> bool:
    values = value if isinstance(value, list | tuple) else (value,)
    return all(type(id_) is int for id_ in values)


def detect(send, account: Account) -> tuple[str, str]:
    """Which protocol a server speaks, and which version it is.

    :param send: ``send(request)`` returns a response
    :return: a name of :data:`PROTOCOLS`, and a text such as '19.0'
    :raise RemoteError: it cannot be reached, or is no Odoo
    """
    version, speaks_xml = _version(send)
    major = _major(version)
    if speaks_xml:
        return 'xmlrpc', version
    if major >= 19:
        protocol = Json2(account)
        response = send(protocol.request(Call('res.users', 'context_get', (), {})))
        if response.status != 404:
            protocol.result(response)
            return 'json2', version
    if send(JsonRpc(account)._service('common', 'version', [])).status == 200:
        return 'jsonrpc', version
    return 'xmlrpc', version


def _version(send) -> tuple[str, bool]:
    """The version, and whether only XML-RPC has told it."""
    nobody = Account('', '', '')
    for request in (
        Request('/web/webclient/version_info', dump({'jsonrpc': '2.0', 'params': {}}), _JSON),
        JsonRpc(nobody)._service('common', 'version', []),
    ):
        response = send(request)
        if response.status == 200:
            answer = load(response.body) if response.body[:1] == b'{' else {}
            result = answer.get('result')
            if isinstance(result, dict) and isinstance(result.get('server_version'), str):
                return clean(result['server_version'])[:40], False
    xml, result = XmlRpc(nobody), None
    response = send(xml._service('common', 'version', []))
    with contextlib.suppress(RemoteProtocolError):
        result = xml.result(response)
    if isinstance(result, dict) and isinstance(result.get('server_version'), str):
        return clean(result['server_version'])[:40], True
    raise RemoteProtocolError('There is no Odoo at this URL.')


def _major(version: str) -> int:
    digits = version.removeprefix('saas~').partition('.')[0]
    return int(digits) if digits.isdecimal() else 0
