"""Which relations a computation read.

The one idea: Odoo's ``Cursor.execute`` calls the functions in the current thread's
``query_hooks`` after every query (its profiler uses them).  While a read is computed, a
:class:`Recording` stands in that list, looks up what each SQL text reads in the
:class:`~.catalogue.Catalogue`, and adds it up.

Reads without SQL are accounted for as well: what already sat in the ORM cache when the
recording began (:func:`preloaded`), what an answer from the cache depended on
(:meth:`Recording.inherit`), and the values of ``tools.ormcache``, which the engine ties to
the ``orm_signaling_*`` relations.

What may go wrong: a text that cannot be understood, a second cursor, a rollback to a
savepoint.  Each makes the recording *refused*: the result is returned, not stored.
"""

from __future__ import annotations

import math
import threading

from psycopg2.extensions import AsIs
from psycopg2.sql import Composable

from odoo.models import BaseModel

from . import journal, positions
from .statements import sent
from .transaction import HAS_WRITTEN

CURSOR_NOTES = frozenset(
    (
        '_ormcache_lookups',  # which values of tools.ormcache were asked for, for its figures
        '_compile_batch_',  # texts of views, on whose table every entry depends
        'translation_data',  # of an answer over HTTP that is being written
        'account_disable_recursion_stack',  # only while a journal entry is written
    )
)
"""What Odoo itself keeps in ``cr.cache``.  Whatever else is there when a recording begins may have
been read from any table, and sends no SQL any more."""

INNER = (journal.KEY, journal.PATTERN)
"""How dependencies on named entries begin."""

_PLAIN = frozenset((int, str, float, bool, bytes, type(None)))


class Recording:
    """Collects what one computation reads; a context manager.

    :param cr: the cursor of the computation; another one has another snapshot
    :param read: ``read(text) -> Reading``, see :meth:`Catalogue.reading`
    :param positions: whether whoever serves the result asks for :mod:`.positions` again; otherwise
        what has read one is refused
    """

    __slots__ = (
        '_read',
        '_seen',
        'clock',
        'cr',
        'domains',
        'ends',
        'inner',
        'positions',
        'queries',
        'refusal',
        'relations',
        'sent',
    )

    def __init__(self, cr, read, positions: bool = False):
        self.cr = cr
        self._read = read
        self._seen: set[str] = set()
        self.relations: set[str] = set()
        self.refusal = ''
        self.clock = False
        self.queries = 0
        self.ends = math.inf  # when what was taken over ends, epoch seconds
        self.inner: dict[str, int] = {}  # named entries that were asked for, and their owners
        self.domains: dict = {}  # of record rules that were checked
        self.positions: dict[str, int] | None = {} if positions else None
        self.sent = 0.0  # statements of the connection, as far as they were seen

    def __enter__(self) -> Recording:
        thread = threading.current_thread()
        hooks = getattr(thread, 'query_hooks', None)
        if hooks is None:
            hooks = thread.query_hooks = []
        hooks.append(self._hook)
        self.sent = sent(self.cr)
        if noted := sorted(self.cr.cache.keys() - CURSOR_NOTES, key=str):
            self.refuse(f'in memory: cr.cache {noted[0]}')
        return self

    def __exit__(self, *exc_info) -> None:
        threading.current_thread().query_hooks.remove(self._hook)

    def refuse(self, reason: str) -> None:
        """Do not store the result; the first reason is kept."""
        self.refusal = self.refusal or reason

    def has_seen_all(self) -> bool:
        """Whether no statement has passed by Odoo's cursor, which tells the hooks."""
        return sent(self.cr) == self.sent

    def inherit(self, dependencies, clock: bool) -> None:
        """Take over what an answer from the cache depended on."""
        for name, version, uid in dependencies:
            if name.startswith(INNER):
                self.inner[name] = uid
            elif name.startswith(positions.PREFIX):
                self._stood(name, version)
            else:
                self.relations.add(name)
        self.clock = self.clock or clock

    def _stood(self, name: str, version: int) -> None:
        """A sequence was asked for its position."""
        if self.positions is None or self.positions.setdefault(name, version) != version:
            self.refuse(positions.REFUSAL)

    def _hook(self, cr, query, params, start, delay) -> None:
        self.queries += 1
        self.sent += cr._obj is self.cr._obj
        if self.refusal or query == HAS_WRITTEN:
            return
        try:
            self._note(cr, query, params)
        except Exception as error:  # noqa: BLE001 a fault here must not fail the query
            self.refuse(f'fault {type(error).__name__}')

    def _note(self, cr, query, params) -> None:
        if cr._obj is not self.cr._obj:
            self.refuse('another cursor')
            return
        if not isinstance(query, str) or (params and _hides_names(params)):
            query = cr._obj.query.decode('utf-8', 'replace')
        elif query in self._seen:
            return
        else:
            self._seen.add(query)
        reading = self._read(query)
        if reading.relations is None:
            if name := positions.asked(cr):
                self._seen.discard(query)  # it may say something else the next time
                self._stood(positions.PREFIX + name, positions.answered(cr))
                return
            self.refuse(reading.refusal)
        else:
            self.relations |= reading.relations
            self.clock = self.clock or reading.clock


