"""``POST /cache/1/batch``: many reads in one request, in one snapshot."""

from odoo import http
from odoo.http import request

from ..services import batch
from ..services.batch_calls import parse_batch
from . import answers, dispatcher


class Batch(http.Controller):
    @http.route(
        '/cache/1/batch',
        methods=['POST'],
        type=dispatcher.TYPE,
        auth='bearer',
        readonly=True,
        csrf=False,
    )
    def batch(self):
        engine = answers.engine()
        settings = answers.settings()
        raw = parse_batch(dispatcher.json_body(request, settings.api_max_body_kb * 1024))
        return answers.respond(
            batch.answer(
                engine,
                request.env,
                raw,
                answers.origin(),
                settings.api_time_budget_s,
                answers.asker_has,
            )
        )
