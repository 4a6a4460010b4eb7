"""A base for tests of the HTTP interface: real requests, in this process, that commit.

The one idea: the application that Odoo's server runs is called directly, so that a test sees what a
program outside sees, and the log of :class:`.common.CacheCase` sees what the cache did.
"""

import datetime
import json
import secrets
import threading

from werkzeug.test import Client

from odoo import http
from odoo.tests import new_test_user

from .common import ADMIN, CacheCase


class ApiCase(CacheCase):
    """:cvar key: an API key of the administrator"""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.key = cls.make_key(ADMIN)

    @classmethod
    def make_key(cls, uid: int, days: int = 1) -> str:
        """A key of a user, removed after the last test; negative days are over."""

        def generate(env):
            ends = datetime.datetime.now() + datetime.timedelta(days=days)
            keys = env['res.users.apikeys'].with_user(uid).sudo()
            return keys._generate(None, 'test', ends)

        key = cls.commit(generate)
        cls.addClassCleanup(
            cls.sql, "DELETE FROM res_users_apikeys WHERE name = 'test' AND user_id = %s", [uid]
        )
        return key

    def new_key(self, *groups: str) -> str:
        """A key of a new user in these groups, who is removed after the test."""
        login = f'tc_{secrets.token_hex(4)}'
        user = self.commit(lambda env: new_test_user(env, login, ','.join(groups)).id)
        self.addCleanup(self.remove, 'res.users', user)
        return self.make_key(user)

    def open(self, path, *, key=None, method='GET', etag=None, **options):
        """One request.

        :param key: default that of the administrator; False for none
        """
        headers = {'X-Odoo-Database': self.registry.db_name, **options.pop('headers', {})}
        if key is not False:
            headers['Authorization'] = f'Bearer {key or self.key}'
        if etag:
            headers['If-None-Match'] = etag
        thread = threading.current_thread()
        before = {name: thread.__dict__.get(name) for name in ('dbname', 'uid', 'url')}
        try:
            response = Client(http.root).open(path, method=method, headers=headers, **options)
        finally:
            thread.__dict__.update({k: v for k, v in before.items() if v is not None})
        return response

    def batch(self, *calls, **options):
        """A batch; its response."""
        body = json.dumps({'calls': calls})
        return self.open(
            '/cache/1/batch', method='POST', data=body, content_type='application/json', **options
        )

    def results(self, *calls, **options):
        """The answers of a batch that must succeed."""
        response = self.batch(*calls, **options)
        self.assertEqual(response.status_code, 200, response.get_data(as_text=True))
        return response.json['results']

    def warm_up(self, request):
        """Repeat a request until its answer has an ETag and comes from the cache.

        :param request: without arguments; returns a response
        """
        for _attempt in range(8):
            response = request()
            if response.headers.get('ETag'):
                start = len(self.log.events)
                response = request()
                events = self.log.events[start:]
                if events and events[0].what == 'hit':
                    return response
            self.settle()
        self.fail(f'it is never kept: {self.log.events[-5:]}')
