"""What another Odoo offers that has this addon too: its batch API and what has changed there.

The one idea: the shapes of these two endpoints stand here and nowhere else.

``GET /cache/1/changes?since=<cursor>&models=a,b``
    ``{"cursor": "…", "changes": [{"model": "res.partner", "ids": [1, 2]}], "complete": true}``;
    ids null: any record of the model; complete false: more may have changed than is said
``POST /cache/1/batch`` ``{"calls": [{"model", "method", "ids", "arguments", "context"}]}``
    ``{"results": [{"result": …} or {"error": {"status", "type", "message"}}]}``

What may go wrong: 404: no addon there.  Anything else that is not of this shape is a
``RemoteProtocolError``.
"""

from __future__ import annotations

import typing
from urllib.parse import quote

from .batcher import ALONE
from .errors import RemoteAuthenticationError, RemoteProtocolError, RemoteUnreachable, error_of
from .protocols import BUSY, Account, Call, Json2, Request, dump, load

METHODS = ('search_read', 'read', 'search_count', 'name_search', 'formatted_read_group')
"""That a batch may call."""


class Changes(typing.NamedTuple):
    """:param cursor: for the next question
    :param changes: (model, ids or None for any)
    :param complete: False: more may have changed
    """

    cursor: str
    changes: tuple[tuple[str, tuple[int, ...] | None], ...]
    complete: bool


def changes_request(account: Account, since: str, models) -> Request:
    """A GET; its body is empty."""
    names = quote(','.join(sorted(models)), safe=',.')
    path = f'/cache/1/changes?since={quote(since, safe="")}&models={names}'
    return Request(path, b'', Json2(account).headers())


def read_changes(response, account: Account) -> Changes | None:
    """:return: None: the other Odoo has no addon"""
    if response.status == 404:
        return None
    answer = _answer(response, account)
    try:
        changes = tuple(
            (
                str(change['model']),
                None if change['ids'] is None else tuple(map(int, change['ids'])),
            )
            for change in answer['changes']
        )
        return Changes(str(answer['cursor']), changes, answer.get('complete') is True)
    except (KeyError, TypeError, ValueError):
        raise RemoteProtocolError('The changes are not as they should be.') from None


def batch_request(account: Account, calls: list[Call]) -> Request:
    protocol = Json2(account)
    body = []
    for call in calls:
        arguments = {**protocol.named(call), **call.kwargs}
        ids = {'ids': arguments.pop('ids')} if 'ids' in arguments else {}
        context = call.context or {}
        body.append(
            {
                'model': call.model,
                'method': call.method,
                **ids,
                'arguments': arguments,
                'context': context,
            }
        )
    return Request('/cache/1/batch', dump({'calls': body}), protocol.headers())


def read_batch(response, account: Account, count: int) -> list | None:
    """:return: values in order, :data:`~.batcher.ALONE` for those that failed; None: no addon"""
    if response.status == 404:
        return None
    # where all failed, the status is theirs
    answer = load(response.body) if response.status == 400 else _answer(response, account)
    results = answer.get('results') if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != count:
        raise RemoteProtocolError('The answer to a batch is not as it should be.')
    return [
        one['result'] if isinstance(one, dict) and 'result' in one else ALONE for one in results
    ]


def _answer(response, account: Account) -> dict:
    if response.status in BUSY:
        raise RemoteUnreachable(f'The server says {response.status}: not now.')
    if response.status == 401:
        raise RemoteAuthenticationError('The server does not accept the API key.')
    answer = load(response.body)
    if response.status != 200 or not isinstance(answer, dict):
        if isinstance(answer, dict) and isinstance(answer.get('name'), str):
            raise error_of(answer['name'], answer.get('message') or '', (account.key,))
        raise RemoteProtocolError(f'The server says {response.status} and not why.')
    return answer
