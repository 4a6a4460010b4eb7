"""The writes that are measured; runs inside ``odoo shell``.

The one idea: time what a user waits for, the call and its commit, in two databases that were
equal at the start and see the same writes in the same order.
"""

import contextlib
import time

from odoo import api

ADMIN_UID = 2  # base.user_admin
LINES = 5
BATCH = 100
NAMES = ("price", "partners", "order")
CAPTURE_RELATIONS = ("cache_change", "cache_version", "cache_entry", "cache_metric")


class Writes:
    """Everything that can be done before the clock runs.

    :param int repeats: orders to prepare, one for each time that one is confirmed
    """

    def __init__(self, registry, repeats):
        self.registry = registry
        with registry.cursor() as cr:
            env = api.Environment(cr, ADMIN_UID, {})
            domain = [("default_code", "=like", "BENCH-%")]
            products = env["product.product"].search(domain, order="default_code", limit=500)
            self.template_ids = products.product_tmpl_id.ids
            customers = env["res.partner"].search(
                [("name", "=like", "Bench Company %")], order="name", limit=repeats
            )
            self.order_ids = (
                env["sale.order"]
                .create([_order(customers, products, number) for number in range(repeats)])
                .ids
            )

    def price(self, index):
        """The sales price of one product, 501 different values."""
        with self._timed() as timer, self._transaction() as env:
            product = env["product.template"].browse(
                self.template_ids[index % len(self.template_ids)]
            )
            product.write({"list_price": 10 + index % 501})
        return timer()

    def partners(self, index):
        """A hundred partners in one ``create``."""
        values = [
            {"name": f"Written {index} {number}", "email": f"written{index}.{number}@example.com"}
            for number in range(BATCH)
        ]
        with self._timed() as timer, self._transaction() as env:
            env["res.partner"].create(values)
        return timer()

    def order(self, index):
        """The confirmation of a quotation with five lines."""
        with self._timed() as timer, self._transaction() as env:
            env["sale.order"].browse(self.order_ids[index]).action_confirm()
        return timer()

    def touched(self, name, index):
        """Do one of the writes and say which relations it inserted, updated or deleted in."""
        query = """
            SELECT relname FROM pg_stat_xact_user_tables
             WHERE n_tup_ins + n_tup_upd + n_tup_del > 0
        """
        relations = []

        def note(env):
            env.flush_all()
            env.cr.execute(query)
            relations.extend(row[0] for row in env.cr.fetchall())

        self.before_commit = note
        try:
            getattr(self, name)(index)
        finally:
            del self.before_commit
        return sorted(set(relations) - set(CAPTURE_RELATIONS))

    before_commit = None

    @contextlib.contextmanager
    def _transaction(self):
        with self.registry.cursor() as cr:
            env = api.Environment(cr, ADMIN_UID, {})
            yield env
            if self.before_commit:
                self.before_commit(env)

    @contextlib.contextmanager
    def _timed(self):
        start = time.perf_counter()
        end = []
        yield lambda: (end[0] - start) * 1000
        end.append(time.perf_counter())


def _order(customers, products, number):
    lines = [
        (0, 0, {"product_id": products[(number * LINES + line) % len(products)].id})
        for line in range(LINES)
    ]
    return {"partner_id": customers[number % len(customers)].id, "order_line": lines}


def unguarded(registry, relations):
    """:return list: those of the relations without a trigger of the addon's."""
    query = """
        SELECT DISTINCT c.relname
          FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
          JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE NOT t.tgisinternal AND p.proname LIKE %s
    """
    with registry.cursor() as cr:
        cr.execute(query, ["%cache%"])
        guarded = {row[0] for row in cr.fetchall()}
    return sorted(set(relations) - guarded)


def read_relations(registry, relations):
    """Read something from every relation through the ORM, so that the addon guards it.

    :return list: the relations that have no trigger before
    """
    missing = unguarded(registry, relations)
    for _ in range(2 if missing else 0):  # first seen, then stored
        for model, names in _readers(registry, missing).items():
            with registry.cursor() as cr:
                env = api.Environment(cr, ADMIN_UID, {})
                env[model].search_read([], names, limit=50)
    return missing


def _readers(registry, relations):
    """:return dict: by model, stored fields whose reading touches one of the relations."""
    wanted = set(relations)
    readers = {}
    for name, model in registry.models.items():
        if model._abstract or not model._auto or model._transient:
            continue
        names = [
            field.name
            for field in model._fields.values()
            if field.type == "many2many" and field.store and field.relation in wanted
        ]
        if names or model._table in wanted:
            readers[name] = ["id", *names]
    return readers
