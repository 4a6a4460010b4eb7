"""Reading another Odoo through the tiers; the other one is a server of these tests."""

import json
import pathlib
import re
import threading
import time
import types
from unittest.mock import patch

from odoo import api
from odoo.exceptions import AccessError, UserError, ValidationError
from odoo.tests import TransactionCase, new_test_user, tagged
from odoo.tools import mute_logger

from ..services import outside
from ..services.remote import errors
from .common import CacheCase
from .remote_server import DROP, Answer, Server

KEY = 'a-key-that-nobody-may-see'
NAME = 'tc_remote'
CLIENT = 'odoo.addons.tiered_cache.services.remote.client'


class World:
    """Another Odoo: records of one model, its changes, and whether it is up."""

    def __init__(self):
        self.rows = {n: {'id': n, 'name': f'name {n}'} for n in range(1, 301)}
        self.changed: list = []
        self.complete = True
        self.has_addon = True
        self.untold: tuple[str, ...] = ()  # models
        self.down = False
        self.refuse = ''
        self.count = 0
        self.slow_s = 0.0
        self.batch_api = False

    def change(self, id_, name):
        self.rows[id_] = {'id': id_, 'name': name}
        self.changed.append(id_)

    def __call__(self, asked):
        if self.down:
            return DROP
        if self.refuse:
            problem = {'name': f'odoo.exceptions.{self.refuse}', 'message': f'No {KEY}'}
            return Answer(json.dumps(problem).encode(), 403)
        if asked.path.startswith('/cache/1/changes'):
            if any(model in asked.path for model in self.untold):
                return Answer(b'{"error": {"type": "access"}}', 403)
            return self.changes('since=&' not in asked.path) if self.has_addon else Answer(b'', 404)
        if asked.path == '/web/webclient/version_info':
            return {'result': {'server_version': '19.0'}}
        self.count += 1
        method, body = asked.path.rpartition('/')[2], asked.json
        return Answer(json.dumps(self.answer(method, body)).encode(), delay_s=self.slow_s)

    def answer(self, method, body):
        rows = list(self.rows.values())
        if method == 'read':
            return [row for row in rows if row['id'] in body['ids']]
        if method == 'search_read':
            return rows[: body.get('limit', 5)]
        if method == 'search_count':
            return len(rows)
        return True

    def changes(self, is_known):
        changed, self.changed = (self.changed, []) if is_known else ([], self.changed)
        found = [{'model': 'res.partner', 'ids': changed}] if changed else []
        cursor = str(time.time_ns())
        return {'cursor': cursor, 'changes': found, 'complete': self.complete}


class RemoteCase(CacheCase):
    def setUp(self):
        super().setUp()
        self.world = World()
        self.server = self.enterContext(Server(self.world))
        self.remote_id = self.make_remote()
        self.addCleanup(self.engine.follower.clients.close)
        self.engine.follower._wanted.clear()
        self.patch(self.engine.follower, 'tick', lambda: None)  # tests say when
        self.settle()  # what was removed just now would take new entries with it

    def make_remote(self, **values):
        values = {
            'name': NAME,
            'url': self.server.url,
            'database': 'db',
            'login': 'me',
            'api_key': KEY,
            'allowed_hosts': '127.0.0.1',
            'protocol': 'json2',
            'retries': 0,
            'timeout_s': 5,
            'interval_s': 5,
            'ttl_s': 300,
            **values,
        }
        id_ = self.commit(lambda env: env['cache.remote'].create(values).id)
        self.addCleanup(self.sql, "DELETE FROM cache_remote WHERE id = %s", [id_])
        return id_

    def change(self, **values):
        self.commit(lambda env: env['cache.remote'].browse(self.remote_id).write(values))

    def remote(self, env):
        return env['cache.remote']._get(NAME)

    def ask(self, work):
        """``work(remote)`` in a request of its own."""
        with self.request() as env:
            answer = work(self.remote(env))
        self.settle()  # what is removed in the background would take newer entries with it
        return answer

    def names(self, *ids):
        rows = self.ask(lambda remote: remote.read_batch('res.partner', ids, ['name']))
        return [row['name'] for row in rows]

    def asked(self, work):
        """How many requests it takes."""
        before = self.world.count
        work()
        return self.world.count - before

    def search(self):
        return self.ask(lambda remote: remote.search_read('res.partner', [], ['name']))


