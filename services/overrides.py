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
    ('product.template', 'name_search'):
        "searches product.product and reads templates from that; reaches super() only when "
        "there is nothing to search for",
    ('product.product', 'name_search'):
        "looks for the default code, the barcode and the name with searches of its own; "
        "reaches super() only without a name",
}


def methods_of(model_name: str) -> list[str]:
    """Methods of a model that are wrapped on the outside."""
    return [method for model, method in WRAPPED if model == model_name]


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
        return read_through(self, method, outermost.__get__(self), *args, **kwargs)

    wrapped._tiered_cache_wrapped = True
    setattr(model_class, method, wrapped)
