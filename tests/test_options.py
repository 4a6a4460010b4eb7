"""Options: four layers, ranges, and sentences instead of tracebacks."""

import os
import tempfile
from unittest.mock import patch

from odoo.tests import BaseCase, tagged

from ..services import options, redis_url


def load(params=None, environ=None, config=''):
    """Settings from a database, an environment and the text of an odoo.conf."""
    with tempfile.NamedTemporaryFile('w', suffix='.conf', encoding='utf-8') as file:
        file.write(config)
        file.flush()
        return options.load(params or {}, environ=environ or {}, config_path=file.name)


@tagged('post_install', '-at_install')
class TestLayers(BaseCase):
    def test_without_anything_the_defaults_count(self):
        settings = load()
        self.assertEqual(
            settings.as_dict(), {name: option.default for name, option in options.OPTIONS.items()}
        )
        self.assertEqual(settings.source('l1_ttl_s'), 'default')
        self.assertEqual(settings.problems, [])

    def test_database_beats_default(self):
        settings = load({'l1_ttl_s': '60'})
        self.assertEqual((settings.l1_ttl_s, settings.source('l1_ttl_s')), (60, 'database'))
        self.assertFalse(settings.is_overridden('l1_ttl_s'))

    def test_file_beats_database(self):
        settings = load({'l1_ttl_s': '60'}, config='[tiered_cache]\nl1_ttl_s = 61\n')
        self.assertEqual((settings.l1_ttl_s, settings.source('l1_ttl_s')), (61, 'file'))
        self.assertTrue(settings.is_overridden('l1_ttl_s'))

    def test_environment_beats_file(self):
        settings = load(
            {'l1_ttl_s': '60'}, {'TIERED_CACHE_L1_TTL_S': '62'}, '[tiered_cache]\nl1_ttl_s = 61\n'
        )
        self.assertEqual((settings.l1_ttl_s, settings.source('l1_ttl_s')), (62, 'environment'))

    def test_environment_is_that_of_the_process_unless_told(self):
        with patch.dict(os.environ, TIERED_CACHE_COMPACTION_ROWS='777'):
            self.assertEqual(options.load({}, config_path='').compaction_rows, 777)

    def test_caching_is_turned_off_in_any_usual_way(self):
        for text in ('0', 'false', 'no', 'off', 'False', ' OFF '):
            self.assertIs(load(environ={'TIERED_CACHE_ENABLED': text}).enabled, False, text)
        for text in ('1', 'true', 'yes', 'on', 'True'):
            self.assertIs(load({'enabled': text}).enabled, True, text)

    def test_types_are_those_of_the_defaults(self):
        settings = load({'l1_max_mb': '1', 'l3_max_mb': '1', 'l1_policy': 'LFU'})
        self.assertEqual((type(settings.l1_max_mb), type(settings.l3_max_mb)), (float, int))
        self.assertEqual(settings.l1_policy, 'lfu')

    def test_an_empty_value_is_no_value(self):
        settings = load({'l1_ttl_s': ''}, {'TIERED_CACHE_L1_TTL_S': ' '})
        self.assertEqual((settings.l1_ttl_s, settings.source('l1_ttl_s')), (3600, 'default'))
        self.assertEqual(settings.problems, [])

    def test_an_empty_redis_url_keeps_one_server_off_redis(self):
        settings = load({'redis_url': 'redis://localhost'}, {'TIERED_CACHE_REDIS_URL': ''})
        self.assertEqual((settings.redis_url, settings.source('redis_url')), ('', 'environment'))

    def test_settings_are_read_only(self):
        with self.assertRaises(AttributeError):
            load().enabled = False

    def test_equal_values_from_equal_places_are_equal_settings(self):
        self.assertEqual(load({'l1_ttl_s': '60'}), load({'l1_ttl_s': '60'}))
        self.assertNotEqual(load({'l1_ttl_s': '60'}), load())


