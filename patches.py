"""The patches of this addon, each for want of a hook; two more are :mod:`services.savepoints` and
:mod:`services.statements`.

``get_public_method``: ``cache.manager.invalidate_model`` must be callable by RPC, but the name
means "drop this model's ORM cache" on every Odoo model, and is closed to RPC there
(``@api.private`` on ``BaseModel``).  Odoo refuses a name as soon as any class that a model
inherits from has closed it, so an override cannot open it again.  For this one model and name
the override is what is returned; every other answer is Odoo's own.

``Datetime.now``: a result that looked at the time of day may only live briefly, and nothing
tells that Python code looked.  Odoo's own way to ask for the time is ``fields.Datetime.now()``;
it now says so to a recording that is running, and returns what it returned before.

What may go wrong: code that has imported a function before the patch sees the old one.  For the
first, those of Odoo are replaced by name, and without the replacement the call is refused, never
let through.  For the second, :mod:`services.clock` inspects the code of compute methods as well.
"""

import functools
import sys

from odoo import fields
from odoo.service import model as service

from .services import reading, savepoints, statements, test_snapshot

_IMPORTERS = ('odoo.addons.rpc.controllers.json2', 'odoo.addons.api_doc.controllers.api_doc')


def post_load():
    _open_invalidate_model()
    _watch_datetime_now()
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


def _watch_datetime_now():
    original = fields.Datetime.now
    if hasattr(original, '_tiered_cache'):
        return

    @functools.wraps(original)
    def now(*args):
        reading.note_clock()
        return original(*args)

    now._tiered_cache = True
    fields.Datetime.now = staticmethod(now)
