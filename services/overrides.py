"""Overrides of read methods that answer without reaching the bottom of the class hierarchy.

The one idea: for a short, reviewed list the outermost method is wrapped instead, gates
included: whatever they read is recorded with the rest.  The list is data, with a reason for
each line.

Found by looking through the registry of a database with sale, purchase, stock, account,
crm, project, hr and website for methods whose code has a path to ``return`` that does not
call ``super()``; what is not in the list computes on every call, which is slow and right.
"""

from __future__ import annotations

import functools

WRAPPED = {
    (
        'product.product',
        'name_search',
    ): "with a search term it looks for the reference, the barcode and the name by searches "
    "of its own, and calls super() only without a term",
    (
        'project.tags',
        'name_search',
    ): "with a limit, which is the rule, it looks among the tags of the project's last tasks "
    "by SQL of its own, and calls super() only without a limit",
    (
        'account.account',
        'name_search',
    ): "on an invoice line it orders accounts by how often the partner used them, and calls "
    "super() only outside of invoices",
    (
        'sale.order.line',
        'name_search',
    ): "service lines are searched in an order of their own, with super() for the others only",
}

LEFT_ALONE = {
    ('ir.module.module', 'web_search_read'): "asks a server on the network for industries",
    ('ir.module.module', 'web_read'): "asks a server on the network for industries",
    ('ir.module.module', 'search_panel_select_range'): "counts categories, rarely called",
    ('res.users', 'name_search'): "an exact login only, by an index; else super() answers",
    ('res.country', 'name_search'): "a code of two letters only; super() answers the rest",
    ('res.country.state', 'name_search'): "a code only; super() answers the rest",
}
"""Overrides with a path that does not call ``super()`` which gain nothing by being cached, or
must not be."""


def methods_of(model_name: str) -> list[str]:
    """Methods of a model that are wrapped on the outside."""
    return [method for model, method in WRAPPED if model == model_name]


OUTERMOST = 'outermost'


def _call_without_marker(outermost, records, _marker, *args, **kwargs):
    return outermost(records, *args, **kwargs)


def wrap(model_class, method: str, read_through) -> None:
    """Put the cache before the outermost method of a registry class.

    :param model_class: a class of the registry; it is dropped with it
    :param read_through: ``read_through(records, method, compute, *args, **kwargs)``
    """
    outermost = getattr(model_class, method)
    if getattr(outermost, '_tiered_cache_wrapped', False):
        return

    @functools.wraps(outermost)
    def wrapped(self, *args, **kwargs):
        # the marker keeps this answer apart from that of the method at the bottom, which the
        # outermost one may call with the same arguments
        compute = functools.partial(_call_without_marker, outermost, self)
        return read_through(self, method, compute, OUTERMOST, *args, **kwargs)

    wrapped._tiered_cache_wrapped = True
    setattr(model_class, method, wrapped)
