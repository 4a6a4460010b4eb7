"""The way of one read: the cache, or the plain call watched by the cache.

The one idea: whatever the cache does wrong, the plain call answers.  An exception of the
plain call itself is the caller's, cache or no cache, and passes through untouched.
"""

from __future__ import annotations

import time

import psycopg2

from odoo.exceptions import ConcurrencyError
from odoo.http import request
from odoo.tools import config

from ..services import calls, reading
from ..services.engine import engine_for, log_fault


def read_through(records, method: str, compute, *args, **kwargs):
    """Answer ``compute(*args, **kwargs)`` from the cache where that is exact.

    :param records: what the method was called on
    :param compute: the plain method, bound
    :return: what the plain call returns; a hit is a fresh copy
    """
    engine, found = _ask(records, method, args, kwargs)
    if wait_s := reading.patience_s(engine, found):
        with engine.flights.among_threads(found.key, wait_s) as is_done:
            if not is_done:
                return _computed(engine, found, records, compute, args, kwargs)
        engine, found = _ask(records, method, args, kwargs)  # and if it is not there, compute
    if isinstance(found, reading.Hit):
        _count_call(engine, found, records, method, args, kwargs)
        return reading.audited(engine, records, method, found, lambda: compute(*args, **kwargs))
    if found is None:
        return compute(*args, **kwargs)
    if found is reading.PLAIN:
        with reading.plain_reads():
            return compute(*args, **kwargs)
    return _computed(engine, found, records, compute, args, kwargs)


def _computed(engine, ticket, records, compute, args, kwargs):
    started = time.perf_counter()
    with reading.watch(ticket):
        value = compute(*args, **kwargs)
    try:
        reading.keep(engine, ticket, records, value, (time.perf_counter() - started) * 1000)
    except Exception as error:  # noqa: BLE001
        log_fault(engine, error, ticket.name)
    return value


def _ask(records, method, args, kwargs):
    """:return: the engine, and what :func:`.reading.find` returns"""
    engine = None
    try:
        engine = engine_for(records.env.registry)
        return engine, engine and _find(engine, records, method, args, kwargs)
    except psycopg2.Error as error:
        # the transaction is aborted: as after any other query, the caller must know
        if engine is None or not engine.lost_journal(error):
            raise
        raise ConcurrencyError("Tiered Cache was being uninstalled or upgraded") from error
    except Exception as error:  # noqa: BLE001 fail open: see above
        log_fault(engine, error, (records._name, method))
        return engine, None


def _find(engine, records, method, args, kwargs):
    origin = current_origin()
    if origin is False or (method == 'get_views' and 'xml' in config['dev_mode']):
        return None
    return reading.find(engine, records, method, args, kwargs, origin)


def _count_call(engine, hit, records, method, args, kwargs) -> None:
    """Write down what was asked, if the answer has saved time; see :mod:`..services.calls`."""
    if not hit.key or hit.saved_ms < calls.MIN_SAVED_MS or reading.is_replaying():
        return
    try:
        if engine.settings.record_calls and not engine.calls.hit(hit.key, hit.saved_ms):
            call = call_of(records, calls.ORM, method, '', args, kwargs)
            engine.calls.learn(hit.key, hit.saved_ms, call)
    except Exception as error:  # noqa: BLE001 fail open
        log_fault(engine, error, (records._name, method))


def call_of(records, kind, method, name, args, kwargs) -> calls.Call:
    """All that is needed to make a call again.

    :param kind: see :class:`..services.calls.Call`, as are the others
    """
    env = records.env
    origin = None
    if request:
        host, website, debug, language = current_origin() or (None,) * 4
        http = getattr(request, 'httprequest', None)
        origin = (getattr(http, 'scheme', None), host, website, debug, language)
    return calls.Call(
        kind,
        records._name,
        method,
        name,
        tuple(records._ids),
        args,
        kwargs,
        env.uid,
        env.su,
        dict(env.context),
        origin,
    )


def current_origin():
    """What an answer may depend on in a web request.

    :return: None outside of requests; False on website pages, whose answers may depend on
        the session, the visitor and more, and where something else stands for a request, as in
        tests of Odoo; else (host, forced website, debug mode, language).  The last is that of the
        request's own environment: ``_()`` falls back on it where a context names none, and there it
        may be what the browser says in ``Accept-Language``
    """
    if not request:
        return None
    http, session = getattr(request, 'httprequest', None), getattr(request, 'session', None)
    if getattr(request, 'is_frontend', False) or http is None or session is None:
        return False
    env = getattr(request, 'env', None)
    language = env.context.get('lang') if env else None
    return http.host, session.get('force_website_id'), session.get('debug') or '', language
