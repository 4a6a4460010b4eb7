"""Calls to another Odoo: over a server that misbehaves, on loopback."""

import contextlib
import json
import logging
import os
import ssl
import subprocess
import tempfile
import threading
import time
from unittest.mock import patch

from odoo.tests import BaseCase, tagged
from odoo.tools import mute_logger

from ..services.remote import address, errors
from ..services.remote.batcher import Batcher, Work
from ..services.remote.client import Client, Settings
from ..services.remote.protocols import Call
from ..services.remote.transport import Deadline, Transport
from .remote_server import DRIP, DROP, HALF, NOISE, SILENCE, Answer, Server

KEY = 'a-key-that-nobody-may-see'
LOOPBACK = frozenset({'127.0.0.0/8'})
READ = Call('res.partner', 'read', ([1], ['name']), {})


def echo(asked):
    """A server that speaks JSON-2 and answers with what it was asked."""
    if asked.path.startswith('/json/2/'):
        return [{'id': id_, 'name': f'name {id_}'} for id_ in asked.json.get('ids', ())]
    return Answer(b'', 404)


class RemoteCase(BaseCase):
    def serve(self, rule=echo) -> Server:
        return self.enterContext(Server(rule))

    def client(self, server, **options) -> Client:
        values = {
            'id': 1,
            'name': 'tc',
            'url': server.url,
            'database': 'db',
            'login': 'me',
            'key': KEY,
            'allowed_hosts': '127.0.0.0/8',
            'protocol': 'json2',
            'timeout_s': 5.0,
            'batch_delay_s': 0.0,
            **options,
        }
        client = Client(Settings(**values), pause=lambda _seconds: None)
        self.addCleanup(client.close)
        return client

    def together(self, *works):
        """Do all in threads; their results and exceptions, in order."""
        results = [None] * len(works)

        def run(number, work):
            try:
                results[number] = work()
            except Exception as error:  # noqa: BLE001
                results[number] = error

        threads = [
            threading.Thread(target=run, args=(number, work)) for number, work in enumerate(works)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            self.assertFalse(thread.is_alive())
        return results


@tagged('post_install', '-at_install')
class TestRemoteTransport(RemoteCase):
    def ask(self, server, timeout_s=2.0, path='/x', **options):
        transport = Transport(server.url, LOOPBACK, **options)
        self.addCleanup(transport.close)
        return transport.request('POST', path, b'{}', {}, Deadline(timeout_s))

    def test_an_answer(self):
        self.assertEqual(self.ask(self.serve(lambda asked: [1])).body, b'[1]')

    def test_each_misdeed_is_an_outage_within_the_bound(self):
        for misdeed, expected in (
            (DROP, errors.RemoteUnreachable),
            (HALF, errors.RemoteUnreachable),
            (NOISE, errors.RemoteUnreachable),
            (DRIP, errors.RemoteTimeout),
            (SILENCE, errors.RemoteTimeout),
        ):
            with self.subTest(misdeed=misdeed):
                started = time.monotonic()
                with self.assertRaises(expected):
                    self.ask(self.serve(lambda asked, what=misdeed: what), timeout_s=0.5)
                self.assertLess(time.monotonic() - started, 1.5)

    def test_an_answer_that_is_too_long_is_given_up(self):
        server = self.serve(lambda asked: Answer(b'x' * 10_000))
        with self.assertRaises(errors.RemoteProtocolError):
            self.ask(server, max_answer_bytes=5000)

    def test_nobody_listens(self):
        server = self.serve()
        server.__exit__()
        with self.assertRaises(errors.RemoteUnreachable):
            self.ask(server)

    def test_a_redirect_to_another_host_is_refused_and_nothing_sent_there(self):
        other = self.serve()
        server = self.serve(lambda asked: Answer(b'', 302, {'Location': f'{other.url}/x'}))
        with self.assertRaisesRegex(errors.RemoteProtocolError, 'another server'):
            self.ask(server)
        self.assertEqual(len(server.asked), 1)
        self.assertEqual(other.asked, [])

    def test_a_redirect_on_the_same_host_is_followed(self):
        server = self.serve(
            lambda asked: [1] if asked.path == '/y' else Answer(b'', 307, {'Location': '/y'})
        )
        self.assertEqual(self.ask(server).body, b'[1]')

    def test_redirects_in_circles_end(self):
        server = self.serve(lambda asked: Answer(b'', 307, {'Location': '/x'}))
        with self.assertRaises(errors.RemoteProtocolError):
            self.ask(server)

    def test_200_threads_10_connections_and_a_server_that_misbehaves(self):
        def rule(asked):
            misdeed = {3: DROP, 5: HALF, 7: NOISE}.get(asked.number % 10)
            if misdeed:
                return misdeed
            return Answer(json.dumps(asked.path).encode(), delay_s=0.002 * (asked.number % 3))

        server = self.serve(rule)
        transport = Transport(server.url, LOOPBACK, max_size=10, acquire_timeout_s=20)
        self.addCleanup(transport.close)
        wrong, slow = [], []

        def work(number):
            for turn in range(5):
                path, started = f'/{number}/{turn}', time.monotonic()
                with contextlib.suppress(errors.RemoteUnreachable):
                    answer = transport.request('POST', path, b'{}', {}, Deadline(20))
                    if json.loads(answer.body) != path:
                        wrong.append((path, answer.body))
                if time.monotonic() - started > 21:
                    slow.append(path)

        results = self.together(*(lambda n=number: work(n) for number in range(200)))
        self.assertEqual([error for error in results if error], [])
        self.assertEqual(wrong, [])  # a connection used by two would mix the answers up
        self.assertEqual(slow, [])
        self.assertLessEqual(server.most_open, 11)  # one may be closing while the next is opened
        stats = transport.pool.stats()
        self.assertEqual((stats['active'], stats['queued']), (0, 0))
        self.assertEqual(stats['open'], stats['created'] - stats['closed'])
        transport.close()
        self.assertEqual(transport.pool.stats()['open'], 0)

    def test_certificates_are_verified(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        key, cert = os.path.join(folder, 'key.pem'), os.path.join(folder, 'cert.pem')
        subprocess.run(
            ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out',
             cert, '-days', '1', '-subj', '/CN=localhost', '-addext',
             'subjectAltName=DNS:localhost'],
            check=True, capture_output=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        with Server(lambda asked: [1]) as other:
            serve = other._serve
            other._serve = lambda number, sock: serve(number, _wrapped(context, sock))
            url = f'https://localhost:{other.port}'
            bad = Transport(url, LOOPBACK)
            self.addCleanup(bad.close)
            with self.assertRaises(errors.RemoteUnreachable) as caught:
                bad.request('POST', '/x', b'{}', {}, Deadline(2))
            self.assertIn('secure', str(caught.exception))
            self.assertEqual(other.asked, [])
            good = Transport(url, LOOPBACK, ssl_context=ssl.create_default_context(cafile=cert))
            self.addCleanup(good.close)
            self.assertEqual(good.request('POST', '/x', b'{}', {}, Deadline(2)).body, b'[1]')
            # the right certificate under the wrong name
            wrong = Transport(
                url.replace('localhost', '127.0.0.1'),
                LOOPBACK,
                ssl_context=ssl.create_default_context(cafile=cert),
            )
            self.addCleanup(wrong.close)
            with self.assertRaises(errors.RemoteUnreachable):
                wrong.request('POST', '/x', b'{}', {}, Deadline(2))


def _wrapped(context, sock):
    try:
        return context.wrap_socket(sock, server_side=True)
    except OSError:
        sock.close()
        return sock


@tagged('post_install', '-at_install')
class TestRemoteAddress(BaseCase):
    def test_private_addresses_are_refused_unless_named(self):
        for bad in ('127.0.0.1', '10.0.0.1', '192.168.1.1', '169.254.169.254', '0.0.0.0', '::1',
                    'fe80::1', 'fd00::1', '::ffff:127.0.0.1', '64:ff9b::7f00:1', '2002:7f00:1::',
                    '224.0.0.1', '100.64.0.1'):  # fmt: skip
            with self.subTest(address=bad):
                self.assertFalse(address.is_allowed(bad, 'x', frozenset()))
        self.assertTrue(address.is_allowed('93.184.216.34', 'x', frozenset()))
        self.assertTrue(address.is_allowed('10.1.2.3', 'x', address.parse_allowed('10.1.0.0/16')))
        self.assertTrue(address.is_allowed('127.0.0.1', 'x', address.parse_allowed('127.0.0.1')))

    def test_a_name_allows_private_addresses_and_never_loopback_or_metadata(self):
        allowed = address.parse_allowed('erp.internal')
        self.assertTrue(address.is_allowed('10.1.2.3', 'erp.internal', allowed))
        self.assertFalse(address.is_allowed('10.1.2.3', 'other.internal', allowed))
        self.assertFalse(address.is_allowed('127.0.0.1', 'erp.internal', allowed))
        self.assertFalse(address.is_allowed('169.254.169.254', 'erp.internal', allowed))

    def test_a_name_that_resolves_to_loopback_is_refused_before_anything_is_sent(self):
        with Server(echo) as server:
            found = [(2, 1, 6, '', ('127.0.0.1', server.port))]
            transport = Transport(f'http://erp.example.com:{server.port}')
            self.addCleanup(transport.close)
            with (
                patch.object(address.socket, 'getaddrinfo', lambda *_args: found),
                self.assertRaises(errors.AddressRefused),
            ):
                transport.request('POST', '/x', b'{}', {}, Deadline(2))
            self.assertEqual((server.asked, server.most_open), ([], 0))

    def test_a_name_is_resolved_once(self):
        """A second answer of the name server cannot lead elsewhere."""
        asked = []

        def resolve(*args):
            asked.append(args)
            return [(2, 1, 6, '', ('127.0.0.1', server.port))]

        with Server(lambda _asked: [1]) as server:
            transport = Transport(f'http://erp.example.com:{server.port}', LOOPBACK)
            self.addCleanup(transport.close)
            with patch.object(address.socket, 'getaddrinfo', resolve):
                transport.request('POST', '/x', b'{}', {}, Deadline(2))
        self.assertEqual(len(asked), 1)

    def test_urls(self):
        for bad in ('', 'erp', 'ftp://x', 'file:///etc/passwd', 'http://', 'http://me:key@x',
                    'http://x:99999', 'http://x/?a=1'):  # fmt: skip
            with self.subTest(url=bad), self.assertRaises(ValueError):
                address.parse_url(bad)
        self.assertEqual(address.parse_url('https://X/odoo/').origin, ('https', 'x', 443))


@tagged('post_install', '-at_install')
class TestRemoteProtocols(RemoteCase):
    def problem(self, name, message="No", status=422):
        body = {'name': name, 'message': message, 'debug': 'Traceback', 'arguments': []}
        return Answer(json.dumps(body).encode(), status)

    def test_json2_errors_are_typed(self):
        for name, status, expected in (
            ('odoo.exceptions.AccessError', 403, errors.RemoteAccessError),
            ('odoo.exceptions.AccessDenied', 403, errors.RemoteAuthenticationError),
            ('odoo.exceptions.ValidationError', 422, errors.RemoteValidationError),
            ('odoo.exceptions.UserError', 422, errors.RemoteValidationError),
            ('odoo.exceptions.MissingError', 404, errors.RemoteMissingError),
            ('werkzeug.exceptions.NotFound', 404, errors.RemoteValidationError),
            ('werkzeug.exceptions.Unauthorized', 401, errors.RemoteAuthenticationError),
            ('builtins.ValueError', 500, errors.RemoteValidationError),
            ('psycopg2.errors.SerializationFailure', 500, errors.RemoteUnreachable),
        ):
            with self.subTest(name=name):
                server = self.serve(lambda asked, n=name, s=status: self.problem(n, status=s))
                with self.assertRaises(expected) as caught:
                    self.client(server, retries=0).read(READ)
                self.assertNotIn('Traceback', str(caught.exception))

    def test_what_is_no_answer_of_an_odoo(self):
        for answer, expected in (
            (Answer(b'<html>'), errors.RemoteProtocolError),
            (Answer(b'<html>', 500), errors.RemoteProtocolError),
            (Answer(b'<html>', 404), errors.RemoteProtocolError),
            (Answer(b'[' * 100_000), errors.RemoteProtocolError),
            (Answer(b'', 503), errors.RemoteUnreachable),
            (Answer(b'', 429), errors.RemoteUnreachable),
        ):
            server = self.serve(lambda asked, a=answer: a)
            with self.subTest(answer=answer[:2]), self.assertRaises(expected):
                self.client(server, retries=0).read(READ)

    def test_the_key_stands_in_no_error(self):
        server = self.serve(lambda asked: self.problem('builtins.ValueError', f'bad {KEY}'))
        with self.assertRaises(errors.RemoteValidationError) as caught:
            self.client(server).read(READ)
        self.assertNotIn(KEY, str(caught.exception))
        self.assertNotIn(KEY, repr(self.client(server).settings))
        self.assertNotIn(KEY, repr(self.client(server).settings.account))

    def test_arguments_get_their_names(self):
        seen = []

        def rule(asked):
            seen.append((asked.path, asked.json))
            return True

        client = self.client(self.serve(rule))
        client.change(Call('res.partner', 'create', ([{'name': 'x'}],), {}))
        client.change(Call('res.partner', 'action_archive', ([7],), {}))
        client.change(Call('res.partner', 'x', (), {'ids': [7], 'much': 1}, {'lang': 'nl_BE'}))
        self.assertEqual(seen[0], ('/json/2/res.partner/create', {'vals_list': [{'name': 'x'}]}))
        self.assertEqual(seen[1][1], {'ids': [7]})
        self.assertEqual(seen[2][1], {'ids': [7], 'much': 1, 'context': {'lang': 'nl_BE'}})
        with self.assertRaises(ValueError):
            client.change(Call('res.partner', 'x', ('a', 'b'), {}))

    def jsonrpc(self, asked, version='16.0'):
        if asked.path == '/web/webclient/version_info':
            return {'jsonrpc': '2.0', 'result': {'server_version': version}}
        if asked.path != '/jsonrpc':
            return Answer(b'', 404)
        params = asked.json['params']
        if params['service'] == 'common':
            return {'result': 5 if params['method'] == 'authenticate' else {}}
        return {'result': params['args'][3:]}

    def test_an_older_odoo_speaks_json_rpc_and_is_logged_into_once(self):
        server = self.serve(self.jsonrpc)
        client = self.client(server, protocol='')
        self.assertEqual(client.detect(), ('jsonrpc', '16.0'))
        self.assertEqual(client.read(READ), ['res.partner', 'read', [[1], ['name']], {}])
        client.read(READ._replace(context={'lang': 'nl_BE'}))
        methods = [a.json['params'].get('method') for a in server.asked if a.path == '/jsonrpc']
        self.assertEqual(methods.count('authenticate'), 1)

    def test_who_is_refused_logs_in_anew_with_the_next_call(self):
        refuse = []

        def rule(asked):
            if refuse and asked.path == '/jsonrpc' and refuse.pop():
                data = {'name': 'odoo.exceptions.AccessDenied', 'message': 'No'}
                return {'error': {'data': data}}
            return self.jsonrpc(asked)

        server = self.serve(rule)
        client = self.client(server, protocol='jsonrpc')
        client.read(READ)
        refuse.append(True)
        with self.assertRaises(errors.RemoteAuthenticationError):
            client.read(READ)
        client.read(READ)
        methods = [asked.json['params'].get('method') for asked in server.asked]
        self.assertEqual(methods.count('authenticate'), 2)

    def test_a_traceback_is_told_by_its_last_line(self):
        text = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: bad\n'
        self.assertEqual(errors.clean(text), 'ValueError: bad')

    def test_xml_rpc_as_a_last_resort(self):
        import xmlrpc.client  # noqa: PLC0415

        def rule(asked):
            if not asked.path.startswith('/xmlrpc/2/'):
                return Answer(b'', 404)
            args, method = xmlrpc.client.loads(asked.body)
            if method == 'execute_kw' and args[4] == 'fail':
                fault = xmlrpc.client.Fault(int(args[5][0]), args[5][1])
                return Answer(xmlrpc.client.dumps(fault).encode())
            value = {'version': {'server_version': '14.0'}, 'authenticate': 5}.get(method, 'done')
            return Answer(xmlrpc.client.dumps((value,), methodresponse=True).encode())

        client = self.client(self.serve(rule), protocol='')
        self.assertEqual(client.detect(), ('xmlrpc', '14.0'))
        self.assertEqual(client.read(READ), 'done')
        trace = 'Traceback (most recent call last):\n  File "x"\nKeyError: 4'
        for code, text, expected in (
            (2, "No", errors.RemoteValidationError),
            (2, "Record does not exist or has been deleted.", errors.RemoteMissingError),
            (3, "Access Denied", errors.RemoteAuthenticationError),
            (4, "No", errors.RemoteAccessError),
            (1, trace, errors.RemoteValidationError),
        ):
            with self.subTest(code=code), self.assertRaises(expected) as caught:
                client.change(Call('x', 'fail', (code, text), {}))
            self.assertNotIn('Traceback', str(caught.exception))

    def test_a_wrong_password_is_an_authentication_error(self):
        server = self.serve(lambda asked: {'result': False})
        with self.assertRaises(errors.RemoteAuthenticationError):
            self.client(server, protocol='jsonrpc').read(READ)

    def test_detection_of_19_and_of_none(self):
        def rule(asked):
            if asked.path == '/web/webclient/version_info':
                return {'result': {'server_version': '19.0'}}
            return {} if asked.path == '/json/2/res.users/context_get' else Answer(b'', 404)

        self.assertEqual(self.client(self.serve(rule)).detect(), ('json2', '19.0'))
        client = self.client(self.serve(lambda asked: Answer(b'<html>', 404)))
        with self.assertRaises(errors.RemoteProtocolError):
            client.detect()


@tagged('post_install', '-at_install')
class TestRemoteClient(RemoteCase):
    def test_a_read_is_tried_again_and_a_change_is_not(self):
        server = self.serve(lambda asked: DROP if asked.number in (0, 1) else [{'id': 1}])
        client = self.client(server)
        self.assertEqual(client.read(READ), [{'id': 1}])
        self.assertEqual((len(server.asked), client.stats()['retried']), (3, 2))
        server = self.serve(lambda asked: DROP)
        with self.assertRaises(errors.RemoteUnreachable):
            self.client(server).change(Call('x', 'write', ([1], {}), {}))
        self.assertEqual(len(server.asked), 1)

    def test_repetitions_end_with_the_deadline(self):
        server = self.serve(lambda asked: SILENCE)
        started = time.monotonic()
        with self.assertRaises(errors.RemoteTimeout):
            self.client(server, timeout_s=0.4, retries=5).read(READ)
        self.assertLess(time.monotonic() - started, 1.0)

    def test_pauses_grow_and_differ(self):
        pauses = []
        server = self.serve(lambda asked: DROP)
        client = self.client(server, retries=2)
        client._pause = pauses.append
        with (
            mute_logger('odoo.addons.tiered_cache.services.remote.client'),
            self.assertRaises(errors.RemoteUnreachable),
        ):
            client.read(READ)
        self.assertEqual(len(pauses), 2)
        self.assertTrue(0.05 <= pauses[0] <= 0.1 <= pauses[1] <= 0.2, pauses)
        self.assertNotIn(pauses[0], (0.05, 0.1))

    def test_the_breaker_spares_a_server_that_is_down(self):
        server = self.serve(lambda asked: DROP)
        client = self.client(server, retries=0)
        with self.assertLogs('odoo.addons.tiered_cache', logging.WARNING) as logs:
            for _call in range(10):
                with self.assertRaises(errors.RemoteUnreachable):
                    client.read(READ)
        self.assertEqual(len(server.asked), 3)
        self.assertEqual(client.stats()['breaker'], 'open')
        self.assertEqual(len(logs.output), 1)
        self.assertNotIn(KEY, logs.output[0])
        server.rule = echo
        client._breaker._retry_at = 0.0  # the cooldown is over
        self.assertEqual(client.read(READ)[0]['id'], 1)
        self.assertEqual(client.stats()['breaker'], 'closed')

    def test_a_refusal_does_not_open_the_breaker(self):
        body = json.dumps({'name': 'odoo.exceptions.AccessError', 'message': 'No'}).encode()
        server = self.serve(lambda asked: Answer(body, 403))
        client = self.client(server)
        for _call in range(5):
            with self.assertRaises(errors.RemoteAccessError):
                client.read(READ)
        self.assertEqual(len(server.asked), 5)

    def test_equal_calls_share_one_answer_and_not_one_object(self):
        server = self.serve(lambda asked: Answer(b'[{"id": 1}]', delay_s=0.3))
        client = self.client(server)
        results = self.together(*[lambda: client.read(READ)] * 20)
        self.assertEqual(len(server.asked), 1)
        self.assertTrue(all(result == [{'id': 1}] for result in results))
        self.assertEqual(len({id(result[0]) for result in results}), 20)
        self.assertEqual(client.stats()['shared'], 19)

    def test_a_read_after_a_change_does_not_share_the_answer_of_one_before(self):
        go = threading.Event()

        def rule(asked):
            if asked.path.endswith('/write'):
                return True
            if asked.number == 0:
                go.wait(5)
                return ['old']
            return ['new']

        server = self.serve(rule)
        client = self.client(server)
        results = []
        early = threading.Thread(target=lambda: results.append(client.read(READ)))
        early.start()
        while not server.asked:
            time.sleep(0.001)
        client.change(Call('res.partner', 'write', ([1], {}), {}))
        late = threading.Thread(target=lambda: results.append(client.read(READ)))
        late.start()
        late.join(5)
        go.set()
        early.join(5)
        self.assertEqual(results, [['new'], ['old']])

    def test_true_and_one_are_different_calls(self):
        server = self.serve(lambda asked: Answer(json.dumps(asked.json).encode(), delay_s=0.2))
        client = self.client(server)
        one, true = self.together(
            lambda: client.read(Call('m', 'search', ([('a', '=', 1)],), {})),
            lambda: client.read(Call('m', 'search', ([('a', '=', True)],), {})),
        )
        self.assertEqual((one['domain'], true['domain']), ([['a', '=', 1]], [['a', '=', True]]))
        self.assertIs(true['domain'][0][2], True)

    def test_a_broken_idle_connection_costs_no_read(self):
        server = self.serve()
        client = self.client(server)
        client.read(READ)
        server.drop_all()
        self.assertEqual(client.read(READ)[0]['id'], 1)

    def test_closing_rejects_calls_that_wait(self):
        server = self.serve(lambda asked: SILENCE)
        client = self.client(server, max_connections=1, timeout_s=20, retries=0)
        thread = threading.Timer(0.3, client.close)
        thread.start()
        started = time.monotonic()
        errors_ = []

        def work(number):
            try:
                client.read(READ._replace(args=([number], ['name'])))
            except errors.RemoteError as error:
                errors_.append(str(error))

        threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(1, 4)]
        for one in threads:
            one.start()
        while len(errors_) < 2 and time.monotonic() - started < 5:
            time.sleep(0.01)
        self.assertEqual(len(errors_), 2)  # the third has been sent, and waits for its answer
        server.drop_all()


@tagged('post_install', '-at_install')
class TestRemoteBatching(RemoteCase):
    FIELDS = {  # noqa: RUF012
        'name': {'type': 'char', 'store': True, 'translate': False},
        'title': {'type': 'char', 'store': True, 'translate': True},
        'active': {'type': 'boolean', 'store': True},
        'parent_id': {'type': 'many2one', 'store': True, 'relation': 'res.partner'},
    }
    ROWS = [  # noqa: RUF012
        {'id': n, 'name': f'n{n % 5}', 'parent_id': [n % 3, 'p'] if n % 3 else False}
        for n in range(1, 31)
    ]

    def rule(self, asked):
        method = asked.path.rpartition('/')[2]
        body = asked.json
        if method == 'fields_get':
            return self.FIELDS
        rows = self.ROWS
        if method == 'read':
            if 666 in body['ids']:
                problem = {'name': 'odoo.exceptions.AccessError', 'message': 'No'}
                return Answer(json.dumps(problem).encode(), 403)
            rows = [row for row in rows if row['id'] in body['ids']]
        elif method == 'search_read':
            rows = [row for row in rows if holds(body['domain'], row)]
        wanted = {'id', *body['fields']}
        rows = [{k: v for k, v in row.items() if k in wanted} for row in rows]
        return Answer(json.dumps(rows).encode(), delay_s=0.1)

    def sent(self, server, method):
        return [asked for asked in server.asked if asked.path.endswith(f'/{method}')]

    def test_one_caller_is_not_delayed(self):
        server = self.serve(echo)
        client = self.client(server, batch_delay_s=0.5)
        for _call in range(3):
            started = time.monotonic()
            client.read(READ)
            self.assertLess(time.monotonic() - started, 0.3)

    def test_reads_are_merged_and_taken_apart(self):
        server = self.serve(self.rule)
        client = self.client(server, batch_delay_s=0.05)
        calls = [Call('m', 'read', ([n, n + 1], ['name']), {}) for n in range(1, 21)]
        results = self.together(*(lambda c=call: client.read(c) for call in calls))
        for call, result in zip(calls, results, strict=True):
            self.assertEqual([row['id'] for row in result], call.args[0])
            self.assertEqual({*result[0]}, {'id', 'name'})
        self.assertLessEqual(len(self.sent(server, 'read')), 3)
        self.assertGreater(client.stats()['batched'], 10)

    def gathered(self, pause_s, count, **options):
        """Calls that come while one is under way; how many went out together each time, and seconds
        until the first of them was answered."""
        busy, sizes, done = threading.Event(), [], []

        def merged(items):
            sizes.append(len(items))
            return items

        work = Work(lambda item: busy.wait(10) if item == 'first' else item, merged)
        batcher = Batcher(**options)

        def call(item):
            batcher.run('g', item, work, lambda: 30.0)
            done.append(time.monotonic())

        threads = [threading.Thread(target=call, args=(n or 'first',)) for n in range(count)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
            time.sleep(pause_s)
        busy.set()
        for thread in threads:
            thread.join()
        self.assertEqual(len(done), count)
        return sizes, min(done) - started

    def test_those_who_keep_coming_keep_nobody_waiting(self):
        _sizes, first_s = self.gathered(0.1, 25, delay_s=0.5, max_wait_s=0.6)
        self.assertLess(first_s, 2)

    def test_no_batch_is_too_large(self):
        sizes, _first_s = self.gathered(0.0, 12, delay_s=0.5, max_calls=4)
        self.assertLessEqual(max(sizes), 4)

    def test_other_fields_or_context_are_not_merged(self):
        server = self.serve(self.rule)
        client = self.client(server, batch_delay_s=0.05)
        contexts = (None, {'lang': 'nl_BE'}, {'lang': 'fr_BE'})
        self.together(
            *(lambda c=context: client.read(READ._replace(context=c)) for context in contexts),
            lambda: client.read(READ._replace(args=([1], ['parent_id']))),
        )
        self.assertEqual(len(self.sent(server, 'read')), 4)

    def test_a_merged_call_that_is_refused_falls_back_to_single_ones(self):
        server = self.serve(self.rule)
        client = self.client(server, batch_delay_s=0.05)
        ids = [1, 2, 3, 666]
        results = self.together(
            *(lambda n=n: client.read(Call('m', 'read', ([n], ['name']), {})) for n in ids)
        )
        self.assertEqual([row[0]['id'] for row in results[:3]], [1, 2, 3])
        self.assertIsInstance(results[3], errors.RemoteAccessError)

    def test_searches_are_merged_exactly(self):
        server = self.serve(self.rule)
        client = self.client(server, batch_delay_s=0.05)
        domains = [
            [['name', '=', f'n{n}']] for n in range(5)
        ] + [
            [['parent_id', '=', 1], ['name', 'in', ['n1', 'n2']]],
            ['|', ['id', '=', 3], ['id', '=', 4]],
            ['!', ['name', '=', 'n1']],
            [['parent_id', '=', False]],
            [['parent_id', '!=', False], ['id', '!=', 7]],
        ]  # fmt: skip
        results = self.together(
            *(
                lambda d=domain: client.read(Call('m', 'search_read', (d, ['parent_id']), {}))
                for domain in domains
            )
        )
        for domain, result in zip(domains, results, strict=True):
            expected = [
                {'id': row['id'], 'parent_id': row['parent_id']}
                for row in self.ROWS
                if holds(domain, row)
            ]
            self.assertEqual(result, expected, domain)
        self.assertLessEqual(len(self.sent(server, 'search_read')), 4)
        self.assertGreater(client.stats()['batched'], 5)

    def test_a_domain_that_cannot_be_judged_here_is_asked_alone(self):
        from ..services.remote.domains import compile_domain  # noqa: PLC0415

        for leaf in (
            ('name', 'ilike', 'x'),
            ('title', '=', 'x'),
            ('name', '=', ''),
            ('name', '=', False),
            ('parent_id', '=', 'x'),
            ('parent_id.name', '=', 'x'),
            ('unknown', '=', 1),
            ('parent_id', 'child_of', 1),
            ('id', 'in', []),
            ('id', '=', True),
            ('active', '=', 1),
        ):
            with self.subTest(leaf=leaf):
                self.assertIsNone(compile_domain([leaf], self.FIELDS))
        for broken in (['&', ('id', '=', 1)], ['!'], ['|'], 'x', [1], [['id']]):
            self.assertIsNone(compile_domain(broken, self.FIELDS), broken)

    def test_what_names_active_is_asked_alone(self):
        from ..services.remote.merging import _judge  # noqa: PLC0415

        domain = [('active', '=', False)]
        self.assertIsNone(_judge(domain, self.FIELDS, None))
        self.assertIsNotNone(_judge(domain, self.FIELDS, {'active_test': False}))

    def test_an_outage_of_the_merged_call_is_one_outage(self):
        server = self.serve(lambda asked: DROP if asked.number else Answer(b'[]', delay_s=0.3))
        client = self.client(server, batch_delay_s=0.05, retries=0)
        calls = [Call('m', 'read', ([n], ['name']), {}) for n in range(1, 10)]
        results = self.together(*(lambda c=call: client.read(c) for call in calls))
        failed = [one for one in results if isinstance(one, errors.RemoteUnreachable)]
        self.assertGreaterEqual(len(failed), 8)
        self.assertEqual(len(server.asked), 2)

    def test_the_batch_api_takes_what_cannot_be_merged_here(self):
        def rule(asked):
            if asked.path == '/cache/1/batch':
                results = [{'result': len(call['arguments']['domain'])} for call in
                           asked.json['calls']]  # fmt: skip
                results[0] = {'error': {'status': 400, 'type': 'invalid', 'message': 'no'}}
                return {'results': results}
            return Answer(json.dumps(len(asked.json['domain'])).encode(), delay_s=0.2)

        server = self.serve(rule)
        client = self.client(server, batch_delay_s=0.05)
        client.has_addon(True)
        domains = [[('name', 'ilike', 'x')] * n for n in range(1, 12)]
        results = self.together(
            *(lambda d=d: client.read(Call('m', 'search_count', (d,), {})) for d in domains)
        )
        self.assertEqual(results, list(range(1, 12)))
        self.assertEqual(server.paths()['/cache/1/batch'], 1)
        self.assertEqual(len(server.asked), 3)  # the first, all others, and the one that failed

    def batch_of(self, answer):
        """What three calls give whose batch is answered like this, and the client."""

        def rule(asked):
            if asked.path == '/cache/1/batch':
                return answer
            problem = {'name': 'odoo.exceptions.AccessError', 'message': 'No'}
            return Answer(json.dumps(problem).encode(), 403, delay_s=0.2)

        client = self.client(self.serve(rule), batch_delay_s=0.05, retries=0)
        client.has_addon(True)
        calls = [Call('m', 'search_count', ([['id', '=', n]],), {}) for n in range(3)]
        return self.together(*(lambda c=call: client.read(c) for call in calls)), client

    def test_a_batch_that_is_refused_is_no_outage(self):
        refused = {'error': {'status': 403, 'type': 'access', 'message': 'No'}}
        of_each = json.dumps({'results': [refused, refused]}, separators=(',', ':')).encode()
        for status, body in (
            (403, of_each),
            (404, of_each),
            (429, of_each),
            (403, json.dumps(refused).encode()),
            (413, b'{"error":{"status":413,"type":"too_large","message":"Too large"}}'),
            (400, b'{"error":{"status":400,"type":"invalid","message":"Nested too deep"}}'),
        ):
            with self.subTest(status=status, body=body[:20]):
                results, client = self.batch_of(Answer(body, status))
                self.assertEqual({type(one) for one in results}, {errors.RemoteAccessError})
                self.assertTrue(client._has_batch_api)
                self.assertEqual(set(client.errors), {'access'})

    def test_who_gathers_in_vain_leaves_nobody_waiting(self):
        batcher, started, go = Batcher(0.2), threading.Event(), threading.Event()

        def single(item):
            if item == 'first':
                started.set()
                go.wait(5)
            return item

        work = Work(single, lambda items: items)

        def in_vain(_group, batch, _left_s):
            while len(batch.items) < 2:
                time.sleep(0.001)
            go.set()
            raise errors.RemoteTimeout('late')

        batcher._gather = in_vain

        def ask(item):
            return lambda: (
                (item == 'first' or started.wait(5)) and batcher.run('k', item, work, lambda: 5.0)
            )

        def follow():
            while not (batcher._groups.get('k') and batcher._groups['k'].batch):
                time.sleep(0.001)
            return ask('follows')()

        results = self.together(ask('first'), ask('leads'), follow)
        self.assertEqual(results[0], 'first')
        self.assertIsInstance(results[1], errors.RemoteTimeout)
        self.assertEqual(results[2], 'follows')
        self.assertFalse(batcher._groups)


def holds(domain, row) -> bool:
    """A domain on a row, written another way: as SQL would."""
    stack = []
    for item in reversed(domain):
        if item == '&':
            stack.append(stack.pop() & stack.pop())
        elif item == '|':
            stack.append(stack.pop() | stack.pop())
        elif item == '!':
            stack.append(not stack.pop())
        else:
            name, operator, value = item
            found = row[name][0] if isinstance(row[name], list) else row[name]
            values = value if isinstance(value, list) else [value]
            stack.append((found in values) == (operator in ('=', 'in')))
    return all(stack)


@tagged('post_install', '-at_install')
class TestRemoteAddon(RemoteCase):
    def changes(self, answer):
        return self.client(self.serve(lambda asked: answer)).changes('c', ['a', 'b'])

    def test_what_the_other_addon_says(self):
        found = self.changes(
            {'cursor': 'd', 'all': False, 'changed': {'a': True, 'b': {'ids': [1], 'gone': [2]}}}
        )
        self.assertEqual(found, ('d', (('a', None), ('b', (1, 2))), True))
        found = self.changes({'cursor': 'd', 'all': True, 'changed': {}})
        self.assertFalse(found.complete)
        found = self.changes(
            {'cursor': 'd', 'complete': True, 'changes': [{'model': 'a', 'ids': None}]}
        )
        self.assertEqual(found, ('d', (('a', None),), True))

    def test_there_is_none(self):
        self.assertIsNone(self.changes(Answer(b'<html>', 404)))
        with self.assertRaises(errors.RemoteValidationError):
            self.changes(Answer(b'{"error": {}}', 404))

    def test_a_question_that_is_refused_is_no_outage(self):
        for status, error in (
            (400, errors.RemoteValidationError),
            (403, errors.RemoteAccessError),
        ):
            with self.subTest(status=status), self.assertRaises(error) as caught:
                self.changes(Answer(b'{"error": {"status": %d}}' % status, status))
            self.assertFalse(caught.exception.outage)

    def test_what_is_no_such_answer_is_not_believed(self):
        for answer in ({}, {'changed': 1, 'all': False, 'cursor': ''}, {'changes': [1]}, []):
            with self.subTest(answer=answer), self.assertRaises(errors.RemoteProtocolError):
                self.changes(answer)
