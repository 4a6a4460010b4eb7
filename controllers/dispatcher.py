"""How requests of the API are taken, and how its errors go out.

The one idea: a program outside gets JSON and a status in every case, also when it may not log in,
when the body is no JSON, or when there is no such record: ``{"error": {"status", "type",
"message"}}``.  Odoo's own dispatchers answer with pages, or with tracebacks in JSON; a type of
route of its own is how Odoo lets one differ.

What may go wrong: an address or a method that no route has is answered by Odoo, with a page and the
right status.  An exception that nobody foresaw is status 500 without details; Odoo logs it.
"""

from __future__ import annotations

import http as http_status
import json
import time

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wsgi import get_input_stream

from odoo.exceptions import AccessDenied, UserError
from odoo.http import Dispatcher, SessionExpiredException

from ..services import batch
from ..services.batch_calls import BadCall

TYPE = 'tiered_cache'

DRAIN_S = 5.0
"""How long a body that is too large is read and thrown away: who closes a connection with unread
data resets it, and the client would never see the status."""

_CHUNK = 1 << 16

_KINDS = {
    401: 'authentication',
    403: 'access',
    404: 'not_found',
    413: 'too_large',
    415: 'media_type',
    429: 'out_of_time',
}


class ApiDispatcher(Dispatcher):
    """Routes of ``type='tiered_cache'``: the endpoint returns a response."""

    routing_type = TYPE
    mimetypes = ('application/json',)

    @classmethod
    def is_compatible_with(cls, request):
        return True

    def dispatch(self, endpoint, args):
        self.request.params = dict(args)
        try:
            return self.request.registry['ir.http']._dispatch(endpoint)
        except (BadCall, UserError) as error:
            # not raised: nothing has been written, and a stranger's mistake is no line in the log
            status, message, headers = _described(error)
            return error_response(self.request, status, message, headers)

    def handle_error(self, exc):
        if isinstance(exc, HTTPException) and exc.response is not None:
            return exc.response
        status, message, headers = _described(exc)
        return error_response(self.request, status, message, headers)


def _described(exc) -> tuple[int, str, list]:
    if isinstance(exc, BadCall):
        return exc.status, exc.message, []
    if isinstance(exc, AccessDenied | SessionExpiredException):
        return 401, 'Send an API key of a user: "Authorization: Bearer <key>".', []
    if isinstance(exc, HTTPException):
        # without the type of content, which is that of a page
        headers = [header for header in exc.get_headers() if header[0] != 'Content-Type']
        return exc.code, _text_of(exc), headers
    if isinstance(exc, UserError):
        status, _kind, message = batch.describe(exc)
        return status, message, []
    return 500, 'The server could not answer; its log says why.', []


def _text_of(exc: HTTPException) -> str:
    if exc.code == 401:
        return 'The API key is not valid, or there is none: send "Authorization: Bearer <key>".'
    return exc.description or http_status.HTTPStatus(exc.code).phrase


def error_response(request, status: int, message: str, headers=()):
    """An error as JSON."""
    kind = _KINDS.get(status, 'invalid' if status < 500 else 'internal')
    body = batch.dump({'error': {'status': status, 'type': kind, 'message': message}})
    headers = [
        *headers,
        ('Content-Type', 'application/json; charset=utf-8'),
        ('Cache-Control', 'no-store'),
    ]
    if status == 429:
        headers.append(('Retry-After', '1'))
    return request.make_response(body, headers, status=status)


def json_body(request, max_bytes: int):
    """What the body of a request holds.

    :raise BadCall: with 413, 415 or 400
    """
    http = request.httprequest
    if http.mimetype != 'application/json':
        raise BadCall('Send JSON, with "Content-Type: application/json".', 415)
    # before anything is read or parsed, where the client says how much it is
    http.max_content_length = max_bytes
    try:
        body = http.get_data(cache=False)
    except RequestEntityTooLarge:
        _drain(http)
        raise BadCall(f'The body is larger than {max_bytes // 1024} kilobytes.', 413) from None
    try:
        return json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise BadCall('The JSON in the body is nested too deep.') from None
    except ValueError as error:
        raise BadCall(f'The body is no JSON: {str(error)[:200]}') from None


def _no_constant(name: str):
    raise ValueError(f'{name} is no number')


def _drain(http) -> None:
    # Odoo hides the stream, and whoever reads the body through Odoo gets it in one piece
    environ = http._HTTPRequest__environ
    stream = get_input_stream(environ, max_content_length=None)
    ends = time.monotonic() + DRAIN_S
    while time.monotonic() < ends and stream.read(_CHUNK):
        pass
