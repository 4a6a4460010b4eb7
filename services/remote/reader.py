"""Another Odoo, as the code of a module sees it: ``env['cache.remote']._get('headquarters')``.

The one idea: a read is a named entry (:mod:`..outside`), and so is each record of a read by ids;
:mod:`.names` tells their names.

What may go wrong is an :class:`~.errors.RemoteError`, unless an old answer may stand in.
"""

# "read" is what this one does, no override of a model's method
# pylint: disable=method-required-super

from __future__ import annotations

import contextlib

import psycopg2

from odoo.fields import Domain

from .. import outside, removal
from ..named import Answer
from .client import Client, Settings
from .errors import RemoteError, RemoteMissingError
from .merging import MAX_IDS, OF_RECORDS, READS
from .names import model_tag, remote_tag
from .protocols import Call

SINGLE_FLIGHT_S = 5.0
"""How long to wait for another process that asks the same."""

PAUSE_S = 2.0
"""So long nobody asks again for what an old answer stands in for."""

LOOKS = 3
"""Into the cache before a read fails with the other server.  Each of them waits 100 ms for an L3
that is busy; 20 threads that share one interpreter made some 500 of 270,000 looks longer."""


class Remote:
    """One remote for one environment.

    :param engine: None while the cache does not run: then everything is asked
    """

    def __init__(self, env, engine, settings: Settings, client: Client):
        self._env = env
        self._engine = engine
        self._settings = settings
        self._client = client

    def __repr__(self):
        return f'<remote {self._settings.name}>'

    # -- reads -------------------------------------------------------------------------

    def search_read(self, model, domain=(), fields=(), offset=0, limit=None, order=None, **how):
        """As the ORM's, with names of fields.

        :param how: ``ttl_s``, ``fail_safe_s``: seconds, instead of what the record says; 0 is none.
            ``context``: of the call over there
        :return: a list of dictionaries, fresh
        """
        paging = {'offset': offset or None, 'limit': limit, 'order': order or None}
        kwargs = {name: value for name, value in paging.items() if value is not None}
        call = Call(model, 'search_read', (_domain(domain), list(fields)), kwargs)
        return self._answer(call, **how).value

    def search(self, model, domain=(), offset=0, limit=None, order=None, **how):
        """Ids; see :meth:`search_read`."""
        paging = {'offset': offset or None, 'limit': limit, 'order': order or None}
        kwargs = {name: value for name, value in paging.items() if value is not None}
        return self._answer(Call(model, 'search', (_domain(domain),), kwargs), **how).value

    def search_count(self, model, domain=(), **how):
        return self._answer(Call(model, 'search_count', (_domain(domain),), {}), **how).value

    def read(self, model, ids, fields, **how):  # pylint: disable=method-required-super
        """As :meth:`read_batch`; the name that the ORM has for it."""
        return self.read_batch(model, ids, fields, **how)

    def read_batch(self, model, ids, fields, **how):
        """Records by their ids, each kept by itself, fetched in hundreds.

        :param how: see :meth:`search_read`
        :return: dictionaries in the order of ``ids``, without those that do not exist
        """
        answers = self.answer_batch(model, ids, fields, **how)
        return [answer.value for answer in answers if answer.value is not outside.NOTHING]

    def answer_batch(self, model, ids, fields, ttl_s=None, fail_safe_s=None, context=None):
        """As :meth:`read_batch`, with where each comes from and how old it is.

        :rtype: list[services.named.Answer]
        """
        ids, fields = list(dict.fromkeys(ids)), list(fields)
        plan = self._plan(model, ttl_s, fail_safe_s)
        extra = (self._settings.identity, 'read', fields, context)
        base = model_tag(self._settings.name, model)
        wanted = [outside.Wanted(self._env, f'{base}:{int(id_)}', extra, plan) for id_ in ids]

        def fetch(missing):
            numbers = [int(one.name.rpartition(':')[2]) for one in missing]
            rows = {row['id']: row for row in self._read(model, numbers, fields, context)}
            self._follow(model)
            return [rows.get(number, outside.NOTHING) for number in numbers]

        answers: list[Answer] = []
        for start in range(0, len(wanted), MAX_IDS):
            part = wanted[start : start + MAX_IDS]
            engine = None if ttl_s == 0 else self._engine
            try:
                answers += outside.answer_many(engine, part, fetch)
            except RemoteError as error:
                answers += self._stand_ins(engine, part, error)
        return answers

    def answer(self, model, method, *args, ttl_s=None, fail_safe_s=None, context=None, **kwargs):
        """Any method that changes nothing, with where the value comes from and how old it is:
        ``origin`` 'expired' marks one that stands in while the other server is down.

        :rtype: services.named.Answer
        :raise ValueError: for a method that may change something
        """
        if method not in READS:
            raise ValueError(f'{method} may change something: use call().')
        call = Call(model, method, tuple(args), kwargs)
        return self._answer(call, ttl_s, fail_safe_s, context)

    def _answer(self, call: Call, ttl_s=None, fail_safe_s=None, context=None) -> Answer:
        call = call._replace(context=context)
        if ttl_s == 0:
            return Answer(self._client.read(call), 'computed')
        plan = self._plan(call.model, ttl_s, fail_safe_s)
        extra = (self._settings.identity, call.method, call.args, call.kwargs, context)
        name = f'{model_tag(self._settings.name, call.model)}:search'
        wanted = outside.Wanted(self._env, name, extra, plan)

        def fetch():
            value = self._client.read(call)
            if call.method in OF_RECORDS:  # who may not read a model is not told of its changes
                self._follow(call.model)
            return value

        try:
            return outside.answer(self._engine, wanted, fetch)
        except RemoteError as error:
            return self._stand_ins(self._engine, [wanted], error)[0]

    @staticmethod
    def _stand_ins(engine, wanted: list, error: RemoteError) -> list[Answer]:
        """What the cache has after all.  A tier that is busy looks like one that has nothing, which
        costs a request otherwise, and the read itself now that nobody can be asked.

        :raise RemoteError: ``error``
        """
        if engine is None or not error.outage:
            raise error

        def refuse(_wanted):
            raise error

        for _look in range(LOOKS):
            with contextlib.suppress(RemoteError):
                return outside.answer_many(engine, wanted, refuse)
        raise error

    def _read(self, model, ids, fields, context) -> list[dict]:
        call = Call(model, 'read', (ids, fields), {}, context)
        try:
            return self._client.read(call)
        except RemoteMissingError:
            domain = [['id', 'in', ids]]
            everyone = {**(context or {}), 'active_test': False}
            ids = self._client.read(Call(model, 'search', (domain,), {}, everyone))
            return self._client.read(call._replace(args=(ids, fields))) if ids else []

    def _plan(self, model: str, ttl_s, fail_safe_s):
        settings = self._settings
        options = {
            'ttl_s': settings.ttl_s if ttl_s is None else ttl_s,
            'fail_safe_s': settings.fail_safe_s if fail_safe_s is None else fail_safe_s,
            'fail_safe_pause_s': PAUSE_S,
            'single_flight_s': min(SINGLE_FLIGHT_S, settings.timeout_s),
            'consistency': 'eventual',
            'sharing': 'all',
            'tags': (remote_tag(settings.name), model_tag(settings.name, model)),
        }
        if self._engine is None:
            return None
        return self._engine.config.named_plan(model_tag(settings.name, model), options)

    def _follow(self, model: str) -> None:
        """A model that has answered: what it answered before is removed with its first poll."""
        if self._engine is not None and self._settings.follow != 'ttl':
            self._engine.follower.want(self._settings.id, model)

    # -- changes -----------------------------------------------------------------------

    def call(self, model, method, *args, context=None, removes=None, **kwargs):
        """Any method; never cached.  What it may have changed is removed at once and for all
        workers, whether this transaction is committed or not: over there it has happened.

        :param removes: names of the models that the call changes; by default anything of the remote
            may have changed, unless the method is known to change nothing
        """
        call = Call(model, method, tuple(args), kwargs, context)
        if method in READS:
            return self._client.read(call)
        try:
            return self._client.change(call)
        finally:  # also after a timeout: it may have happened
            self.forget(removes)

    def forget(self, models=None) -> None:
        """Remove what was read from this remote.

        :param models: only of these
        """
        engine = self._engine
        if engine is None or not engine.available:
            return
        name = self._settings.name
        tags = [remote_tag(name)] if models is None else [model_tag(name, m) for m in models]
        try:
            # of its own: the caller's transaction may be rolled back, the other server's is not
            with engine.cursor() as cr:
                for tag in tags:
                    removal.remove_tag(engine, cr, tag)
        except psycopg2.Error as error:
            engine.fault(error, ('', 'remote'))


def _domain(domain) -> list:
    """As JSON has it.

    :raise ValueError: it is none
    """
    if isinstance(domain, Domain):
        domain = list(domain)
    if not isinstance(domain, list | tuple):
        raise ValueError(f'A domain is a list, not {type(domain).__name__}.')
    return [list(item) if isinstance(item, tuple) else item for item in domain]
