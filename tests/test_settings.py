"""Settings: every option has its field, only good values are kept, outside values are shown."""

import os
from unittest.mock import patch

from lxml import etree

from odoo.exceptions import AccessError, UserError, ValidationError
from odoo.tests import TransactionCase, new_test_user, tagged

from ..services import options


@tagged('post_install', '-at_install')
class TestSettings(TransactionCase):
    def setUp(self):
        super().setUp()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(options.ENVIRONMENT_PREFIX)}
        self.startPatcher(patch.dict(os.environ, kept, clear=True))
        self.startPatcher(patch.object(options, '_server_config_path', return_value=''))
        self.Parameter = self.env['ir.config_parameter']
        self.Parameter.search(
            [('key', 'in', [o.parameter for o in options.OPTIONS.values()])]
        ).unlink()
        self.Settings = self.env['res.config.settings']

    def save(self, **vals):
        self.Settings.create(
            {f'tiered_cache_{name}': value for name, value in vals.items()}
        ).execute()

    def param(self, name):
        return self.Parameter.get_param(f'tiered_cache.{name}')

    def shown(self, name):
        return self.Settings.get_values()[f'tiered_cache_{name}']

    # -- completeness

    def test_every_option_has_a_field_in_the_form(self):
        arch = etree.fromstring(
            self.Settings.get_view(self.env.ref('base.res_config_settings_view_form').id, 'form')[
                'arch'
            ]
        )
        for name, option in options.OPTIONS.items():
            with self.subTest(name=name):
                (node,) = arch.xpath(f"//field[@name='tiered_cache_{name}']")
                self.assertIn(name, node.get('readonly'))
                self.assertTrue(arch.xpath(f"//widget[@option='{name}']"))
                if option.kind in ('int', 'float'):
                    placeholder = node.get('placeholder')
                    self.assertEqual(placeholder.replace(',', ''), option.default_text)

    def test_choices_are_those_of_the_options(self):
        for name, option in options.OPTIONS.items():
            if option.kind == 'choice':
                selection = self.Settings._fields[f'tiered_cache_{name}'].selection
                self.assertEqual([key for key, _label in selection], list(option.choices))

    # -- saving

    def test_saving_an_untouched_page_writes_nothing(self):
        self.save()
        self.assertEqual(self.Settings._tiered_cache_params(), {})

    def test_a_value_is_kept_and_shown(self):
        self.save(l1_ttl_s=' 120 ', enabled=False, l1_policy='lfu', l1_max_mb='0.5')
        self.assertEqual(self.param('l1_ttl_s'), '120')
        self.assertEqual(
            (self.shown('l1_ttl_s'), self.shown('enabled'), self.shown('l1_policy')),
            ('120', False, 'lfu'),
        )
        settings = self.Settings._tiered_cache_settings()
        self.assertEqual(
            (settings.l1_ttl_s, settings.enabled, settings.l1_max_mb), (120, False, 0.5)
        )

    def test_numbers_are_shown_and_may_be_typed_with_separators(self):
        self.save(l1_max_entries='25,000', l1_max_mb='1,024.5', audit_rate='0.001')
        self.assertEqual(
            [self.param(name) for name in ('l1_max_entries', 'l1_max_mb', 'audit_rate')],
            ['25000', '1024.5', '0.001'],
        )
        self.assertEqual(self.shown('l1_max_entries'), '25,000')
        self.save()
        self.assertEqual(self.param('l1_max_entries'), '25000')

    def test_a_thousandth_is_never_taken_for_one(self):
        german = self.env['res.lang']._activate_lang('de_DE')
        german.write({'thousands_sep': '.', 'decimal_point': ','})
        settings = self.Settings.with_context(lang='de_DE')
        for typed, plain in (
            ('0.001', '0.001'), ('0,001', '0.001'), ('25.000', '25000'), ('1.024,5', '1024.5'),
            ('soon', 'soon'), ('1,2,3', '1,2,3'),
        ):  # fmt: skip
            self.assertEqual(settings._tiered_cache_plain(typed), plain)
        self.assertEqual(settings._tiered_cache_shown('25000'), '25.000')

    def test_zero_is_a_value_and_empty_is_the_default(self):
        self.save(l1_max_entries='0')
        self.assertEqual(self.Settings._tiered_cache_settings().l1_max_entries, 0)
        self.save(l1_max_entries='')
        self.assertIs(self.param('l1_max_entries'), False)

    def test_what_is_switched_off_can_be_switched_on_again(self):
        self.save(enabled=False, l3_enabled=False)
        self.save(enabled=True)
        settings = self.Settings._tiered_cache_settings()
        self.assertEqual((settings.enabled, settings.l3_enabled), (True, False))

    def test_bad_values_are_refused_together_and_nothing_is_saved(self):
        with self.assertRaises(ValidationError) as caught, self.env.cr.savepoint():
            self.save(l1_ttl_s='soon', l1_max_mb='-5', redis_url='http://cache', l2_ttl_s='60')
        for text in ("Time to Live in L1", "'soon'", "'-5'", "redis://"):
            self.assertIn(text, str(caught.exception))
        self.assertEqual(self.Settings._tiered_cache_params(), {})

    def test_a_refused_redis_url_is_not_quoted(self):
        with self.assertRaises(ValidationError) as caught, self.env.cr.savepoint():
            self.save(redis_url='redis://:hunter2@host:port')
        self.assertNotIn('hunter2', str(caught.exception))

    def test_an_old_bad_value_is_shown_and_does_not_stop_other_settings(self):
        self.Parameter.set_param('tiered_cache.l1_ttl_s', 'soon')
        self.save(l2_ttl_s='60')
        self.assertEqual((self.shown('l1_ttl_s'), self.param('l2_ttl_s')), ('soon', '60'))
        self.assertIn("l1_ttl_s must be", self.Settings.new({}).tiered_cache_problems)

    # -- values from outside

    def test_a_value_from_outside_is_shown_and_cannot_be_written(self):
        with patch.dict(os.environ, TIERED_CACHE_L1_TTL_S='30', TIERED_CACHE_ENABLED='0'):
            self.assertEqual((self.shown('l1_ttl_s'), self.shown('enabled')), ('30', False))
            self.assertEqual(
                self.Settings.new({}).tiered_cache_places,
                {
                    'enabled': "environment variable TIERED_CACHE_ENABLED",
                    'l1_ttl_s': "environment variable TIERED_CACHE_L1_TTL_S",
                },
            )
            self.save(l1_ttl_s='99', enabled=True)
        self.assertEqual(self.Settings._tiered_cache_params(), {})

    def test_a_password_from_outside_is_not_shown(self):
        with patch.dict(os.environ, TIERED_CACHE_REDIS_URL='redis://:hunter2@cache'):
            self.assertEqual(self.shown('redis_url'), 'redis://:***@cache')

    # -- the button

    def test_the_button_needs_a_url(self):
        with self.assertRaisesRegex(UserError, "Enter a Redis URL"):
            self.Settings.create({}).action_tiered_cache_test_redis()

    def test_the_button_refuses_a_bad_url(self):
        settings = self.Settings.create({'tiered_cache_redis_url': 'redis://:hunter2@host:port'})
        with self.assertRaisesRegex(UserError, "port between") as caught:
            settings.action_tiered_cache_test_redis()
        self.assertNotIn('hunter2', str(caught.exception))

    def test_the_button_tries_the_url_from_outside(self):
        with (
            patch.dict(os.environ, TIERED_CACHE_REDIS_URL='redis://:hunter2@cache'),
            patch.object(type(self.env['cache.manager']), 'test_redis') as test_redis,
        ):
            test_redis.return_value = {'server': 'Redis', 'version': '7', 'round_trip_ms': 0.1}
            settings = self.Settings.create({'tiered_cache_redis_url': 'redis://:***@cache'})
            action = settings.action_tiered_cache_test_redis()
        test_redis.assert_called_once_with(False)
        self.assertEqual(action['params']['message'], "Redis 7 answers in 0.10 ms.")

    def test_what_a_redis_says_about_its_memory(self):
        def told(**found):
            return list(self.Settings._tiered_cache_memory(found))

        policy, used = 'noeviction', 3 * 2**19
        self.assertEqual(
            told(used_memory_bytes=used, max_memory_bytes=2**28, max_memory_policy=policy),
            ["It uses 1.5 MB of 256 MB.", "When it is full: noeviction."],
        )
        self.assertEqual(
            told(used_memory_bytes=used, max_memory_bytes=0, max_memory_policy=policy),
            ["It uses 1.5 MB."],
        )
        self.assertEqual(told(), [])

    def test_states_of_redis_have_words(self):
        stats = {'guards': {'waiting': 0, 'errors': {}}, 'tiers': {'l2': {'state': 'up'}}}
        _capture, redis = self.Settings._tiered_cache_state(stats)
        self.assertEqual(redis, "In this worker: reachable")

    def test_settings_are_for_system_administrators(self):
        admin = new_test_user(self.env, 'tc_admin', 'tiered_cache.group_cache_admin')
        with self.assertRaises(AccessError):
            self.Settings.with_user(admin).create({})
        settings = self.Settings.create({})
        with self.assertRaises(AccessError):
            settings.with_user(admin).action_tiered_cache_test_redis()
