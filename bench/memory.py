"""Many different reads in one process; runs inside ``odoo shell``.

The one idea: reads cheap enough that a hundred thousand of them end, and different enough that
each is a new entry, so that L1 has to evict for most of the time.
"""

from odoo import api

ADMIN_UID = 2  # base.user_admin
PAGE = 20
PLACES = 9_000
PRODUCT_FIELDS = ["name", "default_code", "list_price", "barcode", "weight", "write_date"]
PARTNER_FIELDS = ["name", "email", "phone", "city", "zip", "street", "function"]


def read_many(registry, start, count):
    """Make reads number ``start`` to ``start + count``, each in its own transaction."""
    for number in range(start, start + count):
        with registry.cursor() as cr:
            env = api.Environment(cr, ADMIN_UID, {})
            READS[number % len(READS)](env, number)


def _page(number):
    """A page that no other number has: 9,000 places, one record longer at each round."""
    return [("id", ">", number % PLACES)], PAGE + number // PLACES


def _products(env, number):
    domain, limit = _page(number)
    env["product.template"].search_read(domain, PRODUCT_FIELDS, order="id", limit=limit)


def _partners(env, number):
    domain, limit = _page(number)
    specification = dict.fromkeys(PARTNER_FIELDS, {})
    env["res.partner"].web_search_read(domain, specification, order="id", limit=limit)


def _count(env, number):
    env["product.template"].search_count([("list_price", ">", number / 100)])


def _names(env, number):
    env["res.partner"].name_search(f"contact {number}", limit=8)


READS = (_products, _partners, _products, _partners, _count, _names)
