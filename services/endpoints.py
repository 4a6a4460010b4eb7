"""The catalogue: suppliers, products and the status of orders, for programs outside.

The one idea: an endpoint is a name (of a family of :mod:`.key_families`, so that people and event
rules can remove it), what else the answer depends on, and a function that reads.  How it is
cached, and how a 304 comes about, is :mod:`.serving`.

*Paging*: rows go by id, which never changes.  ``next`` of a page names the last id on it, so
whoever follows it sees every row that was there all the time once, whatever is created, changed or
deleted meanwhile.  Page numbers are for people; a deletion moves them.

What may go wrong: the app is not installed (404 with a sentence), the user may not read it (403).
A record that is not there and one that the user may not see are the same 404.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from urllib.parse import urlencode

from odoo.fields import Domain

from .batch_calls import MAX_ID, BadCall
from .key_families import CacheKeyBuilder

MAX_PAGE = 10_000
"""Number of the last page that can be asked for by its number: PostgreSQL counts all rows before
it.  Whoever wants more follows ``next``."""

MAX_QUERY = 200
"""Characters of a search text."""

_AFTER = 'after-'

_PREFIX = 'v1:'


class Question(typing.NamedTuple):
    """:param name: of the named entry, without version
    :param extra: what else the answer depends on
    :param read: ``read(env)`` returns a value for JSON
    """

    name: str
    extra: tuple
    read: Callable


class Page(typing.NamedTuple):
    """:param after: id of the last row before it
    :param skip: pages to skip from there
    """

    after: int
    skip: int
    size: int

    @property
    def text(self) -> str:
        return f'{_AFTER}{self.after}' if self.after else str(self.skip + 1)


def suppliers(env, settings, args: dict) -> Question:
    """All suppliers: partners in a price list of a supplier, or whom something was bought from."""
    _need(env, 'product.supplierinfo', 'Products')
    page = _page(args, settings, ('page', 'size'))
    fields = _fields(env, 'res.partner', settings.api_supplier_list_fields)
    name = _name(CacheKeyBuilder().supplier_list({'page': page.text, 'size': page.size}))

    def read(env):
        return _rows(env['res.partner'], _are_suppliers(env), fields, page, '/cache/1/suppliers')

    return Question(name, (fields, tuple(page)), read)


def supplier(env, settings, supplier_id: int) -> Question:
    """One supplier."""
    _need(env, 'product.supplierinfo', 'Products')
    fields = _fields(env, 'res.partner', settings.api_supplier_fields)

    def read(env):
        domain = Domain('id', '=', supplier_id) & _are_suppliers(env)
        return _one(env['res.partner'], domain, fields, 'supplier', supplier_id)

    return Question(_name(CacheKeyBuilder().supplier_detail(supplier_id)), (fields,), read)


def supplier_products(env, settings, supplier_id: int, args: dict) -> Question:
    """What a supplier sells, by product."""
    _need(env, 'product.supplierinfo', 'Products')
    page = _page(args, settings, ('page', 'size'))
    fields = _fields(env, 'product.template', settings.api_product_list_fields)
    name = _name(CacheKeyBuilder().supplier_products(supplier_id, page.text))

    def read(env):
        known = Domain('id', '=', supplier_id) & _are_suppliers(env)
        _one(env['res.partner'], known, ['id'], 'supplier', supplier_id)
        domain = Domain('seller_ids.partner_id', '=', supplier_id)
        path = f'/cache/1/suppliers/{supplier_id}/products'
        return _rows(env['product.template'], domain, fields, page, path)

    return Question(name, (fields, tuple(page)), read)


def products(env, settings, args: dict) -> Question:
    """Products, of a supplier, of a category and those below it, by name or reference."""
    _need(env, 'product.template', 'Products')
    page = _page(args, settings, ('page', 'size', 'supplier', 'category', 'q'))
    filters = {name: _id(name, args[name]) for name in ('supplier', 'category') if args.get(name)}
    text = args.get('q', '').strip()
    if len(text) > MAX_QUERY or '\0' in text:
        raise BadCall(f'"q" is a text of at most {MAX_QUERY} characters.')
    fields = _fields(env, 'product.template', settings.api_product_list_fields)
    if 'supplier' in filters:
        _need(env, 'product.supplierinfo', 'Products')
    filters_and_page = {**filters, 'page': page.text, 'size': page.size}
    name = _name(CacheKeyBuilder().search_results(text, filters_and_page))

    def read(env):
        domain = Domain.TRUE
        if 'supplier' in filters:
            domain &= Domain('seller_ids.partner_id', '=', filters['supplier'])
        if 'category' in filters:
            domain &= Domain('categ_id', 'child_of', filters['category'])
        if text:
            domain &= Domain('name', 'ilike', text) | Domain('default_code', 'ilike', text)
        asked = {**filters, **({'q': text} if text else {})}
        return _rows(env['product.template'], domain, fields, page, '/cache/1/products', asked)

    return Question(name, ('products', fields, tuple(page), filters, text), read)


def product(env, settings, product_id: int) -> Question:
    """One product."""
    _need(env, 'product.template', 'Products')
    fields = _fields(env, 'product.template', settings.api_product_fields)

    def read(env):
        domain = Domain('id', '=', product_id)
        return _one(env['product.template'], domain, fields, 'product', product_id)

    return Question(_name(CacheKeyBuilder().product_detail(product_id)), (fields,), read)


ORDERS = {'sale': ('sale.order', 'Sales'), 'purchase': ('purchase.order', 'Purchase')}


def order_status(env, settings, order_id: int, args: dict) -> Question:
    """How far an order is: one of sales, or one of purchases."""
    check_names(args, ('kind',))
    present = [kind for kind, (model, _app) in ORDERS.items() if model in env]
    kind = args.get('kind') or (present[0] if len(present) == 1 else '')
    if kind not in ORDERS:
        if not present:
            raise BadCall('Neither of the apps Sales and Purchase is installed.', 404)
        raise BadCall('Say which order is meant: kind=sale or kind=purchase.')
    model, app = ORDERS[kind]
    _need(env, model, app)
    fields = _fields(env, model, settings.api_order_fields)

    def read(env):
        found = _one(env[model], Domain('id', '=', order_id), fields, f'{kind} order', order_id)
        return {'kind': kind, **found}

    return Question(_name(CacheKeyBuilder().order_status(order_id)), (kind, fields), read)


# -- reading ---------------------------------------------------------------------------


def _are_suppliers(env) -> Domain:
    sellers = env['product.supplierinfo']._search(Domain.TRUE)
    domain = Domain('id', 'in', sellers.subselect('partner_id'))
    if 'supplier_rank' in env['res.partner']._fields:
        domain |= Domain('supplier_rank', '>', 0)
    return domain


def _one(model, domain: Domain, fields: list[str], what: str, id_: int) -> dict:
    rows = model.with_context(active_test=False).search_read(domain, fields, limit=1, order='id')
    if not rows:
        raise BadCall(f'There is no {what} {id_} that you may see.', 404)
    return rows[0]


def _rows(model, domain: Domain, fields: list[str], page: Page, path: str, asked=()) -> dict:
    if page.after:
        domain &= Domain('id', '>', page.after)
    rows = model.search_read(
        domain, fields, offset=page.skip * page.size, limit=page.size + 1, order='id'
    )
    following = None
    if len(rows) > page.size:
        rows.pop()
        arguments = {**dict(asked), 'page': f'{_AFTER}{rows[-1]["id"]}', 'size': page.size}
        following = f'{path}?{urlencode(arguments)}'
    return {'items': rows, 'next': following}


# -- what was asked --------------------------------------------------------------------


def _need(env, model: str, app: str) -> None:
    if model not in env:
        raise BadCall(f'The app {app} is not installed in this database.', 404)


def _name(key: str) -> str:
    return key.removeprefix(_PREFIX)


def _fields(env, model: str, text: str) -> list[str]:
    """The names in a setting that are fields of the model."""
    known = env[model]._fields
    return ['id', *(name for name in text.split(',') if name in known and name != 'id')]


def check_names(args: dict, names) -> None:
    """:raise BadCall: for an argument that the address does not have"""
    unknown = args.keys() - set(names)
    if unknown:
        raise BadCall(
            f'There is no argument {min(unknown)[:60]!r} here; there are: {", ".join(names)}.'
        )


def _page(args: dict, settings, names) -> Page:
    check_names(args, names)
    size = args.get('size') or str(settings.api_page_size)
    if not _is_number(size) or not 0 < int(size) <= settings.api_page_size:
        raise BadCall(f'"size" must be a number from 1 to {settings.api_page_size}.')
    text = args.get('page') or '1'
    if text.startswith(_AFTER):
        return Page(_id('page', text.removeprefix(_AFTER)), 0, int(size))
    if not _is_number(text) or not 0 < int(text) <= MAX_PAGE:
        raise BadCall(
            f'"page" must be a number from 1 to {MAX_PAGE}, or what "next" of another page says.'
        )
    return Page(0, int(text) - 1, int(size))


def _id(name: str, text: str) -> int:
    if not _is_number(text) or not 0 < int(text) <= MAX_ID:
        raise BadCall(f'"{name}" must be an id, which is a number from 1 to {MAX_ID}.')
    return int(text)


def check_id(text: str) -> int:
    """An id in an address.

    :raise BadCall: no record has this as its id
    """
    if not _is_number(text) or not 0 < int(text) <= MAX_ID:
        raise BadCall(f'{text[:40]!r} is no id: ids are numbers from 1 to {MAX_ID}.', 404)
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 12