@tagged('post_install', '-at_install')
class TestRemote(RemoteCase):
    def test_a_read_is_kept(self):
        self.assertEqual(self.asked(self.search), 1)
        with self.assertHit('l1'):
            self.assertEqual(self.search()[0], {'id': 1, 'name': 'name 1'})
        self.assertEqual(self.asked(self.search), 0)

    def test_records_are_kept_one_by_one_and_fetched_in_hundreds(self):
        self.assertEqual(self.asked(lambda: self.names(*range(1, 251))), 3)
        self.assertEqual(self.asked(lambda: self.names(*range(100, 200))), 0)
        self.assertEqual(self.asked(lambda: self.names(1, 2, 280)), 1)
        self.assertEqual(self.names(3, 1, 999), ['name 3', 'name 1'])

    def test_fields_and_context_tell_values_apart(self):
        def read(fields, context):
            return self.ask(
                lambda remote: remote.read_batch('res.partner', [1], fields, context=context)
            )

        for fields, context in ((['name'], None), (['id'], None), (['name'], {'lang': 'nl_BE'})):
            self.assertEqual(self.asked(lambda f=fields, c=context: read(f, c)), 1)

    def test_each_caller_gets_a_value_of_their_own(self):
        self.search()[0]['name'] = 'changed'
        self.assertEqual(self.search()[0]['name'], 'name 1')

    def test_a_transaction_that_has_written_is_answered_too(self):
        self.search()
        with self.request(commit=False) as env:
            env['res.partner'].create({'name': 'x'})
            env.flush_all()
            self.assertEqual(self.asked(lambda: self.remote(env).search_read('res.partner')), 1)
            self.assertEqual(
                self.asked(lambda: self.remote(env).search_read('res.partner', [], ['name'])), 0
            )

    def test_changes_of_this_database_change_nothing(self):
        self.search()
        self.make('res.partner', {'name': 'x'})
        self.make('res.users', {'name': 'x', 'login': 'tc_x'})
        self.assertEqual(self.asked(self.search), 0)

    def test_other_workers_share_what_is_kept(self):
        self.configure(l3_enabled='1')
        self.search()
        with self.other_worker():
            self.assertEqual(self.asked(self.search), 0)

    def test_a_ttl_of_zero_keeps_nothing(self):
        def read():
            return self.ask(lambda remote: remote.search_read('res.partner', ttl_s=0))

        self.assertEqual(self.asked(lambda: (read(), read())), 2)

    def test_a_life_ends(self):
        self.ask(lambda remote: remote.search_read('res.partner', ttl_s=0.1, fail_safe_s=0))
        time.sleep(0.15)
        again = self.asked(
            lambda: self.ask(
                lambda remote: remote.search_read('res.partner', ttl_s=0.1, fail_safe_s=0)
            )
        )
        self.assertEqual(again, 1)

    def test_a_life_ends_whatever_others_allow_after_it(self):
        self.ask(lambda remote: remote.search_read('res.partner', ttl_s=0.1, fail_safe_s=600))
        time.sleep(0.15)
        again = self.asked(
            lambda: self.ask(
                lambda remote: remote.search_read('res.partner', ttl_s=0.1, fail_safe_s=0)
            )
        )
        self.assertEqual(again, 1)

    def test_equal_reads_at_the_same_time_are_one_request(self):
        self.world.slow_s = 0.3
        # environments before the threads: who runs tests holds the lock of the registries
        remotes = [self.remote(self.enterContext(self.request())) for _number in range(10)]
        threads = [
            threading.Thread(target=remote.search_read, args=('res.partner',), daemon=True)
            for remote in remotes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        self.assertEqual(self.world.count, 1)

    # -- changes made through here -------------------------------------------------------

    def test_a_call_removes_what_it_may_have_changed_for_everybody(self):
        self.names(1), self.search()
        self.world.rows[1]['name'] = 'new'
        self.ask(lambda remote: remote.call('res.partner', 'write', [1], {'name': 'new'}))
        self.assertEqual(self.names(1), ['new'])
        self.assertEqual(self.search()[0]['name'], 'new')

    def test_a_call_is_seen_in_the_same_transaction_and_survives_its_rollback(self):
        self.names(1)
        with self.request(commit=False) as env:
            remote = self.remote(env)
            env['res.partner'].search([], limit=1)  # the snapshot is taken
            self.assertEqual(remote.read('res.partner', [1], ['name'])[0]['name'], 'name 1')
            self.world.rows[1]['name'] = 'new'
            remote.call('res.partner', 'write', [1], {'name': 'new'})
            self.assertEqual(remote.read('res.partner', [1], ['name'])[0]['name'], 'new')
        self.assertEqual(self.names(1), ['new'])

    def test_a_call_that_fails_removes_too(self):
        self.names(1)
        self.world.rows[1]['name'] = 'new'
        self.world.down = True
        with self.assertRaises(errors.RemoteUnreachable):
            self.ask(lambda remote: remote.call('res.partner', 'write', [1], {'name': 'new'}))
        self.world.down = False
        self.assertEqual(self.names(1), ['new'])

    def test_a_call_may_name_what_it_changes(self):
        self.names(1)
        self.ask(
            lambda remote: remote.call('res.country', 'write', [1], {}, removes=['res.country'])
        )
        self.assertEqual(self.asked(lambda: self.names(1)), 0)

    def test_what_was_asked_before_a_removal_is_not_kept_after_it(self):
        """A removal by another worker while an answer is under way meets it."""
        with self.request() as env:
            remote = self.remote(env)
            fetched = remote._client.read

            def slowly(call):
                rows = fetched(call)
                with self.other_worker(), self.request() as other:
                    self.remote(other).forget()
                return rows

            with patch.object(remote._client, 'read', slowly):
                remote.read('res.partner', [1], ['name'])
        self.engine._books[False].forget()  # what a worker knows may be a second old
        self.assertEqual(self.asked(lambda: self.names(1)), 1)

    def test_removal_by_name_tag_and_pattern(self):
        for kind, target in (
            ('key', f'v1:remote:{NAME}:res.partner:1'),
            ('pattern', f'v1:remote:{NAME}:*'),
            ('tag', f'remote:{NAME}'),
            ('tag', f'remote:{NAME}:res.partner'),
        ):
            self.names(1)
            with self.subTest(target=target):
                self.commit(lambda env, k=kind, t=target: env['cache.manager']._remove(k, t))
                self.assertEqual(self.asked(lambda: self.names(1)), 1)

    def test_a_removal_by_tag_reaches_what_another_worker_has_in_memory(self):
        with self.other_worker() as other:
            self.names(1)
        for tag in (f'remote:{NAME}', f'remote:{NAME}:res.partner'):
            with self.other_worker(other):
                self.assertEqual(self.asked(lambda: self.names(1)), 0)
            self.commit(lambda env, tag=tag: env['cache.manager']._remove('tag', tag))
            self.settle()
            with self.other_worker(other):
                other._books[False].forget()  # what a worker knows may be a second old
                self.assertEqual(self.asked(lambda: self.names(1)), 1)

    # -- fail-safe -----------------------------------------------------------------------

    def test_a_remote_that_is_down_lets_the_last_answer_stand_in_marked_with_its_age(self):
        self.search(), self.names(1, 2)
        self.world.down = True
        self.assertEqual(self.search()[0]['name'], 'name 1')
        real = time.time
        with (
            patch.object(outside.time, 'time', lambda: real() + 400),
            mute_logger(CLIENT),
        ):
            for _turn in range(5):
                answer = self.ask(
                    lambda remote: remote.answer('res.partner', 'search_read', [], ['name'])
                )
                self.assertEqual(answer.origin, 'expired')
                self.assertGreaterEqual(answer.age_s, 400)
                self.assertEqual(answer.value[0]['name'], 'name 1')
                self.assertEqual(self.names(1, 2), ['name 1', 'name 2'])
            with self.assertRaises(errors.RemoteUnreachable):
                self.names(1, 3)  # one of which was never known
        with (
            patch.object(outside.time, 'time', lambda: real() + 5000),
            self.assertRaises(errors.RemoteUnreachable),
        ):
            self.search()  # longer than was allowed

    def test_a_tier_that_was_busy_is_looked_into_again_before_a_read_fails(self):
        self.configure(l3_enabled='1')
        self.search(), self.names(1, 2)
        self.settle()
        self.engine.hierarchy.tiers['l1'].clear()
        self.world.down = True
        l3, real = self.engine.hierarchy.tiers['l3'], time.time
        busy = []

        def at_first(keys, plain=l3.get_many):
            busy.append(keys)
            return plain(keys) if len(busy) % 2 == 0 else {}

        self.patch(l3, 'get_many', at_first)
        with (
            patch.object(outside.time, 'time', lambda: real() + 400),
            mute_logger(CLIENT),
        ):
            answer = self.ask(
                lambda remote: remote.answer('res.partner', 'search_read', [], ['name'])
            )
            self.assertEqual(answer.origin, 'expired')
            self.assertEqual(self.names(1, 2), ['name 1', 'name 2'])

    def test_the_remote_is_asked_again_when_it_is_back(self):
        self.search()
        self.world.down = True
        real = time.time
        with patch.object(outside.time, 'time', lambda: real() + 400):
            self.search()
            self.world.down = False
            self.world.rows[1]['name'] = 'new'
            self.engine.pauses._until.clear()
            self.assertEqual(self.search()[0]['name'], 'new')

    def test_a_refusal_is_an_answer_and_nothing_stands_in(self):
        self.search()
        real = time.time
        with patch.object(outside.time, 'time', lambda: real() + 400):
            self.world.refuse = 'AccessError'
            with self.assertRaises(errors.RemoteAccessError):
                self.search()
            # nor later, when it is down
            self.world.refuse, self.world.down = '', True
            with self.assertRaises(errors.RemoteUnreachable), mute_logger(CLIENT):
                self.search()

    # -- following -----------------------------------------------------------------------

    def poll(self):
        """As the background thread does, with the interval over."""
        self.settle()
        self.sql("UPDATE cache_remote_follow SET polled_at = NULL")
        follower = self.engine.follower
        claims = follower.claim()
        follower.poll(claims)
        return claims

    def errors(self):
        return [e for (e,) in self.sql("SELECT error FROM cache_remote_follow WHERE error <> ''")]

    def test_what_changes_over_there_is_removed_and_nothing_else(self):
        self.names(1, 2, 3), self.search()
        self.poll()
        self.assertEqual(self.asked(lambda: (self.names(1, 2, 3), self.search())), 2)
        self.poll()
        self.assertEqual(self.asked(lambda: (self.names(1, 2, 3), self.search())), 0)
        self.world.change(2, 'new')
        self.poll()
        self.assertEqual(self.asked(lambda: self.names(1, 3)), 0)
        self.assertEqual(self.names(1, 2, 3), ['name 1', 'new', 'name 3'])
        self.assertEqual(self.asked(self.search), 1)
        self.assertEqual(self.errors(), [])

    def test_changes_in_doubt_remove_everything(self):
        self.names(1)
        self.poll(), self.names(1), self.poll()
        self.world.complete = False
        self.poll()
        self.assertEqual(self.asked(lambda: self.names(1)), 1)

    def test_a_model_that_the_key_may_not_read_any_more_is_left_out(self):
        self.ask(lambda remote: remote.search_count('res.bank'))
        self.names(1)
        self.poll(), self.names(1), self.poll()
        self.ask(lambda remote: remote.search_count('res.bank'))
        self.world.untold = ('res.bank',)
        self.world.change(1, 'new')
        self.poll(), self.poll()
        self.assertEqual(self.errors(), [])
        self.assertEqual(self.names(1), ['new'])
        self.assertFalse(self.sql("SELECT 1 FROM cache_remote_follow WHERE model = 'res.bank'"))
        read = lambda: self.ask(lambda remote: remote.search_count('res.bank'))  # noqa: E731
        self.assertEqual(self.asked(read), 1)  # nobody would hear of its changes

    def test_one_request_per_interval_whoever_asks(self):
        self.names(1)
        self.settle()
        self.assertEqual(len(self.engine.follower.claim()), 1)
        with self.other_worker() as other:
            self.assertEqual(other.follower.claim(), [])
        self.assertEqual(self.engine.follower.claim(), [])

    def test_a_worker_that_dies_after_its_claim_has_lost_nothing(self):
        self.names(1)
        self.poll(), self.names(1), self.poll()
        self.world.change(1, 'new')
        self.sql("UPDATE cache_remote_follow SET polled_at = NULL")
        self.assertEqual(len(self.engine.follower.claim()), 1)  # and no more is heard of it
        self.poll()
        self.assertEqual(self.names(1), ['new'])

    def test_an_outage_keeps_the_cursor(self):
        self.names(1)
        self.poll()
        before = self.sql("SELECT cursor FROM cache_remote_follow WHERE model = ''")
        self.world.down = True
        self.poll()
        self.assertEqual(
            self.sql("SELECT cursor FROM cache_remote_follow WHERE model = ''"), before
        )
        self.assertIn('RemoteUnreachable', self.errors()[0])

    def test_without_the_addon_values_live_for_their_time(self):
        self.world.has_addon = False
        self.names(1)
        self.poll()
        self.assertIn('no addon', self.errors()[0])
        self.assertEqual(self.asked(lambda: self.names(1)), 0)

    def test_the_thread_of_the_process_polls(self):
        self.names(1)
        self.settle()
        type(self.engine.follower).tick(self.engine.follower)
        self.engine.follower._thread.join(10)
        self.assertEqual(self.server.paths().total() - self.world.count, 1)

    def test_dates_are_polled_where_they_are_asked_for(self):
        self.world.has_addon = False
        dates = {n: '2026-01-01 00:00:00' for n in self.world.rows}

        def answer(method, body, plain=self.world.answer):
            if method == 'search_read' and body['fields'] == ['write_date']:
                since = body['domain'][0][2] if body['domain'] else ''
                rows = [{'id': n, 'write_date': d} for n, d in dates.items() if d >= since]
                rows.sort(key=lambda row: row['write_date'], reverse=True)
                return rows[: body['limit']]
            return plain(method, body)

        self.world.answer = answer
        self.change(follow='write_date')
        dates.update({n: '2025-01-01 00:00:00' for n in dates if n != 300})
        self.names(1, 2)
        for _turn in range(4):
            self.poll(), self.names(1, 2)
        self.assertEqual(self.asked(lambda: self.names(1, 2)), 0)
        self.world.rows[2]['name'], dates[2] = 'new', '2026-01-01 00:01:00'
        self.poll()
        self.assertEqual(self.asked(lambda: self.names(1)), 0)
        self.assertEqual(self.names(2), ['new'])
        # once more within the same second, unseen by its date
        self.world.rows[2]['name'] = 'newer'
        self.poll()
        self.assertEqual(self.names(2), ['newer'])
        del self.world.rows[1], dates[1]
        self.poll()
        self.assertEqual(self.names(1), [])

    # -- secrets -------------------------------------------------------------------------

    def test_the_key_stands_nowhere_but_in_its_column(self):
        self.configure(l3_enabled='1')
        with self.assertLogs('', 'DEBUG') as logs:
            self.search(), self.names(1)
            self.settle()
            self.poll()
            self.world.refuse = 'AccessError'
            for work in (
                lambda remote: remote.call('res.partner', 'write', [1], {}),
                lambda remote: remote.search_read('res.users'),
            ):
                with self.assertRaises(errors.RemoteAccessError) as caught:
                    self.ask(work)
                self.assertNotIn(KEY, str(caught.exception))
            self.poll()
            self.commit(lambda env: env['cache.remote'].browse(self.remote_id).action_test())
            self.world.refuse, self.world.down = '', True
            for _turn in range(4):
                with self.assertRaises(errors.RemoteUnreachable):
                    self.ask(lambda remote: remote.search_count('res.users'))
            self.engine.reporter.report()
            self.engine.flush_metrics()
        # what the tests' own cursor sends is logged at DEBUG by Odoo itself, to nobody by default
        for line in logs.output:
            if 'odoo.sql_db' not in line:
                self.assertNotIn(KEY, line)
        self.assertNotIn(KEY, json.dumps(self.engine.stats(), default=str))
        found = []
        tables = self.sql(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'cache%'"
        )
        for (table,) in tables:
            for (row,) in self.sql(f'SELECT t::text FROM "{table}" t'):
                if KEY in row or KEY.encode().hex() in row:
                    found.append(table)
        self.assertEqual(found, ['cache_remote'])

    def test_no_client_reads_the_key(self):
        with self.request(uid=api.SUPERUSER_ID) as env:
            system = new_test_user(
                env,
                'tc_system',
                'base.group_system,tiered_cache.group_cache_admin,base.group_allow_export',
            )
            record = env['cache.remote'].browse(self.remote_id).with_user(system)
            shown = record.read([name for name in record._fields if name != 'secret'])
            self.assertNotIn(KEY, str(shown))
            self.assertEqual(record.api_key, '********')
            self.assertTrue(record.has_key)
            with self.assertRaises(AccessError):
                record.read(['secret'])
            with self.assertRaises((AccessError, ValueError)):
                record.search([('secret', '=like', 'a%')])
            exported = record.export_data(['name', 'api_key'])
            self.assertNotIn(KEY, str(exported))
            with self.assertRaises((AccessError, KeyError, ValueError)):
                record.export_data(['secret'])
            self.assertFalse(record.copy({'name': 'tc_copy'}).has_key)
            env.cr.rollback()

    def test_saving_the_form_keeps_the_key_and_moving_the_server_drops_it(self):
        self.change(api_key='********', ttl_s=100)
        self.assertEqual(self.key(), KEY)
        self.change(url='http://127.0.0.1:1')
        self.assertEqual(self.key(), '')
        self.change(url=self.server.url, api_key='another')
        self.change(url='http://127.0.0.1:1', api_key='********')
        self.assertEqual(self.key(), '', "what everybody sees is no key")
        self.change(url=self.server.url, api_key='another')
        self.assertEqual(self.key(), 'another')

    def key(self):
        return self.sql("SELECT secret FROM cache_remote WHERE id = %s", [self.remote_id])[0][0]

    def test_moving_the_server_forgets_what_was_read(self):
        self.names(1)
        self.change(api_key='another')
        self.assertEqual(self.asked(lambda: self.names(1)), 1)

    # -- the record ----------------------------------------------------------------------

    def test_test_connection(self):
        def test(env):
            remote = env['cache.remote'].browse(self.remote_id)
            remote.action_test()
            return remote.state, remote.version, remote.protocol, remote.problem

        self.change(protocol=False)
        self.assertEqual(self.commit(test), ('good', '19.0', 'json2', False))
        self.world.down = True
        state, _version, _protocol, problem = self.commit(test)
        self.assertEqual(state, 'bad')
        self.assertIn('RemoteUnreachable', problem)
        self.assertIn('Are URL and database right', problem)
        self.change(allowed_hosts=False)
        self.assertIn('Allowed Hosts', self.commit(test)[3])

    def test_a_model_of_which_no_record_was_read_is_not_followed(self):
        self.ask(lambda remote: remote.answer('res.bank', 'fields_get'))
        self.assertFalse(self.sql("SELECT 1 FROM cache_remote_follow WHERE model = 'res.bank'"))
        self.ask(lambda remote: remote.search_count('res.bank'))
        self.assertTrue(self.sql("SELECT 1 FROM cache_remote_follow WHERE model = 'res.bank'"))

    def test_what_is_followed_is_shown_without_the_row_of_the_remote(self):
        self.search()
        self.settle()
        self.sql(
            "UPDATE cache_remote_follow SET polled_at = '2026-01-02 03:04:05' WHERE model = ''"
        )
        with self.request() as env:
            remote = env['cache.remote'].browse(self.remote_id)
            self.assertEqual(remote.followed_ids.mapped('model'), ['res.partner'])
            self.assertEqual(str(remote.polled_at), '2026-01-02 03:04:05')

    def test_statistics(self):
        self.search()
        self.engine.reporter.report()
        with self.request() as env:
            remote = env['cache.remote'].browse(self.remote_id)
            self.assertEqual(remote.statistics['requests'], 1)
            self.assertEqual(remote.connections, 1)
            self.assertIn('1 open', remote.statistics_text)
        with self.other_worker(), self.request() as env:  # this one has not used it
            self.assertEqual(env['cache.remote'].browse(self.remote_id).connections, 1)

    def test_a_change_of_the_record_counts_for_the_next_call(self):
        self.search()
        other = self.enterContext(Server(World()))
        self.change(url=other.url, api_key=KEY)
        self.search()
        self.assertTrue(other.asked)
        self.assertTrue(any('/res.partner/' in asked.path for asked in other.asked))

    def test_loopback_is_refused_unless_it_is_allowed(self):
        self.change(allowed_hosts=False)
        before = len(self.server.asked)
        with self.assertRaises(errors.AddressRefused):
            self.search()
        self.assertEqual(len(self.server.asked), before)

    def test_the_examples_of_the_page_run(self):
        page = pathlib.Path(__file__).parents[1] / 'docs' / 'remote.md'
        examples = re.findall(r'```python\n(.*?)```', page.read_text(encoding='utf-8'), re.DOTALL)
        self.assertEqual(len(examples), 2)
        with self.request() as env:
            scope = {'self': types.SimpleNamespace(env=env), 'ids': [1, 2]}
            for example in examples:
                exec(example.replace('headquarters', NAME), scope)  # noqa: S102
            self.assertEqual([row['id'] for row in scope['codes']], [1, 2])

    def test_only_reads_are_answered_from_the_cache(self):
        with self.assertRaises(ValueError):
            self.ask(lambda remote: remote.answer('res.partner', 'unlink', [1]))
        self.asked(lambda: self.ask(lambda remote: remote.call('res.partner', 'search_count', [])))


@tagged('post_install', '-at_install')
class TestRemoteRecord(TransactionCase):
    def test_bad_values_are_refused_with_a_sentence(self):
        good = {'name': 'hq', 'url': 'https://erp.example.com'}
        self.env['cache.remote'].create(good)
        for bad in (
            {'name': 'Head Quarters'},
            {'name': 'a:b'},
            {'name': 'b', 'url': 'erp'},
            {'name': 'b', 'url': 'http://me:key@erp.example.com'},
            {'name': 'b', 'allowed_hosts': '10.0.0.0/99'},
            {'name': 'b', 'fail_safe_s': 86400},
            {'name': 'b', 'max_connections': 0},
            {'name': 'b', 'min_connections': 20},
            {'name': 'b', 'interval_s': 1},
        ):
            with self.subTest(bad=bad), self.assertRaises(ValidationError):
                self.env['cache.remote'].create({**good, **bad})

    def test_an_unknown_remote(self):
        with self.assertRaises(UserError):
            self.env['cache.remote']._get('nowhere')

    def test_who_may(self):
        remote = self.env['cache.remote'].create(
            {'name': 'hq', 'url': 'https://erp.example.com', 'allowed_hosts': '10.0.0.1'}
        )
        admin = new_test_user(self.env, 'tc_admin', 'tiered_cache.group_cache_admin')
        user = new_test_user(self.env, 'tc_user', 'tiered_cache.group_cache_user')
        seen = remote.with_user(admin).read(['name', 'url', 'has_key', 'statistics'])
        self.assertEqual(seen[0]['name'], 'hq')
        for forbidden in ('api_key', 'allowed_hosts'):
            with self.assertRaises(AccessError):
                remote.with_user(admin).read([forbidden])
        with self.assertRaises(AccessError):
            remote.with_user(admin).url = 'https://elsewhere.example.com'
        with self.assertRaises(AccessError):
            remote.with_user(user).read(['name'])
