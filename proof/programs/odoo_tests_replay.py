"""Ask again, between the steps of a test, what was asked before.

The one idea: whoever wrote the test says by an assertion that something has just been done.
Before each assertion a few earlier reads of the same test class are repeated, and reads of
every model that was written, each in an ORM environment of its own over the transaction of the
test, as if another request came.  What is pending is flushed before, as the end of a request
would; the ORM memory of the test and its query counts stay as they are.  What the cache then
answers was computed before whatever the test did in between, and the auditor compares it.

What may go wrong: a test that replaces a read method by a mock and counts its calls, or that
expects an error of the database later than here.  An error here is undone.
"""

import collections
import contextlib
import copy
import functools
import os
import random

from psycopg2.extensions import TRANSACTION_STATUS_INERROR

import odoo.sql_db
from odoo import api
from odoo.sql_db import Savepoint
from odoo.tests import common
from odoo.tools import mute_logger

NO_HITS = 'ODOO_TESTS_NO_HITS'
"""In the environment: ask again all the same, and let the cache answer nothing.  A test that fails
then, too, does so because of the asking and flushing."""

AGAIN_AT_ONCE = 3
"""Before one assertion, of the calls that were asked again already: these find entries."""

LAST_ASKED = 8
"""Of these, the last ones: where code drops ``tools.ormcache`` values older entries are lost."""

OTHERS_AT_ONCE = 2
"""Before one assertion, of all known calls: these leave entries."""

CALLS_OF_A_TEST = 60

KNOWN_CALLS = 120
"""Of one test class; the oldest are forgotten."""

ASSERTIONS = (
    'assertEqual',
    'assertNotEqual',
    'assertAlmostEqual',
    'assertTrue',
    'assertFalse',
    'assertIn',
    'assertNotIn',
    'assertRecordValues',
)

PLAIN_TYPES = frozenset(
    ('boolean', 'char', 'date', 'datetime', 'float', 'integer', 'monetary', 'selection')
)

ADMIN = 2