def _hides_names(params) -> bool:
    """Whether a parameter may put a name into the text, which then only stands in the
    statement as it was sent."""
    values = params.values() if isinstance(params, dict) else params
    for value in values:
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind in (tuple, list):
            if not _PLAIN.issuperset(map(type, value)) and _hides_names(value):
                return True
        elif isinstance(value, (AsIs, Composable)) or hasattr(value, 'getquoted'):
            return True
    return False


_KNOWN_COMPUTED = frozenset(
    (
        'res.users.all_group_ids',
        'res.users.share',
        'res.groups.all_implied_ids',
        'res.groups.all_implied_by_ids',
        'res.groups.disjoint_ids',
    )
)
"""Computed from users, groups and their relation tables alone, on which every entry depends
anyway.  Source: ``odoo/addons/base/models/res_users.py``, ``res_groups.py``."""


def _is_filtered_by_user(field) -> bool:
    """Whether a value depends on who has read it: the records at the other end of a one2many or
    many2many are those that one user may see, and the ORM cache, which all users of a
    transaction share, does not tell whose."""
    return field.type in ('one2many', 'many2many')


def _fetches_for_user(model) -> bool:
    """Whether a model has a way of its own to put what it fetches into memory, such as 'Busy' for
    the name of a private ``calendar.event``: there values depend on who has read them."""
    return model._fetch_query is not BaseModel._fetch_query


class OrmCacheReader:
    """Relations behind values that sit in the ORM cache; one per registry.

    A stored field stands for its table, a many2many field for its relation table too, a
    related or inherited field for every step.  A non-stored computed field may have read
    anything: it is *opaque*, but for a few of Odoo's own which every request reads.

    :param registry: the Odoo registry
    """

    def __init__(self, registry):
        self._registry = registry
        self._by_field: dict = {}

    def preloaded(self, transaction) -> tuple[set[str], str]:
        """What the transaction holds in memory.

        :return: the relations, and the name of an opaque field or ''
        """
        relations: set[str] = set()
        for field, values in transaction.field_data.items():
            if not values:
                continue
            if _is_filtered_by_user(field):
                return relations, str(field)
            found, opaque = self.relations(field)
            relations |= found
            if opaque:
                return relations, opaque
        return relations, ''

    def computed(self, transaction) -> str:
        """The name of a field that was computed from whatever, and is kept in memory, or ''."""
        for field, values in transaction.field_data.items():
            is_computed = values and not field.store and not _is_filtered_by_user(field)
            if is_computed and (opaque := self.relations(field)[1]):
                return opaque
        return ''

    def relations(self, field) -> tuple[frozenset[str], str]:
        """What the value of a field was read from, and the name of an opaque field or ''."""
        known = self._by_field.get(field)
        if known is None:
            found: set[str] = set()
            opaque = self._collect(field, found, 0)
            known = self._by_field[field] = frozenset(found), opaque
        return known

    def _collect(self, field, found: set[str], depth: int) -> str:
        model = self._registry.models.get(field.model_name)
        if model is None or depth > 8 or _fetches_for_user(model):
            return str(field)
        if not model._abstract:
            found.add(model._table)
        if field.type in ('many2many', 'one2many') and field.store:
            found.update(filter(None, (getattr(field, 'relation', None),)))
            found.add(self._registry[field.comodel_name]._table)
        if field.type == 'binary' and getattr(field, 'attachment', False):
            found.add('ir_attachment')
        if field.company_dependent:
            found.add('ir_default')
        if field.type in ('properties', 'properties_definition'):
            return str(field)
        if field.store or field.name == 'id':
            return ''
        if field.type == 'one2many' and not field.compute:
            found.add(self._registry[field.comodel_name]._table)
            return ''
        if field.related:
            return self._collect_related(field, found, depth)
        return self._collect_computed(field, found)

    @staticmethod
    def _collect_computed(field, found: set[str]) -> str:
        if field.model_name == 'res.company' and field.compute == '_compute_address':
            found.add('res_partner')  # copied from the company's partner and its addresses
            return ''
        return '' if str(field) in _KNOWN_COMPUTED else str(field)

    def _collect_related(self, field, found: set[str], depth: int) -> str:
        model = self._registry[field.model_name]
        for name in field.related.split('.'):
            step = model._fields[name]
            if opaque := self._collect(step, found, depth + 1):
                return opaque
            if step.comodel_name:
                model = self._registry[step.comodel_name]
        return ''