@tagged('post_install', '-at_install')
class TestBadValues(BaseCase):
    def test_a_bad_value_is_skipped_with_a_sentence_and_the_next_place_counts(self):
        settings = load({'l1_ttl_s': '60'}, {'TIERED_CACHE_L1_TTL_S': 'soon'})
        self.assertEqual((settings.l1_ttl_s, settings.source('l1_ttl_s')), (60, 'database'))
        self.assertEqual(
            settings.problems,
            [
                "The environment variable TIERED_CACHE_L1_TTL_S is ignored: l1_ttl_s must be a "
                "whole number between 1 and 31536000 seconds, not 'soon'."
            ],
        )

    def test_bad_everywhere_is_the_default(self):
        settings = load(
            {'audit_rate': '2'},
            {'TIERED_CACHE_AUDIT_RATE': 'nan'},
            '[tiered_cache]\naudit_rate = -1\n',
        )
        self.assertEqual(settings.audit_rate, 0.001)
        self.assertEqual(len(settings.problems), 3)

    def test_an_unknown_name_in_the_file_is_told_with_a_suggestion(self):
        settings = load(config='[tiered_cache]\nl1_tll_s = 60\n')
        self.assertIn("Did you mean l1_ttl_s?", settings.problems[0])

    def test_a_broken_file_is_told_and_does_not_stop_anything(self):
        settings = load({'l1_ttl_s': '60'}, config='[tiered_cache]\nnonsense\n')
        self.assertEqual(settings.l1_ttl_s, 60)
        self.assertIn("cannot be read", settings.problems[0])

    def test_a_missing_file_is_no_problem(self):
        self.assertEqual(options.load({}, environ={}, config_path='/nonexistent').problems, [])

    def test_check_refuses_with_a_sentence(self):
        for name, text in (
            ('l1_max_entries', '-1'),
            ('l1_max_mb', 'inf'),
            ('l2_ttl_s', '0'),
            ('l3_max_mb', '1e3'),
            ('l3_ttl_s', '9' * 30),
            ('enabled', 'maybe'),
            ('consistency', 'exact'),
            ('audit_rate', '1.1'),
            ('redis_timeout_ms', '5001'),
        ):
            with (
                self.subTest(name=name, text=text),
                self.assertRaisesRegex(ValueError, rf'^{name} must be .*\.$'),
            ):
                options.check(name, text)

    def test_every_default_passes_its_own_check(self):
        for name, option in options.OPTIONS.items():
            with self.subTest(name=name):
                self.assertEqual(options.check(name, option.default_text), option.default)

    def test_text_and_value_are_each_others_inverse(self):
        for name, value in (('audit_rate', 0.00001), ('l1_max_mb', 0.5), ('enabled', False)):
            self.assertEqual(options.check(name, options.to_text(value)), value)


