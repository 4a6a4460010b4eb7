"""From what :mod:`..services.serving` gives to a response.

The one idea: every answer may be kept by the program that asked, and by nobody else, and must be
asked for again each time; with its ETag that costs one query.

The ETag is a weak one: two workers may write the same answer with the keys of an object in another
order, so equal tags mean equal values, not equal bytes.
"""

from __future__ import annotations

from odoo.http import request

from ..models.read_through import current_origin
from ..services.engine import engine_for

CACHE_CONTROL = 'private, no-cache'


def asker_has(etag: str) -> bool:
    """Whether the request says that its answer with this ETag is there already."""
    wanted = request.httprequest.if_none_match
    return bool(etag) and not wanted.star_tag and wanted.contains_weak(etag)


def engine():
    """The engine of this process if it may be asked, or None."""
    found = engine_for(request.env.registry)
    return found if found is not None and found.available else None


def settings():
    """The options in force, as this process knows them."""
    found = engine_for(request.env.registry)
    if found is not None and found.available:
        return found.settings
    return request.env['res.config.settings']._tiered_cache_settings()


def origin():
    """See :func:`..models.read_through.current_origin`."""
    return current_origin()


def respond(served):
    """:param served: a :class:`..services.serving.Served`"""
    headers = [('Cache-Control', CACHE_CONTROL), ('Vary', 'Authorization')]
    if served.etag:
        headers.append(('ETag', f'W/"{served.etag}"'))
        if asker_has(served.etag):
            return request.make_response(b'', headers, status=304)
    headers.append(('Content-Type', 'application/json; charset=utf-8'))
    if served.status == 429:
        headers.append(('Retry-After', '1'))
    return request.make_response(served.body, headers, status=served.status)
