"""Which searches of this database may be merged, and which of their rows belong to whom.

The one idea: a search is merged only where evaluating its domain on records gives what PostgreSQL
gives.  That holds for plain comparisons of stored fields with plain values; a list of what is
allowed is short and can be tested, a list of exceptions never ends.  Left out are, among others,
texts by pattern (collation, accents), translated and company-dependent fields, paths into other
models (access rights of those), empty values of texts, and models with code of their own in reading
or searching.

What may go wrong: too much is left out.  Then a search runs by itself.
"""

from __future__ import annotations

from .batch_calls import MAX_ID, Call
from .batching import Domains, is_complete

_READING = ('read', 'fetch', '_read_format', '_fetch_query')
_SEARCHING = (
    'search_read',
    'search_fetch',
    'search',
    '_search',
    '_apply_ir_rules',
    'filtered_domain',
)
_COUNTING = (
    'search_count',
    'formatted_read_group',
    '_read_group',
    '_read_group_select',
    '_read_group_groupby',
    '_search',
    '_apply_ir_rules',
)
_METHODS = {'read': _READING, 'search_count': _COUNTING}
"""By method, what it consists of; by default both reading and searching."""

_PLAIN = (
    'odoo.orm.',
    'odoo.models',
    'odoo.addons.web.models.models',
    'odoo.addons.tiered_cache.models.base',
)
"""Where the methods of all models are defined."""

_REVIEWED = frozenset(
    (
        # looks at the context only, which merged calls have in common
        ('odoo.addons.product.models.product_product', '_search'),
        # of one field that is no many2one
        ('odoo.addons.mail.models.mail_activity_mixin', '_read_group_groupby'),
    )
)
"""Module and name of methods that do not disturb."""

_SLOT = '_tiered_cache_plain_models'

_IDS = frozenset(('=', '!=', 'in', 'not in'))
_TEXTS = frozenset(('=', 'in'))
_BOOLEANS = frozenset(('=', '!='))


class LocalDomains(Domains):
    """:param env: of who asks; contexts are those of the calls"""

    def __init__(self, env):
        self._env = env

    def may_merge(self, call: Call) -> bool:
        known = self._env.registry.__dict__.setdefault(_SLOT, {})
        names = _METHODS.get(call.method, _READING + _SEARCHING)
        key = call.model, names
        if key not in known:
            known[key] = _is_plain(self._env.registry[call.model], names)
        return known[key]

    def order(self, call: Call) -> str | None:
        order = call.arguments.get('order') or self._env[call.model]._order
        return order if is_complete(order) else None

    def counted_by(self, call: Call) -> str | None:
        domain, model = call.arguments.get('domain', []), self._env[call.model]
        if len(domain) != 1:
            return None
        name, operator, value = domain[0]
        field = model._fields.get(name) if isinstance(name, str) else None
        if field is None or field.type != 'many2one' or operator != '=' or not _is_id(value):
            return None
        owner, column = model, field
        if field.inherited:  # by delegation: the parent's row is the record's only one
            owner = self._env[field.related_field.model_name]
            column = field.related_field
        return name if _is_own_column(owner, column) else None

    def normal(self, call: Call) -> list | None:
        model, domain = self._env[call.model], call.arguments.get('domain', [])
        mentioned = set()
        for item in domain:
            if item in ('&', '|', '!'):
                continue
            if not _is_exact(model, item):
                return None
            mentioned.add(item[0])
        active = model._active_name
        if active and active not in mentioned and call.context.get('active_test', True):
            if not _is_exact(model, [active, '=', True]):
                return None
            return [*domain, [active, '=', True]]
        return domain

    def select(self, call: Call, domain: list, ids: list[int]) -> set[int]:
        records = self._env(context=call.context)[call.model].browse(ids)
        return set(records.filtered_domain(domain)._ids)


def _is_plain(model_class, names) -> bool:
    """Whether none of the methods is defined anywhere but where all models have them from."""
    return not any(
        name in vars(part)
        and not part.__module__.startswith(_PLAIN)
        and (part.__module__, name) not in _REVIEWED
        for part in model_class.mro()
        for name in names
    )


def _is_exact(model, condition) -> bool:
    """Whether a record tells of itself what PostgreSQL says of its row."""
    name, operator, value = condition
    field = model._fields.get(name) if isinstance(name, str) else None
    if name == 'id':
        return operator in _IDS and _all(value, operator, _is_id)
    if field is None or not _is_own_column(model, field):
        return False
    if field.type in ('many2one', 'integer'):
        return operator in _IDS and _all(value, operator, _is_id)
    if field.type in ('char', 'selection'):
        return operator in _TEXTS and _all(value, operator, _is_text)
    return field.type == 'boolean' and operator in _BOOLEANS and isinstance(value, bool)


def _is_own_column(model, field) -> bool:
    return bool(
        field.store
        and field.column_type
        and not field.company_dependent
        and not field.groups
        and not field.related
        and not field.inherited
        and not field.search
        and not getattr(field, 'translate', False)
        and field.model_name == model._name
    )


def _all(value, operator: str, is_good) -> bool:
    if operator in ('in', 'not in'):
        return isinstance(value, list) and bool(value) and all(map(is_good, value))
    return is_good(value)


def _is_id(value) -> bool:
    return type(value) is int and 0 < value <= MAX_ID


def _is_text(value) -> bool:
    return isinstance(value, str) and bool(value)
