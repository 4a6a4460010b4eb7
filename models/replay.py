"""A recorded call, made again as its user, so that the answer is there before somebody asks.

The one idea: whatever the key of an answer holds must be as it was.  So the call is made with the
user, superuser mode, context, records and arguments that were recorded, at the place in the class
hierarchy where it was recorded, and inside a web request for the same host, website, debug mode
and language: not by telling the cache so, but by a real ``odoo.http.Request``, since what is
computed may look at these too.  So no value of one host can get under the key of another.

Each call has a cursor and a READ ONLY transaction of its own.

What may go wrong: the user is archived, may not read this any more, or the record is gone: the call
is *skipped*.  It raises in another way, as the model is gone: it has *failed*.  Code that looks at
other things in a request (cookies, the address of the visitor) finds nothing; what depends on these
is not in the key either, and never was.
"""

from __future__ import annotations

import contextlib
import logging
import time
import typing

import werkzeug.test

from odoo import api, http
from odoo.exceptions import AccessError, MissingError, UserError
from odoo.tools import mute_logger

from ..services import calls, codec, metrics, overrides, reading
from . import read_through
from .base import Base

_logger = logging.getLogger(__name__)

WARMED, PRESENT, SKIPPED, FAILED = 'warmed', 'present', 'skipped', 'failed'

STATEMENT_TIMEOUT_MS = 60_000
"""Of one SQL statement: as for everything that the cache does by itself."""

PATH = '/web/dataset/call_kw/res.users/read'
"""Where the web client sends its calls."""

_ADDED = ('website_routing',)
"""Attributes that dispatching gives to a request, and that code takes for granted."""

MAX_ORIGINS = 3
LOOKED_AT = 50

ATTEMPTS = 3
"""A result that needs an unguarded table is kept when the table has its triggers; one that was
computed while ``tools.ormcache`` was cold may be kept the second time."""

_KEPT = frozenset(('cold', 'stale', 'expired', 'evicted'))
"""Reasons of a miss whose result was kept."""

_TRY_AGAIN = frozenset(('unguarded', 'uncacheable', 'orm_cache', 'old_snapshot'))


class Outcome(typing.NamedTuple):
    """:param state: WARMED, PRESENT, SKIPPED or FAILED
    :param message: a sentence for people, or ''
    :param key: under which the answer is kept, or ''
    :param ms: how long it took
    :param saved_ms: what computing takes, which the next reader is spared
    """

    state: str
    message: str = ''
    key: str = ''
    ms: float = 0.0
    saved_ms: float = 0.0


class Stale(Exception):
    """The registry was loaded again; who replays has to begin with the new one."""


class Replayer:
    """Makes calls again, one after the other.

    :param engine: of this process
    :param env: for translations
    """

    def __init__(self, engine, env):
        self._engine = engine
        self._registry = engine.registry
        self._ = env._
        self._dispatched: dict[tuple, dict] = {}

    def call(self, body: bytes) -> Outcome:
        """Make a recorded call.

        :param body: packed
        :raise Stale: see there
        """
        try:
            call = calls.unpack(body)
        except codec.CorruptPayload:
            return Outcome(FAILED, self._("Another version of the addon wrote this call down."))
        return self._guarded(call.uid, lambda: self._attempts(call))

    def method(self, model: str, method: str, uid: int, lang: str) -> Outcome:
        """Call a warm-up method for a user.

        :raise Stale: see :class:`Stale`
        """

        def work():
            with self._environment(uid, {}, False) as env:
                context = {**env['res.users'].context_get(), 'lang': lang or env.user.lang}
                env = env(context={**context, 'allowed_company_ids': env.user.company_id.ids})
                env.invalidate_all(flush=False)
                with reading.replaying(), metrics.set_aside() as seen:
                    getattr(env[model], method)()
            spared_ms = sum(one.ms for one in seen if one.what == 'hit' or one.why in _KEPT)
            return Outcome(WARMED, saved_ms=spared_ms)

        return self._guarded(uid, work)

    def _guarded(self, uid: int, work) -> Outcome:
        started = time.perf_counter()
        try:
            self._check_registry()
            with mute_logger('odoo.sql_db'):
                outcome = work() if self._is_active(uid) else self._inactive()
        except Stale:
            raise
        except (AccessError, MissingError) as error:
            outcome = Outcome(SKIPPED, _text(error))
        except Exception as error:  # noqa: BLE001 one call must not stop the others
            outcome = Outcome(FAILED, _text(error))
        return outcome._replace(ms=(time.perf_counter() - started) * 1000)

    def _check_registry(self) -> None:
        if self._registry.check_signaling() is not self._registry or not self._engine.is_usable():
            raise Stale

    def _is_active(self, uid: int) -> bool:
        with contextlib.closing(self._registry.cursor(readonly=True)) as cr:
            cr.execute('SELECT active FROM res_users WHERE id = %s', [uid])
            row = cr.fetchone()
        return row is not None and (row[0] or uid == api.SUPERUSER_ID)

    def _inactive(self) -> Outcome:
        return Outcome(SKIPPED, self._("The user is archived or gone."))

    def _attempts(self, call: calls.Call) -> Outcome:
        for _attempt in range(ATTEMPTS):
            outcome, reason = self._once(call)
            if reason not in _TRY_AGAIN:
                break
            if reason == 'unguarded':
                self._engine.guards.work()
            elif reason == 'old_snapshot':
                self._check_registry()
        return outcome

    def _attributes(self, call: calls.Call) -> dict:
        if call.origin is None:
            return {}
        if call.origin not in self._dispatched:
            self._dispatched[call.origin] = dispatch(self._registry, call.origin, call.uid)
        return self._dispatched[call.origin]

    def _once(self, call: calls.Call) -> tuple[Outcome, str]:
        attributes = self._attributes(call)
        with (
            self._environment(call.uid, call.context, call.su) as env,
            request_scope(env, call.origin, attributes) as is_same,
            reading.replaying() as replay,
            metrics.set_aside() as seen,
        ):
            if not is_same:
                return Outcome(SKIPPED, self._("Its web address cannot be imitated.")), ''
            if call.model not in env:
                message = self._("There is no model %s any more.", call.model)
                return Outcome(FAILED, message), ''
            _make(env[call.model].browse(call.ids), call)
        if not seen:
            return Outcome(SKIPPED, self._("The cache leaves this read alone now.")), ''
        last = seen[-1]
        if last.what == 'hit':
            return Outcome(PRESENT, key=replay.key, saved_ms=last.ms), ''
        if last.why in _KEPT:
            return Outcome(WARMED, key=replay.key, saved_ms=last.ms), ''
        message = self._("It was computed and not kept: %s", f'{last.why} {last.detail}'.strip())
        return Outcome(SKIPPED, message), last.why

    @contextlib.contextmanager
    def _environment(self, uid, context, su):
        with contextlib.closing(self._registry.cursor(readonly=True)) as cr:
            try:
                cr.execute('SET TRANSACTION READ ONLY')
                cr.execute('SET LOCAL statement_timeout = %s', [STATEMENT_TIMEOUT_MS])
                yield api.Environment(cr, uid, context, su)
            finally:
                cr.rollback()


