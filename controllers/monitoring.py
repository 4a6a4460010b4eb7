"""``GET /cache/1/health``, ``/cache/1/metrics`` and ``/cache/1/openapi.json``."""

import ipaddress

from werkzeug.exceptions import Unauthorized

from odoo import http
from odoo.http import request

from ..models.cache_manager import GROUP_ADMIN, GROUP_USER
from ..services import batch, exposition, health, openapi, published  # noqa: F401 registers its figures
from ..services.batch_calls import BadCall
from . import answers, dispatcher

ROUTE = {
    'methods': ['GET'],
    'type': dispatcher.TYPE,
    'auth': 'cache_optional',
    'readonly': True,
    'csrf': False,
    'save_session': False,
}

NO_STORE = ('Cache-Control', 'no-store')


class Monitoring(http.Controller):
    @http.route('/cache/1/health', **ROUTE)
    def health(self):
        engine = answers.engine()
        state = health.look(engine, request.env)
        found = {'status': state}
        if _has_key() and engine is not None and state != health.FAILED:
            _check_group()
            found.update(health.details(engine, request.env))
            if not _is_administrator():
                found = {k: v for k, v in found.items() if k not in health.FOR_ADMINISTRATORS}
        headers = [('Content-Type', 'application/json; charset=utf-8'), NO_STORE]
        return request.make_response(batch.dump(found), headers, status=health.STATUS[state])

    @http.route('/cache/1/metrics', **ROUTE)
    def metrics(self):
        everything = True  # for the addresses that administrators have allowed
        if _has_key():
            _check_group()
            everything = _is_administrator()
        elif not _is_allowed(answers.settings().metrics_addresses):
            raise Unauthorized
        # everybody's sums, of which Cache Users see a part; an allowed address has no user
        text = exposition.render(answers.engine(), request.env(su=True), everything)
        headers = [('Content-Type', exposition.CONTENT_TYPE), NO_STORE]
        return request.make_response(text.encode(), headers)

    @http.route('/cache/1/openapi.json', **ROUTE)
    def openapi(self):
        headers = [('Content-Type', 'application/json; charset=utf-8'), NO_STORE]
        return request.make_response(batch.dump(openapi.document(answers.settings())), headers)


def _has_key() -> bool:
    return bool(request.httprequest.headers.get('Authorization'))


def _check_group() -> None:
    if not request.env.user.has_group(GROUP_USER):
        raise BadCall('This is for users of the group Cache User; without a key less is told.', 403)


def _is_administrator() -> bool:
    return request.env.user.has_group(GROUP_ADMIN)


def _is_allowed(networks: str) -> bool:
    """Whether the address that asks lies in one of the networks."""
    try:
        address = ipaddress.ip_address(request.httprequest.remote_addr or '')
    except ValueError:
        return False
    address = getattr(address, 'ipv4_mapped', None) or address
    return any(address in ipaddress.ip_network(name) for name in networks.split(',') if name)
