"""Names of events, and what makes them happen.

The one idea: an event has *sources*.  ``res.partner.updated`` has one, updates of that model.
A business event has several, so that whoever asks for ORDER_UPDATED need not know which modules
are installed: a source whose model, or a field of whose domain, does not exist never happens.

ORDER_SYNCED has none, since nothing in Odoo says that an order was synchronized: the module
that does it says so, with ``env['cache.event'].emit('ORDER_SYNCED', orders)``.  Other names in
capitals are free for modules in the same way.

What may go wrong: nobody ever emits a name that somebody waits for.  Names cannot be checked
further than their form, since a module may emit them that is not installed yet.
"""

from __future__ import annotations

import re
import typing

CREATED, UPDATED, DELETED = CHANGES = ('created', 'updated', 'deleted')

_MODEL_EVENT = re.compile(rf"([a-z_][a-z0-9_.]*)\.({'|'.join(CHANGES)})")
_BUSINESS_EVENT = re.compile(r'[A-Z][A-Z0-9_]*')


class Source(typing.NamedTuple):
    """:param changes: of :data:`CHANGES`
    :param domain: of the records that count, before the change or after it
    """

    model: str
    changes: tuple[str, ...]
    domain: tuple = ()


# A deleted order, supplier or product has no event of its own, and what is kept about it and
# about lists with it is as outdated as after an update.
BUSINESS_EVENTS: dict[str, tuple[Source, ...]] = {
    'ORDER_CREATED': (
        Source('sale.order', (CREATED,)),
        Source('purchase.order', (CREATED,)),
    ),
    'ORDER_UPDATED': (
        Source('sale.order', (UPDATED, DELETED)),
        Source('purchase.order', (UPDATED, DELETED)),
    ),
    'ORDER_SYNCED': (),
    'SUPPLIER_UPDATED': (Source('res.partner', CHANGES, (('supplier_rank', '>', 0),)),),
    'PRODUCT_UPDATED': (
        Source('product.template', CHANGES),
        Source('product.product', CHANGES),
    ),
}


def is_event_name(name) -> bool:
    """``res.partner.updated``, or a name in capitals."""
    return isinstance(name, str) and bool(_MODEL_EVENT.fullmatch(name) or can_be_emitted(name))


def can_be_emitted(name) -> bool:
    """Whether modules may emit it: events of models come from the ORM alone."""
    return isinstance(name, str) and bool(_BUSINESS_EVENT.fullmatch(name))


def sources_of(name: str) -> tuple[Source, ...]:
    """What makes an event happen by itself; nothing for one that modules emit."""
    if match := _MODEL_EVENT.fullmatch(name):
        return (Source(match[1], (match[2],)),)
    return BUSINESS_EVENTS.get(name, ())


def existing_sources(registry, name: str) -> list[Source]:
    """Those whose model and fields exist in a database."""
    return [source for source in sources_of(name) if _exists(registry, source)]


def _exists(registry, source: Source) -> bool:
    model = registry.models.get(source.model)
    return model is not None and all(field in model._fields for field, *_ in source.domain)
