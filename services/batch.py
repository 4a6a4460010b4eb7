"""A batch of reads, from the calls to the bytes of the answer.

The one idea: all calls run in the transaction of the request, hence in one snapshot, with the
rights of who asks.  A call that fails is rolled back to a savepoint and becomes an error in its
place; PostgreSQL keeps the snapshot, so the others do not notice.  One savepoint does for all of
them, since nothing is written between them.

What may go wrong: time runs out.  Calls that were not made by then say so, with status 429, the
rest is answered, and nothing of it is kept.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time

import psycopg2

from odoo.exceptions import AccessError, MissingError, UserError
from odoo.tools.json import json_default

from . import batching, keys, serving
from .batch_calls import MAX_IDS, BadCall, Call, parse
from .clock import dates
from .domains import LocalDomains
from .quiet import quiet

_logger = logging.getLogger(__name__)

_OWN_MODULE = 'tiered_cache'

SAVEPOINT = 'tiered_cache_batch'

_CALLERS_FAULT = (
    ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError, RecursionError,
    NotImplementedError, ArithmeticError,
)  # fmt: skip
"""What the ORM raises for a field, an order or a value that it does not know."""

_RETRIED = (
    psycopg2.errors.SerializationFailure,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.LockNotAvailable,
    psycopg2.InterfaceError,
)


def answer(engine, env, raw_calls: list, origin, budget_s: float, has) -> serving.Served:
    """Answer a batch.

    :param engine: of this process, or None
    :param raw_calls: of :func:`.batch_calls.parse_batch`
    :param origin: of the web request, see :func:`..models.read_through.current_origin`; False is a
        request whose answers are not cached
    :param budget_s: seconds after which no further call is made
    :param has: see :func:`.serving.serve`
    :return: the status is 200 as soon as one call has a result, else that of the errors
    """
    calls = [_parse(env, raw) for raw in raw_calls]
    if all(isinstance(call, BadCall) for call in calls):
        return serving.Served(*_render([problem(call) for call in calls]), '')
    forms = [
        [call.status, call.message] if isinstance(call, BadCall) else call.form for call in calls
    ]
    zones = {call.context.get('tz') or '' for call in calls if isinstance(call, Call)}
    days = [dates(env(context={'tz': zone})) for zone in sorted(zones)]
    budget = Budget(env.cr, budget_s)

    def compute():
        parts = _run(env, calls, budget)
        return serving.Computed(*_render(parts), lasting=not budget.is_over)

    try:
        name = f'batch:{keys.digest(forms)}'
    except keys.Unkeyable:
        engine = None
        name = ''
    if origin is False:
        engine = None
    extra = forms, days, origin
    with quiet():
        served = serving.serve(engine, env, name, extra, compute, has, budget.prepare)
        budget.finish()
    return served


def _parse(env, raw) -> Call | BadCall:
    try:
        call = parse(raw)
        check_model(env, call.model)
    except BadCall as problem:
        return problem
    return call


def check_model(env, name: str) -> None:
    """:raise BadCall: unless there is a model of this name that programs outside may read"""
    model = env.registry.models.get(name)
    if model is None:
        raise BadCall(f'There is no model {name!r} in this database.', 404)
    if model._original_module == _OWN_MODULE:
        raise BadCall(f'The model {name} belongs to the cache itself and is not read through it.')
    if model._abstract:
        raise BadCall(f'The model {name} is an abstract one, which has no records.')


def serve(engine, env, name: str, extra: tuple, read, budget: Budget, has) -> serving.Served:
    """Answer one question, cached as one piece.

    :param read: without arguments; returns a value for JSON; what it raises is the answer
    :param has: see :func:`.serving.serve`, as are the others
    """

    def compute():
        value = Attempts(env, budget).attempt(read)
        if not isinstance(value, batching.Failure):
            return serving.Computed(200, dump(value))
        error = problem(value.error)
        return serving.Computed(error['status'], dump({'error': error}), not budget.is_over)

    with quiet():
        served = serving.serve(engine, env, name, extra, compute, has, budget.prepare)
        budget.finish()
    return served


# -- time ------------------------------------------------------------------------------


class Budget:
    """A limit to the time of a request, for each of its statements and as a whole.

    :param cr: of the request
    :param seconds: at least 0.001
    """

    def __init__(self, cr, seconds: float):
        self._cr = cr
        self._seconds = seconds
        self._ends = None
        self.is_over = False

    def prepare(self) -> None:
        """Before the first call: a place to come back to, and a limit to each statement."""
        self._ends = time.monotonic() + self._seconds
        self._cr.execute(
            f'SAVEPOINT {SAVEPOINT}; SET LOCAL statement_timeout = %s',
            [max(1, int(self._seconds * 1000))],
        )

    def finish(self) -> None:
        """The rest of the transaction has no limit."""
        if self._ends is not None:
            self._cr.execute('SET LOCAL statement_timeout TO DEFAULT')

    @contextlib.contextmanager
    def watching(self):
        """Within it, the first query that ends too late is the last one: a call may make thousands
        of short ones, as a read of records does that are gone.

        :raise psycopg2.errors.QueryCanceled: as if PostgreSQL had stopped it
        """
        hooks = threading.current_thread().__dict__.setdefault('query_hooks', [])
        hooks.append(self._after_query)
        try:
            yield
        finally:
            hooks.remove(self._after_query)

    def _after_query(self, cr, _query, _params, _start, _delay) -> None:
        if cr is self._cr and self._is_late():
            raise psycopg2.errors.QueryCanceled('The time of this request is over.')

    def _is_late(self) -> bool:
        return self._ends is not None and time.monotonic() > self._ends

    def check(self) -> None:
        """:raise BadCall: there is no time left"""
        if self._is_late():
            self.is_over = True
            raise BadCall(
                f'The time of this request, {self._seconds:g} seconds, was over before this. '
                'Ask for less at a time.',
                429,
            )


# -- calls -----------------------------------------------------------------------------


def _run(env, calls: list, budget: Budget) -> list[dict | str]:
    """What each call gives."""
    maker = _Maker(env, budget)
    good = [call for call in calls if isinstance(call, Call)]
    answers = iter(batching.run(good, maker, _Domains(env, maker)))
    texts: dict[int, str] = {}
    parts = []
    for call in calls:
        if isinstance(call, BadCall):
            parts.append(problem(call))
            continue
        value = next(answers)
        if isinstance(value, batching.Failure):
            parts.append(problem(value.error))
            continue
        # equal calls have one value, which is written once
        text = texts.get(id(value))
        if text is None:
            text = texts[id(value)] = _dump(value)
        parts.append(text)
    return parts


class Attempts:
    """Makes one thing after the other, each of which may fail without harm to the others.

    :param budget: whose :meth:`Budget.prepare` was called
    """

    def __init__(self, env, budget: Budget):
        self._env = env
        self._budget = budget

    def attempt(self, work):
        """What ``work()`` returns, or a :class:`.batching.Failure`."""
        try:
            self._budget.check()
            with self._budget.watching():
                return work()
        except _RETRIED:
            raise
        except psycopg2.Error as error:
            self._env.cr.execute(f'ROLLBACK TO SAVEPOINT {SAVEPOINT}')
            self._env.invalidate_all(flush=False)
            if isinstance(error, psycopg2.errors.QueryCanceled):
                self._budget.is_over = True
            return batching.Failure(error)
        except Exception as error:  # noqa: BLE001 it is the answer
            return batching.Failure(error)


class _Maker(Attempts):
    """Makes the calls of a batch."""

    def __call__(self, call: Call):
        return self.attempt(lambda: self._make(call))

    def _make(self, call: Call):
        records = self._env(context=call.context)[call.model]
        if call.ids is not None:
            records = records.browse(call.ids)
        arguments = dict(call.arguments)
        if call.method == 'search_count':
            arguments.setdefault('domain', [])
        if call.method == 'formatted_read_group':
            arguments.setdefault('domain', [])
        bounded = call.method in ('search_read', 'formatted_read_group')
        if bounded and 'limit' not in arguments:
            arguments['limit'] = batching.ROWS
        value = getattr(records, call.method)(**arguments)
        if bounded and len(value) > MAX_IDS and 'limit' not in call.arguments:
            raise BadCall(f'There are more than {MAX_IDS} rows: give a limit, and page.', 413)
        return value


class _Domains(LocalDomains):
    """What taking apart asks of PostgreSQL may fail like a call.

    :param attempts: see :class:`Attempts`
    """

    def __init__(self, env, attempts: Attempts):
        super().__init__(env)
        self._attempts = attempts

    def select(self, call: Call, domain: list, ids: list[int]):
        return self._attempts.attempt(lambda: super(_Domains, self).select(call, domain, ids))


# -- answers ---------------------------------------------------------------------------


def _render(parts: list) -> tuple[int, bytes]:
    """Status and body of an answer.

    :param parts: the text of a result, or an error, each
    """
    statuses = {part['status'] for part in parts if isinstance(part, dict)}
    if any(isinstance(part, str) for part in parts):
        status = 200
    else:
        status = statuses.pop() if len(statuses) == 1 else 400
    texts = [
        f'{{"result":{part}}}' if isinstance(part, str) else _dump({'error': part})
        for part in parts
    ]
    return status, f'{{"results":[{",".join(texts)}]}}'.encode('utf-8', 'backslashreplace')


def _dump(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(',', ':'), default=json_default)


def dump(value) -> bytes:
    """A value as JSON, as Odoo writes it."""
    return _dump(value).encode('utf-8', 'backslashreplace')


def problem(error: Exception) -> dict:
    """An error as part of an answer: status, kind and a sentence, never a traceback."""
    status, kind, message = describe(error)
    return {'status': status, 'type': kind, 'message': message}


def describe(error: Exception) -> tuple[int, str, str]:
    """Status, kind and sentence for what a read has raised."""
    if isinstance(error, BadCall):
        kinds = {404: 'not_found', 413: 'too_large', 429: 'out_of_time'}
        return error.status, kinds.get(error.status, 'invalid'), error.message
    if isinstance(error, AccessError):
        return 403, 'access', str(error)
    if isinstance(error, MissingError):
        return 404, 'missing', str(error)
    if isinstance(error, UserError):
        return 400, 'invalid', str(error)
    if isinstance(error, psycopg2.errors.QueryCanceled):
        return 429, 'out_of_time', 'This call took longer than a request may take.'
    if isinstance(error, psycopg2.DataError | psycopg2.ProgrammingError):
        return 400, 'invalid', 'The database cannot compare or order by what was asked for.'
    if isinstance(error, _CALLERS_FAULT):
        _logger.info("A call of the batch API could not be made", exc_info=error)
        return 400, 'invalid', f'The call cannot be made: {_first_line(error)}'
    _logger.warning("A call of the batch API failed", exc_info=error)
    return 500, 'internal', "The server could not make this call; its log says why."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
