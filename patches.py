"""The patches of this addon, each for want of a hook; two more are :mod:`services.savepoints` and
:mod:`services.statements`.

``get_public_method``: ``cache.manager.invalidate_model`` must be callable by RPC, but the name
means "drop this model's ORM cache" on every Odoo model, and is closed to RPC there
(``@api.private`` on ``BaseModel``).  Odoo refuses a name as soon as any class that a model
inherits from has closed it, so an override cannot open it again.  For this one model and name
the override is what is returned; every other answer is Odoo's own.

``Datetime.now``, ``Date.context_today``, ``cr.now``: a result that looked at the time of day may
only live briefly, and nothing tells that Python code looked.  These are Odoo's own ways to ask for
the time; they now say so to a recording that is running, and return what they returned before.

``Field.determine_domain``: it calls the search method of a field, whose code may look at the time
in other ways.

What may go wrong: code that has imported a function before the patch sees the old one.  For the
first, those of Odoo are replaced by name, and without the replacement the call is refused, never
let through.  For the second, :mod:`services.clock` inspects the code of compute methods as well.
"""

import functools
import sys

from odoo import fields
from odoo.service import model as service
from odoo.sql_db import BaseCursor

from .services import reading, savepoints, statements, test_snapshot

_IMPORTERS = ('odoo.addons.rpc.controllers.json2', 'odoo.addons.api_doc.controllers.api_doc')


def post_load():
    _open_invalidate_model()
    _watch_clocks()
    _watch_search_methods()
    savepoints.post_load()
    statements.post_load()
    test_snapshot.post_load()


def _open_invalidate_model():
    original = service.get_public_method
    if hasattr(original, '_tiered_cache'):
        return

    @functools.wraps(original)
    def get_public_method(model, name):
        if name == 'invalidate_model' and model._name == 'cache.manager':
            return type(model).invalidate_model
        return original(model, name)

    get_public_method._tiered_cache = True
    for module in (service, *(sys.modules.get(name) for name in _IMPORTERS)):
        if getattr(module, 'get_public_method', None) is original:
            module.get_public_method = get_public_method


def _watch_clocks():
    original, today, cursor_now = fields.Datetime.now, fields.Date.context_today, BaseCursor.now
    if hasattr(original, '_tiered_cache'):
        return

    @functools.wraps(original)
    def now(*args):
        reading.note_clock()
        return original(*args)

    @functools.wraps(today)
    def context_today(record, *args, **kwargs):
        reading.note_date(record.env.context.get('tz'))
        return today(record, *args, **kwargs)

    @functools.wraps(cursor_now)
    def now_of_cursor(self):
        # asked a second time in a transaction, it sends no SQL
        reading.note_clock()
        return cursor_now(self)

    now._tiered_cache = True
    fields.Datetime.now = staticmethod(now)
    fields.Date.context_today = staticmethod(context_today)
    BaseCursor.now = now_of_cursor


def _watch_search_methods():
    original = fields.Field.determine_domain
    if hasattr(original, '_tiered_cache'):
        return

    @functools.wraps(original)
    def determine_domain(self, records, operator, value):
        reading.note_code(records, self, 'search')
        return original(self, records, operator, value)

    determine_domain._tiered_cache = True
    fields.Field.determine_domain = determine_domain