def _make(records, call: calls.Call) -> None:
    args, kwargs = call.args, dict(call.kwargs)
    if call.kind == calls.NAMED:
        getattr(records, call.method)(*args, **kwargs)
    elif args[:1] == (overrides.OUTERMOST,):
        getattr(records, call.method)(*args[1:], **kwargs)
    else:
        # where the cache sits: what stands above it has had its part in the arguments already
        getattr(Base, call.method)(records, *args, **kwargs)


def _text(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f'{type(error).__name__}: {error}'


@contextlib.contextmanager
def request_scope(env, origin, attributes=()):
    """A web request as it was when a call was recorded, or none.

    :param origin: see :class:`..services.calls.Call`
    :param attributes: of the request, see :func:`dispatch`
    :return: whether it is the same as then, for the keys
    """
    if origin is None:
        with http.borrow_request() if http.request else contextlib.nullcontext():
            yield True
        return
    scheme, host, website, debug, *language = origin
    if not host:
        yield False
        return
    environ = werkzeug.test.create_environ(PATH, f'{scheme}://{host}', method='POST')
    request = http.Request(http.HTTPRequest(environ))
    session = http.Session({**http.get_default_session(), 'db': env.cr.dbname}, '')
    session.can_save = False
    session.uid, session['debug'] = env.uid, debug
    if website is not None:
        session['force_website_id'] = website
    request.session, request.db, request._post_init = session, env.cr.dbname, None
    request.registry, request.params = env.registry, {}
    request.env = env(context={**env.context, 'lang': language[0]}) if language else env
    request.is_frontend = request.is_frontend_multilang = False
    vars(request).update(attributes)
    http._request_stack.push(request)
    try:
        language = language or [env.context.get('lang')]
        yield read_through.current_origin() == (host, website, debug, *language)
    finally:
        http._request_stack.pop()


def dispatch(registry, origin, uid: int) -> dict:
    """What Odoo adds to a request for a host before it calls anything.

    In a process that has answered no request yet, this also fills the map of all routes, which is
    0.3 s: the first request for each host waits for that, cache or no cache.

    :return: attributes of the request by name
    """
    with contextlib.closing(registry.cursor(readonly=True)) as cr:
        env = api.Environment(cr, uid, {})
        try:
            with request_scope(env, origin) as is_same:
                if is_same:
                    registry['ir.http']._match(PATH)
                request = http.request._get_current_object() if http.request else None
                return {n: v for n, v in vars(request).items() if n in _ADDED} if request else {}
        except Exception:  # noqa: BLE001 what needs them fails by itself
            _logger.info("Tiered Cache: a request could not be dispatched", exc_info=True)
            return {}


def warm_process(registry) -> None:
    """Do before the first user what each process does with its first request, for the hosts under
    which most time was saved; then wake who runs scheduled actions, which would sleep for a minute.

    Only where a warm-up is wanted after a restart.
    """
    with contextlib.closing(registry.cursor(readonly=True)) as cr:
        cr.execute('SELECT 1 FROM cache_warmup WHERE active AND after_restart LIMIT 1')
        wanted = cr.fetchone() is not None
        cr.execute('SELECT body FROM cache_call ORDER BY value_ms DESC LIMIT %s', [LOOKED_AT])
        bodies = cr.fetchall()
    if not wanted:
        return
    found = {}
    for (body,) in bodies:
        with contextlib.suppress(codec.CorruptPayload):
            call = calls.unpack(bytes(body))
            if call.origin is not None:
                found.setdefault(call.origin[:3], call)
    for call in list(found.values())[:MAX_ORIGINS]:
        dispatch(registry, call.origin, call.uid)
    with registry.cursor() as cr:
        api.Environment(cr, api.SUPERUSER_ID, {})['ir.cron']._notifydb()
