"""Orders, suppliers and products, over Odoo's demo data, with the rules that are shipped."""

import time

from odoo.tests import tagged

from ..services import event_templates
from .common import CacheCase
from .test_event_rule import RemovedRows

BUSINESS = ('ORDER_CREATED', 'ORDER_UPDATED', 'SUPPLIER_UPDATED', 'PRODUCT_UPDATED')


@tagged('-standard', 'tiered_cache_demo', 'post_install', '-at_install')
class TestBusinessEvents(CacheCase):
    def setUp(self):
        super().setUp()
        self.told = self.subscribe('res.bank', *BUSINESS)
        self.seen = len(self.rows())

    def rows(self):
        return self.sql(
            "SELECT relation FROM cache_change WHERE relation ~ '^(key|pattern):' ORDER BY id"
        )

    def done(self, work):
        """``work(env)`` in a request; what was told, and whether keys were removed."""
        self.told.clear()
        start = len(self.rows())
        result = self.commit(work)
        removed = RemovedRows(row for (row,) in self.rows()[start:])
        return result, [(e.name, e.model, e.ids) for e in self.told], removed

    def assertRemoved(self, removed, *keys):
        for key in keys:
            self.assertTrue(removed.meets(f'v1:{key}'), (key, removed))

    def partner(self, **values):
        return self.make('res.partner', {'name': 'Partner', **values})

    def product(self, **values):
        return self.make('product.template', {'name': 'Product', **values})

    def variant(self, product):
        return self.commit(
            lambda env: env['product.template'].browse(product).product_variant_id.id
        )

    def order(self, env, model='sale.order'):
        product = env['product.product'].search([('type', '=', 'service')], limit=1)
        product = product or env['product.product'].create({'name': 'Work', 'type': 'service'})
        line = {'product_id': product.id}
        return env[model].create(
            {'partner_id': env.ref('base.partner_admin').id, 'order_line': [(0, 0, line)]}
        )

    # -- orders ------------------------------------------------------------------------

    def test_a_new_order_is_told_and_removes_lists_and_searches(self):
        for model in ('sale.order', 'purchase.order'):
            with self.subTest(model=model):
                id_, told, removed = self.done(lambda env, m=model: self.order(env, m).id)
                self.addCleanup(self.cancel, model, id_)
                self.assertIn(('ORDER_CREATED', model, (id_,)), told)
                self.assertNotIn('ORDER_UPDATED', [name for name, *_ in told])
                self.assertRemoved(
                    removed, f'order:sync:{id_}', 'user:7:list:orders', 'search:results:0f'
                )
                self.assertFalse(removed.meets('v1:user:7:permissions'))

    def cancel(self, model, id_):
        def work(env):
            order = env[model].browse(id_)
            order.button_cancel() if model == 'purchase.order' else order._action_cancel()
            order.unlink()

        self.commit(work)

    def test_a_confirmed_order_is_told_with_its_state(self):
        id_ = self.commit(lambda env: self.order(env).id)
        self.addCleanup(self.cancel, 'sale.order', id_)
        _none, told, removed = self.done(lambda env: env['sale.order'].browse(id_).action_confirm())
        self.assertIn(('ORDER_UPDATED', 'sale.order', (id_,)), told)
        event = next(e for e in self.told if e.name == 'ORDER_UPDATED')
        self.assertIn('state', event.fields)
        self.assertRemoved(
            removed, f'order:sync:{id_}', f'order:mapping:{id_}@0f', f'order:status:{id_}'
        )
        self.assertFalse(removed.meets(f'v1:order:status:{id_ + 1}'))

    def test_a_line_that_changes_the_total_is_an_update_of_the_order(self):
        id_ = self.commit(lambda env: self.order(env).id)
        self.addCleanup(self.cancel, 'sale.order', id_)

        def work(env):
            # the product may cost nothing, and then more of it would not change the total
            env['sale.order'].browse(id_).order_line.write({'price_unit': 77})

        _none, told, _removed = self.done(work)
        self.assertEqual(told, [('ORDER_UPDATED', 'sale.order', (id_,))])
        self.assertIn('amount_total', self.told[0].fields)

    def test_a_deleted_order_is_told(self):
        id_ = self.commit(lambda env: self.order(env).id)
        _none, told, removed = self.done(lambda env: env['sale.order'].browse(id_).unlink())
        self.assertEqual(told, [('ORDER_UPDATED', 'sale.order', (id_,))])
        self.assertRemoved(removed, f'order:mapping:{id_}')

    # -- suppliers ---------------------------------------------------------------------

    def rename(self, model, id_):
        return self.done(lambda env: env[model].browse(id_).write({'name': 'Renamed'}))

    def test_a_supplier_is_told_and_a_customer_is_not(self):
        supplier, customer = self.partner(supplier_rank=1), self.partner()
        _none, told, removed = self.rename('res.partner', supplier)
        self.assertEqual(told, [('SUPPLIER_UPDATED', 'res.partner', (supplier,))])
        self.assertRemoved(
            removed,
            f'supplier:detail:{supplier}',
            f'supplier:products:{supplier}:1',
            'supplier:list:0f',
            'product:catalog:5',
        )
        _none, told, removed = self.rename('res.partner', customer)
        self.assertEqual((told, removed), ([], set()))

    def test_who_becomes_a_supplier_and_who_was_one_is_told(self):
        id_ = self.partner()
        for rank in (1, 0):
            _none, told, _removed = self.done(
                lambda env, r=rank: env['res.partner'].browse(id_).write({'supplier_rank': r})
            )
            self.assertEqual(told, [('SUPPLIER_UPDATED', 'res.partner', (id_,))])

    def test_a_deleted_supplier_is_told_and_a_customer_is_not(self):
        supplier, customer = self.partner(supplier_rank=1), self.partner()
        _none, told, removed = self.done(
            lambda env: env['res.partner'].browse([supplier, customer]).unlink()
        )
        self.assertEqual(told, [('SUPPLIER_UPDATED', 'res.partner', (supplier,))])
        self.assertRemoved(removed, f'supplier:detail:{supplier}')
        self.assertFalse(removed.meets(f'v1:supplier:detail:{customer}'))

    # -- products ----------------------------------------------------------------------

    def test_a_product_removes_its_detail_and_those_of_its_variants(self):
        product = self.product()
        variant = self.variant(product)
        _none, told, removed = self.rename('product.template', product)
        self.assertIn(('PRODUCT_UPDATED', 'product.template', (product,)), told)
        self.assertRemoved(
            removed,
            f'product:detail:{product}',
            f'product:detail:{variant}',
            'product:catalog:1',
            'search:results:0f',
        )
        other = max(product, variant) + 1000
        self.assertFalse(removed.meets(f'v1:product:detail:{other}'))

    def test_a_variant_removes_its_detail_and_that_of_its_product(self):
        product = self.product()
        variant = self.variant(product)
        _none, told, removed = self.done(
            lambda env: env['product.product'].browse(variant).write({'barcode': 'tc-1'})
        )
        self.assertIn(('PRODUCT_UPDATED', 'product.product', (variant,)), told)
        self.assertRemoved(removed, f'product:detail:{product}', f'product:detail:{variant}')

    def test_a_deleted_product_removes_the_details_of_its_variants(self):
        product = self.commit(lambda env: env['product.template'].create({'name': 'P'}).id)
        variant = self.variant(product)
        _none, _told, removed = self.done(
            lambda env: env['product.template'].browse(product).unlink()
        )
        self.assertRemoved(removed, f'product:detail:{product}', f'product:detail:{variant}')

    def test_an_import_of_products_is_one_removal_at_large(self):
        many = event_templates.MAX_NAMES + 1

        def work(env):
            values = [{'name': f'Product {i}'} for i in range(many)]
            return env['product.template'].create(values).ids

        ids, told, removed = self.done(work)
        self.addCleanup(self.remove, 'product.template', *ids)
        self.assertIn(('PRODUCT_UPDATED', 'product.template', tuple(sorted(ids))), told)
        self.assertRemoved(removed, f'product:detail:{ids[0]}', f'product:detail:{ids[-1]}')
        self.assertLess(len(removed), 20)

    # -- what it costs -----------------------------------------------------------------

    def test_partners_cost_a_few_queries_per_transaction(self):
        """The rule for suppliers is shipped, so every transaction that writes partners asks
        which of them are suppliers."""

        def cost(number):
            with self.request(commit=False) as env:
                values = [{'name': f'Partner {i}'} for i in range(number)]
                partners = env['res.partner'].create(values)
                env.cr.flush()
                start, queries = time.perf_counter(), env.cr.sql_log_count
                partners.write({'comment': 'x'})
                env.cr.flush()
                return env.cr.sql_log_count - queries, time.perf_counter() - start

        cost(1)
        few, many = cost(1)[0], cost(100)[0]
        self.assertLessEqual(many - few, 1)
