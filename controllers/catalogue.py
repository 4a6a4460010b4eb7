"""``GET /cache/1/suppliers`` and the other addresses of the catalogue, and ``/cache/1/changes``."""

from odoo import http
from odoo.http import request

from ..services import batch, endpoints, following, serving
from ..services.quiet import quiet
from . import answers, dispatcher

ROUTE = {
    'methods': ['GET'],
    'type': dispatcher.TYPE,
    'auth': 'bearer',
    'readonly': True,
    'csrf': False,
}


def _arguments() -> dict:
    return dict(request.httprequest.args.items())


class Catalogue(http.Controller):
    @http.route('/cache/1/suppliers', **ROUTE)
    def suppliers(self):
        return _answer(endpoints.suppliers, _arguments())

    @http.route('/cache/1/suppliers/<supplier_id>', **ROUTE)
    def supplier(self, supplier_id):
        return _answer(endpoints.supplier, endpoints.check_id(supplier_id))

    @http.route('/cache/1/suppliers/<supplier_id>/products', **ROUTE)
    def supplier_products(self, supplier_id):
        id_ = endpoints.check_id(supplier_id)
        return _answer(endpoints.supplier_products, id_, _arguments())

    @http.route('/cache/1/products', **ROUTE)
    def products(self):
        return _answer(endpoints.products, _arguments())

    @http.route('/cache/1/products/<product_id>', **ROUTE)
    def product(self, product_id):
        return _answer(endpoints.product, endpoints.check_id(product_id))

    @http.route('/cache/1/orders/<order_id>/status', **ROUTE)
    def order_status(self, order_id):
        return _answer(endpoints.order_status, endpoints.check_id(order_id), _arguments())

    @http.route('/cache/1/changes', **ROUTE)
    def changes(self):
        args = _arguments()
        endpoints.check_names(args, ('models', 'since'))
        asked = following.parse_models(request.env, args.get('models', ''))
        with quiet():
            found = following.answer(answers.engine(), request.env, asked, args.get('since', ''))
        return answers.respond(serving.Served(200, batch.dump(found), ''))


def _answer(endpoint, *arguments):
    """The answer of an endpoint, in the language and time zone of the user."""
    settings, engine = answers.settings(), answers.engine()
    env = request.env(context=dict(request.env['res.users'].context_get()))
    question = endpoint(env, settings, *arguments)
    origin = answers.origin()
    budget = batch.Budget(env.cr, settings.api_time_budget_s)
    served = batch.serve(
        None if origin is False else engine,
        env,
        question.name,
        (question.extra, origin),
        lambda: question.read(env),
        budget,
        answers.asker_has,
    )
    return answers.respond(served)
