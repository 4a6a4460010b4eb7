"""The catalogue over HTTP: suppliers, products, orders, over Odoo's demo data."""

from odoo.tests import tagged

from .api_case import ApiCase


class CatalogueCase(ApiCase):
    def get(self, path, status=200, **options):
        response = self.open(path, **options)
        self.assertEqual(response.status_code, status, response.get_data(as_text=True)[:500])
        return response.json

    def walk(self, path, key=None, between=None):
        """Ids of all pages, following ``next``."""
        ids = []
        while path:
            page = self.get(path, key=key)
            ids += [row['id'] for row in page['items']]
            path = page['next']
            if between is not None:
                between()
        return ids


@tagged('post_install', '-at_install')
class TestCatalogueWithoutApps(CatalogueCase):
    def test_what_is_not_installed_is_404_with_a_sentence(self):
        for path, model in (
            ('suppliers', 'product.supplierinfo'),
            ('suppliers/1', 'product.supplierinfo'),
            ('suppliers/1/products', 'product.supplierinfo'),
            ('products', 'product.template'),
            ('products/1', 'product.template'),
            ('orders/1/status', 'sale.order'),
        ):
            if model not in self.registry:
                error = self.get(f'/cache/1/{path}', 404)['error']
                self.assertRegex(error['message'], r'^(The app|Neither).*installed')

    def test_nobody_without_a_key_is_answered(self):
        for path in ('suppliers', 'products', 'products/1', 'orders/1/status'):
            self.get(f'/cache/1/{path}', 401, key=False)


@tagged('-standard', 'tiered_cache_demo', 'post_install', '-at_install')
class TestCatalogueApi(CatalogueCase):
    options = {'api_page_size': '5'}

    def setUp(self):
        super().setUp()
        self.supplier = self.make('res.partner', {'name': 'A supplier of ours'})
        self.products = [
            self.make(
                'product.template',
                {
                    'name': f'Catalogued {number}',
                    'default_code': f'CAT-{number}',
                    'seller_ids': [(0, 0, {'partner_id': self.supplier})],
                },
            )
            for number in range(12)
        ]

    def test_the_pages_hold_what_a_search_finds(self):
        def expected(env):
            sellers = env['product.supplierinfo'].search([]).partner_id.ids
            domain = ['|', ('id', 'in', sellers), ('supplier_rank', '>', 0)]
            return env['res.partner'].search(domain, order='id').ids

        with self.request() as env:
            self.assertEqual(self.walk('/cache/1/suppliers'), expected(env))
            products = env['product.template'].search([], order='id').ids
            self.assertEqual(self.walk('/cache/1/products'), products)
        path = f'/cache/1/suppliers/{self.supplier}/products'
        self.assertEqual(self.walk(path), self.products)
        self.assertEqual(self.walk(f'/cache/1/products?supplier={self.supplier}'), self.products)
        self.assertEqual(self.walk('/cache/1/products?q=CAT-3'), [self.products[3]])
        first = [row['id'] for row in self.get(f'{path}?page=1')['items']]
        second = [row['id'] for row in self.get(f'{path}?page=2&size=3')['items']]
        self.assertEqual((first, second), (self.products[:5], self.products[3:6]))

    def test_following_next_sees_every_row_once_whatever_happens_meanwhile(self):
        gone = iter(self.products[:3])

        def change():
            self.make(
                'product.template',
                {'name': 'More', 'seller_ids': [(0, 0, {'partner_id': self.supplier})]},
            )
            self.remove('product.template', next(gone))

        steps = iter([change, change])
        ids = self.walk(
            f'/cache/1/suppliers/{self.supplier}/products',
            between=lambda: next(steps, lambda: None)(),
        )
        self.assertEqual(len(ids), len(set(ids)))
        self.assertLessEqual(set(self.products), set(ids))

    def test_one_record_with_the_fields_that_settings_name(self):
        product = self.get(f'/cache/1/products/{self.products[0]}')
        self.assertEqual(product['default_code'], 'CAT-0')
        self.assertNotIn('standard_price', product)
        self.configure(api_product_fields='name,standard_price,no_such_field')
        product = self.get(f'/cache/1/products/{self.products[0]}')
        self.assertEqual(product.keys(), {'id', 'name', 'standard_price'})
        self.assertEqual(
            self.get(f'/cache/1/suppliers/{self.supplier}')['name'], 'A supplier of ours'
        )

    def test_orders_of_both_kinds(self):
        def make(env):
            product = env['product.product'].search([('type', '=', 'service')], limit=1)
            product = product or env['product.product'].create({'name': 'W', 'type': 'service'})
            line = [(0, 0, {'product_id': product.id})]
            partner = env.ref('base.partner_admin').id
            values = {'partner_id': partner, 'order_line': line}
            return [env[model].create(values).id for model in ('sale.order', 'purchase.order')]

        sale, purchase = self.commit(make)

        def cancel_and_remove(env):
            env['sale.order'].browse(sale)._action_cancel()
            env['sale.order'].browse(sale).unlink()
            env['purchase.order'].browse(purchase).button_cancel()
            env['purchase.order'].browse(purchase).unlink()

        self.addCleanup(self.commit, cancel_and_remove)
        self.get(f'/cache/1/orders/{sale}/status', 400)
        path = f'/cache/1/orders/{sale}/status?kind=sale'
        response = self.warm_up(lambda: self.open(path))
        self.assertEqual(response.json['state'], 'draft')
        self.assertEqual(self.open(path, etag=response.headers['ETag']).status_code, 304)
        self.commit(lambda env: env['sale.order'].browse(sale).action_confirm() and None)
        changed = self.open(path, etag=response.headers['ETag'])
        self.assertEqual((changed.status_code, changed.json['state']), (200, 'sale'))
        found = self.get(f'/cache/1/orders/{purchase}/status?kind=purchase')
        self.assertEqual((found['kind'], found['state']), ('purchase', 'draft'))

    def test_a_poller_gets_304_and_people_remove_by_name(self):
        path = f'/cache/1/suppliers/{self.supplier}/products'
        response = self.warm_up(lambda: self.open(path))
        self.assertEqual(self.open(path, etag=response.headers['ETag']).status_code, 304)
        self.commit(
            lambda env: env['cache.manager'].invalidate_pattern(
                f'v1:supplier:products:{self.supplier}:*'
            )
        )
        self.assertEqual(self.open(path, etag=response.headers['ETag']).status_code, 200)

    def test_each_user_sees_what_that_user_may_see(self):
        portal = self.new_key('base.group_portal')
        error = self.get('/cache/1/suppliers', 403, key=portal)['error']
        self.assertEqual(error['type'], 'access')
        hidden = self.make('product.template', {'name': 'Elsewhere', 'company_id': self.company()})
        self.get(f'/cache/1/products/{hidden}', 404, key=self.new_key('base.group_user'))

    def company(self):
        return self.make('res.company', {'name': 'Another company'})

    def test_missing_records_and_bad_arguments(self):
        for path in ('suppliers/999999', 'products/999999', f'suppliers/{10**12}', 'products/-1'):
            self.get(f'/cache/1/{path}', 404)
        for query in (
            'page=0',
            'page=-1',
            'page=x',
            'page=1000000000',
            'page=after-',
            f'page={"9" * 5000}',
            'size=0',
            'size=6',
            'size=x',
            'supplier=x',
            'category=0',
            f'q={"x" * 300}',
            'more=1',
        ):
            error = self.get(f'/cache/1/products?{query}', 400)['error']
            self.assertTrue(error['message'].endswith('.'), error)