@tagged('post_install', '-at_install')
class TestRedisUrl(BaseCase):
    def test_good_urls(self):
        for url in (
            '',
            'redis://localhost',
            'redis://localhost:6379/0',
            'rediss://user:p%40ss@cache:6380/2',
            'redis://:secret@10.0.0.1:6379',
            'redis://[::1]:6379/1',
            'unix:///run/redis.sock?db=3',
            'unix://:secret@/run/redis.sock',
            'redis://my_redis/0?client_name=odoo',
            'rediss://cache?ssl_cert_reqs=none',
            'redis+sentinel://s1,s2:26380,[::1]:26379/mymaster',
            'redis+sentinel://odoo:p%40ss@s1/my.master-1/3?sentinel_username=u&sentinel_password=p',
            'rediss+sentinel://s1/mymaster?db=2&ssl_ca_certs=/etc/ca.pem',
            'redis+cluster://odoo:secret@n1:7000,n2:7001',
            'rediss+cluster://n1/0?ssl_check_hostname=false',
        ):
            with self.subTest(url=url):
                self.assertEqual(options.check('redis_url', url), url)

    def test_the_scheme_may_be_in_capitals(self):
        self.assertEqual(options.check('redis_url', 'REDIS://Host/0'), 'redis://Host/0')

    def test_bad_urls_are_refused_with_a_reason(self):
        for url, reason in (
            ('localhost:6379', "must begin with"),
            ('http://localhost', "must begin with"),
            ('redis:/localhost', "must begin with"),
            ('redis://', "must name a host"),
            ('redis://:6379', "must name a host"),
            ('redis://ho$t', "must name a host"),
            ('redis://host:0', "port between"),
            ('redis://host:65536', "port between"),
            ('redis://host:6379a', "port between"),
            ('redis://host:', "port between"),
            ('redis://[::1', "brackets"),
            ('redis://[::g]:6379', "cannot be read|must name a host"),
            ('redis://host/zero', "number of a database"),
            ('redis://host?db=-1', "number of a database"),
            ('redis://host?socket_timeout=60', "not supported"),
            ('redis://host?ssl_cert_reqs=none', "only rediss"),
            ('rediss://host?ssl_cert_reqs=perhaps', "none, optional, required"),
            ('redis://host/0#1', "must not contain '#'"),
            ('redis://ho st/0', "blank"),
            ('unix://run/redis.sock', "absolute path"),
            ('unix://', "absolute path"),
            ('sentinel://host', "must begin with"),
            ('redis://host1,host2/0', "several hosts"),
            ('redis+sentinel://', "must name a host"),
            ('redis+sentinel://host', "call the primary"),
            ('redis+sentinel://host/', "call the primary"),
            ('redis+sentinel://host/my%20master', "call the primary"),
            ('redis+sentinel://host/mymaster/x', "number of a database"),
            ('redis+sentinel://host,/mymaster', "must name a host"),
            ('redis+sentinel://host,ho$t/mymaster', "must name a host"),
            ('redis+sentinel://host:0/mymaster', "26379"),
            ('redis+sentinel://' + ','.join('h' * 33) + '/mymaster', "at most 32 hosts"),
            ('redis+sentinel://host/mymaster?ssl_cert_reqs=none', "only rediss"),
            ('redis+cluster://host/1', "only 0"),
            ('redis+cluster://host?db=1', "only 0"),
            ('redis+cluster://host/mymaster', "number of a database"),
            ('redis+cluster://host?sentinel_password=x', "only redis\\+sentinel"),
            ('redis://host?sentinel_username=x', "only redis\\+sentinel"),
        ):
            with self.subTest(url=url), self.assertRaisesRegex(ValueError, reason):
                options.check('redis_url', url)

    def test_no_sentence_contains_the_password(self):
        for url in (
            'redis://user:hunter2@host:port/0',
            'redis://user:hunter2/x@host',
            'http://:hunter2@host',
            'redis://:hunter2@[::1',
            'redis://:hunter2 @host',
            'redis://:hunter2#@host',
            'redis://:hunter2@host/hunter2',
            'unix://:hunter2@',
            'redis://host?pass=hunter2',
            'redis+sentinel://:hunter2@host,[::1/mymaster',
            'redis+sentinel://:hunter2@host/hunter2/hunter2',
            'redis+sentinel://host/my master?sentinel_password=hunter2',
            'redis+cluster://:hunter2@host/1?password=hunter2',
        ):
            with self.subTest(url=url):
                settings = load({'redis_url': url})
                self.assertEqual(len(settings.problems), 1)
                self.assertNotIn('hunter2', settings.problems[0])

    def test_a_masked_url_has_no_password(self):
        for url, masked in (
            ('redis://user:hunter2@host:1/0', 'redis://user:***@host:1/0'),
            ('redis://:hun@ter2@host', 'redis://:***@host'),
            ('unix:///s?db=1&password=hunter2', 'unix:///s?db=1&password=***'),
            ('redis://host', 'redis://host'),
            ('redis+cluster://u:hunter2@a:1,b:2', 'redis+cluster://u:***@a:1,b:2'),
            (
                'redis+sentinel://:hunter2@s/m?sentinel_password=hunter2&db=1',
                'redis+sentinel://:***@s/m?sentinel_password=***&db=1',
            ),
        ):
            self.assertEqual(redis_url.mask(url), masked)

    def test_the_parts_of_a_url(self):
        url = redis_url.parse(
            'rediss+sentinel://odoo:p%40ss@s1:1,[::1]/mymaster/3'
            '?sentinel_password=w%26&ssl_check_hostname=False&ssl_ca_certs=/ca.pem&socket_timeout=9'
        )
        self.assertEqual((url.form, url.tls, url.database), ('sentinel', True, 3))
        self.assertEqual(url.hosts, (('s1', 1), ('::1', 26379)))
        self.assertEqual((url.service, url.username, url.password), ('mymaster', 'odoo', 'p@ss'))
        self.assertEqual((url.sentinel_username, url.sentinel_password), (None, 'w&'))
        self.assertEqual(url.ssl, {'ssl_check_hostname': False, 'ssl_ca_certs': '/ca.pem'})
        self.assertEqual(url.address, 'rediss+sentinel://s1:1,[::1]:26379/mymaster/3')
        self.assertNotIn('p@ss', repr(url))

    def test_settings_can_be_printed_without_telling_the_password(self):
        self.assertNotIn('hunter2', repr(load({'redis_url': 'redis://:hunter2@host'})))
