"""``/cache/1/openapi.json`` says what is true: schemathesis asks what it allows and what not."""

import collections
import contextlib
import re

from hypothesis import strategies
from hypothesis.errors import Unsatisfiable

from odoo import http
from odoo.tests import tagged

from .api_case import ApiCase

try:
    import schemathesis
except ImportError:  # a development requirement
    schemathesis = None

EXAMPLES = 25
"""For each address."""


@tagged('post_install', '-at_install')
class TestOpenApi(ApiCase):
    options = {'metrics_addresses': '127.0.0.1'}

    def test_every_route_is_described_and_every_description_has_a_route(self):
        described = self.open('/cache/1/openapi.json', key=False).json
        with self.request() as env:
            rules = env['ir.http'].routing_map().iter_rules()
        routes = {
            (rule.rule, method.lower())
            for rule in rules
            if rule.rule.startswith('/cache/1/')
            for method in rule.methods - {'HEAD', 'OPTIONS'}
        }
        paths = {
            (path.replace('{', '<').replace('}', '>'), method)
            for path, methods in described['paths'].items()
            for method in methods
        }
        self.assertEqual(paths, routes)

    def test_a_key_that_is_none_is_described_at_every_address(self):
        paths = self.open('/cache/1/openapi.json', key=False).json['paths']
        for path, methods in paths.items():
            for method, operation in methods.items():
                response = self.open(re.sub(r'\{\w+\}', '1', path), method=method, key='wrong')
                self.assertEqual(response.status_code, 401, path)
                self.assertIn('401', operation['responses'], path)

    def test_answers_are_as_described(self):
        self.assertIsNotNone(schemathesis, "pip install schemathesis")
        from hypothesis import HealthCheck, Phase, given, settings  # noqa: PLC0415
        from schemathesis.generation import GenerationMode  # noqa: PLC0415
        from schemathesis.specs.openapi import checks  # noqa: PLC0415

        database = {'X-Odoo-Database': self.registry.db_name}
        schema = schemathesis.openapi.from_wsgi(
            '/cache/1/openapi.json', http.root, headers=database
        )
        headers = {**database, 'Authorization': f'Bearer {self.key}'}
        wanted = [
            schemathesis.checks.not_a_server_error,
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_headers_conformance,
            checks.response_schema_conformance,
        ]
        asked = collections.Counter()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(strategies.data())
        def ask(data):
            case = data.draw(operation.as_strategy(generation_mode=mode))
            response = case.call(headers=headers)
            asked[operation.path, response.status_code] += 1
            if response.status_code == 404 and 'html' in response.headers['content-type'][0]:
                # no address of the interface: an id that is empty or has a slash in it
                self.assertIs(mode, GenerationMode.NEGATIVE)
                self.assertTrue(case.path_parameters)
                return
            case.validate_response(response, checks=wanted, headers=headers)

        for result in schema.get_all_operations():
            operation = result.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                with (
                    self.subTest(path=operation.path, mode=mode),
                    contextlib.suppress(Unsatisfiable),
                ):
                    ask()
        self.assertGreater(len(asked), 12, asked)