class Replay:
    """:param seed: which of the known calls are repeated"""

    def __init__(self, seed):
        self._seed = seed
        self._class = self._test = None
        self._known = collections.OrderedDict()
        self._models = set()
        self._left = 0
        self._asked = collections.OrderedDict()
        self._random = None
        self._busy = False
        self._counting = 0
        self.done = collections.Counter()

    def install(self, reading, transaction):
        """Watch the reads and the assertions from now on.

        :param reading: the addon's modules of these names
        """
        self._state_of = transaction.state_of
        find = reading.find
        with_hits = not os.environ.get(NO_HITS)

        @functools.wraps(find)
        def watched(engine, records, method, args, kwargs, origin):
            if not self._busy:
                self._note(records, method, args, kwargs)
            return find(engine, records, method, args, kwargs, origin) if with_hits else None

        reading.find = watched
        for name in ASSERTIONS:
            self._before(name)
        for name in ('assertQueries', 'assertQueriesContain', 'assertQueryCount'):
            self._not_within(name)

    def _before(self, name):
        original = getattr(common.BaseCase, name)

        @functools.wraps(original)
        def assertion(test, *args, **kwargs):
            self._step(test)
            return original(test, *args, **kwargs)

        setattr(common.BaseCase, name, assertion)

    def _not_within(self, name):
        original = getattr(common.BaseCase, name)

        @contextlib.contextmanager
        @functools.wraps(original)
        def assertion(test, *args, **kwargs):
            self._counting += 1
            try:
                with original(test, *args, **kwargs):
                    yield
            finally:
                self._counting -= 1

        setattr(common.BaseCase, name, assertion)

    # -- what is known -----------------------------------------------------------------

    def _note(self, records, method, args, kwargs):
        env = records.env
        if not all(type(id_) is int for id_ in records._ids):
            return
        try:
            call = (
                records._name,
                records._ids,
                method,
                copy.deepcopy(args),
                copy.deepcopy(kwargs),
                env.uid,
                env.su,
                dict(env.context),
            )
            self._add(call)
        except Exception:  # noqa: BLE001 arguments that cannot be copied
            self.done['not copied'] += 1

    def _add(self, call):
        self._known[repr(call)] = call
        if len(self._known) > KNOWN_CALLS:
            self._known.popitem(last=False)

    def _note_model(self, env, name):
        """Reads of a model as a list view, a search and a grouping make them."""
        model = env.registry.models.get(name)
        if model is None or model._abstract or model._transient or not model._auto:
            return
        fields = [f for f in model._fields.values() if f.store and not f.groups]
        plain = [f.name for f in fields if f.type in PLAIN_TYPES][:10]
        single = [f.name for f in fields if f.type == 'many2one'][:3]
        many = [f.name for f in fields if f.type in ('one2many', 'many2many')][:2]
        spec = {name: {} for name in (*plain, *many)}
        spec |= {name: {'fields': {'display_name': {}}} for name in single}
        for method, args in (
            ('web_search_read', ([], spec, 0, 20, 'id desc')),
            ('search_read', ([], ['display_name', *plain], 0, 10, 'id desc')),
            ('search_count', ([],)),
            ('formatted_read_group', ([], single[:1], ('__count',))),
        ):
            self._add((name, (), method, args, {}, ADMIN, False, {}))

    # -- asking again ------------------------------------------------------------------

    def _step(self, test):
        if self._busy or self._counting or not isinstance(test, common.TransactionCase):
            return
        cr = getattr(test, 'cr', None)
        if cr is None or cr.closed or cr._cnx.info.transaction_status == TRANSACTION_STATUS_INERROR:
            return
        self._enter(test)
        if self._left <= 0:
            return
        self._busy = True
        try:
            if self._flush(test.env.transaction, cr):
                self._learn(test)
                self._repeat(cr)
        except Exception as error:  # noqa: BLE001 the test must not suffer
            self.done[f'fault {type(error).__name__} {error}'[:80]] += 1
        finally:
            self._busy = False

    def _flush(self, orm, cr):
        """Write what is pending, as the end of a request would; undo it if that is an error.

        :return: whether nothing is pending now
        """
        if orm.protected or orm.registry.registry_invalidated:
            return False
        if not (orm.field_dirty or orm.tocompute):
            return True
        before = _copy_of(orm)
        savepoint = Savepoint(cr)
        try:
            with mute_logger('odoo.sql_db'):
                orm.flush()
        except Exception:  # noqa: BLE001 the test will see it, or never flush
            self.done['cannot be flushed'] += 1
            savepoint.close(rollback=True)
            _put_back(orm, before)
            return False
        savepoint.close(rollback=False)
        return True

    def _enter(self, test):
        if type(test) is not self._class:
            self._class = type(test)
            self._known.clear()
            self._asked.clear()
            self._models.clear()
        if test.id() != self._test:
            self._test = test.id()
            self._left = CALLS_OF_A_TEST
            self._random = random.Random(f'{self._seed} {self._test}')

    def _learn(self, test):
        for name in self._state_of(test.cr).changes.keys() - self._models:
            self._models.add(name)
            self._note_model(test.env, name)

    def _repeat(self, cr):
        """In an ORM memory of its own, and not counted among the queries of the test."""
        counts = cr.sql_log_count, odoo.sql_db.sql_counter
        transaction, cr.transaction = cr.transaction, None
        try:
            self._repeat_some(cr)
        finally:
            cr.transaction = transaction
            cr.sql_log_count, odoo.sql_db.sql_counter = counts

    def _repeat_some(self, cr):
        names = list(self._known)
        again = [name for name in list(self._asked)[-LAST_ASKED:] if name in self._known]
        for some, count in ((again, AGAIN_AT_ONCE), (names, OTHERS_AT_ONCE)):
            for name in self._random.sample(some, min(count, len(some))):
                if name in self._known:
                    self._repeat_one(cr, name)

    def _repeat_one(self, cr, name):
        self._left -= 1
        self._asked[name] = True
        self._asked.move_to_end(name)
        self.done['calls'] += 1
        savepoint = Savepoint(cr)
        try:
            with mute_logger('odoo.sql_db'):
                self._ask(cr, *self._known[name])
        except Exception as error:  # noqa: BLE001 e.g. its records are gone
            self.done[type(error).__name__] += 1
            del self._known[name]
            savepoint.rollback()
        finally:
            savepoint.close(rollback=False)
            cr.transaction = None

    @staticmethod
    def _ask(cr, model, ids, method, args, kwargs, uid, su, context):
        records = api.Environment(cr, uid, context, su)[model].browse(ids)
        getattr(records, method)(*copy.deepcopy(args), **copy.deepcopy(kwargs))


def _copy_of(orm):
    return (
        {field: _copied(values) for field, values in orm.field_data.items()},
        {field: type(ids)(ids) for field, ids in orm.field_dirty.items()},
        {field: type(ids)(ids) for field, ids in orm.tocompute.items()},
        {field: _copied(values) for field, values in orm.field_data_patches.items()},
    )


def _copied(values):
    """A cache of one field, which may be one cache for each context."""
    return type(values)(
        *((values.default_factory,) if isinstance(values, collections.defaultdict) else ()),
        {
            key: copy.copy(value) if isinstance(value, dict | list) else value
            for key, value in values.items()
        },
    )


def _put_back(orm, before):
    orm.invalidate_field_data()
    orm.field_data.update(before[0])
    for place, values in zip(
        (orm.field_dirty, orm.tocompute, orm.field_data_patches), before[1:], strict=True
    ):
        place.clear()
        place.update(values)
